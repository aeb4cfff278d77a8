package inventory

// yamlParser builds nodes from tokens.
type yamlParser struct {
	*scanner
	handles map[string]string // %TAG
	anchors map[string]*node
	arena   []node
	depth   int
}

// parseYAML reads the only document in t. It returns nil for a file without
// any.
func parseYAML(t *text, limits Limits) (*node, error) {
	if err := checkCharacters(t); err != nil {
		return nil, err
	}
	p := &yamlParser{scanner: newScanner(t, limits), anchors: map[string]*node{}, handles: map[string]string{"!": "!", "!!": tagPrefix}}
	n, ok := p.document()
	if !ok {
		return nil, p.err
	}
	return n, nil
}

// checkCharacters refuses control characters, as libyaml does.
func checkCharacters(t *text) error {
	for i := 0; i < len(t.data); i++ {
		c := t.data[i]
		if c >= ' ' && c < 0x7f || c == '\n' {
			continue
		}
		bad := c == 0x7f || c < ' ' && c != '\t' && c != '\r'
		switch {
		case c == 0xc2 && i+1 < len(t.data):
			bad = t.data[i+1] < 0xa0 && t.data[i+1] != 0x85
		case c == 0xef && i+2 < len(t.data):
			bad = t.data[i+1] == 0xbf && t.data[i+2] >= 0xbe
		}
		if bad {
			line, col := place(t.data, i)
			return t.errorAt(line, col, "Write it as an escape within double quotes, such as \"\\x07\".", "control characters are not allowed in YAML")
		}
	}
	return nil
}

func (p *yamlParser) node(kind nodeKind, at mark) *node {
	if len(p.arena) == cap(p.arena) {
		// Doubling: 500 small group_vars files must not take a block each.
		p.arena = make([]node, 0, min(max(16, 2*cap(p.arena)), 1024))
	}
	p.arena = append(p.arena, node{kind: kind, line: at.line + 1, col: at.col + 1})
	return &p.arena[len(p.arena)-1]
}

func (p *yamlParser) empty(at mark) *node {
	n := p.node(scalarNode, at)
	n.plain = true
	return n
}

// is tells whether the next token is one of kinds.
func (p *yamlParser) is(kinds ...tokenKind) bool {
	t := p.peek()
	if t == nil {
		return false
	}
	for _, k := range kinds {
		if t.kind == k {
			return true
		}
	}
	return false
}

func (p *yamlParser) document() (*node, bool) {
	directives := false
	for p.is(tokDirective) {
		t := p.peek()
		if t.value != "YAML" {
			p.handles[t.value] = t.suffix
		}
		directives = true
		p.next()
	}
	t := p.peek()
	if t == nil {
		return nil, false
	}
	if t.kind == tokEnd && !directives {
		return nil, true
	}
	var n *node
	ok := true
	switch {
	case t.kind == tokDocStart:
		at := t.at
		p.next()
		if p.is(tokDirective, tokDocStart, tokDocEnd, tokEnd) {
			n = p.empty(at)
		} else {
			n, ok = p.value(true, false)
		}
	case directives:
		return nil, p.fail(t.at, "Put --- on a line of its own below the lines that start with %.", "--- must follow the directives")
	default:
		n, ok = p.value(true, false)
	}
	if !ok || p.err != nil {
		return nil, false
	}
	ended := false
	for p.is(tokDocEnd) {
		ended = true
		p.next()
	}
	t = p.peek()
	switch {
	case t == nil:
		return nil, false
	case t.kind == tokEnd:
		return n, true
	case t.kind == tokDocStart || ended || t.kind == tokDirective:
		return nil, p.fail(t.at, "Keep one document in the file.", "a second YAML document starts here")
	}
	return nil, p.fail(t.at, "Check the indentation and the quotes of this line and the one above.", "this does not belong to the value before it")
}

