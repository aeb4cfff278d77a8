package sshexec

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/sshexec/auth"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/account"
	"github.com/fleetd/fleetd/pkg/words"
)

// A Secret is a password or passphrase. Every way of printing it gives "***"; only
// its Reveal gives the value.
type Secret = auth.Secret

// A Target says how to reach one host. The zero value of a field means what
// OpenSSH does by default. Two targets with the same Name are the same host.
type Target struct {
	// Name is the host's inventory name. Errors carry it.
	Name string `json:"name,omitzero"`
	// Address is a host name or IP address. Empty means Name.
	Address string `json:"address,omitzero"`
	// Port is the TCP port of sshd. 0 means 22.
	Port int `json:"port,omitzero"`
	// User is the login name. Empty means the local user's name.
	User string `json:"user,omitzero"`
	// IdentityFiles are private keys, tried in this order before the agent's
	// keys. A file may also be a public key whose private part an agent holds.
	// A certificate beside it (FILE-cert.pub) is used. Nil means OpenSSH's
	// defaults (~/.ssh/id_ed25519 and so on), as far as they exist.
	IdentityFiles []string `json:"identity_files,omitzero"`
	// CertificateFiles are OpenSSH user certificates for keys in IdentityFiles
	// or in the agent.
	CertificateFiles []string `json:"certificate_files,omitzero"`
	// IdentitiesOnly keeps the agent's other keys out of the login.
	IdentitiesOnly bool `json:"identities_only,omitzero"`
	// IdentityAgent is the socket of the ssh-agent. Empty means SSH_AUTH_SOCK,
	// "none" means no agent.
	IdentityAgent string `json:"identity_agent,omitzero"`
	// Password is used for password and keyboard-interactive logins. Empty
	// means that these are not tried.
	Password Secret `json:"-"`
	// Authentications are the ways to log in, in the order in which they are
	// tried, by the names of PreferredAuthentications. Nil means publickey,
	// keyboard-interactive and password.
	Authentications []string `json:"authentications,omitzero"`
	// GSSAPI tells that ssh would log in by Kerberos, which fleetd does not: a
	// login that fails says so.
	GSSAPI bool `json:"gssapi,omitzero"`
	// Become says how to become another user, for commands and uploads that
	// ask for it.
	Become Become `json:"become,omitzero"`
	// ProxyJump lists jump hosts, the one nearest to us first. Each is reached
	// through those before it, over one connection that all targets share.
	ProxyJump []Target `json:"proxy_jump,omitzero"`
	// ProxyCommand is a shell command whose standard input and output are the
	// connection. Tokens %h, %p, %r, %n and %% are replaced. ProxyJump and
	// ProxyCommand exclude each other.
	ProxyCommand string `json:"proxy_command,omitzero"`
	// KnownHosts are the files to check host keys against; the first one is
	// where AcceptNew writes. Nil means ~/.ssh/known_hosts and
	// /etc/ssh/ssh_known_hosts.
	KnownHosts []string `json:"known_hosts,omitzero"`
	// RevokedHostKeys are files of public keys, one a line, that no host may have.
	// One that cannot be read refuses every host.
	RevokedHostKeys []string `json:"revoked_host_keys,omitzero"`
	// HostKeyPolicy says what to do with a host that is in no file.
	HostKeyPolicy HostKeyPolicy `json:"host_key_policy,omitzero"`
	// HostKeyAlias is looked up in KnownHosts in place of the address.
	HostKeyAlias string `json:"host_key_alias,omitzero"`
	// HostKey is the fingerprint of the one host key that the target may have,
	// as ssh-keygen -l prints it ("SHA256:…"): a machine with another key is
	// another machine, whatever known_hosts says of it. Of a host certificate
	// it is that of the key in it. Empty means that known_hosts alone decides.
	HostKey string `json:"host_key,omitzero"`
	// AddressFamily is "inet" or "inet6" to use only IPv4 or IPv6 addresses.
	AddressFamily string `json:"address_family,omitzero"`
	// ConnectTimeout bounds one attempt to connect and log in, for each hop.
	// 0 means 10 seconds. Time in which a person is asked for a passphrase
	// does not count.
	ConnectTimeout time.Duration `json:"connect_timeout,omitzero"`

	// NeedsPassword and NeedsBecomePassword say that the target was written as
	// JSON, and that its passwords were not: somebody has to give them again.
	NeedsPassword       bool `json:"needs_password,omitzero"`
	NeedsBecomePassword bool `json:"needs_become_password,omitzero"`

	// spare asks for a connection beside the one that commands share.
	spare bool
}

// Become says how to become another user on the node.
type Become struct {
	// Method is "sudo" or "su". Empty means sudo.
	Method string `json:"method,omitzero"`
	// User is who to become. Empty means root.
	User string `json:"user,omitzero"`
	// Password is the login user's (sudo) or the other user's (su). Empty
	// means that no password is needed.
	Password Secret `json:"-"`
	// Exe is the program to call, perhaps with arguments ("sudo su -"): words as a
	// shell splits them. Empty means the method's name.
	Exe string `json:"exe,omitzero"`
	// Flags are the program's options. Nil means -H for sudo.
	Flags []string `json:"flags,omitzero"`
}

// BecomeAs is how one command becomes another user where it is otherwise than
// Target.Become says; what is empty is as there.
type BecomeAs struct {
	User, Method, Exe string
	// Flags are words as a shell splits them.
	Flags string
}

