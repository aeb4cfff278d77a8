package inventory

import (
	"fmt"
	"log/slog"
	"sync"
)

// redacted is what every printing of a Secret yields.
const redacted = "***"

// Secret is a value that came out of a vault: a !vault string or a value of
// an encrypted file. No way of printing, logging or encoding shows it; only
// Reveal and Value hand it out. Copies share one decryption. Comparable:
// equal means the same place in the same file.
type Secret struct{ p *secretValue }

type secretValue struct {
	once   sync.Once
	open   func() (any, error)
	value  any
	err    error
	file   string
	line   int
	column int
	// inline is a !vault string, of which ansible-inventory shows the vault
	// text, cipher, in place of the value; else it stood in an encrypted file.
	inline bool
	cipher string
}

// Value decrypts. It is a string, or for values of an encrypted file also
// Unsafe, int, float64, *big.Int or []byte. The error is one of the Err…
// values of vaults, with position.
func (s Secret) Value() (any, error) {
	v, err := s.inner()
	return plain(v), err
}

// inner is Value in the package's own types.
func (s Secret) inner() (any, error) {
	if s.p == nil {
		return "", nil
	}
	s.p.once.Do(func() {
		if s.p.open != nil {
			s.p.value, s.p.err = s.p.open()
		}
	})
	return s.p.value, s.p.err
}

// Reveal is Value as text.
func (s Secret) Reveal() (string, error) {
	v, err := s.inner()
	if err != nil {
		return "", err
	}
	return keyString(v), nil
}

// Position tells where the secret stands: "group_vars/all.yml:3:12".
func (s Secret) Position() string {
	if s.p == nil {
		return ""
	}
	return (&Error{File: s.p.file, Line: s.p.line, Column: s.p.column}).Position()
}

func (s Secret) String() string               { return redacted }
func (s Secret) GoString() string             { return redacted }
func (s Secret) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(redacted)) }
func (s Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (s Secret) MarshalYAML() (any, error)    { return redacted, nil }
