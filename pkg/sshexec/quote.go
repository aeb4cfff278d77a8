package sshexec

import (
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/words"
)

// QuoteArgv quotes argv for a POSIX shell: see [words.Quote]. NUL bytes, which no argv
// can hold, are kept as they are; Run refuses them.
func QuoteArgv(argv []string) string { return words.Quote(argv...) }

// Printable makes text of a node safe to print on a terminal: see [text.Printable].
func Printable(s string) string { return text.Printable(s) }
