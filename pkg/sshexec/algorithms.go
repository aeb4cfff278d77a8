package sshexec

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// An AlgorithmPolicy says which algorithms a connection may use.
type AlgorithmPolicy int

const (
	// Modern is what OpenSSH offers by default today: nothing with SHA-1, which
	// EL7's sshd can do without.
	Modern AlgorithmPolicy = iota
	// FIPS is what FIPS 140-3 allows of that: no Curve25519, Ed25519 or ChaCha20.
	FIPS
)

// String, Set and Type make a policy a flag of a command line.
func (p AlgorithmPolicy) String() string {
	if p == FIPS {
		return "fips"
	}
	return "modern"
}

// Set reads "modern" or "fips".
func (p *AlgorithmPolicy) Set(s string) error {
	for _, known := range []AlgorithmPolicy{Modern, FIPS} {
		if s == known.String() {
			*p = known
			return nil
		}
	}
	return fmt.Errorf("%q is neither modern nor fips", s)
}

// Type is what a list of flags calls the value.
func (p *AlgorithmPolicy) Type() string { return "modern|fips" }

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

// allows tells whether a policy that is not [Modern] leaves an algorithm in.
func (p AlgorithmPolicy) allows(algorithm string) bool {
	if p != FIPS {
		return true
	}
	return !strings.Contains(algorithm, "25519") && !strings.HasPrefix(algorithm, "chacha20") && !strings.HasPrefix(algorithm, "sk-")
}

func (p AlgorithmPolicy) of(all []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(a string) bool { return !p.allows(a) })
}

func (p AlgorithmPolicy) config() ssh.Config {
	return ssh.Config{KeyExchanges: p.of(keyExchanges), Ciphers: p.of(ciphers), MACs: p.of(macs)}
}

// hostKeys are the algorithms by which a host may prove what it is, and an
// authority sign its certificate.
func (p AlgorithmPolicy) hostKeys() []string { return p.of(ssh.SupportedAlgorithms().HostKeys) }

// algorithmsFor returns the algorithms with which a key may sign. SHA-1 is not
// among them.
func algorithmsFor(k ssh.PublicKey) []string {
	typ := k.Type()
	if c, ok := k.(*ssh.Certificate); ok {
		typ = c.Key.Type()
	}
	if typ == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{typ}
}

func keyExchangeOf(c ssh.ConnMetadata) string {
	if a, ok := c.(ssh.AlgorithmsConnMetadata); ok {
		return a.Algorithms().KeyExchange
	}
	return ""
}
