package words

import (
	"strings"

	"github.com/fleetd/fleetd/pkg/text"
)

// Quote quotes words for a POSIX shell, which reads them as they are. Words that need
// no quotes get none, so the result reads well. This is the one place that does.
func Quote(words ...string) string {
	var sb strings.Builder
	for i, w := range words {
		if i > 0 {
			sb.WriteByte(' ')
		}
		if text.All(w, isPlain) {
			sb.WriteString(w)
		} else {
			sb.WriteString(QuoteAlways(w))
		}
	}
	return sb.String()
}

// Copyable is what a hint names, ready for the shell that it is copied to.
func Copyable(s string) string { return Quote(text.Printable(s)) }

// isPlain tells that no shell reads anything into c. "=" is not plain, because
// A=b as a first word is an assignment; "~", "{" and all above ASCII are not.
func isPlain(c byte) bool {
	return text.Letter(c) || text.Digit(c) || strings.IndexByte("_-./:,@%+", c) >= 0
}

// QuoteAlways quotes one word: within single quotes a POSIX shell reads nothing into
// any byte; a single quote itself is written outside of them.
func QuoteAlways(w string) string { return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'" }

// Fields splits s as a POSIX shell does when nothing but quotes and backslashes is
// special.
func Fields(s string) ([]string, error) {
	split, err := Shell(nil, s, false)
	var out []string
	for _, w := range split {
		out = append(out, w.Text)
	}
	return out, err
}
