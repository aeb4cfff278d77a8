package inventory

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// fold joins two lines of a plain or quoted scalar.
func fold(b *strings.Builder, first string, more string) {
	switch {
	case first != "\n":
		b.WriteString(first)
		b.WriteString(more)
	case more == "":
		b.WriteByte(' ')
	default:
		b.WriteString(more)
	}
}

// plain scans an unquoted scalar, which may go on over several lines.
func (s *scanner) plain() bool {
	if !s.saveKey() {
		return false
	}
	s.keyAllowed = false
	at := s.m
	indent := s.indent + 1
	var b strings.Builder
	started := false
	simple := "" // the scalar so far, if it is one piece of the source
	var blanks, first string
	var more strings.Builder
	broken := false // a line break stands before the next piece
	for {
		if s.docMark('-') || s.docMark('.') || s.byteAt(0) == '#' {
			break
		}
		from := s.i
		for s.i < len(s.s) && !s.blankOrEnd(0) {
			c := s.s[s.i]
			if c == ':' {
				if s.flow > 0 && strings.IndexByte(",?[]{}", s.byteAt(1)) >= 0 && s.i+1 < len(s.s) {
					return s.fail(s.m, "Put a blank behind the colon, or the value in quotes.", "a colon cannot stand here")
				}
				if s.blankOrEnd(1) {
					break
				}
			}
			if s.flow > 0 && strings.IndexByte(",[]{}", c) >= 0 {
				break
			}
			s.skip()
		}
		if s.i > from {
			piece := s.s[from:s.i]
			switch {
			case !started:
				simple = piece
				started = true
			default:
				if simple != "" {
					b.WriteString(simple)
					simple = ""
				}
				if broken {
					fold(&b, first, more.String())
				} else {
					b.WriteString(blanks)
				}
				b.WriteString(piece)
			}
			broken, blanks, first = false, "", ""
			more.Reset()
		}
		if s.i >= len(s.s) || !(s.blankAt(0) || s.breakLen(0) > 0) {
			break
		}
		from = s.i
		for s.blankAt(0) || s.breakLen(0) > 0 {
			if s.blankAt(0) {
				if broken && s.m.col < indent && s.byteAt(0) == '\t' {
					return s.fail(s.m, "Indent with spaces.", "a tab cannot indent YAML")
				}
				if broken {
					from = s.i + 1
				}
				s.skip()
				continue
			}
			if !broken {
				broken = true
				first = s.readBreak()
			} else {
				more.WriteString(s.readBreak())
			}
		}
		if !broken {
			blanks = s.s[from:s.i]
		}
		if s.flow == 0 && s.m.col < indent {
			break
		}
	}
	if broken {
		s.keyAllowed = true
	}
	value := simple
	if simple == "" {
		value = b.String()
	}
	s.tokens = append(s.tokens, token{kind: tokScalar, plain: true, at: at, value: value})
	return true
}

var yamlEscape = map[byte]string{'0': "\x00", 'a': "\a", 'b': "\b", 't': "\t", '\t': "\t", 'n': "\n", 'v': "\v", 'f': "\f",
	'r': "\r", 'e': "\x1b", ' ': " ", '"': "\"", '\'': "'", '\\': "\\", '/': "/", 'N': "\u0085", '_': "\u00a0", 'L': "\u2028", 'P': "\u2029"}

// quoted scans a scalar in single or double quotes.
func (s *scanner) quoted(q byte) bool {
	if !s.saveKey() {
		return false
	}
	s.keyAllowed = false
	at := s.m
	s.skip()
	var b strings.Builder
	for {
		if s.docMark('-') || s.docMark('.') {
			return s.fail(s.m, "Close it with the same quote, before a line that starts with --- or ....", "the document ends within the quotes opened in line %d", at.line+1)
		}
		if s.i >= len(s.s) {
			return s.fail(at, "Close it with the same quote.", "the quote is not closed")
		}
		escapedBreak := false
		for !s.blankOrEnd(0) {
			c := s.s[s.i]
			if c == q && q == '\'' && s.byteAt(1) == '\'' {
				b.WriteByte('\'')
				s.skip()
				s.skip()
				continue
			}
			if c == q {
				break
			}
			if c == '\\' && q == '"' {
				n := s.breakLen(1)
				if n > 0 {
					s.skip()
					s.skipBreak()
					escapedBreak = true
					break
				}
				if !s.escape(&b) {
					return false
				}
				continue
			}
			from := s.i
			s.skip()
			b.WriteString(s.s[from:s.i])
		}
		if s.byteAt(0) == q && s.i < len(s.s) {
			break
		}
		var blanks, more strings.Builder
		first, broken := "", escapedBreak
		for s.i < len(s.s) && (s.blankAt(0) || s.breakLen(0) > 0) {
			switch {
			case s.blankAt(0):
				if !broken {
					blanks.WriteByte(s.s[s.i])
				}
				s.skip()
			case !broken:
				broken = true
				blanks.Reset()
				first = s.readBreak()
			default:
				more.WriteString(s.readBreak())
			}
		}
		switch {
		case !broken:
			b.WriteString(blanks.String())
		case first == "" || first != "\n":
			b.WriteString(first)
			b.WriteString(more.String())
		default:
			fold(&b, first, more.String())
		}
	}
	s.skip()
	s.tokens = append(s.tokens, token{kind: tokScalar, at: at, value: b.String()})
	return true
}

