package text

import (
	"fmt"
	"unicode/utf8"
)

// Printable makes text of others, such as a node's output, safe to print on a
// terminal: escape sequences are removed, other control characters but tab and newline
// become "\x1b" and the like, bytes that are not UTF-8 become U+FFFD, and a carriage
// return within a line starts it anew, as it does on a screen. A node must not be able
// to retitle a window, or to move the cursor over what fleetd printed.
func Printable(s string) string {
	if isPrintable(s) {
		return s
	}
	out := make([]byte, 0, len(s))
	start := 0 // of the current line in out
	for i := 0; i < len(s); {
		if s[i] == 0x1b {
			i += escapeLen(s[i:])
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		switch {
		case r == '\r':
			if i < len(s) && s[i] != '\n' && s[i] != '\r' {
				out = out[:start]
			}
		case r == '\n':
			out = append(out, '\n')
			start = len(out)
		case r == '\t':
			out = append(out, '\t')
		case r < 0x20 || r == 0x7f:
			out = fmt.Appendf(out, `\x%02x`, r)
		case isUnsafe(r):
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			out = utf8.AppendRune(out, r) // U+FFFD for a bad byte
		}
	}
	return string(out)
}

func isPrintable(s string) bool {
	for i := range len(s) {
		if c := s[i]; c >= 0x80 || (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f {
			return false
		}
	}
	return true
}

// isUnsafe: C1 controls, which some terminals obey, and the characters that
// reorder text.
func isUnsafe(r rune) bool {
	return 0x80 <= r && r <= 0x9f || 0x202a <= r && r <= 0x202e || 0x2066 <= r && r <= 0x2069 || r == 0x2028 || r == 0x2029
}

// escapeLen returns the length of the escape sequence at the start of s: CSI
// up to its final byte, OSC and its like up to BEL or ST, else ESC and one
// character. A sequence that does not end is only the ESC.
func escapeLen(s string) int {
	if len(s) < 2 {
		return 1
	}
	switch s[1] {
	case '[':
		for i := 2; i < len(s); i++ {
			if c := s[i]; 0x40 <= c && c <= 0x7e {
				return i + 1
			} else if c < 0x20 || c > 0x7e {
				return i
			}
		}
		return len(s)
	case ']', 'P', 'X', '^', '_':
		for i := 2; i < len(s); i++ {
			switch {
			case s[i] == 0x07:
				return i + 1
			case s[i] == 0x1b:
				if i+1 < len(s) && s[i+1] == '\\' {
					return i + 2
				}
				return i
			case s[i] == '\n':
				return i
			}
		}
		return len(s)
	}
	i := 1
	for i < len(s) && 0x20 <= s[i] && s[i] <= 0x2f {
		i++
	}
	if i < len(s) && 0x30 <= s[i] && s[i] <= 0x7e {
		i++
	}
	return i
}
