package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/pkg/playbook"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/config"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
	"github.com/fleetd/fleetd/pkg/view"
)

// passwords are what --ask-pass and --ask-become-pass were answered with.
type passwords struct{ login, become sshexec.Secret }

func askPasswords(c *cobra.Command, f *fleetFlags) (p passwords, err error) {
	if f.askPass {
		if p.login, err = askSecret(c, "SSH password: "); err != nil {
			return p, err
		}
	}
	if f.askBecomePass {
		if p.become, err = askSecret(c, "Sudo password: "); err != nil {
			return p, err
		}
		if p.become == "" { // as Ansible: "defaults to SSH password"
			p.become = p.login
		}
	}
	return p, nil
}

// askSecret reads a secret from the terminal, without echo; from the first
// line of standard input where that is no terminal.
func askSecret(c *cobra.Command, prompt string) (sshexec.Secret, error) {
	fmt.Fprint(c.ErrOrStderr(), prompt)
	if in, ok := c.InOrStdin().(*os.File); ok && isTerminal(in) {
		raw, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(c.ErrOrStderr())
		if err != nil {
			return "", fmt.Errorf("cannot read the password: %w", err)
		}
		return sshexec.Secret(raw), nil
	}
	line, err := readLine(c.InOrStdin())
	if err != nil {
		return "", fmt.Errorf("cannot read the password: %w", err)
	}
	return sshexec.Secret(line), nil
}

// reading is held by who reads standard input.
var reading = make(chan struct{}, 1)

