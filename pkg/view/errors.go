package view

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/go-multierror"

	"github.com/fleetd/fleetd/pkg/sshexec"
)

// FleetError collects the errors of many hosts into one, nil if there is none.
// Its text is that of [FormatErrors]; errors.Is and errors.As see every single
// error.
func FleetError(errs ...error) error {
	var all *multierror.Error
	for _, err := range errs {
		if err != nil {
			all = multierror.Append(all, err)
		}
	}
	if all == nil {
		return nil
	}
	all.ErrorFormat = FormatErrors
	return all
}

// FormatErrors writes the errors of many hosts grouped by kind, the largest
// group first:
//
//	auth failed: 37 hosts: web[01:37]
//	  cannot log in as centos: the host refuses the login (tried ~/.ssh/id_ed25519)
//	  next: check ansible_user and ansible_ssh_private_key_file, or load the key with ssh-add
//
// It is a [multierror.ErrorFormatFunc].
func FormatErrors(errs []error) string {
	type cause struct {
		text  string
		hint  string
		hosts []string
	}
	type group struct {
		kind   sshexec.Kind
		hosts  []string
		causes []*cause
	}
	var groups []*group
	for _, err := range errs {
		if err == nil {
			continue
		}
		kind, host, text := sshexec.KindUnknown, "", err.Error()
		if e, ok := errors.AsType[*sshexec.Error](err); ok {
			kind, host, text = e.Kind, e.Host, e.Cause()
		}
		i := slices.IndexFunc(groups, func(g *group) bool { return g.kind == kind })
		if i < 0 {
			i = len(groups)
			groups = append(groups, &group{kind: kind})
		}
		g := groups[i]
		j := slices.IndexFunc(g.causes, func(c *cause) bool { return c.text == text })
		if j < 0 {
			j = len(g.causes)
			g.causes = append(g.causes, &cause{text: text, hint: sshexec.HintOf(err)})
		}
		if host != "" {
			g.hosts = append(g.hosts, host)
			g.causes[j].hosts = append(g.causes[j].hosts, host)
		}
	}
	slices.SortStableFunc(groups, func(a, b *group) int { return len(b.hosts) - len(a.hosts) })
	var sb strings.Builder
	for _, g := range groups {
		if sb.Len() > 0 {
			sb.WriteByte('\n')
		}
		sb.WriteString(g.kind.String())
		if n := len(g.hosts); n > 0 {
			fmt.Fprintf(&sb, ": %s: %s", count(n, "host"), HostRange(g.hosts))
		}
		slices.SortStableFunc(g.causes, func(a, b *cause) int { return len(b.hosts) - len(a.hosts) })
		hints := map[string]bool{}
		for i, c := range g.causes {
			// Host key errors differ in every fingerprint; three show the sort.
			if i == 3 {
				fmt.Fprintf(&sb, "\n  and %d other causes", len(g.causes)-i)
				break
			}
			sb.WriteString("\n  " + c.text)
			if len(g.causes) > 1 && len(c.hosts) > 0 {
				sb.WriteString(" (" + HostRange(c.hosts) + ")")
			}
			if c.hint != "" && !hints[c.hint] {
				hints[c.hint] = true
				sb.WriteString("\n  next: " + c.hint)
			}
		}
	}
	return sb.String()
}
