package sshexec

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/fleetd/fleetd/pkg/sshexec/internal/wire"
)

// hostKeys returns what checks t's host key, and the key algorithms to ask for:
// those of the keys that are known, first. Without that order a server offers
// the key it likes best, and a host that is known by another one looks changed.
func (p *Pool) hostKeys(t Target) (verify func(ssh.PublicKey) error, algos []string, err error) {
	files := t.KnownHosts
	if files == nil {
		files = defaultKnownHosts()
	}
	name := t.knownName()
	known, err := p.settings.lookup(files, name)
	if err != nil {
		return nil, nil, err
	}
	revoked, err := readRevoked(t.RevokedHostKeys)
	if err != nil {
		return nil, nil, err
	}
	known = append(known, revoked...)
	if t.HostKeyAlias == "" && t.port() != 22 && len(known.keys()) == 0 {
		// As OpenSSH does: a line without a port vouches for the host's other
		// ports too, but another key there is no change.
		plain, err := p.settings.lookup(files, strings.ToLower(t.host()))
		if err != nil {
			return nil, nil, err
		}
		for _, e := range plain {
			if e.mark == markNone {
				weak := *e
				weak.mark = markOtherPort
				e = &weak
			}
			known = append(known, e)
		}
	}
	verify = func(key ssh.PublicKey) error {
		return p.verifyHostKey(t, files, name, known, key)
	}
	return verify, known.algorithms(t.HostKey, p.opts.Algorithms.hostKeys()), nil
}

// readRevoked reads the files of RevokedHostKeys. As with ssh, what cannot be
// read cannot be trusted not to have the host's key.
func readRevoked(files []string) (hostEntries, error) {
	var out hostEntries
	for _, f := range files {
		b, err := os.ReadFile(expandHome(f))
		if err != nil {
			return nil, fmt.Errorf("cannot read RevokedHostKeys %s: %w", f, bareErr(err))
		}
		if bytes.HasPrefix(b, []byte("SSHKRL\n\x00")) {
			return nil, &fault{kind: KindHostKey, op: "connect", err: fmt.Errorf("RevokedHostKeys %s is a KRL, which fleetd does not read", f),
				hint: "list the revoked public keys in a text file, one a line"}
		}
		for n, line := range strings.Split(string(b), "\n") {
			if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
				continue
			}
			key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
			if err != nil {
				return nil, fmt.Errorf("RevokedHostKeys %s:%d is no public key", f, n+1)
			}
			out = append(out, &hostEntry{mark: markRevoked, key: key, file: f, line: n + 1})
		}
	}
	return out, nil
}

// knownName is what t is called in known_hosts: "host", or "[host]:port" where
// the port is not 22.
func (t Target) knownName() string {
	if t.HostKeyAlias != "" {
		return strings.ToLower(t.HostKeyAlias)
	}
	return strings.ToLower(knownhosts.Normalize(t.HostPort()))
}

