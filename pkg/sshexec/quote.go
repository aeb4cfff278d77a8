package sshexec

import "github.com/fleetd/fleetd/pkg/sshexec/internal/wire"

// QuoteArgv quotes argv for a POSIX shell: the shell, given the result as a
// command, calls the program with exactly these arguments. Words that need no
// quotes get none, so the result reads well in a log. NUL bytes, which no argv
// can hold, are kept as they are; Run refuses them.
func QuoteArgv(argv []string) string { return wire.Quote(argv) }
