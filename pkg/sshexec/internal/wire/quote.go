package wire

import (
	"errors"
	"strings"
)

// Quote quotes words for a POSIX shell. This is the one place that does.
func Quote(words []string) string {
	var sb strings.Builder
	for i, w := range words {
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
	var words []string
	var word strings.Builder
	inWord := false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch c {
		case ' ', '\t', '\n':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		case '\'':
			end := strings.IndexByte(s[i+1:], '\'')
			if end < 0 {
				return nil, errors.New("no closing quotation")
			}
			word.WriteString(s[i+1 : i+1+end])
			i += end + 1
			inWord = true
		case '"':
			inWord = true
			closed := false
			for i++; i < len(s); i++ {
				if s[i] == '"' {
					closed = true
					break
				}
				if s[i] == '\\' && i+1 < len(s) && strings.IndexByte("$`\"\\\n", s[i+1]) >= 0 {
					i++
				}
				word.WriteByte(s[i])
			}
			if !closed {
				return nil, errors.New("no closing quotation")
			}
		case '\\':
			if i+1 == len(s) {
				return nil, errors.New("no escaped character")
			}
			i++
			word.WriteByte(s[i])
			inWord = true
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
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
