package value

import (
	"fmt"
	"log/slog"
	"sync"

	"github.com/fleetd/fleetd/pkg/text"
)

// Secret is a value that came out of a vault: a !vault string or a value of
// an encrypted file. No way of printing, logging or encoding shows it; only
// Reveal and Value hand it out. Copies share one decryption. Comparable:
// equal means the same place in the same file.
type Secret struct{ s *secret }

type secret struct {
	open   func() (any, error)
	at     text.Place
	vault  bool // a !vault string, and its text
	cipher string
}

// NewSecret is a secret that stands at a place in a file; open decrypts it, once
// and when it is wanted.
func NewSecret(at text.Place, open func() (any, error)) Secret {
	return Secret{&secret{open: sync.OnceValues(open), at: at}}
}

// NewVault is the secret of a !vault string, which is shown as it stands in the
// file where ansible-inventory does.
func NewVault(at text.Place, cipher string, open func() (any, error)) Secret {
	s := NewSecret(at, open)
	s.s.vault, s.s.cipher = true, cipher
	return s
}

// Cipher is the text of a !vault string; ok is false for a value of an
// encrypted file.
func (s Secret) Cipher() (cipher string, ok bool) {
	if s.s == nil {
		return "", false
	}
	return s.s.cipher, s.s.vault
}

// Value decrypts. It is a string, or for values of an encrypted file also
// another scalar. The error says why not, with position.
func (s Secret) Value() (any, error) {
	if s.s == nil {
		return "", nil
	}
	return s.s.open()
}

// Map is a secret whose value is f of that of s.
func (s Secret) Map(f func(any) any) Secret {
	return NewSecret(s.s.at, func() (any, error) {
		v, err := s.Value()
		if err != nil {
			return nil, err
		}
		return f(v), nil
	})
}

// Reveal is Value as text.
func (s Secret) Reveal() (string, error) {
	v, err := s.Value()
	if err != nil {
		return "", err
	}
	return Word(v), nil
}

// Position tells where the secret stands: "group_vars/all.yml:3:12".
func (s Secret) Position() string {
	if s.s == nil {
		return ""
	}
	return s.s.at.String()
}

func (s Secret) String() string               { return text.Redacted }
func (s Secret) GoString() string             { return text.Redacted }
func (s Secret) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(text.Redacted)) }
func (s Secret) LogValue() slog.Value         { return slog.StringValue(text.Redacted) }
func (s Secret) MarshalText() ([]byte, error) { return []byte(text.Redacted), nil }
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + text.Redacted + `"`), nil }
func (s Secret) MarshalYAML() (any, error)    { return text.Redacted, nil }

// Conceal makes secrets of the scalars within v, which stood at a place in an
// encrypted file. Names, booleans and null tell nothing and stay.
func Conceal(v any, at text.Place) any {
	out, _ := MapScalars(v, func(x any) (any, error) {
		switch x.(type) {
		case nil, bool, Secret:
			return x, nil
		}
		return NewSecret(at, func() (any, error) { return x, nil }), nil
	})
	return out
}
