package inventory

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonParser reads JSON as Python's json module does: NaN and Infinity are
// numbers, keys may stand twice, control characters within strings may not.
// Ansible tries it on every file before YAML.
type jsonParser struct {
	t     *text
	s     string
	i     int
	depth int
	bad   string
	line  int // of the byte offset counted so far
	start int // offset of that line's first byte
	seen  int
}

// parseJSON returns nil and the error if t is not JSON.
func parseJSON(t *text, limits Limits) (*node, error) {
	p := &jsonParser{t: t, s: t.data, depth: limits.Depth, line: 1}
	n := p.value()
	if n != nil {
		if p.space(); p.i < len(p.s) {
			n, p.bad = nil, "something follows the end of the JSON value"
		}
	}
	if n == nil {
		line, col := place(p.s, min(p.i, len(p.s)))
		hint := "Correct it at the caret; python3 -m json.tool FILE says whether it is right."
		if len(p.s) == 0 {
			hint, p.bad = "It must print at least {}.", "nothing was printed"
		}
		return nil, t.errorAt(line, col, hint, "this is not valid JSON: %s", p.bad)
	}
	return n, nil
}

// mayBeJSON tells whether data can be JSON at all.
func mayBeJSON(data string) bool {
	for i := range len(data) {
		switch c := data[i]; c {
		case ' ', '\t', '\n', '\r':
		case '{', '[', '"':
			return true
		default:
			// A lone number or word is the same in YAML but for 1e5, which
			// is a number only in JSON.
			return digit(c) || c == '-'
		}
	}
	return false
}

func (p *jsonParser) space() {
	for p.i < len(p.s) && (p.s[p.i] == ' ' || p.s[p.i] == '\t' || p.s[p.i] == '\n' || p.s[p.i] == '\r') {
		p.i++
	}
}

func (p *jsonParser) fail(why string) *node {
	if p.bad == "" {
		p.bad = why
	}
	return nil
}

// node makes a node at the current offset.
func (p *jsonParser) node(kind nodeKind) *node {
	for ; p.seen < p.i; p.seen++ {
		if p.s[p.seen] == '\n' {
			p.line++
			p.start = p.seen + 1
		}
	}
	return &node{kind: kind, line: p.line, col: 1 + utf8.RuneCountInString(p.s[p.start:p.i]), typed: true}
}

func (p *jsonParser) value() *node {
	p.space()
	if p.i >= len(p.s) {
		return p.fail("a value is missing at the end")
	}
	switch c := p.s[p.i]; {
	case c == '{':
		return p.object()
	case c == '[':
		return p.array()
	case c == '"':
		n := p.node(scalarNode)
		s, ok := p.str()
		if !ok {
			return nil
		}
		n.val = s
		return n
	case c == '-' || digit(c):
		return p.number()
	}
	for _, w := range []struct {
		word string
		val  any
	}{{"true", true}, {"false", false}, {"null", nil}, {"NaN", math.NaN()}, {"Infinity", math.Inf(1)}} {
		if strings.HasPrefix(p.s[p.i:min(len(p.s), p.i+8)], w.word) {
			n := p.node(scalarNode)
			n.val = w.val
			p.i += len(w.word)
			return n
		}
	}
	return p.fail("a value is expected here")
}

func (p *jsonParser) enter() bool {
	if p.depth--; p.depth < 0 {
		p.bad = "values are nested too deeply"
		return false
	}
	return true
}

func (p *jsonParser) array() *node {
	if !p.enter() {
		return nil
	}
	n := p.node(sequenceNode)
	p.i++
	if p.space(); p.i < len(p.s) && p.s[p.i] == ']' {
		p.i++
		p.depth++
		return n
	}
	for {
		v := p.value()
		if v == nil {
			return nil
		}
		n.items = append(n.items, v)
		if p.space(); p.i >= len(p.s) {
			return p.fail("the list is not closed by ]")
		}
		switch p.s[p.i] {
		case ',':
			p.i++
		case ']':
			p.i++
			p.depth++
			return n
		default:
			return p.fail("a comma or ] is missing")
		}
	}
}

