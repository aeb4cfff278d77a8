package jinja

import (
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/value"
)

// literal is what Ansible makes of a printed text: one that reads like a
// Python list, dictionary or boolean becomes it, anything else stays a text.
func literal(s string) any {
	switch {
	case s == "True":
		return true
	case s == "False":
		return false
	case !strings.HasPrefix(s, "[") && !strings.HasPrefix(s, "{"):
		return s
	}
	l := &lexer{src: s}
	if _, err := l.expression("", tEOF, 0, true); err != nil {
		return s
	}
	// Python and JSON spell it None and null, only Jinja none; and to Python a
	// number has no zeros before it.
	if slices.ContainsFunc(l.tokens, func(t token) bool { return t.name("none") || t.kind == tInt && zeroPadded(t.text) }) {
		return s
	}
	p := &parser{toks: l.tokens}
	n, err := p.expr()
	if err != nil || p.cur().kind != tEOF {
		return s
	}
	v, ok := constant(n)
	if !ok {
		return s
	}
	return v
}

func zeroPadded(number string) bool {
	return len(number) > 1 && number[0] == '0' && strings.Trim(number, "0123456789_") == "" && strings.Trim(number, "0_") != ""
}

// constant is the value of an expression of literals only, with JSON's true,
// false and null besides Python's.
func constant(n node) (any, bool) {
	switch n := n.(type) {
	case *constNode:
		return n.v, true
	case *nameNode:
		return nil, n.name == "null"
	case *signNode:
		v, ok := constant(n.x)
		if _, _, _, num := number(v); !ok || !num {
			return nil, false
		}
		v, err := n.eval(newFrame(Vars{}))
		return v, err == nil
	case *listNode:
		out := make([]any, len(n.items))
		for i, x := range n.items {
			v, ok := constant(x)
			if !ok {
				return nil, false
			}
			out[i] = v
		}
		return out, true
	case *dictNode:
		out := value.NewMap(len(n.keys))
		for i, k := range n.keys {
			key, ok := constant(k)
			if !ok || hashable(key, 0) != nil {
				return nil, false
			}
			v, ok := constant(n.values[i])
			if !ok {
				return nil, false
			}
			out.Set(key, v)
		}
		return out, true
	}
	return nil, false
}