// escape reads one backslash escape of a double-quoted scalar.
func (s *scanner) escape(b *strings.Builder) bool {
	at := s.m
	c := s.byteAt(1)
	if e, ok := yamlEscape[c]; ok && s.i+1 < len(s.s) {
		b.WriteString(e)
		s.skip()
		s.skip()
		return true
	}
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
	if digits == 0 {
		return s.fail(at, "Double the backslash, or use single quotes.", "this escape is not known")
	}
	if s.i+2+digits > len(s.s) || !allOf(s.s[s.i+2:s.i+2+digits], isHex) {
		return s.fail(at, "Double the backslash, or use single quotes.", "\\%c needs %d hexadecimal digits", c, digits)
	}
	n, _ := strconv.ParseUint(s.s[s.i+2:s.i+2+digits], 16, 64)
	if n > utf8.MaxRune || (n >= 0xd800 && n <= 0xdfff) {
		return s.fail(at, "The largest is \\U0010ffff.", "there is no such character")
	}
	b.WriteRune(rune(n))
	for range 2 + digits {
		s.skip()
	}
	return true
}

// blockScalar scans a literal (|) or folded (>) scalar.
func (s *scanner) blockScalar(literal bool) bool {
	if !s.removeKey() {
		return false
	}
	s.keyAllowed = true
	at := s.m
	s.skip()
	chomp, increment := byte(0), 0
	for range 2 {
		switch c := s.byteAt(0); {
		case (c == '+' || c == '-') && chomp == 0:
			chomp = c
			s.skip()
		case digit(c) && increment == 0:
			if c == '0' {
				return s.fail(s.m, "Leave the digit away: the first line then tells the indentation.", "the indentation of a block cannot be 0")
			}
			increment = int(c - '0')
			s.skip()
		}
	}
	for s.blankAt(0) {
		s.skip()
	}
	if s.byteAt(0) == '#' {
		for s.i < len(s.s) && s.breakLen(0) == 0 {
			s.skip()
		}
	}
	if !s.blankOrEnd(0) || s.blankAt(0) {
		return s.fail(s.m, "The text of the block starts on the next line.", "only a comment can follow | or > on its line")
	}
	if s.breakLen(0) > 0 {
		s.skipBreak()
	}
	indent := 0
	if increment > 0 {
		indent = max(s.indent, 0) + increment
	}
	var b strings.Builder
	first, more := "", ""
	indent, more, ok := s.blockBreaks(indent)
	if !ok {
		return false
	}
	blankBefore := false
	for s.m.col == indent && s.i < len(s.s) {
		blankHere := s.blankAt(0)
		if !literal && strings.HasPrefix(first, "\n") && !blankBefore && !blankHere {
			if more == "" {
				b.WriteByte(' ')
			}
		} else {
			b.WriteString(first)
		}
		b.WriteString(more)
		blankBefore = blankHere
		from := s.i
		for s.i < len(s.s) && s.breakLen(0) == 0 {
			s.skip()
		}
		b.WriteString(s.s[from:s.i])
		first = ""
		if s.i < len(s.s) {
			first = s.readBreak()
		}
		if indent, more, ok = s.blockBreaks(indent); !ok {
			return false
		}
	}
	if chomp != '-' {
		b.WriteString(first)
	}
	if chomp == '+' {
		b.WriteString(more)
	}
	s.tokens = append(s.tokens, token{kind: tokScalar, at: at, value: b.String()})
	return true
}

// blockBreaks skips indentation and empty lines before the next line of a
// block; with indent 0 it finds the block's indentation.
func (s *scanner) blockBreaks(indent int) (int, string, bool) {
	var b strings.Builder
	deepest := 0
	for {
		for (indent == 0 || s.m.col < indent) && s.byteAt(0) == ' ' {
			s.skip()
		}
		deepest = max(deepest, s.m.col)
		if (indent == 0 || s.m.col < indent) && s.byteAt(0) == '\t' {
			return 0, "", s.fail(s.m, "Indent with spaces.", "a tab cannot indent YAML")
		}
		if s.breakLen(0) == 0 {
			break
		}
		b.WriteString(s.readBreak())
	}
	if indent == 0 {
		indent = max(deepest, s.indent+1, 1)
	}
	return indent, b.String(), true
}
