// Package wire is what sshexec and a node's shell say to each other: the
// constant command line of the exec request, the line on standard error that
// tells the shell's process id, and the program line on standard input. What sshexec
// writes here, sshtest reads.
package wire

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/words"
)

// Bootstrap runs on the node. It has no single quote, no newline and no
// exclamation mark, so every login shell (bash, dash, zsh, fish, csh) hands it
// to /bin/sh unchanged.
//
// read's exit status matters: at end of file without a newline it fails, so a
// program that was cut in the middle by a lost connection is never executed.
//
// Every program line begins with the nonce, which only the sender of this command
// line knows: whatever else arrives there (a password that nobody asked for) is
// not evaluated, and not shown either.
//
// A program that needs no escaping is marked "p" and evaluated as it stands,
// which saves the node a fork; the others are marked "e".
const Bootstrap = `echo "fleetd-$1 $$" >&2;IFS= read -r fl_p || exit 125;` +
	`case $fl_p in $1p*) eval "set --;unset fl_p;${fl_p#$1p}";; $1e*) eval "set --;unset fl_p;$(printf %b "${fl_p#$1e}")";; ` +
	`*) echo "fleetd-$1: what came first is no program" >&2;exit 125;; esac`

// LoginBootstrap is Bootstrap for "sudo -i" and "sudo -s", which hand the command to
// a shell of the other user's with every "$" as it stands, so there is none in it.
// The four backslashes are two for the backquotes, and then one for printf; fish as
// the login shell would take two of them.
var LoginBootstrap = func() string {
	var sb strings.Builder
	for _, b := range []byte(Bootstrap) {
		if 'a' <= b && b <= 'z' {
			sb.WriteByte(b)
		} else {
			fmt.Fprintf(&sb, `\\\\0%03o`, b)
		}
	}
	return "eval \"`printf %b " + sb.String() + "`\""
}()

// Asking runs on the node before su, whose prompt cannot be chosen: what a login
// script printed before that line is no prompt.
const Asking = `echo "fleetd-$1: su" >&2;shift;exec "$@"`

// Line is the command of an exec request.
type Line struct {
	Nonce string
	// Method is "", "sudo" or "su"; the fields below belong to it.
	Method string
	Exe    string
	Flags  []string
	User   string
	// Password tells that one can be given: sudo then asks with Prompt.
	Password bool
}

// Prompt is what sudo is told to ask with.
func (l Line) Prompt() string { return "[fleetd-" + l.Nonce + "] password:" }

// Program is what goes to standard input, of what [Program.Encode] returned.
func (l Line) Program(encoded string) string { return l.Nonce + encoded }

// SuPrefix is the line after which su may ask.
func SuPrefix(nonce string) string { return "fleetd-" + nonce + ": su\n" }

// String returns the command line for the exec request.
func (l Line) String() string {
	boot := "'" + Bootstrap + "' sh " + l.Nonce
	switch l.Method {
	case "sudo":
		var sb strings.Builder
		flags, login := l.sudoFlags()
		if login {
			boot = "'" + LoginBootstrap + "' sh " + l.Nonce
		}
		sb.WriteString("exec " + words.Quote(append(l.exe(), flags...)...))
		if l.Password {
			sb.WriteString(" -S -p '" + l.Prompt() + "'")
		} else {
			sb.WriteString(" -n")
		}
		sb.WriteString(" -u " + words.Quote(l.User) + " -- /bin/sh -c " + boot)
		return sb.String()
	case "su":
		// -s: root's own shell may be csh or a menu.
		argv := append([]string{"/bin/sh", "-c", Asking, "sh", l.Nonce}, append(l.exe(), l.Flags...)...)
		argv = append(argv, "-s", "/bin/sh", "-c", "exec /bin/sh -c "+boot, l.User)
		return "exec " + words.Quote(argv...)
	default:
		return "exec /bin/sh -c " + boot
	}
}

// exe is the words of Exe, which may be a program with arguments ("sudo su -").
func (l Line) exe() []string {
	if exe, err := words.Fields(l.Exe); err == nil && len(exe) > 0 {
		return exe
	}
	return []string{l.Method}
}

// sudoFlags is Flags without -n, which forbids the question for the password, where
// one can be given; Ansible's default has it. login tells of -i or -s.
func (l Line) sudoFlags() (flags []string, login bool) {
	if l.Flags == nil {
		return []string{"-H"}, false
	}
	for i := 0; i < len(l.Flags); i++ {
		f := l.Flags[i]
		switch {
		case f == "--login" || f == "--shell":
			login = true
		case f == "--non-interactive" && l.Password:
			continue
		case len(f) > 1 && f[0] == '-' && f[1] != '-':
			// Letters, up to one that has a value.
			letters, value := f[1:], ""
			if j := strings.IndexAny(letters, "aCcDghpRrTtUu"); j >= 0 {
				letters, value = letters[:j], letters[j:]
			}
			login = login || strings.ContainsAny(letters, "is")
			if l.Password {
				letters = strings.ReplaceAll(letters, "n", "")
			}
			if f = "-" + letters + value; f == "-" {
				continue
			}
			if len(value) == 1 && i+1 < len(l.Flags) {
				flags = append(flags, f)
				i++
				f = l.Flags[i]
			}
		}
		flags = append(flags, f)
	}
	return flags, login
}

// MarkPrefix begins the marker line, which the Bootstrap prints; the shell's
// process id follows.
func MarkPrefix(nonce string) string { return "fleetd-" + nonce + " " }

func isName(s string) bool {
	name := func(c byte) bool { return c == '_' || text.Letter(c) || text.Digit(c) }
	return text.All(s, name) && !text.Digit(s[0])
}

// A Program is what the shell evaluates.
type Program struct {
	Env    map[string]string
	Argv   []string // or
	Script string
}

// Encode returns the program line, newline included.
func (p Program) Encode() (string, error) {
	text, err := p.text()
	if err != nil {
		return "", err
	}
	if !strings.ContainsAny(text, "\\\n") {
		return "p" + text + "\n", nil
	}
	return "e" + programEscaper.Replace(text) + "\n", nil
}

// printf %b turns these back. Nothing else needs it: read -r keeps every other
// byte.
var programEscaper = strings.NewReplacer(`\`, `\\`, "\n", `\n`)

func (p Program) text() (string, error) {
	var sb strings.Builder
	names := make([]string, 0, len(p.Env))
	for k := range p.Env {
		names = append(names, k)
	}
	slices.Sort(names)
	for _, k := range names {
		if !isName(k) {
			return "", fmt.Errorf("environment variable name %q is not a shell name", k)
		}
		if strings.Contains(p.Env[k], "\x00") {
			return "", fmt.Errorf("value of environment variable %s holds a NUL byte", k)
		}
		sb.WriteString("export " + k + "=" + words.QuoteAlways(p.Env[k]) + ";")
	}
	if p.Argv != nil {
		for _, a := range p.Argv {
			if strings.Contains(a, "\x00") {
				return "", fmt.Errorf("argument %q holds a NUL byte", a)
			}
		}
		sb.WriteString("exec " + words.Quote(p.Argv...))
		return sb.String(), nil
	}
	if strings.Contains(p.Script, "\x00") {
		return "", fmt.Errorf("script holds a NUL byte")
	}
	// The space tells a script from the arguments above; a newline would have
	// to be escaped, and cost the node a fork.
	sb.WriteString(" " + p.Script)
	return sb.String(), nil
}
