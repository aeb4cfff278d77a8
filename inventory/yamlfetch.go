package inventory

func (s *scanner) docMark(c byte) bool {
	return s.m.col == 0 && s.byteAt(0) == c && s.byteAt(1) == c && s.byteAt(2) == c && s.blankOrEnd(3)
}

func (s *scanner) fetch() bool {
	s.toNext()
	if !s.stale() {
		return false
	}
	s.unroll(s.m.col)
	if s.i >= len(s.s) {
		s.unroll(-1)
		if !s.removeKey() {
			return false
		}
		s.keyAllowed, s.ended = false, true
		// The end counts as a line break: no key goes on beyond it.
		for i := range s.keys {
			s.keys[i].possible = false
		}
		return true
	}
	c := s.s[s.i]
	switch {
	case s.m.col == 0 && c == '%':
		s.unroll(-1)
		if !s.removeKey() {
			return false
		}
		s.keyAllowed = false
		return s.directive()
	case s.docMark('-'):
		return s.document(tokDocStart)
	case s.docMark('.'):
		return s.document(tokDocEnd)
	}
	switch c {
	case '[':
		return s.flowStart(tokFlowSeq)
	case '{':
		return s.flowStart(tokFlowMap)
	case ']':
		return s.flowEnd(tokFlowSeqEnd)
	case '}':
		return s.flowEnd(tokFlowMapEnd)
	case ',':
		if !s.removeKey() {
			return false
		}
		s.keyAllowed = true
		s.emit(tokFlowEntry, s.m)
		s.skip()
		return true
	case '-':
		if s.blankOrEnd(1) {
			return s.blockEntry()
		}
		return s.plain()
	case '?':
		if s.flow > 0 || s.blankOrEnd(1) {
			return s.explicitKey()
		}
		return s.plain()
	case ':':
		if s.flow > 0 || s.blankOrEnd(1) {
			return s.mappingValue()
		}
		return s.plain()
	case '*', '&':
		return s.anchor(c)
	case '!':
		return s.tag()
	case '|', '>':
		if s.flow == 0 {
			return s.blockScalar(c == '|')
		}
	case '\'', '"':
		return s.quoted(c)
	case '#', '%', '@', '`', '\t':
	default:
		return s.plain()
	}
	switch c {
	case '\t':
		return s.fail(s.m, "Indent with spaces.", "a tab cannot indent YAML")
	case '%', '@', '`':
		return s.fail(s.m, "Put the whole value in quotes.", "a value cannot start with %q", c)
	}
	return s.fail(s.m, "Put the whole value in quotes.", "%q cannot stand here", c)
}

func (s *scanner) document(k tokenKind) bool {
	s.unroll(-1)
	if !s.removeKey() {
		return false
	}
	s.keyAllowed = false
	s.emit(k, s.m)
	for range 3 {
		s.skip()
	}
	return true
}

func (s *scanner) flowStart(k tokenKind) bool {
	if !s.saveKey() {
		return false
	}
	if s.flow >= s.limits.Depth {
		return s.fail(s.m, deepHint, "values are nested too deeply")
	}
	s.keys = append(s.keys, simpleKey{})
	s.flow++
	s.keyAllowed = true
	s.emit(k, s.m)
	s.skip()
	return true
}

func (s *scanner) flowEnd(k tokenKind) bool {
	if !s.removeKey() {
		return false
	}
	if s.flow > 0 {
		s.flow--
		s.keys = s.keys[:len(s.keys)-1]
	}
	s.keyAllowed = false
	s.emit(k, s.m)
	s.skip()
	return true
}

func (s *scanner) blockEntry() bool {
	if s.flow == 0 {
		if !s.keyAllowed {
			return s.fail(s.m, "Start the list on a line of its own; a value that starts with \"- \" must be quoted.", "a list cannot start here")
		}
		if !s.roll(s.m.col, -1, tokBlockSeq, s.m) {
			return false
		}
	}
	if !s.removeKey() {
		return false
	}
	s.keyAllowed = true
	s.emit(tokBlockEntry, s.m)
	s.skip()
	return true
}

func (s *scanner) explicitKey() bool {
	if s.flow == 0 {
		if !s.keyAllowed {
			return s.fail(s.m, "Put the value in quotes.", "a key cannot start here")
		}
		if !s.roll(s.m.col, -1, tokBlockMap, s.m) {
			return false
		}
	}
	if !s.removeKey() {
		return false
	}
	s.keyAllowed = s.flow == 0
	s.emit(tokKey, s.m)
	s.skip()
	return true
}

func (s *scanner) mappingValue() bool {
	k := &s.keys[len(s.keys)-1]
	if k.possible {
		at := k.number - s.taken
		s.insert(at, token{kind: tokKey, at: k.at})
		k.possible = false
		if !s.roll(k.at.col, at, tokBlockMap, k.at) {
			return false
		}
		s.keyAllowed = false
	} else {
		if s.flow == 0 {
			if !s.keyAllowed {
				return s.fail(s.m, "If the colon belongs to the value, put the value in quotes; else check the indentation of this line and the one above.",
					"a colon followed by a blank cannot stand here")
			}
			if !s.roll(s.m.col, -1, tokBlockMap, s.m) {
				return false
			}
		}
		s.keyAllowed = s.flow == 0
	}
	s.emit(tokValue, s.m)
	s.skip()
	return true
}
