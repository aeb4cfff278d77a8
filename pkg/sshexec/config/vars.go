package config

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/words"
)

// Options are what FromVars needs besides the variables.
type Options struct {
	// User is the login name where neither the variables nor ssh_config name
	// one (Ansible's remote_user).
	User string
	// IdentityFiles, KnownHosts and ConnectTimeout apply where the variables
	// and ssh_config say nothing.
	IdentityFiles  []string
	KnownHosts     []string
	ConnectTimeout time.Duration
	// sshexec.HostKeyPolicy applies where StrictHostKeyChecking is not set.
	HostKeyPolicy sshexec.HostKeyPolicy
	// SSHConfig is what to honour of ssh_config where no option -F names
	// another file. Nil means none.
	SSHConfig *SSHConfig
	// Warn is told of settings that are read but not followed to the letter.
	Warn func(string)
}

// varReader reads variables by their names, of which the strongest comes first: with
// Ansible the last one of a plugin's documentation.
type varReader struct {
	host string
	vars map[string]any
	err  error
}

func (r *varReader) fail(name, format string, args ...any) {
	if r.err == nil {
		e := &sshexec.Error{Host: r.host, Op: "read variable " + name, Kind: sshexec.KindUsage, Err: fmt.Errorf(format, args...)}
		if h, ok := errors.AsType[interface {
			error
			Hint() string
		}](e.Err); ok {
			e.Hint = h.Hint()
		}
		r.err = e
	}
}

func (r *varReader) get(names ...string) (name string, v any) {
	for _, n := range names {
		v, ok := r.vars[n]
		if !ok || v == nil {
			continue
		}
		if err, broken := v.(error); broken {
			r.fail(n, "%w", err)
			return n, nil
		}
		return n, v
	}
	return "", nil
}

func (r *varReader) text(names ...string) string {
	name, v := r.get(names...)
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		if strings.Contains(v, "{{") || strings.Contains(v, "{%") {
			r.fail(name, "the template in it is not resolved")
			return ""
		}
		return v
	case fmt.Stringer:
		return v.String()
	case bool:
		r.fail(name, "must be text, not true or false")
		return ""
	default:
		return fmt.Sprint(v)
	}
}

func (r *varReader) boolean(names ...string) bool {
	name, v := r.get(names...)
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case int:
		return v != 0
	case int64:
		return v != 0
	case string:
		switch strings.ToLower(v) {
		case "yes", "true", "on", "1", "y", "t":
			return true
		case "no", "false", "off", "0", "n", "f", "":
			return false
		}
	}
	r.fail(name, "%v is neither true nor false", v)
	return false
}

func (r *varReader) number(lo, hi int, names ...string) int {
	name, v := r.get(names...)
	if v == nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(fmt.Sprint(v)))
	if err != nil || n < lo || n > hi {
		r.fail(name, "%v is not a number from %d to %d", v, lo, hi)
		return 0
	}
	return n
}

// become reads how to become another user. As in Ansible the variables that name
// the method are stronger, and none of another method counts: its password may
// be somebody else's.
func (r *varReader) become() sshexec.Become {
	b := sshexec.Become{Method: strings.TrimPrefix(r.text("ansible_become_method"), "ansible.builtin.")}
	names := func(ending string) []string {
		return []string{"ansible_" + cmp.Or(b.Method, "sudo") + "_" + ending, "ansible_become_" + ending}
	}
	b.User, b.Exe = r.text(names("user")...), r.text(names("exe")...)
	b.Password = sshexec.Secret(r.text(append(names("pass"), "ansible_become_password")...))
	if name, v := r.get(names("flags")...); v != nil {
		flags, err := words.Fields(r.text(name))
		if err != nil {
			r.fail(name, "%w", err)
		}
		b.Flags = append([]string{}, flags...) // set, if empty: no -H
	}
	return b
}
