// Package hostkeys checks host keys against known_hosts files, as OpenSSH does, and
// records new ones.
package hostkeys

import (
	"bytes"
	"cmp"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/fleetd/fleetd/pkg/sshexec/internal/account"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/algorithms"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/words"
)

// A Host is whose key is checked, and how.
type Host struct {
	Address string
	Port    int
	// Alias, if any, is looked up in place of the address and the port.
	Alias string
	// Files are the known_hosts files. Nil means ssh's; new keys go to the first.
	Files []string
	// Revoked are files of public keys that no host may have.
	Revoked []string
	// AcceptNew records the key of a host that is in no file.
	AcceptNew bool
	// Bound is the fingerprint of the one key that the host may have, or "".
	Bound string
}

// A Check is what is known of one host.
type Check struct {
	store  *Store
	host   Host
	policy algorithms.Policy
	name   string // in known_hosts
	known  entries
}

// Check looks the host up.
func (k *Store) Check(h Host, policy algorithms.Policy) (*Check, error) {
	if h.Files == nil {
		user, system := account.KnownHosts()
		h.Files = append(user, system...)
	}
	c := &Check{store: k, host: h, policy: policy, name: h.name()}
	var err error
	if c.known, err = k.lookup(h.Files, c.name); err != nil {
		return nil, err
	}
	revoked, err := readRevoked(h.Revoked)
	if err != nil {
		return nil, err
	}
	c.known = append(c.known, revoked...)
	if h.Alias == "" && h.Port != 22 && len(c.known.keys()) == 0 {
		// As OpenSSH does: a line without a port vouches for the host's other
		// ports too, but another key there is no change.
		plain, err := k.lookup(h.Files, strings.ToLower(h.Address))
		if err != nil {
			return nil, err
		}
		for _, e := range plain {
			if e.mark == markNone {
				weak := *e
				weak.mark = markOtherPort
				e = &weak
			}
			c.known = append(c.known, e)
		}
	}
	return c, nil
}

// readRevoked reads the files of RevokedHostKeys. As with ssh, what cannot be
// read cannot be trusted not to have the host's key.
func readRevoked(files []string) (entries, error) {
	var out entries
	for _, f := range files {
		b, err := os.ReadFile(account.Expand(f))
		if err != nil {
			return nil, fmt.Errorf("cannot read RevokedHostKeys %s: %w", f, account.Reason(err))
		}
		if bytes.HasPrefix(b, []byte("SSHKRL\n\x00")) {
			return nil, text.Advise("list the revoked public keys in a text file, one a line", "RevokedHostKeys %s is a KRL, which fleetd does not read", f)
		}
		for n, line := range strings.Split(string(b), "\n") {
			if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
				continue
			}
			key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
			if err != nil {
				return nil, fmt.Errorf("RevokedHostKeys %s:%d is no public key", f, n+1)
			}
			out = append(out, &entry{mark: markRevoked, key: key, file: f, line: n + 1})
		}
	}
	return out, nil
}

// name is what the host is called in known_hosts: "host", or "[host]:port" where the
// port is not 22.
func (h Host) name() string {
	if h.Alias != "" {
		return strings.ToLower(h.Alias)
	}
	return strings.ToLower(knownhosts.Normalize(h.dialed()))
}

func (h Host) dialed() string { return net.JoinHostPort(h.Address, strconv.Itoa(h.Port)) }

// Verify accepts the key, or says why not, and what to do ([text.HintOf]).
func (c *Check) Verify(key ssh.PublicKey) error {
	h := c.host
	// Before anything that may record the key of a host that is new.
	if got := algorithms.Fingerprint(key); h.Bound != "" && h.Bound != got {
		return text.Advise("another machine answers at "+h.dialed()+", or it was installed anew; make a new plan", "its host key is %s, and not %s", got, h.Bound)
	}
	if cert, ok := key.(*ssh.Certificate); ok {
		return c.verifyCert(cert)
	}
	if e, ok := c.known.revoked(key); ok {
		return text.Advise("the host must get a new key", "host key %s %s is revoked (%s)", key.Type(), ssh.FingerprintSHA256(key), e.where())
	}
	if c.known.has(key) || c.known.find(markOtherPort, key) != nil {
		return nil
	}
	if plain := c.known.keys(); len(plain) > 0 {
		return c.changed(plain, key)
	}
	if !h.AcceptNew {
		return text.Advise(
			fmt.Sprintf("compare the fingerprint with the host's console, then add it: ssh-keyscan%s %s >> %s; or use host key policy accept-new", h.portFlag(), words.Copyable(h.Address), words.Copyable(account.Expand(h.Files[0]))),
			"host key is not known: %s %s", key.Type(), ssh.FingerprintSHA256(key))
	}
	if strings.ContainsAny(c.name, "*?!,|#@ \t\r\n") {
		return text.Advise("set HostKeyAlias to a plain name", "%q is no name that a key can be recorded for: it would stand for other hosts, too", c.name)
	}
	// Somebody else may have written since we looked, even another key.
	found, err := c.store.add(h.Files[0], c.name, key)
	if err != nil {
		return text.Advise("", "cannot record the host key in %s: %w", h.Files[0], err)
	}
	if found == nil || found.has(key) {
		return nil
	}
	return c.changed(found.keys(), key)
}

