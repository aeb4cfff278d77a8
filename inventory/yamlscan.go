package inventory

import (
	"strings"
	"unicode/utf8"
)

const deepHint = "Is a bracket or brace left open above?"

// The scanner turns YAML text into tokens as libyaml does, which Ansible's
// loader is built on: what it accepts is accepted, what it refuses is refused
// at the same place. Why not a YAML library: those for Go follow YAML 1.2,
// accept and refuse other things, and tell no column.

type tokenKind uint8

const (
	tokEnd tokenKind = iota
	tokDirective
	tokDocStart
	tokDocEnd
	tokBlockSeq
	tokBlockMap
	tokBlockEnd
	tokFlowSeq
	tokFlowSeqEnd
	tokFlowMap
	tokFlowMapEnd
	tokBlockEntry
	tokFlowEntry
	tokKey
	tokValue
	tokAlias
	tokAnchor
	tokTag
	tokScalar
)

type mark struct {
	index     int // in characters
	line, col int // from 0
}

type token struct {
	kind   tokenKind
	plain  bool
	at     mark
	value  string
	suffix string // of a tag; value is its handle
}

// simpleKey remembers a token that turns out to be a key if a colon follows
// on the same line.
type simpleKey struct {
	possible, required bool
	number             int
	at                 mark
}

type scanner struct {
	t      *text
	s      string
	i      int // byte offset
	m      mark
	limits Limits

	tokens []token
	head   int // of the queue in tokens
	taken  int // tokens handed out so far
	ended  bool

	flow       int
	indent     int
	indents    []int
	keys       []simpleKey
	keyAllowed bool
	err        error
}

func newScanner(t *text, limits Limits) *scanner {
	s := &scanner{t: t, s: t.data, limits: limits, indent: -1, keys: make([]simpleKey, 1, 8), keyAllowed: true}
	if strings.HasPrefix(s.s, "\ufeff") {
		s.i = 3
	}
	return s
}

func (s *scanner) fail(at mark, hint, format string, args ...any) bool {
	if s.err == nil {
		s.err = s.t.errorAt(at.line+1, at.col+1, hint, format, args...)
	}
	return false
}

// peek returns the next token; nil after an error.
func (s *scanner) peek() *token {
	if !s.more() {
		return nil
	}
	return &s.tokens[s.head]
}

func (s *scanner) next() {
	s.head++
	s.taken++
	if s.head == len(s.tokens) {
		s.tokens, s.head = s.tokens[:0], 0
	}
}

// more fills the queue until its first token is sure not to be a key.
func (s *scanner) more() bool {
	for s.err == nil {
		need := s.head == len(s.tokens)
		if !need {
			if !s.stale() {
				return false
			}
			for i := range s.keys {
				if s.keys[i].possible && s.keys[i].number == s.taken {
					need = true
					break
				}
			}
		}
		if !need {
			return true
		}
		if s.ended {
			s.tokens = append(s.tokens, token{kind: tokEnd, at: s.m})
			continue
		}
		s.fetch()
	}
	return false
}

// byteAt is the byte n places ahead, 0 at the end.
func (s *scanner) byteAt(n int) byte {
	if s.i+n < len(s.s) {
		return s.s[s.i+n]
	}
	return 0
}

// breakLen is the length of the line break at the cursor plus n, 0 if there
// is none.
func (s *scanner) breakLen(n int) int {
	i := s.i + n
	if i >= len(s.s) {
		return 0
	}
	switch s.s[i] {
	case '\n':
		return 1
	case '\r':
		if i+1 < len(s.s) && s.s[i+1] == '\n' {
			return 2
		}
		return 1
	case 0xc2:
		if i+1 < len(s.s) && s.s[i+1] == 0x85 {
			return 2
		}
	case 0xe2:
		if i+2 < len(s.s) && s.s[i+1] == 0x80 && (s.s[i+2] == 0xa8 || s.s[i+2] == 0xa9) {
			return 3
		}
	}
	return 0
}

func (s *scanner) blankAt(n int) bool {
	c := s.byteAt(n)
	return c == ' ' || c == '\t'
}

