package inventory

import "strings"

func (p *yamlParser) flowList(n *node, at mark) bool {
	for first := true; !p.is(tokFlowSeqEnd); first = false {
		if !first {
			if !p.flowComma("]", at) {
				return false
			}
			if p.is(tokFlowSeqEnd) {
				break
			}
		}
		t := p.peek()
		if t == nil {
			return false
		}
		var x *node
		var ok bool
		if t.kind == tokKey {
			// [a: b] is a list of one dictionary.
			x = p.node(mappingNode, t.at)
			p.next()
			ok = p.flowPair(x, tokFlowSeqEnd)
		} else {
			x, ok = p.value(false, false)
		}
		if !ok {
			return false
		}
		n.items = append(n.items, x)
	}
	p.next()
	return p.err == nil
}

func (p *yamlParser) flowDict(n *node, at mark) bool {
	for first := true; !p.is(tokFlowMapEnd); first = false {
		if !first {
			if !p.flowComma("}", at) {
				return false
			}
			if p.is(tokFlowMapEnd) {
				break
			}
		}
		t := p.peek()
		if t == nil {
			return false
		}
		if t.kind == tokKey {
			p.next()
			if !p.flowPair(n, tokFlowMapEnd) {
				return false
			}
			continue
		}
		k, ok := p.value(false, false)
		if !ok {
			return false
		}
		n.items = append(n.items, k, p.empty(t.at))
	}
	p.next()
	return p.err == nil
}

func (p *yamlParser) flowComma(closing string, at mark) bool {
	t := p.peek()
	if t == nil {
		return false
	}
	if t.kind != tokFlowEntry {
		return p.fail(t.at, "Close what was opened, and put a comma between items.",
			"a comma or %s is missing here, %s was opened in line %d", closing, strings.NewReplacer("]", "[", "}", "{").Replace(closing), at.line+1)
	}
	p.next()
	return true
}

// flowPair parses what follows a key token within [ ] or { }.
func (p *yamlParser) flowPair(into *node, closing tokenKind) bool {
	t := p.peek()
	if t == nil {
		return false
	}
	k, v := p.empty(t.at), p.empty(t.at)
	var ok bool
	switch {
	case !p.is(tokValue, tokFlowEntry, closing):
		if k, ok = p.value(false, false); !ok {
			return false
		}
	case closing == tokFlowSeqEnd:
		// libyaml loses the token after an empty key in a list, so that
		// [? ] is an error; it must be one here.
		p.next()
	}
	if p.is(tokValue) {
		p.next()
		if !p.is(tokFlowEntry, closing) {
			if v, ok = p.value(false, false); !ok {
				return false
			}
		}
	}
	into.items = append(into.items, k, v)
	return p.err == nil
}
