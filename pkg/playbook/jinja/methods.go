package jinja

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/fleetd/fleetd/pkg/value"
)

type methodFunc struct {
	sig signature
	fn  func(*call) (any, error)
}

var stringMethods = map[string]methodFunc{
	"split":      {sig("sep?", "maxsplit?"), func(c *call) (any, error) { return split(c, false) }},
	"rsplit":     {sig("sep?", "maxsplit?"), func(c *call) (any, error) { return split(c, true) }},
	"splitlines": {sig(), func(c *call) (any, error) { return anys(lines(c.in.(string))), nil }},
	"strip":      {sig("chars?"), func(c *call) (any, error) { return strip(c, true, true) }},
	"lstrip":     {sig("chars?"), func(c *call) (any, error) { return strip(c, true, false) }},
	"rstrip":     {sig("chars?"), func(c *call) (any, error) { return strip(c, false, true) }},
	"upper":      {sig(), func(c *call) (any, error) { return strings.ToUpper(c.in.(string)), nil }},
	"lower":      {sig(), func(c *call) (any, error) { return strings.ToLower(c.in.(string)), nil }},
	"capitalize": {sig(), func(c *call) (any, error) { return capitalize(c.in.(string)), nil }},
	"isdigit":    {sig(), func(c *call) (any, error) { return allRunes(c.in.(string), unicode.IsDigit), nil }},
	"isalpha":    {sig(), func(c *call) (any, error) { return allRunes(c.in.(string), unicode.IsLetter), nil }},
	"startswith": {sig("prefix"), func(c *call) (any, error) { return affix(c, strings.HasPrefix) }},
	"endswith":   {sig("suffix"), func(c *call) (any, error) { return affix(c, strings.HasSuffix) }},
	"replace": {sig("old", "new", "count?"), func(c *call) (any, error) {
		return replace(c, c.in.(string))
	}},
	"find": {sig("sub"), func(c *call) (any, error) {
		sub, err := c.text(0, "")
		s := c.in.(string)
		i := strings.Index(s, sub)
		if i > 0 {
			i = len([]rune(s[:i]))
		}
		return int64(i), err
	}},
	"count": {sig("sub"), func(c *call) (any, error) {
		sub, err := c.text(0, "")
		return int64(strings.Count(c.in.(string), sub)), err
	}},
	"join": {sig("items"), func(c *call) (any, error) {
		l, ok := elements(c.args[0])
		if !ok {
			return nil, c.fail("needs a list, not %s", TypeName(c.args[0]))
		}
		texts := make([]string, len(l))
		for i, x := range l {
			s, ok := x.(string)
			if !ok {
				return nil, c.fail("item %d is of type %s where a string belongs", i+1, TypeName(x)).hint("the filter join takes any type")
			}
			texts[i] = s
		}
		return strings.Join(texts, c.in.(string)), nil
	}},
}

var dictMethods = map[string]methodFunc{
	"keys": {sig(), func(c *call) (any, error) { return c.list() }},
	"values": {sig(), func(c *call) (any, error) {
		out := []any{}
		for _, p := range pairs(c.in) {
			out = append(out, p.([]any)[1])
		}
		return out, nil
	}},
	"items": {sig(), func(c *call) (any, error) { return pairs(c.in), nil }},
	"get": {sig("key", "default?"), func(c *call) (any, error) {
		v, err := item(c.in, c.args[0], &nameNode{base{c.at}, c.name})
		if _, missing := v.(Undefined); missing {
			if c.given(1) {
				return c.args[1], nil
			}
			return nil, nil
		}
		return v, err
	}},
}

var listMethods = map[string]methodFunc{
	"count": {sig("item"), func(c *call) (any, error) {
		n := int64(0)
		for _, x := range c.in.([]any) {
			if Equal(x, c.args[0]) {
				n++
			}
		}
		return n, nil
	}},
	"index": {sig("item"), func(c *call) (any, error) {
		i := slices.IndexFunc(c.in.([]any), func(x any) bool { return Equal(x, c.args[0]) })
		if i < 0 {
			return nil, c.fail("%s is not in the list", value.Repr(c.args[0]))
		}
		return int64(i), nil
	}},
}

// pythonMethods are the methods of Python that templates meet and fleetd does
// not have. Those that change their object would make one task's template
// depend on another's.
var pythonMethods = []string{
	"append", "extend", "insert", "pop", "remove", "sort", "reverse", "clear", "update", "setdefault", "popitem",
	"copy", "fromkeys", "format", "encode", "decode", "title", "swapcase", "casefold", "center", "ljust", "rjust",
	"zfill", "partition", "rpartition", "rfind", "rindex", "translate", "expandtabs", "isalnum", "islower",
	"isupper", "isspace", "isnumeric", "isdecimal", "istitle", "isidentifier", "removeprefix", "removesuffix",
	"format_map", "bit_length", "is_integer", "strftime",
}

func methodsOf(v any) map[string]methodFunc {
	switch v.(type) {
	case string:
		return stringMethods
	case *value.Map, Mapping:
		return dictMethods
	case []any:
		return listMethods
	}
	return nil
}

func isMethod(v any, name string) bool {
	_, ok := methodsOf(v)[name]
	return ok
}

