// Package sshexec reaches the nodes of a fleet over SSH: it connects, runs
// commands, uploads files and dials through a node. It behaves as the OpenSSH
// client that the engineer knows, and needs nothing on the node but sshd and a
// POSIX shell.
//
// # Connections
//
// A [Pool] owns every connection. It dials on first use, shares one connection
// among all that is done on a host (and one per jump host among all hosts
// behind it), sends keepalives so that a dead peer is noticed, and closes what
// is idle. Dials are bounded by [Options.MaxDials]; a dial that waits on a
// silent peer gives its place to the next one, so hosts that hang do not slow
// the others down. Refused connections, timeouts and connections that sshd
// drops before the handshake (MaxStartups) are retried with jitter; a failed
// login or a wrong host key is not. Algorithms are those of x/crypto/ssh, with
// P-256 before X25519 (docs/decisions/0006-key-exchange.md).
//
// # Host keys
//
// Host keys are checked against known_hosts files as OpenSSH checks them:
// hashed names, patterns, ports, @cert-authority, @revoked. [Strict] is the
// default; [AcceptNew] records the key of a host that is not known yet. A key
// that differs from a known one is always an error that shows both
// fingerprints. There is no way to switch the check off. One rule is stricter
// than OpenSSH's: a host that is known by keys of other types only counts as
// changed, because a stranger can choose the type of key he offers.
//
// [Target.HostKey] binds a target to one machine: every new connection to it must
// show that key, so that a changed DNS record or two swapped ports cannot lead a
// run to another machine that known_hosts knows as well.
//
// # Commands
//
// [Pool.Run] starts one command on a channel of its own. What travels in the
// SSH exec request, and so in the argv of processes on the node, is a constant:
//
//	exec [sudo … -u USER] /bin/sh -c 'CONSTANT' sh NONCE
//
// CONSTANT prints one line on standard error (the nonce and its process id),
// then reads one line from standard input, the program, and evaluates it. So
// scripts, environment and passwords never appear in a process list or in sudo's
// log, the login shell never parses what the caller wrote, and a line cut by a
// lost connection is not executed at all. After that line, standard input belongs
// to the command.
//
// A become password is written to standard input only after the prompt was
// seen; a second prompt means that it was wrong. One that a host has refused is not
// sent there again as long as the pool lives, nor asked for, and until it is known to
// be right one session at a time asks: three failures may lock the account.
//
// Output is captured within [Command.MaxOutput] bytes per stream: the beginning and
// the end are kept, a marker stands for what was cut. Output that a process holds open after the
// command's end is given up after four quiet seconds, and [Result.Unfinished] set.
//
// When the context ends or [Command.Timeout] passes, the process group of the
// command gets SIGTERM and, three seconds later, SIGKILL, with the same
// privileges that the command had. Which group that is, the node looks up then. A
// [Command] that is Harmless is left to its own end when the context ends.
//
// sudo is called without a terminal: a sudoers rule "requiretty" refuses that,
// and the error says so. su and sudo -i hand it through a shell in nested
// quotes, which csh and fish do not read; other sudo and plain commands work under
// every login shell.
//
// A command is repeated on a fresh connection only when the old one turned out
// dead before the program was sent. Once it was sent, a loss is [KindLost], and
// the caller must find out what happened.
//
// # Files
//
// [Pool.Upload] writes a temporary file beside the target, has it flushed to
// disk, has its SHA-256 computed on the node, sets owner and mode, and renames
// it over the target: a reader sees the old file or the new one. The temporary
// file is removed on the node by the node's own shell, so also when the
// connection is cut.
//
// # What a node says
//
// Bytes of a node are data: none reaches a terminal, a log or a shell as it is. They
// are in
//   - [Result.Stdout] and [Result.Stderr], as they came: who shows them calls
//     text.Printable, as package view does;
//   - [Result.Signal], a name of RFC 4254's form, or "unknown";
//   - [Error.Error] and [Error.Cause], printable, one line, whatever the cause's text
//     is: a refused channel, a version, sudo's words, an SFTP server's, a
//     ProxyCommand's standard error; up to a bound, and never over our own words;
//   - questions of keyboard-interactive, printable, each line after the host's name;
//   - [Error.Hint]: only words that are quoted for a shell, since hints are copied there;
//   - known_hosts, by AcceptNew: a key, behind a name that stands for one host;
//   - what is held in memory until our shell runs, or of a command's output: bounded.
//
// Names of hosts and users come from an inventory. They are checked before anything is
// done with them, since a ProxyCommand's shell gets them, and ssh_config's Match: see
// [Target.Validate].
//
// FuzzPeersWords, FuzzLead, FuzzUploadTalk, FuzzQuoteArgv, FuzzProgram and package
// text's FuzzPrintable are the tests of this list.
//
// # Errors
//
// A failure of transport, login, host key or become is an [*Error] with the
// host, what was tried, a [Kind] and often a hint for the person. A command
// that ran and exited non-zero is not an error: see [Result].
package sshexec
