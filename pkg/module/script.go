package module

import (
	"errors"
	"regexp"
	"strings"

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
	return expand(w, `"`, func(plain string) string { return words.Quote(plain) })
}

// expand is a word for the shell with its variables between marks, and all else as
// quote has it.
func expand(w, mark string, quote func(string) string) string {
	var b strings.Builder
	if w == "~" || strings.HasPrefix(w, "~/") {
		b.WriteString(mark + "${HOME-}" + mark)
		w = w[1:]
	}
	plain := func(s string) {
		if s != "" {
			b.WriteString(quote(s))
		}
	}
	at := 0
	for _, m := range variable.FindAllStringSubmatchIndex(w, -1) {
		v := w[max(m[2], m[4]):max(m[3], m[5])]
		if !name.MatchString(v) {
			continue
		}
		plain(w[at:m[0]])
		written := strings.NewReplacer("$", `\$`, "}", `\}`).Replace(w[m[0]:m[1]])
		b.WriteString(mark + "${" + v + "-" + written + "}" + mark)
		at = m[1]
	}
	plain(w[at:])
	if b.Len() == 0 {
		return "''"
	}
	return b.String()
}

// folder is the folder's name for cd, to which - means another one.
func folder(dir string) string {
	if dir == "-" {
		return "./-"
	}
	return expanded(dir)
}

// guard is the shell's line that prints mark where any file of a pattern is
// there; "" without a pattern. Variables and ~ are expanded first, and what comes
// of them is a pattern, too; all else but * ? [ ] ! and - is quoted.
func guard(mark, pattern string) string {
	if pattern == "" {
		return ""
	}
	found := expand(pattern, "", func(plain string) string {
		var b strings.Builder
		for plain != "" {
			i := strings.IndexAny(plain, "*?[]!-")
			switch {
			case i == 0:
				b.WriteByte(plain[0])
				plain = plain[1:]
				continue
			case i < 0:
				i = len(plain)
			}
			b.WriteString(words.Quote(plain[:i]))
			plain = plain[i:]
		}
		return b.String()
	})
	return "IFS=; for f in " + found + `; do if [ -e "$f" ] || [ -L "$f" ]; then printf ` + mark + "; break; fi; done\n"
}
