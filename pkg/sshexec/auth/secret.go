package auth

import (
	"fmt"
	"io"

	"github.com/fleetd/fleetd/pkg/text"
)

// A Secret is a password or passphrase. Every way of printing it (fmt verbs,
// JSON, text, slog) gives "***"; only [Secret.Reveal] gives the value.
type Secret string

// Reveal returns the secret itself, for the one place that must send it.
func (s Secret) Reveal() string { return string(s) }

// String returns "***", or "" for an empty secret, so that "is one set?" can
// still be seen.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return text.Redacted
}

// Format makes every fmt verb print what String returns: without it %x and %q
// would print the value.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText implements [encoding.TextMarshaler]; it serves JSON, YAML and slog.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
