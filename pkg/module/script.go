package module

import (
	"errors"
	"regexp"
	"strings"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/words"
)

// split is a command line in words as Python's shlex does it.
func split(line string) ([]string, error) {
	found, err := words.Shell(nil, line, false)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errors.New("no command is given")
	}
	out := make([]string, len(found))
	for i, w := range found {
		out[i] = w.Text
	}
	return out, nil
}

// program is the shell's line that runs a program with these words. As Ansible
// does, it puts the values of environment variables in their place and the home
// folder in that of a ~ in front; nothing else in a word means anything.
func program(argv []string) string {
	out := make([]string, len(argv))
	for i, w := range argv {
		out[i] = expanded(w)
	}
	return "exec " + strings.Join(out, " ")
}

var variable = regexp.MustCompile(`\$(?:(\w+)|\{(\w+)\})`)

var name = regexp.MustCompile(`^[A-Za-z_]\w*$`)

// expanded quotes a word for the shell but for the variables in it: one that is
// not set stays as it is written (Python's os.path.expandvars).
func expanded(w string) string {
	var b strings.Builder
	if w == "~" || strings.HasPrefix(w, "~/") {
		b.WriteString(`"${HOME-}"`)
		w = w[1:]
	}
	quote := func(s string) {
		if s != "" {
			b.WriteString(sshexec.QuoteArgv([]string{s}))
		}
	}
	at := 0
	for _, m := range variable.FindAllStringSubmatchIndex(w, -1) {
		v := w[max(m[2], m[4]):max(m[3], m[5])]
		if !name.MatchString(v) {
			continue
		}
		quote(w[at:m[0]])
		b.WriteString(`"${` + v + `-\$` + strings.TrimPrefix(w[m[0]:m[1]], "$") + `}"`)
		at = m[1]
	}
	quote(w[at:])
	if b.Len() == 0 {
		return "''"
	}
	return b.String()
}

// path is a path with a ~ in front expanded, for the shell.
func path(p string) string { return expanded(p) }

// guard is the shell's line that prints mark where any file of a pattern is
// there; "" without a pattern. All but * ? [ ] is quoted.
func guard(mark, pattern string) string {
	if pattern == "" {
		return ""
	}
	var b, plain strings.Builder
	flush := func() {
		if plain.Len() > 0 {
			b.WriteString(sshexec.QuoteArgv([]string{plain.String()}))
			plain.Reset()
		}
	}
	if rest, ok := strings.CutPrefix(pattern, "~/"); ok {
		b.WriteString(`"${HOME-}"/`)
		pattern = rest
	}
	for _, r := range pattern {
		if strings.ContainsRune("*?[]", r) {
			flush()
			b.WriteRune(r)
			continue
		}
		plain.WriteRune(r)
	}
	flush()
	return "for f in " + b.String() + `; do if [ -e "$f" ] || [ -L "$f" ]; then printf ` + mark + "; break; fi; done\n"
}
