package sshexec

import "github.com/fleetd/fleetd/pkg/sshexec/internal/wire"

// QuoteArgv quotes argv for a POSIX shell: the shell, given the result as a
// command, calls the program with exactly these arguments. Words that need no
// quotes get none, so the result reads well in a log. NUL bytes, which no argv
// can hold, are kept as they are; Run refuses them.
func QuoteArgv(argv []string) string { return wire.Quote(argv) }

// Printable makes text of a node safe to print on a terminal: escape sequences are
// removed, other control characters but tab and newline become "\x1b" and the like,
// bytes that are not UTF-8 become U+FFFD, and a carriage return within a line starts
// it anew, as it does on a screen. A node must not be able to retitle a window, or to
// move the cursor over what fleetd printed.
func Printable(s string) string { return wire.Printable(s) }