func (p *jsonParser) object() *node {
	if !p.enter() {
		return nil
	}
	n := p.node(mappingNode)
	p.i++
	if p.space(); p.i < len(p.s) && p.s[p.i] == '}' {
		p.i++
		p.depth++
		return n
	}
	var special *node
	for {
		if p.space(); p.i >= len(p.s) || p.s[p.i] != '"' {
			return p.fail("a name in double quotes is expected here")
		}
		k := p.node(scalarNode)
		key, ok := p.str()
		if !ok {
			return nil
		}
		k.val = key
		if p.space(); p.i >= len(p.s) || p.s[p.i] != ':' {
			return p.fail("a colon is missing after the name")
		}
		p.i++
		v := p.value()
		if v == nil {
			return nil
		}
		n.items = append(n.items, k, v)
		// This is how ansible-inventory writes !vault and !unsafe.
		if special == nil && key == "__ansible_vault" {
			if s, ok := v.val.(string); ok {
				special = &node{kind: scalarNode, tag: "!vault", value: s, line: n.line, col: n.col}
			}
		} else if special == nil && key == "__ansible_unsafe" {
			special = v
			if s, ok := v.val.(string); ok {
				special = &node{kind: scalarNode, tag: "!unsafe", value: s, line: n.line, col: n.col}
			}
		}
		if p.space(); p.i >= len(p.s) {
			return p.fail("the dictionary is not closed by }")
		}
		switch p.s[p.i] {
		case ',':
			p.i++
		case '}':
			p.i++
			p.depth++
			if special != nil {
				return special
			}
			return n
		default:
			return p.fail("a comma or } is missing")
		}
	}
}

func (p *jsonParser) number() *node {
	n := p.node(scalarNode)
	s := p.s[p.i:]
	j := 0
	if s[0] == '-' {
		j++
		if strings.HasPrefix(s[j:min(len(s), j+8)], "Infinity") {
			p.i += j + 8
			n.val = math.Inf(-1)
			return n
		}
	}
	if j >= len(s) || !digit(s[j]) {
		return p.fail("a digit is missing after the minus")
	}
	if s[j] == '0' {
		j++
	} else {
		for j < len(s) && digit(s[j]) {
			j++
		}
	}
	isFloat := false
	if j+1 < len(s) && s[j] == '.' && digit(s[j+1]) {
		isFloat = true
		for j++; j < len(s) && digit(s[j]); j++ {
		}
	}
	if j < len(s) && s[j]|0x20 == 'e' {
		k := j + 1
		if k < len(s) && (s[k] == '+' || s[k] == '-') {
			k++
		}
		if k < len(s) && digit(s[k]) {
			isFloat = true
			for j = k; j < len(s) && digit(s[j]); j++ {
			}
		}
	}
	word := s[:j]
	if isFloat {
		f, _ := strconv.ParseFloat(word, 64) // out of range is infinity, as in Python
		n.val = f
	} else if i, err := strconv.Atoi(word); err == nil {
		n.val = i
	} else if len(word) > 4300 {
		return p.fail("the number has too many digits")
	} else {
		b, _ := new(big.Int).SetString(word, 10)
		n.val = b
	}
	p.i += j
	return n
}

// str reads a string, p.i at its opening quote.
func (p *jsonParser) str() (string, bool) {
	from := p.i + 1
	i := from
	for i < len(p.s) && p.s[i] != '"' && p.s[i] != '\\' && p.s[i] >= ' ' {
		i++
	}
	if i < len(p.s) && p.s[i] == '"' {
		p.i = i + 1
		return p.s[from:i], true
	}
	buf := append([]byte(nil), p.s[from:i]...)
	for i < len(p.s) {
		c := p.s[i]
		switch {
		case c == '"':
			p.i = i + 1
			return string(buf), true
		case c < ' ':
			p.i = i
			p.fail("a control character stands in a string")
			return "", false
		case c != '\\':
			buf = append(buf, c)
			i++
			continue
		}
		p.i = i
		if i+1 >= len(p.s) {
			break
		}
		if j := strings.IndexByte(`"\/bfnrt`, p.s[i+1]); j >= 0 {
			buf = append(buf, "\"\\/\b\f\n\r\t"[j])
			i += 2
			continue
		}
		r, ok := hexRune(p.s[i:])
		if !ok {
			p.fail("the escape is not known")
			return "", false
		}
		i += 6
		if utf16.IsSurrogate(r) {
			if r2, ok := hexRune(p.s[i:]); ok {
				if both := utf16.DecodeRune(r, r2); both != utf8.RuneError {
					r = both
					i += 6
				}
			}
		}
		buf = utf8.AppendRune(buf, r)
	}
	p.fail("a string is not closed")
	return "", false
}

// hexRune reads \uXXXX at the start of s.
func hexRune(s string) (rune, bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' || !allOf(s[2:6], isHex) {
		return 0, false
	}
	n, _ := strconv.ParseUint(s[2:6], 16, 16)
	return rune(n), true
}