// blankOrEnd is true for a space, a tab, a line break and the end.
func (s *scanner) blankOrEnd(n int) bool {
	return s.i+n >= len(s.s) || s.blankAt(n) || s.breakLen(n) > 0
}

// skip moves over one character that is no line break.
func (s *scanner) skip() {
	if s.s[s.i] < utf8.RuneSelf {
		s.i++
	} else {
		_, n := utf8.DecodeRuneInString(s.s[s.i:])
		s.i += n
	}
	s.m.index++
	s.m.col++
}

func (s *scanner) skipBreak() {
	n := s.breakLen(0)
	s.i += n
	s.m.index++
	if n == 2 && s.s[s.i-2] == '\r' {
		s.m.index++
	}
	s.m.col = 0
	s.m.line++
}

// readBreak moves over a line break and returns what it stands for.
func (s *scanner) readBreak() string {
	if s.byteAt(0) == 0xe2 {
		b := s.s[s.i : s.i+3]
		s.skipBreak()
		return b
	}
	s.skipBreak()
	return "\n"
}

func (s *scanner) emit(k tokenKind, at mark) { s.tokens = append(s.tokens, token{kind: k, at: at}) }

// stale gives up simple keys whose line is over.
func (s *scanner) stale() bool {
	for i := range s.keys {
		k := &s.keys[i]
		if k.possible && (k.at.line < s.m.line || k.at.index+1024 < s.m.index) {
			if k.required {
				return s.fail(s.m, "A name is followed by a colon and a space: \"name: value\".", "a colon is missing after the name in line %d", k.at.line+1)
			}
			k.possible = false
		}
	}
	return true
}

func (s *scanner) saveKey() bool {
	if !s.keyAllowed {
		return true
	}
	if !s.removeKey() {
		return false
	}
	s.keys[len(s.keys)-1] = simpleKey{possible: true, required: s.flow == 0 && s.indent == s.m.col,
		number: s.taken + len(s.tokens) - s.head, at: s.m}
	return true
}

func (s *scanner) removeKey() bool {
	k := &s.keys[len(s.keys)-1]
	if k.possible && k.required {
		return s.fail(s.m, "A name is followed by a colon and a space: \"name: value\".", "a colon is missing after the name in line %d", k.at.line+1)
	}
	k.possible = false
	return true
}

// roll opens a block collection at col if it is deeper than the current one.
// at is the queue position of its first token, -1 for the end.
func (s *scanner) roll(col, at int, k tokenKind, m mark) bool {
	if s.flow > 0 || s.indent >= col {
		return true
	}
	if len(s.indents) >= s.limits.Depth {
		return s.fail(m, deepHint, "values are nested too deeply")
	}
	s.indents = append(s.indents, s.indent)
	s.indent = col
	s.insert(at, token{kind: k, at: m})
	return true
}

func (s *scanner) insert(at int, t token) {
	if at < 0 {
		s.tokens = append(s.tokens, t)
		return
	}
	at += s.head
	s.tokens = append(s.tokens, token{})
	copy(s.tokens[at+1:], s.tokens[at:])
	s.tokens[at] = t
}

func (s *scanner) unroll(col int) {
	if s.flow > 0 {
		return
	}
	for s.indent > col {
		s.emit(tokBlockEnd, s.m)
		s.indent = s.indents[len(s.indents)-1]
		s.indents = s.indents[:len(s.indents)-1]
	}
}

// toNext skips blanks, comments and line breaks.
func (s *scanner) toNext() {
	for {
		if s.m.col == 0 && strings.HasPrefix(s.s[s.i:], "\ufeff") {
			s.skip()
			s.m.col = 0
		}
		for s.byteAt(0) == ' ' || (s.byteAt(0) == '\t' && (s.flow > 0 || !s.keyAllowed)) {
			s.skip()
		}
		if s.byteAt(0) == '#' {
			for s.i < len(s.s) && s.breakLen(0) == 0 {
				s.skip()
			}
		}
		if s.breakLen(0) == 0 {
			return
		}
		s.skipBreak()
		if s.flow == 0 {
			s.keyAllowed = true
		}
	}
}
