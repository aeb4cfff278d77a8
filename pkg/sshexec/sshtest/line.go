package sshtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/sshexec/internal/wire"
	"github.com/fleetd/fleetd/pkg/words"
)

// parseLine recognizes what wire.Line's String made. ok is false for any other command.
func parseLine(s string) (l wire.Line, ok bool) {
	words, err := words.Fields(s)
	if err != nil || len(words) < 4 || words[0] != "exec" {
		return wire.Line{}, false
	}
	isBoot := func(w []string) bool {
		return len(w) == 5 && w[0] == "/bin/sh" && w[1] == "-c" && (w[2] == wire.Bootstrap || w[2] == wire.LoginBootstrap) && w[3] == "sh"
	}
	words = words[1:]
	if isBoot(words) {
		return wire.Line{Nonce: words[4]}, true
	}
	if n := len(words) - 5; n > 3 && isBoot(words[n:]) && words[n-1] == "--" && words[n-3] == "-u" {
		l = wire.Line{Method: "sudo", Exe: words[0], User: words[n-2], Nonce: words[n+4]}
		l.Flags = words[1 : n-3]
		if i := slices.Index(l.Flags, "-S"); i >= 0 {
			l.Password, l.Flags = true, l.Flags[:i]
		} else if i := slices.Index(l.Flags, "-n"); i >= 0 {
			l.Flags = l.Flags[:i]
		}
		return l, true
	}
	if len(words) > 5 && words[2] == wire.Asking {
		words = words[5:]
	}
	if n := len(words) - 5; n >= 1 && words[n] == "-s" && words[n+2] == "-c" {
		inner, ok := parseLine(words[n+3])
		if !ok {
			return wire.Line{}, false
		}
		return wire.Line{Method: "su", Exe: words[0], Flags: words[1:n], User: words[n+4], Nonce: inner.Nonce, Password: true}, true
	}
	return wire.Line{}, false
}

// unescaper does what printf %b does with what wire has escaped.
var unescaper = strings.NewReplacer(`\\`, `\`, `\n`, "\n")

// decodeProgram reads what wire.Program's Encode wrote (with or without the newline).
func decodeProgram(line string) (wire.Program, error) {
	text, plain := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "p")
	if !plain {
		escaped, ok := strings.CutPrefix(text, "e")
		if !ok {
			return wire.Program{}, fmt.Errorf("not a program line")
		}
		text = unescaper.Replace(escaped)
	}
	var p wire.Program
	for strings.HasPrefix(text, "export ") {
		name, rest, ok := strings.Cut(text[len("export "):], "=")
		if !ok {
			return wire.Program{}, fmt.Errorf("bad export")
		}
		value, rest, err := unquote(rest)
		if err != nil {
			return wire.Program{}, err
		}
		if p.Env == nil {
			p.Env = map[string]string{}
		}
		p.Env[name] = value
		text = strings.TrimPrefix(rest, ";")
	}
	if argv, ok := strings.CutPrefix(text, "exec "); ok {
		words, err := words.Fields(argv)
		p.Argv = words
		return p, err
	}
	p.Script = strings.TrimPrefix(text, " ")
	return p, nil
}

// unquote reads one word in single quotes and returns what follows it.
func unquote(s string) (word, rest string, err error) {
	var sb strings.Builder
	for {
		if !strings.HasPrefix(s, "'") {
			return "", "", errors.New("missing quote")
		}
		body, after, ok := strings.Cut(s[1:], "'")
		if !ok {
			return "", "", errors.New("unterminated quote")
		}
		sb.WriteString(body)
		if !strings.HasPrefix(after, `\''`) {
			return sb.String(), after, nil
		}
		sb.WriteByte('\'')
		s = after[2:]
	}
}