// askSecretUntil is askSecret until ctx ends, which gives the terminal its echo
// back. What still reads then, nobody can interrupt: it gets the next line, so that
// the question after it is not asked before.
func askSecretUntil(ctx context.Context, c *cobra.Command, prompt string, echo bool) (sshexec.Secret, error) {
	select {
	case reading <- struct{}{}:
	default:
		fmt.Fprintln(c.ErrOrStderr(), "The question before was given up; press Enter, and the next one comes.")
		select {
		case reading <- struct{}{}:
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
	restore := func() {}
	if in, ok := c.InOrStdin().(*os.File); ok && isTerminal(in) {
		before, err := term.GetState(int(in.Fd()))
		if err != nil {
			<-reading
			return "", fmt.Errorf("cannot read the password: %w", err)
		}
		restore = func() { _ = term.Restore(int(in.Fd()), before) }
	}
	type answer struct {
		secret sshexec.Secret
		err    error
	}
	done := make(chan answer, 1)
	go func() {
		defer func() { <-reading }()
		if !echo {
			secret, err := askSecret(c, prompt)
			done <- answer{secret, err}
			return
		}
		fmt.Fprint(c.ErrOrStderr(), prompt)
		line, err := readLine(c.InOrStdin())
		done <- answer{sshexec.Secret(line), err}
	}()
	select {
	case a := <-done:
		return a.secret, a.err
	case <-ctx.Done():
		restore()
		return "", context.Cause(ctx)
	}
}

// newPool makes the connections' owner. hold clears the screen for a question.
func newPool(c *cobra.Command, f *fleetFlags, hold func() (release func())) *sshexec.Pool {
	o := sshexec.Options{
		MaxDials:   f.forks,
		Algorithms: f.sshAlgorithms,
		Passphrase: func(ctx context.Context, file string) (sshexec.Secret, error) {
			defer hold()()
			return askSecretUntil(ctx, c, fmt.Sprintf("Passphrase of %s: ", text.Printable(file)), false)
		},
	}
	if in, ok := c.InOrStdin().(*os.File); ok && isTerminal(in) {
		o.Challenge = func(ctx context.Context, t sshexec.Target, instruction, question string, echo bool) (sshexec.Secret, error) {
			defer hold()()
			return askSecretUntil(ctx, c, challenge(t.Name, instruction, question), echo)
		}
	}
	return sshexec.NewPool(o)
}

// challenge is what a host asks, each line with the host's name: a person must not
// take it for fleetd's own words.
func challenge(host, instruction, question string) string {
	text := strings.TrimLeft(strings.TrimSpace(instruction)+"\n", "\n") + question
	return host + ": " + strings.ReplaceAll(text, "\n", "\n"+host+": ")
}

// targetsOf says how each host is reached. All hosts whose variables are wrong
// are told at once; those of them beside the hosts that steps work on are left
// out.
func targetsOf(c *cobra.Command, f *fleetFlags, inv *inventory.Inventory, vars *playbook.Resolver, defaults map[string]any, hosts, beside []string) (map[string]sshexec.Target, error) {
	asked, err := askPasswords(c, f)
	if err != nil {
		return nil, err
	}
	o := config.Options{SSHConfig: config.NewSSHConfig(config.DefaultSSHConfig()...)}
	if f.acceptNewHosts {
		o.HostKeyPolicy = sshexec.AcceptNew
	}
	out := make(map[string]sshexec.Target, len(hosts)+len(beside))
	var errs []error
	var warnings []string
	warned := map[string][]string{} // the hosts of each
	for _, h := range slices.Concat(hosts, beside) {
		o.Warn = func(text string) {
			if warned[text] == nil {
				warnings = append(warnings, text)
			}
			if !slices.Contains(warned[text], h) {
				warned[text] = append(warned[text], h)
			}
		}
		own, err := connectionVars(inv, vars, h, defaults)
		var t sshexec.Target
		if err == nil {
			t, err = targetOf(inv, h, own, asked, o)
		}
		switch {
		case err == nil:
			out[h] = t
		case !slices.Contains(beside, h):
			errs = append(errs, err)
		}
	}
	for _, w := range warnings {
		fmt.Fprintf(c.ErrOrStderr(), "warning: %s: %s\n", view.HostRange(warned[w]), text.Printable(w))
	}
	return out, view.FleetError(errs...)
}

// targetOf says how a host is reached, from its variables and the flags.
func targetOf(inv *inventory.Inventory, host string, vars map[string]any, asked passwords, o config.Options) (sshexec.Target, error) {
	if v, named := vars["ansible_host"]; named && (v == nil || v == "") {
		return sshexec.Target{}, &sshexec.Error{Host: host, Op: "tell the address", Kind: sshexec.KindUsage, Err: errors.New(at(inv, host, "ansible_host") + "ansible_host is empty"),
			Hint: "give it an address, or leave ansible_host out: then the host's name is its address"}
	}
	t, err := config.FromVars(host, vars, o)
	if err != nil {
		return sshexec.Target{}, err
	}
	if asked.login != "" {
		t.Password = asked.login
	}
	if asked.become != "" {
		t.Become.Password = asked.become
	}
	for _, k := range t.IdentityFiles {
		if _, named := vars["ansible_ssh_private_key_file"]; !named {
			break // those of ssh_config and the usual ones may be missing, as with ssh
		}
		file, err := os.Open(k)
		if err != nil {
			return sshexec.Target{}, &sshexec.Error{Host: host, Op: "read the private key", Kind: sshexec.KindUsage,
				Err:  fmt.Errorf("%s%w", at(inv, host, "ansible_ssh_private_key_file"), err),
				Hint: "ansible_ssh_private_key_file names it; mend the path or its permissions"}
		}
		file.Close()
	}
	return t, nil
}

// at is the place where a host's variable is set, as the beginning of a message.
func at(inv *inventory.Inventory, host, variable string) string {
	vars, err := inv.Vars(host)
	if err != nil {
		return ""
	}
	if p := vars.At(variable); p.File != "" {
		return p.String() + ": "
	}
	return ""
}

// connectionVars are the variables of a host that may say how it is reached,
// with templates resolved and secrets opened. defaults are ansible.cfg's, which
// they override. One that cannot be resolved is an error only if it is needed:
// many an inventory has an interpreter for Python that only Ansible could find.
func connectionVars(inv *inventory.Inventory, vars *playbook.Resolver, host string, defaults map[string]any) (map[string]any, error) {
	out := maps.Clone(defaults)
	if out == nil {
		out = map[string]any{}
	}
	known, err := inv.Vars(host)
	if err != nil {
		return nil, &sshexec.Error{Host: host, Op: "read the variables", Kind: sshexec.KindUsage, Err: err}
	}
	for key := range known.All() {
		name, _ := key.(string)
		if !strings.HasPrefix(name, "ansible_") {
			continue
		}
		v, ok, err := vars.Variable(host, name)
		switch {
		case err != nil:
			out[name] = &unresolved{inv, host, name, err}
		case ok:
			out[name] = value.Plain(v)
		}
	}
	return out, nil
}

// unresolved is why a variable has no value.
type unresolved struct {
	inv        *inventory.Inventory
	host, name string
	err        error
}

func (e *unresolved) Error() string { return at(e.inv, e.host, e.name) + e.err.Error() }
func (e *unresolved) Unwrap() error { return e.err }

// textVariable is a variable that is a text, with its templates resolved; ""
// without one.
func textVariable(vars *playbook.Resolver, host, name string) (string, error) {
	v, _, err := vars.Variable(host, name)
	if err != nil {
		return "", fmt.Errorf("cannot tell %s of %s: %w", name, host, err)
	}
	text, _ := v.(string)
	return text, nil
}