// value parses one node. block allows block collections; indentless a list
// whose dashes stand no deeper than the key above.
func (p *yamlParser) value(block, indentless bool) (*node, bool) {
	t := p.peek()
	if t == nil {
		return nil, false
	}
	if p.depth++; p.depth > 2*p.limits.Depth {
		return nil, p.fail(t.at, deepHint, "values are nested too deeply")
	}
	defer func() { p.depth-- }()
	if t.kind == tokAlias {
		n := p.node(aliasNode, t.at)
		if n.target = p.anchors[t.value]; n.target == nil {
			return nil, p.fail(t.at, "A value that starts with * must be quoted.", "no anchor &%s stands before this alias", p.t.clip(t.value))
		}
		n.target.spread()
		p.next()
		return n, true
	}
	at := t.at
	var anchor, tag string
	anchored, tagged := false, false
	for (t.kind == tokAnchor && !anchored) || (t.kind == tokTag && !tagged) {
		if t.kind == tokAnchor {
			anchor, anchored = t.value, true
		} else {
			tagged = true
			if t.value == "" {
				tag = t.suffix
			} else {
				prefix, ok := p.handles[t.value]
				if !ok {
					return nil, p.fail(t.at, "A value that starts with ! must be quoted.", "the tag handle %s is not declared", p.t.clip(t.value))
				}
				tag = prefix + t.suffix
			}
		}
		p.next()
		if t = p.peek(); t == nil {
			return nil, false
		}
	}
	var n *node
	switch {
	case indentless && t.kind == tokBlockEntry:
		n = p.node(sequenceNode, at)
	case t.kind == tokScalar:
		n = p.node(scalarNode, at)
		n.value, n.plain = t.value, t.plain
		if tag == "!" {
			// libyaml resolves "! 12", and "! '12'" too, as if unquoted.
			tag, n.plain = "", true
		}
	case t.kind == tokFlowSeq, block && t.kind == tokBlockSeq:
		n = p.node(sequenceNode, at)
	case t.kind == tokFlowMap, block && t.kind == tokBlockMap:
		n = p.node(mappingNode, at)
	case anchored || tagged:
		n = p.empty(at)
		n.tag = tag
		if anchored && !p.remember(anchor, n, at) {
			return nil, false
		}
		return n, true
	default:
		return nil, p.unexpected(t, block)
	}
	n.tag = tag
	if anchored && !p.remember(anchor, n, at) {
		return nil, false
	}
	ok := true
	switch t.kind {
	case tokScalar:
		p.next()
	case tokBlockEntry:
		ok = p.indentlessList(n)
	case tokBlockSeq:
		p.next()
		ok = p.blockList(n)
	case tokBlockMap:
		p.next()
		ok = p.blockDict(n)
	case tokFlowSeq:
		p.next()
		ok = p.flowList(n, at)
	case tokFlowMap:
		p.next()
		ok = p.flowDict(n, at)
	}
	return n, ok
}

func (p *yamlParser) remember(name string, n *node, at mark) bool {
	if old := p.anchors[name]; old != nil {
		return p.fail(at, "Give one of the two another name.", "the anchor &%s stands twice, first in line %d", p.t.clip(name), old.line)
	}
	p.anchors[name] = n
	return true
}

func (p *yamlParser) unexpected(t *token, block bool) bool {
	switch t.kind {
	case tokEnd:
		return p.fail(t.at, "Close what was opened with [ or {, or give the last name a value.", "a value is missing at the end of the file")
	case tokFlowSeqEnd, tokFlowMapEnd, tokFlowEntry:
		return p.fail(t.at, "A bracket, brace or comma that belongs to a value must be quoted.", "a value is missing here")
	case tokBlockEntry:
		return p.fail(t.at, "Within [ ] items are separated by commas.", "a list with dashes cannot stand here")
	}
	if !block {
		return p.fail(t.at, "Give the name a value, or put in quotes what is one.", "a value is missing here")
	}
	return p.fail(t.at, "Check the indentation and the quotes of this line and the one above.", "a value cannot start here")
}

func (p *yamlParser) indentlessList(n *node) bool {
	for p.is(tokBlockEntry) {
		at := p.peek().at
		p.next()
		if p.is(tokBlockEntry, tokKey, tokValue, tokBlockEnd) {
			n.items = append(n.items, p.empty(at))
			continue
		}
		x, ok := p.value(true, false)
		if !ok {
			return false
		}
		n.items = append(n.items, x)
	}
	return p.err == nil
}

func (p *yamlParser) blockList(n *node) bool {
	for p.is(tokBlockEntry) {
		at := p.peek().at
		p.next()
		if p.is(tokBlockEntry, tokBlockEnd) {
			n.items = append(n.items, p.empty(at))
			continue
		}
		x, ok := p.value(true, false)
		if !ok {
			return false
		}
		n.items = append(n.items, x)
	}
	t := p.peek()
	if t == nil {
		return false
	}
	if t.kind != tokBlockEnd {
		return p.fail(t.at, "Every item of the list starts with a dash in the same column.", "this does not belong to the list that starts in line %d", n.line)
	}
	p.next()
	return true
}

func (p *yamlParser) blockDict(n *node) bool {
	for p.is(tokKey) {
		at := p.peek().at
		p.next()
		k, ok := p.optional(at, true)
		if !ok {
			return false
		}
		v := p.empty(at)
		if p.is(tokValue) {
			at = p.peek().at
			p.next()
			if v, ok = p.optional(at, true); !ok {
				return false
			}
		}
		if len(n.items) == 0 {
			n.items = make([]*node, 0, 4)
		}
		n.items = append(n.items, k, v)
	}
	t := p.peek()
	if t == nil {
		return false
	}
	if t.kind != tokBlockEnd {
		return p.fail(t.at, "Names on one level start in the same column, and a value with special characters must be quoted.",
			"this does not belong to the dictionary that starts in line %d", n.line)
	}
	p.next()
	return true
}

// optional parses a key or value of a block dictionary, which may be missing.
func (p *yamlParser) optional(at mark, indentless bool) (*node, bool) {
	if p.is(tokKey, tokValue, tokBlockEnd) {
		return p.empty(at), true
	}
	return p.value(true, indentless)
}
