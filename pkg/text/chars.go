package text

import "unicode"

// Python's notions of characters, on which Ansible's grammar rests.

// IsWord is \w of a Python str pattern.
func IsWord(r rune) bool {
	return r == '_' || ('a' <= r && r <= 'z') || ('A' <= r && r <= 'Z') || ('0' <= r && r <= '9') ||
		(r > 0x7f && (unicode.IsLetter(r) || unicode.IsNumber(r)))
}

// IsDigit is \d of a Python str pattern.
func IsDigit(r rune) bool {
	return ('0' <= r && r <= '9') || (r > 0x7f && unicode.Is(unicode.Nd, r))
}

// IsSpace is \s of a Python str pattern and str.isspace.
func IsSpace(r rune) bool {
	switch {
	case r == ' ', '\t' <= r && r <= '\r', 0x1c <= r && r <= 0x1f:
		return true
	case r < 0x85:
		return false
	}
	return r == 0x85 || unicode.Is(unicode.Z, r) && r != 0x200b
}

// Digit, Letter and Hex are ASCII's.
func Digit(c byte) bool  { return c >= '0' && c <= '9' }
func Letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func Hex(c byte) bool    { return Digit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' }

// Span is the index behind the bytes of a set that s has from i on.
func Span(s string, i int, set func(byte) bool) int {
	for i < len(s) && set(s[i]) {
		i++
	}
	return i
}

// All reports whether s is of one or more bytes of a set.
func All(s string, set func(byte) bool) bool { return s != "" && Span(s, 0, set) == len(s) }
