// Package algorithms says which algorithms of SSH are used, and what a key signs with.
package algorithms

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// A Policy says which algorithms a connection may use.
type Policy int

const (
	// Modern is what OpenSSH offers by default today: nothing with SHA-1, which
	// EL7's sshd can do without.
	Modern Policy = iota
	// FIPS is what FIPS 140-3 allows of that: no Curve25519, Ed25519 or ChaCha20.
	FIPS
)

// String, Set and Type make a policy a flag of a command line.
func (p Policy) String() string {
	if p == FIPS {
		return "fips"
	}
	return "modern"
}

// Set reads "modern" or "fips".
func (p *Policy) Set(s string) error {
	for _, known := range []Policy{Modern, FIPS} {
		if s == known.String() {
			*p = known
			return nil
		}
	}
	return fmt.Errorf("%q is neither modern nor fips", s)
}

// Type is what a list of flags calls the value.
func (p *Policy) Type() string { return "modern|fips" }

// keyExchanges have P-256 before X25519: both are of equal strength, and P-256
// takes an OpenSSH node less. A peer that knows ML-KEM still gets it first. See
// docs/decisions/0006-key-exchange.md.
var keyExchanges = []string{
	ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeECDHP256, ssh.KeyExchangeCurve25519, ssh.KeyExchangeECDHP384, ssh.KeyExchangeECDHP521,
	ssh.KeyExchangeDH14SHA256, ssh.KeyExchangeDH16SHA512,
}

var (
	ciphers = []string{
		ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherChaCha20Poly1305, ssh.CipherAES128CTR, ssh.CipherAES192CTR, ssh.CipherAES256CTR,
	}
	macs = []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM, ssh.HMACSHA256, ssh.HMACSHA512}
)

// Allows tells whether a policy that is not [Modern] leaves an algorithm in.
func (p Policy) Allows(algorithm string) bool {
	if p != FIPS {
		return true
	}
	return !strings.Contains(algorithm, "25519") && !strings.HasPrefix(algorithm, "chacha20") && !strings.HasPrefix(algorithm, "sk-")
}

func (p Policy) of(all []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(a string) bool { return !p.Allows(a) })
}

// Config is the policy as a client's configuration.
func (p Policy) Config() ssh.Config {
	return ssh.Config{KeyExchanges: p.of(keyExchanges), Ciphers: p.of(ciphers), MACs: p.of(macs)}
}

// HostKeys are the algorithms by which a host may prove what it is, and an
// authority sign its certificate.
func (p Policy) HostKeys() []string { return p.of(ssh.SupportedAlgorithms().HostKeys) }

// Of returns the algorithms with which a key may sign. SHA-1 is not
// among them.
func Of(k ssh.PublicKey) []string {
	typ := k.Type()
	if c, ok := k.(*ssh.Certificate); ok {
		typ = c.Key.Type()
	}
	if typ == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{typ}
}

// Fingerprint is what ssh-keygen -l prints of a key, and of a certificate for that
// key: a certificate is renewed every so often, the key stays.
func Fingerprint(key ssh.PublicKey) string {
	if c, ok := key.(*ssh.Certificate); ok {
		key = c.Key
	}
	return ssh.FingerprintSHA256(key)
}
