package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/pkg/sshexec"
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

// newPool makes the connections' owner.
func newPool(c *cobra.Command, f *fleetFlags) *sshexec.Pool {
	return sshexec.NewPool(sshexec.Options{
		MaxDials: f.forks,
		Passphrase: func(file string) (sshexec.Secret, error) {
			return askSecret(c, fmt.Sprintf("Passphrase of %s: ", file))
		},
	})
}

// targetsOf says how each host is reached. All hosts whose variables are wrong
// are told at once.
func targetsOf(c *cobra.Command, f *fleetFlags, sources []string, inv *inventory.Inventory, defaults map[string]any, hosts []string) (map[string]sshexec.Target, error) {
	asked, err := askPasswords(c, f)
	if err != nil {
		return nil, err
	}
	o := sshexec.VarOptions{SSHConfig: sshexec.DefaultSSHConfig()}
	if f.acceptNewHosts {
		o.HostKeyPolicy = sshexec.AcceptNew
	}
	out := make(map[string]sshexec.Target, len(hosts))
	var errs []error
	for _, h := range hosts {
		t, err := targetOf(sources, h, defaults, inv.Vars(h), asked, o)
		errs = append(errs, err)
		out[h] = t
	}
	return out, sshexec.FleetError(errs...)
}

// targetOf says how a host is reached, from its variables and the flags.
// defaults are ansible.cfg's, which the variables override.
func targetOf(sources []string, host string, defaults, vars map[string]any, asked passwords, o sshexec.VarOptions) (sshexec.Target, error) {
	plain, err := reveal(defaults, vars)
	if err != nil {
		return sshexec.Target{}, fmt.Errorf("cannot tell how to reach %s: %w", host, err)
	}
	if v, named := plain["ansible_host"]; named && (v == nil || v == "") {
		return sshexec.Target{}, &sshexec.Error{Host: host, Op: "tell the address", Kind: sshexec.KindUsage, Err: errors.New(at(sources, "ansible_host", "") + "ansible_host is empty"),
			Hint: "give it an address, or leave ansible_host out: then the host's name is its address"}
	}
	t, err := sshexec.TargetFromVars(host, plain, o)
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
		if _, named := plain["ansible_ssh_private_key_file"]; !named {
			break // those of ssh_config and the usual ones may be missing, as with ssh
		}
		file, err := os.Open(k)
		if err != nil {
			return sshexec.Target{}, &sshexec.Error{Host: host, Op: "read the private key", Kind: sshexec.KindUsage,
				Err:  fmt.Errorf("%s%w", at(sources, "ansible_ssh_private_key_file", filepath.Base(k)), err),
				Hint: "ansible_ssh_private_key_file names it; mend the path or its permissions"}
		}
		file.Close()
	}
	return t, nil
}

// at is the place where a variable is set, as the beginning of a message.
func at(sources []string, variable, value string) string {
	if p := locate(sources, variable, value); p != "" {
		return p + ": "
	}
	return ""
}

// reveal opens the vault secrets among the connection variables; no other
// secret is opened.
func reveal(defaults, vars map[string]any) (map[string]any, error) {
	out := maps.Clone(defaults)
	if out == nil {
		out = map[string]any{}
	}
	for k, v := range vars {
		if s, ok := v.(inventory.Secret); ok && strings.HasPrefix(k, "ansible_") {
			text, err := s.Reveal()
			if err != nil {
				return nil, fmt.Errorf("variable %s: %w", k, err)
			}
			v = text
		}
		out[k] = v
	}
	return out, nil
}
