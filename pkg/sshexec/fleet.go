package sshexec

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/go-multierror"
)

// A HostResult is what a command did on one host.
type HostResult struct {
	Host   string
	Result Result
	Err    error // of Run
}

// RunAll runs cmd on all targets and calls each, in one goroutine at a time,
// as results come in. At most forks commands run at a time (0 means 64); hosts
// that are being connected to do not count, so those that hang hold up nobody.
// cmd.Stdin must be nil: one reader cannot serve many hosts.
func (p *Pool) RunAll(ctx context.Context, targets []Target, cmd Command, forks int, each func(HostResult)) {
	if forks <= 0 {
		forks = 64
	}
	places := make(chan struct{}, forks)
	var turn sync.Mutex
	var wg sync.WaitGroup
	for _, t := range targets {
		wg.Go(func() {
			r := HostResult{Host: t.name()}
			r.Result, r.Err = p.runInTurn(ctx, t, cmd, places)
			turn.Lock()
			defer turn.Unlock()
			each(r)
		})
	}
	wg.Wait()
}

func (p *Pool) runInTurn(ctx context.Context, t Target, cmd Command, places chan struct{}) (Result, error) {
	if cmd.Stdin != nil {
		return Result{}, wrap(t, cmd.op(), &fault{kind: KindUsage, err: errors.New("standard input cannot be shared by many hosts")})
	}
	c, _, err := p.acquire(ctx, t)
	if err != nil {
		return Result{}, wrap(t, cmd.op(), err)
	}
	defer p.retire(c)
	select {
	case places <- struct{}{}:
		defer func() { <-places }()
	case <-ctx.Done():
		return Result{}, wrap(t, cmd.op(), context.Cause(ctx))
	}
	return p.Run(ctx, t, cmd)
}

// Connect makes sure that there is a connection to t: it dials and logs in, if
// none is open, and runs nothing.
func (p *Pool) Connect(ctx context.Context, t Target) error {
	leave, err := p.enter()
	if err != nil {
		return wrap(t, "connect", err)
	}
	defer leave()
	c, _, err := p.acquire(ctx, t)
	if err != nil {
		return wrap(t, "connect", err)
	}
	p.release(c)
	return nil
}

// causeOf returns the kind and the cause of err without the host, so that
// equal failures of many hosts read alike.
func causeOf(err error) (Kind, string) {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return KindUnknown, err.Error()
	}
	text := "cannot " + e.Op
	if e.Err != nil {
		text += ": " + e.cause()
	}
	if e.addr != "" {
		text = strings.ReplaceAll(text, e.addr, "the host")
	}
	return e.Kind, text
}

func hostOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Host
	}
	return ""
}

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
		kind   Kind
		hosts  []string
		causes []*cause
	}
	var groups []*group
	for _, err := range errs {
		if err == nil {
			continue
		}
		kind, text := causeOf(err)
		i := slices.IndexFunc(groups, func(g *group) bool { return g.kind == kind })
		if i < 0 {
			i = len(groups)
			groups = append(groups, &group{kind: kind})
		}
		g := groups[i]
		j := slices.IndexFunc(g.causes, func(c *cause) bool { return c.text == text })
		if j < 0 {
			j = len(g.causes)
			g.causes = append(g.causes, &cause{text: text, hint: HintOf(err)})
		}
		if h := hostOf(err); h != "" {
			g.hosts = append(g.hosts, h)
			g.causes[j].hosts = append(g.causes[j].hosts, h)
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
			fmt.Fprintf(&sb, ": %s: %s", countHosts(n), HostRange(g.hosts))
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

func countHosts(n int) string {
	if n == 1 {
		return "1 host"
	}
	return fmt.Sprintf("%d hosts", n)
}
