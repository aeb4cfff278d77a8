package sshexec

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/fleetd/fleetd/pkg/sshexec/internal/account"
)

// A run is resumed from its journal, perhaps from another directory, when
// inventory and ssh_config say something else by now. So a target is written
// down as it was, less its secrets.

// MarshalJSON writes the target without its passwords, and says that it needed
// them. [Target.Absolute] makes it good for another directory first.
func (t Target) MarshalJSON() ([]byte, error) {
	type plain Target // without this method
	t.NeedsPassword = t.NeedsPassword || t.Password != ""
	t.NeedsBecomePassword = t.NeedsBecomePassword || t.Become.Password != ""
	t.Become.Password = "" // or "become" would be there for its sake
	return json.Marshal(plain(t))
}

// MarshalText writes what String returns.
func (p HostKeyPolicy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what String returns.
func (p *HostKeyPolicy) UnmarshalText(text []byte) error {
	for _, known := range []HostKeyPolicy{Strict, AcceptNew} {
		if string(text) == known.String() {
			*p = known
			return nil
		}
	}
	return fmt.Errorf("%q is no host key policy", text)
}

// Absolute returns the target with every file named by its absolute path, those
// of its jump hosts too. What a ProxyCommand names stays as it is: only a shell
// knows which of its words are files.
func (t Target) Absolute() (Target, error) {
	agent := []string{t.IdentityAgent}
	switch t.IdentityAgent {
	case "", "none", "SSH_AUTH_SOCK":
		agent = nil // no files: whoever resumes the run has an agent of his own
	}
	lists := []*[]string{&t.IdentityFiles, &t.CertificateFiles, &t.KnownHosts, &t.RevokedHostKeys, &agent}
	for _, list := range lists {
		files := slices.Clone(*list)
		*list = files
		for i, f := range files {
			abs, err := filepath.Abs(account.Expand(f))
			if err != nil {
				return Target{}, &Error{Host: t.name(), Op: "tell where " + f + " is", Kind: KindUsage, Err: err}
			}
			files[i] = abs
		}
	}
	if agent != nil {
		t.IdentityAgent = agent[0]
	}
	t.ProxyJump = slices.Clone(t.ProxyJump)
	for i, j := range t.ProxyJump {
		abs, err := j.Absolute()
		if err != nil {
			return Target{}, err
		}
		t.ProxyJump[i] = abs
	}
	return t, nil
}

// Secrets are the passwords of the target and of its jump hosts: what must not
// be in anything that is written down.
func (t Target) Secrets() []Secret {
	var out []Secret
	for _, s := range []Secret{t.Password, t.Become.Password} {
		if s != "" {
			out = append(out, s)
		}
	}
	for _, j := range t.ProxyJump {
		out = append(out, j.Secrets()...)
	}
	return out
}
