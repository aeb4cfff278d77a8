package inventory

import (
	"unicode"
	"unicode/utf8"
)

// Python's notions of characters, on which Ansible's grammar rests.

// isWord is \w of a Python str pattern.
func isWord(r rune) bool {
	return r == '_' || ('a' <= r && r <= 'z') || ('A' <= r && r <= 'Z') || ('0' <= r && r <= '9') ||
		(r > 0x7f && (unicode.IsLetter(r) || unicode.IsNumber(r)))
}

// isDigit is \d of a Python str pattern.
func isDigit(r rune) bool {
	return ('0' <= r && r <= '9') || (r > 0x7f && unicode.Is(unicode.Nd, r))
}

// isSpace is \s of a Python str pattern and str.isspace.
func isSpace(r rune) bool {
	switch {
	case r == ' ', '\t' <= r && r <= '\r', 0x1c <= r && r <= 0x1f:
		return true
	case r < 0x85:
		return false
	}
	return r == 0x85 || unicode.Is(unicode.Z, r) && r != 0x200b
}

func decodeRune(s string) (rune, int) { return utf8.DecodeRuneInString(s) }
