package inventory

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

func (s *scanner) directive() bool {
	at := s.m
	from := s.i + 1
	for s.i < len(s.s) && s.breakLen(0) == 0 {
		s.skip()
	}
	words := strings.Fields(s.s[from:s.i])
	for i, w := range words {
		if strings.HasPrefix(w, "#") {
			words = words[:i]
			break
		}
	}
	t := token{kind: tokDirective, at: at}
	switch {
	case len(words) == 2 && words[0] == "YAML":
		if words[1] != "1.1" && words[1] != "1.2" {
			return s.fail(at, "Take the line away, or write %YAML 1.1.", "this YAML version is not supported, only 1.1 is")
		}
		t.value = "YAML"
	case len(words) == 3 && words[0] == "TAG":
		t.value, t.suffix = words[1], words[2]
	default:
		return s.fail(at, "Take the line away; if the % belongs to a value, put it in quotes.", "this directive is not known")
	}
	s.tokens = append(s.tokens, t)
	return true
}

func anchorChar(c byte) bool { return letter(c) || digit(c) || c == '_' || c == '-' }

func (s *scanner) anchor(c byte) bool {
	if !s.saveKey() {
		return false
	}
	s.keyAllowed = false
	at := s.m
	s.skip()
	from := s.i
	for anchorChar(s.byteAt(0)) {
		s.skip()
	}
	if s.i == from || !(s.blankOrEnd(0) || strings.IndexByte("?:,]}%@`", s.byteAt(0)) >= 0) {
		if c == '*' {
			return s.fail(at, "A value that starts with * must be quoted.", "* is not followed by the name of an anchor")
		}
		return s.fail(at, "A value that starts with & must be quoted.", "& is not followed by a name")
	}
	k := tokAnchor
	if c == '*' {
		k = tokAlias
	}
	s.tokens = append(s.tokens, token{kind: k, at: at, value: s.s[from:s.i]})
	return true
}

func uriChar(c byte) bool {
	return letter(c) || digit(c) || strings.IndexByte("-_;/?:@&=+$.%!~*'()", c) >= 0
}

func (s *scanner) tag() bool {
	if !s.saveKey() {
		return false
	}
	s.keyAllowed = false
	t := token{kind: tokTag, at: s.m}
	verbatim := s.byteAt(1) == '<'
	from := s.i
	if verbatim {
		s.skip()
		s.skip()
		from = s.i
		for uriChar(s.byteAt(0)) || strings.IndexByte(",[]", s.byteAt(0)) > 0 {
			s.skip()
		}
		t.suffix = s.s[from:s.i]
		if s.byteAt(0) != '>' || t.suffix == "" {
			return s.fail(t.at, "A value that starts with ! must be quoted.", "the tag is not closed by >")
		}
		s.skip()
	} else {
		s.skip()
		for uriChar(s.byteAt(0)) || (s.flow == 0 && (s.byteAt(0) == '[' || s.byteAt(0) == ']' || s.byteAt(0) == ',')) {
			s.skip()
		}
		word := s.s[from:s.i]
		t.value, t.suffix = "!", word[1:]
		if i := strings.IndexByte(word[1:], '!'); i >= 0 && allOf("_"+word[1:i+1], anchorChar) {
			t.value, t.suffix = word[:i+2], word[i+2:]
			if t.suffix == "" {
				return s.fail(t.at, "A value that starts with ! must be quoted.", "the tag has no name")
			}
		}
	}
	var ok bool
	if t.suffix, ok = unescapeURI(t.suffix); !ok {
		return s.fail(t.at, "A value that starts with ! must be quoted.", "the tag has a broken %% escape")
	}
	if !s.blankOrEnd(0) && !(s.flow > 0 && s.byteAt(0) == ',') {
		return s.fail(s.m, "A value that starts with ! must be quoted.", "a blank is missing after the tag")
	}
	s.tokens = append(s.tokens, t)
	return true
}

func unescapeURI(u string) (string, bool) {
	if !strings.Contains(u, "%") {
		return u, true
	}
	var b strings.Builder
	for i := 0; i < len(u); i++ {
		if u[i] != '%' {
			b.WriteByte(u[i])
			continue
		}
		if i+2 >= len(u) || !isHex(u[i+1]) || !isHex(u[i+2]) {
			return "", false
		}
		n, _ := strconv.ParseUint(u[i+1:i+3], 16, 8)
		b.WriteByte(byte(n))
		i += 2
	}
	return b.String(), utf8.ValidString(b.String())
}