// as is b with what a command says otherwise. Program and options of one method are
// not those of another.
func (b Become) as(a BecomeAs) (Become, error) {
	if a.Method != "" && a.Method != b.method() {
		b.Method, b.Exe, b.Flags = a.Method, "", nil
	}
	b.User, b.Exe = cmp.Or(a.User, b.User), cmp.Or(a.Exe, b.Exe)
	if a.Flags == "" {
		return b, nil
	}
	flags, err := words.Fields(a.Flags)
	if err != nil {
		return b, fmt.Errorf("become flags %q: %w", a.Flags, err)
	}
	b.Flags = flags
	return b, nil
}

// A HostKeyPolicy says what happens with a host whose key is not known.
// A key that differs from a known one is refused under either.
type HostKeyPolicy int

const (
	// Strict refuses a host that is in no known_hosts file.
	Strict HostKeyPolicy = iota
	// AcceptNew records the key of such a host and goes on.
	AcceptNew
)

func (p HostKeyPolicy) String() string {
	if p == AcceptNew {
		return "accept-new"
	}
	return "strict"
}

func (t Target) host() string { return cmp.Or(t.Address, t.Name) }
func (t Target) port() int    { return cmp.Or(t.Port, 22) }

func (t Target) user() string {
	if t.User != "" {
		return t.User
	}
	return account.Name()
}

// HostPort is what is dialed, "host:port"; behind jump hosts and a ProxyCommand
// it is what these are asked for.
func (t Target) HostPort() string { return net.JoinHostPort(t.host(), strconv.Itoa(t.port())) }

func (t Target) connectTimeout() time.Duration { return cmp.Or(t.ConnectTimeout, 10*time.Second) }

// name is what errors call the host.
func (t Target) name() string { return cmp.Or(t.Name, t.HostPort()) }

// key identifies the connection that serves t: targets that would connect in
// the same way share one. The password is hashed, so that no map key or dump
// of the pool holds it.
func (t Target) key() string {
	h := sha256.New()
	t.hashTo(h)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func (t Target) hashTo(w io.Writer) {
	fmt.Fprintf(w, "%q %d %q %q %q %t %q %q %q %d %q %q %q %t %q %q\n", t.host(), t.port(), t.user(),
		t.IdentityFiles, t.CertificateFiles, t.IdentitiesOnly, t.IdentityAgent,
		t.ProxyCommand, t.KnownHosts, t.HostKeyPolicy, t.HostKeyAlias, t.HostKey, t.AddressFamily, t.spare, t.Authentications, t.RevokedHostKeys)
	_, _ = io.WriteString(w, strconv.Itoa(len(t.Password))+t.Password.Reveal())
	for _, j := range t.ProxyJump {
		j.hashTo(w)
	}
}

// lastHop returns the jump host next to t, if any: it carries in ProxyJump what lies
// before it, so that equal chains have equal keys.
func (t Target) lastHop() (Target, bool) {
	if len(t.ProxyJump) == 0 {
		return Target{}, false
	}
	last := len(t.ProxyJump) - 1
	hop := t.ProxyJump[last]
	if last > 0 {
		// A hop's own route would contradict the chain it stands in.
		hop.ProxyJump = t.ProxyJump[:last]
		hop.ProxyCommand = ""
	}
	if hop.Name == "" {
		hop.Name = hop.HostPort()
	}
	return hop, true
}

// Validate refuses what can only be a mistake, or an attack.
func (t Target) Validate() error {
	return cmp.Or(t.validateNames(), t.Become.validate())
}

// validateNames refuses, as OpenSSH does since CVE-2023-51385, an address and a login
// name that a shell could read something into: they are put into ProxyCommand, and
// into commands of ssh_config's Match. A backslash stands in the names of a Windows
// domain.
func (t Target) validateNames() error {
	if h := t.host(); h == "" || h[0] == '-' || strings.ContainsFunc(h, func(r rune) bool {
		return r <= ' ' || r == 0x7f || strings.ContainsRune("'`\"$\\;&<>|(){},", r)
	}) {
		return fmt.Errorf("%q is no host name: it holds characters that are not allowed there", h)
	}
	u := t.user()
	for i, r := range u {
		rest := u[i+len(string(r)):]
		if r < ' ' || r == 0x7f || strings.ContainsRune("'`\"$;&<>|(){}", r) || r == ' ' && strings.HasPrefix(rest, "-") || r == '\\' && rest == "" {
			return fmt.Errorf("%q is no user name: it holds characters that are not allowed there", u)
		}
	}
	if strings.HasPrefix(u, "-") {
		return fmt.Errorf("%q is no user name: it begins with \"-\"", u)
	}
	return nil
}

func (b Become) user() string   { return cmp.Or(b.User, "root") }
func (b Become) method() string { return cmp.Or(b.Method, "sudo") }

func (b Become) validate() error {
	if m := b.method(); m != "sudo" && m != "su" {
		return fmt.Errorf("become method %q is not supported: use sudo or su", m)
	}
	if _, err := words.Fields(b.Exe); err != nil {
		return fmt.Errorf("become exe %q: %w", b.Exe, err)
	}
	for _, s := range append([]string{b.User, b.Exe}, b.Flags...) {
		if strings.ContainsAny(s, "\x00\n\r'") {
			return fmt.Errorf("become user, exe or flag %q holds a character that is not allowed there", s)
		}
	}
	return nil
}

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
