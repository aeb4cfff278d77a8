// Package pyliteral reads Python literals: what the values of an INI inventory
// are, by ast.literal_eval.
package pyliteral

import (
	"errors"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
)

// ErrUnhashable is Python's TypeError for {[1]: 2} and {{'a'}}: unlike all
// other non-literals, which are taken as strings, it ends the reading of the
// whole file.
var ErrUnhashable = errors.New("a list or dictionary cannot be a dictionary key or a member of a set")

// Value is the value of an INI assignment: what Python's ast.literal_eval
// makes of it, or the text itself if it is no literal.
func Value(s string) (any, error) {
	if !mayBeLiteral(s) {
		return s, nil
	}
	p := &literal{s: strings.TrimLeft(s, " \t")}
	v, ok := p.top()
	if !ok {
		return s, nil
	}
	if p.unhashable {
		return nil, ErrUnhashable
	}
	if b, isBytes := v.(value.Binary); isBytes {
		return string(b), nil
	}
	return v, nil
}

// mayBeLiteral keeps plain words, most values there are, from being parsed.
func mayBeLiteral(s string) bool {
	s = strings.TrimLeft(s, " \t\f")
	if s == "" {
		return false
	}
	switch c := s[0]; {
	case text.Digit(c), strings.IndexByte(`+-.'"([{`, c) >= 0:
		return true
	case strings.IndexByte("TFN", c) >= 0:
		return true
	case c == 's':
		return strings.HasPrefix(s, "set")
	default: // string prefixes
		return strings.IndexByte("rRuUbB", c) >= 0 && strings.ContainsAny(s[:min(len(s), 3)], `'"`)
	}
}

// literal parses Python's literal expressions: numbers, strings, tuples,
// lists, dictionaries, sets, True, False and None.
type literal struct {
	s          string
	i          int
	depth      int
	unhashable bool
}

// maxLiteralDepth is the nesting of brackets that Python's tokenizer allows;
// deeper text is no literal, thus a string.
const maxLiteralDepth = 200

func (p *literal) space() {
	for p.i < len(p.s) && (p.s[p.i] == ' ' || p.s[p.i] == '\t' || p.s[p.i] == '\f') {
		p.i++
	}
	if p.i < len(p.s) && p.s[p.i] == '#' {
		p.i = len(p.s)
	}
}

func (p *literal) peek() byte {
	p.space()
	if p.i < len(p.s) {
		return p.s[p.i]
	}
	return 0
}

// top parses a whole value; 80,443 without brackets is a tuple.
func (p *literal) top() (any, bool) {
	v, ok := p.value()
	if !ok {
		return nil, false
	}
	if p.peek() == ',' {
		items := []any{v}
		for p.peek() == ',' {
			p.i++
			if p.peek() == 0 {
				break
			}
			if v, ok = p.value(); !ok {
				return nil, false
			}
			items = append(items, v)
		}
		v = value.Tuple(items)
	}
	return v, p.peek() == 0
}

func (p *literal) value() (any, bool) {
	switch c := p.peek(); {
	case c == '[':
		items, _, ok := p.items(']')
		return nonNil(items), ok
	case c == '(':
		items, comma, ok := p.items(')')
		if ok && len(items) == 1 && !comma {
			return items[0], true
		}
		return value.Tuple(items), ok
	case c == '{':
		return p.braces()
	case c == '+' || c == '-':
		p.i++
		v, ok := p.unsigned()
		if c == '-' {
			switch n := v.(type) {
			case int64:
				return -n, ok
			case float64:
				return -n, ok
			case *big.Int:
				return normalInt(new(big.Int).Neg(n)), ok
			}
		}
		return v, ok
	case text.Digit(c) || c == '.':
		return p.number()
	case strings.HasPrefix(p.s[p.i:], "set"):
		return p.emptySet()
	case c == '\'' || c == '"' || text.Letter(c):
		return p.wordOrString()
	}
	return nil, false
}

// unsigned parses what may stand after a sign: a number, also in parentheses.
func (p *literal) unsigned() (any, bool) {
	switch c := p.peek(); {
	case text.Digit(c) || c == '.':
		return p.number()
	case c == '(' && p.depth < maxLiteralDepth:
		p.depth++
		defer func() { p.depth-- }()
		p.i++
		v, ok := p.unsigned()
		if !ok || p.peek() != ')' {
			return nil, false
		}
		p.i++
		return v, true
	}
	return nil, false
}

// emptySet parses set(), the one call that ast.literal_eval takes (Python 3.9).
func (p *literal) emptySet() (any, bool) {
	p.i += len("set")
	for _, c := range []byte("()") {
		if p.peek() != c {
			return nil, false
		}
		p.i++
	}
	return []any{}, true
}