func (h Host) portFlag() string {
	if h.Port == 22 {
		return ""
	}
	return fmt.Sprintf(" -p %d", h.Port)
}

func (c *Check) changed(known entries, key ssh.PublicKey) error {
	var had []string
	for _, e := range known {
		had = append(had, fmt.Sprintf("%s %s (%s)", e.key.Type(), ssh.FingerprintSHA256(e.key), e.where()))
	}
	return text.Advise(
		fmt.Sprintf("if the host was really reinstalled, remove the old key: ssh-keygen -R %s -f %s; otherwise somebody may be in the middle", words.Copyable(c.name), words.Copyable(known[0].file)),
		"host key has changed: known %s, offered %s %s", strings.Join(had, ", "), key.Type(), ssh.FingerprintSHA256(key))
}

func (c *Check) verifyCert(cert *ssh.Certificate) error {
	for _, k := range []ssh.PublicKey{cert, cert.Key, cert.SignatureKey} {
		if e, ok := c.known.revoked(k); ok {
			return text.Advise("the host must get a new key", "host certificate %q: key %s is revoked (%s)", cert.KeyId, ssh.FingerprintSHA256(k), e.where())
		}
	}
	if cert.CertType != ssh.HostCert {
		return text.Advise("", "the host offers a certificate for users, %q", cert.KeyId)
	}
	if !c.known.trusts(cert.SignatureKey) {
		return text.Advise("add the authority as @cert-authority to known_hosts",
			"host certificate %q is signed by %s %s, which no @cert-authority line names", cert.KeyId, cert.SignatureKey.Type(), ssh.FingerprintSHA256(cert.SignatureKey))
	}
	principal := strings.ToLower(cmp.Or(c.host.Alias, c.host.Address))
	if len(cert.ValidPrincipals) > 0 && !slices.Contains(cert.ValidPrincipals, principal) {
		return text.Advise("", "host certificate %q is for %s, not for %s", cert.KeyId, strings.Join(cert.ValidPrincipals, ", "), principal)
	}
	if how := cert.Signature.Format; !slices.Contains(c.policy.HostKeys(), how) {
		return text.Advise("have the authority sign it with "+ssh.KeyAlgoRSASHA512+" (ssh-keygen -t "+ssh.KeyAlgoRSASHA512+")",
			"host certificate %q is signed by the algorithm %s, which is not considered safe", cert.KeyId, how)
	}
	var checker ssh.CertChecker
	if err := checker.CheckCert(principal, cert); err != nil {
		return text.Advise("", "host certificate %q: %s", cert.KeyId, strings.TrimPrefix(err.Error(), "ssh: "))
	}
	return nil
}

// Algorithms are those to offer, those of the keys that are known first: without that
// order a server offers the key it likes best, and a host that is known by another
// one looks changed. The known key that the host is bound to, if any, comes before
// the others: a host with several keys must not look like another one because a line
// was added to known_hosts. Certificates are asked for only where an authority is
// known: a server would show one to everybody who asks.
func (c *Check) Algorithms() []string {
	def := c.policy.HostKeys()
	var out []string
	add := func(algos ...string) {
		for _, a := range algos {
			if slices.Contains(def, a) && !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	plain := append(c.known.keys(), c.known.filter(markOtherPort)...)
	for _, e := range plain {
		if algorithms.Fingerprint(e.key) == c.host.Bound {
			add(algorithms.Of(e.key)...)
		}
	}
	for _, a := range def {
		if isCertAlgo(a) && len(c.known.authorities()) > 0 {
			add(a)
		}
	}
	for _, e := range plain {
		add(algorithms.Of(e.key)...)
	}
	for _, a := range def {
		if !isCertAlgo(a) {
			add(a)
		}
	}
	return out
}

func isCertAlgo(a string) bool { return strings.HasSuffix(a, "-cert-v01@openssh.com") }