func methodNames() []string {
	all := map[string]bool{}
	for _, m := range []map[string]methodFunc{stringMethods, dictMethods, listMethods} {
		for name := range m {
			all[name] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// methodNode is a call such as version.split('.').
type methodNode struct {
	base
	owner node
	name  string
	args  []node
	kw    []keyword
}

func newMethodCall(f *attrNode, args []node, kw []keyword) (node, error) {
	if !slices.Contains(methodNames(), f.name) {
		if slices.Contains(pythonMethods, f.name) {
			return nil, errorAt(f.at, "method %q is known to Python, but not supported by fleetd", f.name).token(f.name).hint("use a filter")
		}
		e := errorAt(f.at, "unknown method %q", f.name).token(f.name)
		if near := Nearest(f.name, methodNames()); near != "" {
			e.Hint = fmt.Sprintf("did you mean %s?", near)
		}
		return nil, e
	}
	return &methodNode{f.base, f.x, f.name, args, kw}, nil
}

func (n *methodNode) eval(f *frame) (any, error) {
	self, err := f.value(n.owner)
	if err != nil {
		return nil, err
	}
	m, ok := methodsOf(self)[n.name]
	if !ok {
		return nil, errorAt(n.at, "%s has no method %q", TypeName(self), n.name).token(n.name)
	}
	// The method is known only now, with the type of its owner.
	bound, err := m.sig.bind(n.at, n.name, n.args, n.kw)
	if err != nil {
		return nil, err
	}
	c, err := (&callNode{n.base, n.name, n.owner, bound}).evaluate(f, self, false)
	if err != nil {
		return nil, err
	}
	return m.fn(c)
}

func pairs(v any) []any {
	out := []any{}
	switch v := v.(type) {
	case *value.Map:
		for k, x := range v.All() {
			out = append(out, []any{k, x})
		}
	case Mapping:
		for _, k := range v.Keys() {
			x, _, err := v.Item(k)
			if err != nil {
				x = Opaque{Err: err}
			}
			out = append(out, []any{k, x})
		}
	}
	return out
}

// split is Python's str.split: without a separator at any white space, and
// then without empty fields.
func split(c *call, fromRight bool) (any, error) {
	s := c.in.(string)
	limit, err := c.int(1, -1)
	if err != nil {
		return nil, err
	}
	sep, err := c.text(0, "")
	if err != nil {
		return nil, err
	}
	if c.given(0) && c.args[0] != nil && sep == "" {
		return nil, c.fail("the separator cannot be empty")
	}
	out := []any{}
	switch {
	case sep == "" && limit < 0:
		return anys(strings.Fields(s)), nil
	case sep == "" && fromRight:
		s = strings.TrimRightFunc(s, unicode.IsSpace)
		for ; s != "" && limit > 0; limit-- {
			i := strings.LastIndexFunc(s, unicode.IsSpace)
			if i < 0 {
				break
			}
			out = append(out, strings.TrimLeftFunc(s[i:], unicode.IsSpace))
			s = strings.TrimRightFunc(s[:i], unicode.IsSpace)
		}
		if s != "" {
			out = append(out, s)
		}
		slices.Reverse(out)
		return out, nil
	case sep == "":
		s = strings.TrimLeftFunc(s, unicode.IsSpace)
		for ; s != "" && limit > 0; limit-- {
			i := strings.IndexFunc(s, unicode.IsSpace)
			if i < 0 {
				break
			}
			out = append(out, s[:i])
			s = strings.TrimLeftFunc(s[i:], unicode.IsSpace)
		}
		if s != "" {
			out = append(out, s)
		}
		return out, nil
	case limit < 0:
		return anys(strings.Split(s, sep)), nil
	case fromRight:
		for ; limit > 0; limit-- {
			i := strings.LastIndex(s, sep)
			if i < 0 {
				break
			}
			out = append(out, s[i+len(sep):])
			s = s[:i]
		}
		out = append(out, s)
		slices.Reverse(out)
		return out, nil
	}
	return anys(strings.SplitN(s, sep, int(min(limit, int64(len(s))))+1)), nil
}

func lines(s string) []string {
	s = strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

func strip(c *call, left, right bool) (any, error) {
	chars, err := c.text(0, "")
	if err != nil {
		return nil, err
	}
	drop := unicode.IsSpace
	if c.given(0) && c.args[0] != nil {
		drop = func(r rune) bool { return strings.ContainsRune(chars, r) }
	}
	s := c.in.(string)
	if left {
		s = strings.TrimLeftFunc(s, drop)
	}
	if right {
		s = strings.TrimRightFunc(s, drop)
	}
	return s, nil
}

func affix(c *call, has func(s, x string) bool) (any, error) {
	s := c.in.(string)
	if l, ok := c.args[0].([]any); ok {
		for _, x := range l {
			if t, ok := x.(string); ok && has(s, t) {
				return true, nil
			}
		}
		return false, nil
	}
	x, err := c.text(0, "")
	return has(s, x), err
}

func replace(c *call, s string) (any, error) {
	old, err := c.text(0, "")
	if err != nil {
		return nil, err
	}
	repl, err := c.text(1, "")
	if err != nil {
		return nil, err
	}
	n, err := c.int(2, -1)
	if err != nil {
		return nil, err
	}
	if n < 0 || n > int64(len(s))+1 {
		n = -1
	}
	if grown := (strings.Count(s, old) + 1) * len(repl); grown > maxText {
		return nil, c.fail("this makes a text of more than %d MB", maxText>>20)
	}
	return strings.Replace(s, old, repl, int(n)), nil
}

func capitalize(s string) string {
	r := []rune(strings.ToLower(s))
	if len(r) > 0 {
		r[0] = unicode.ToTitle(r[0])
	}
	return string(r)
}

func allRunes(s string, is func(rune) bool) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !is(r) })
}