// items parses a bracketed list and reports whether it had a comma.
func (p *literal) items(closing byte) (items []any, comma, ok bool) {
	if p.depth++; p.depth > maxLiteralDepth {
		return nil, false, false
	}
	defer func() { p.depth-- }()
	p.i++
	for {
		if p.peek() == closing {
			p.i++
			return items, comma, true
		}
		if len(items) > 0 && !comma {
			return nil, false, false
		}
		v, ok := p.value()
		if !ok {
			return nil, false, false
		}
		items = append(items, v)
		switch p.peek() {
		case ',':
			p.i++
			comma = true
		case closing:
			p.i++
			return items, comma, true
		default:
			return nil, false, false
		}
	}
}

// braces parses a dictionary or a set. A set becomes a list in the order
// written, each member once.
func (p *literal) braces() (any, bool) {
	if p.depth++; p.depth > maxLiteralDepth {
		return nil, false
	}
	defer func() { p.depth-- }()
	p.i++
	d := &value.Map{}
	if p.peek() == '}' {
		p.i++
		return d, true
	}
	isDict := false
	for first := true; ; first = false {
		if p.peek() == '}' && !first {
			p.i++
			break
		}
		k, ok := p.value()
		if !ok {
			return nil, false
		}
		k = p.hashable(k)
		colon := p.peek() == ':'
		if first {
			isDict = colon
		} else if colon != isDict {
			return nil, false
		}
		var v any
		if colon {
			p.i++
			if v, ok = p.value(); !ok {
				return nil, false
			}
		}
		d.Set(k, v)
		switch p.peek() {
		case ',':
			p.i++
		case '}':
		default:
			return nil, false
		}
	}
	if isDict {
		return d, true
	}
	return d.Keys(), true
}

func (p *literal) hashable(k any) any {
	switch k.(type) {
	case []any, value.Tuple, *value.Map:
		p.unhashable = true
		return ""
	}
	return k
}

func (p *literal) number() (any, bool) {
	start := p.i
	s := p.s[start:]
	if len(s) > 2 && s[0] == '0' && strings.IndexByte("xXoObB", s[1]) >= 0 {
		base := map[byte]int{'x': 16, 'o': 8, 'b': 2}[s[1]|0x20]
		n := text.Span(s, 2, func(c byte) bool { return text.Hex(c) || c == '_' })
		p.i += n
		digits, ok := dropBars(strings.TrimPrefix(s[2:n], "_"))
		if !ok || p.glued() {
			return nil, false
		}
		v, ok := new(big.Int).SetString(digits, base)
		if !ok {
			return nil, false
		}
		return normalInt(v), true
	}
	n := text.Span(s, 0, digitOrBar)
	isFloat := false
	whole, fraction, exp := s[:n], "", ""
	if n < len(s) && s[n] == '.' {
		isFloat = true
		m := text.Span(s, n+1, digitOrBar)
		fraction = s[n+1 : m]
		n = m
	}
	if whole == "" && fraction == "" {
		return nil, false
	}
	if n < len(s) && (s[n] == 'e' || s[n] == 'E') {
		m := n + 1
		if m < len(s) && (s[m] == '+' || s[m] == '-') {
			m++
		}
		end := text.Span(s, m, digitOrBar)
		if end == m {
			return nil, false
		}
		isFloat = true
		exp = "e" + s[n+1:end]
		n = end
	}
	p.i = start + n
	if p.glued() {
		return nil, false // 5abc, and 2j, which JSON cannot hold
	}
	w, ok1 := dropBars(whole)
	f, ok2 := dropBars(fraction)
	x, ok3 := dropBars(strings.TrimLeft(exp, "e+-"))
	if !ok1 && whole != "" || !ok2 && fraction != "" || !ok3 && exp != "" {
		return nil, false
	}
	if isFloat {
		if exp != "" {
			exp = exp[:len(exp)-len(strings.TrimLeft(exp, "e+-"))] + x
		}
		v, err := strconv.ParseFloat(w+"."+f+"0"+exp, 64)
		if err != nil && !math.IsInf(v, 0) {
			return nil, false
		}
		return v, true
	}
	if w[0] == '0' && strings.Trim(w, "0") != "" {
		return nil, false // 0777 is no number in Python
	}
	if v, err := strconv.ParseInt(w, 10, 64); err == nil {
		return v, true
	}
	if len(w) > 4300 {
		return nil, false
	}
	v, ok := new(big.Int).SetString(w, 10)
	return v, ok
}

// glued tells whether a name follows a number without a space.
func (p *literal) glued() bool {
	r, _ := utf8.DecodeRuneInString(p.s[p.i:])
	return p.i < len(p.s) && (text.IsWord(r) || r == '.')
}

// dropBars removes the underscores between digits.
func dropBars(s string) (string, bool) {
	if s == "" || s[0] == '_' || s[len(s)-1] == '_' || strings.Contains(s, "__") {
		return "", false
	}
	return strings.ReplaceAll(s, "_", ""), true
}

func digitOrBar(c byte) bool { return text.Digit(c) || c == '_' }

func nonNil(items []any) []any {
	if items == nil {
		return []any{}
	}
	return items
}

func normalInt(n *big.Int) any {
	if n.IsInt64() {
		return n.Int64()
	}
	return n
}