func defaultKnownHosts() []string {
	var out []string
	if home, err := os.UserHomeDir(); err == nil {
		out = append(out, filepath.Join(home, ".ssh", "known_hosts"), filepath.Join(home, ".ssh", "known_hosts2"))
	}
	return append(out, "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
}

func (p *Pool) verifyHostKey(t Target, files []string, name string, known hostEntries, key ssh.PublicKey) error {
	refuse := func(hint, format string, args ...any) error {
		return &fault{kind: KindHostKey, op: "connect", err: fmt.Errorf(format, args...), hint: hint}
	}
	if cert, ok := key.(*ssh.Certificate); ok {
		return p.verifyHostCert(t, known, cert, refuse)
	}
	if e, ok := known.revoked(key); ok {
		return refuse("the host must get a new key", "host key %s %s is revoked (%s)", key.Type(), ssh.FingerprintSHA256(key), e.where())
	}
	if known.has(key) || known.find(markOtherPort, key) != nil {
		return nil
	}
	if plain := known.keys(); len(plain) > 0 {
		return p.changed(name, plain, key, refuse)
	}
	if t.HostKeyPolicy != AcceptNew {
		return refuse(
			fmt.Sprintf("compare the fingerprint with the host's console, then add it: ssh-keyscan%s %s >> %s; or use host key policy accept-new", portFlag(t), word(t.host()), word(expandHome(files[0]))),
			"host key is not known: %s %s", key.Type(), ssh.FingerprintSHA256(key))
	}
	// Somebody else may have written since we looked, even another key.
	found, err := p.settings.add(files[0], name, key)
	if err != nil {
		return refuse("", "cannot record the host key in %s: %w", files[0], err)
	}
	if found == nil || found.has(key) {
		p.log.Info("recorded a new host key", "host", t.name(), "file", files[0], "type", key.Type(), "fingerprint", ssh.FingerprintSHA256(key))
		return nil
	}
	return p.changed(name, found.keys(), key, refuse)
}

// word is what a hint names, ready for the shell that it is copied to.
func word(s string) string { return wire.Quote([]string{Printable(s)}) }

func portFlag(t Target) string {
	if t.port() == 22 {
		return ""
	}
	return fmt.Sprintf(" -p %d", t.port())
}

type refuser = func(hint, format string, args ...any) error

func (p *Pool) changed(name string, known hostEntries, key ssh.PublicKey, refuse refuser) error {
	var had []string
	for _, e := range known {
		had = append(had, fmt.Sprintf("%s %s (%s)", e.key.Type(), ssh.FingerprintSHA256(e.key), e.where()))
	}
	return refuse(
		fmt.Sprintf("if the host was really reinstalled, remove the old key: ssh-keygen -R %s -f %s; otherwise somebody may be in the middle", word(name), word(known[0].file)),
		"host key has changed: known %s, offered %s %s", strings.Join(had, ", "), key.Type(), ssh.FingerprintSHA256(key))
}

func (p *Pool) verifyHostCert(t Target, known hostEntries, cert *ssh.Certificate, refuse refuser) error {
	for _, k := range []ssh.PublicKey{cert, cert.Key, cert.SignatureKey} {
		if e, ok := known.revoked(k); ok {
			return refuse("the host must get a new key", "host certificate %q: key %s is revoked (%s)", cert.KeyId, ssh.FingerprintSHA256(k), e.where())
		}
	}
	if cert.CertType != ssh.HostCert {
		return refuse("", "the host offers a certificate for users, %q", cert.KeyId)
	}
	if !known.trusts(cert.SignatureKey) {
		return refuse("add the authority as @cert-authority to known_hosts",
			"host certificate %q is signed by %s %s, which no @cert-authority line names", cert.KeyId, cert.SignatureKey.Type(), ssh.FingerprintSHA256(cert.SignatureKey))
	}
	principal := t.host()
	if t.HostKeyAlias != "" {
		principal = t.HostKeyAlias
	}
	principal = strings.ToLower(principal)
	if len(cert.ValidPrincipals) > 0 && !slices.Contains(cert.ValidPrincipals, principal) {
		return refuse("", "host certificate %q is for %s, not for %s", cert.KeyId, strings.Join(cert.ValidPrincipals, ", "), principal)
	}
	if how := cert.Signature.Format; !slices.Contains(p.opts.Algorithms.hostKeys(), how) {
		return refuse("have the authority sign it with "+ssh.KeyAlgoRSASHA512+" (ssh-keygen -t "+ssh.KeyAlgoRSASHA512+")",
			"host certificate %q is signed by the algorithm %s, which is not considered safe", cert.KeyId, how)
	}
	var checker ssh.CertChecker
	if err := checker.CheckCert(principal, cert); err != nil {
		return refuse("", "host certificate %q: %s", cert.KeyId, strings.TrimPrefix(err.Error(), "ssh: "))
	}
	return nil
}

// algorithms returns those of def to offer, in their order for this host. The known key with the fingerprint bound, if any, comes first: a
// host with several keys must not look like another one because a line was added
// to known_hosts. Certificates are asked for only where an authority is known: a
// server would show one to everybody who asks.
func (es hostEntries) algorithms(bound string, def []string) []string {
	var out []string
	add := func(algos ...string) {
		for _, a := range algos {
			if slices.Contains(def, a) && !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	plain := append(es.keys(), es.filter(markOtherPort)...)
	for _, e := range plain {
		if fingerprint(e.key) == bound {
			add(algorithmsFor(e.key)...)
		}
	}
	for _, a := range def {
		if isCertAlgo(a) && len(es.authorities()) > 0 {
			add(a)
		}
	}
	for _, e := range plain {
		add(algorithmsFor(e.key)...)
	}
	for _, a := range def {
		if !isCertAlgo(a) {
			add(a)
		}
	}
	return out
}

func isCertAlgo(a string) bool { return strings.HasSuffix(a, "-cert-v01@openssh.com") }
