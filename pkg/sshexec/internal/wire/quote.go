package wire

import (
	"strings"

	"github.com/fleetd/fleetd/pkg/words"
)

// Quote quotes words for a POSIX shell. This is the one place that does.
func Quote(argv []string) string {
	var sb strings.Builder
	for i, w := range argv {
		if i > 0 {
			sb.WriteByte(' ')
		}
		if isPlain(w) {
			sb.WriteString(w)
		} else {
			sb.WriteString(quoteAlways(w))
		}
	}
	return sb.String()
}

// isPlain tells that no shell reads anything into w. "=" is not plain, because
// A=b as a first word is an assignment; "~", "{" and all above ASCII are not.
func isPlain(w string) bool {
	if w == "" {
		return false
	}
	for i := range len(w) {
		c := w[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("_-./:,@%+", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// quoteAlways: within single quotes a POSIX shell reads nothing into any byte;
// a single quote itself is written outside of them.
func quoteAlways(w string) string { return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'" }

// Split splits s into words as a POSIX shell does when nothing but quotes and
// backslashes is special. It reads the *_args variables of an inventory too.
func Split(s string) ([]string, error) {
	split, err := words.Shell(nil, s, false)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, w := range split {
		out = append(out, w.Text)
	}
	return out, nil
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
