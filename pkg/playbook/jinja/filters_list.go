package jinja

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/fleetd/fleetd/pkg/value"
)

func edge(c *call, last bool) (any, error) {
	l, err := c.list()
	if err != nil {
		return nil, err
	}
	if len(l) == 0 {
		return c.none(), nil
	}
	if last {
		return l[len(l)-1], nil
	}
	return l[0], nil
}

// none is what first, last, min and max make of an empty list: something
// undefined, which default can take.
func (c *call) none() any { return Undefined{Name: c.name + " of an empty list", at: c.at} }

func filterLength(c *call) (any, error) {
	switch v := c.in.(type) {
	case string:
		return int64(utf8.RuneCountInString(v)), nil
	case []any:
		return int64(len(v)), nil
	case *value.Map:
		return int64(v.Len()), nil
	case Mapping:
		return int64(len(v.Keys())), nil
	}
	return nil, c.fail("%s has no length", TypeName(c.in))
}

// attribute reads a dotted path of an item, such as "address.ip" or "0.name".
func (c *call) attribute(x any, path string) (any, error) {
	for _, name := range strings.Split(path, ".") {
		var key any = name
		if i, err := strconv.ParseInt(name, 10, 64); err == nil {
			key = i
		}
		v, err := item(x, key, &nameNode{base{c.at}, path})
		if err != nil {
			return nil, err
		}
		x = v
	}
	return x, nil
}

// attributes replaces each item by its attribute, if one is asked for.
func (c *call) attributes(l []any, i int) ([]any, error) {
	path, err := c.attributePath(i)
	if err != nil || path == "" {
		return l, err
	}
	out := make([]any, len(l))
	for j, x := range l {
		v, err := c.attribute(x, path)
		if err == nil {
			err = use(v, c.at)
		}
		if err != nil {
			return nil, err
		}
		out[j] = v
	}
	return out, nil
}

func (c *call) attributePath(i int) (string, error) {
	if c.given(i) {
		if n, ok := c.args[i].(int64); ok {
			return strconv.FormatInt(n, 10), nil
		}
	}
	return c.text(i, "")
}

func filterJoin(c *call) (any, error) {
	sep, err := c.text(0, "")
	if err != nil {
		return nil, err
	}
	l, err := c.list()
	if err != nil {
		return nil, err
	}
	if l, err = c.attributes(l, 1); err != nil {
		return nil, err
	}
	texts := make([]string, len(l))
	for i, x := range l {
		if err := useAll(x, c.at); err != nil {
			return nil, err
		}
		texts[i] = Text(x)
	}
	return limited(strings.Join(texts, sep), c.at)
}

// folded is the key by which sort, unique, min and max compare when case does
// not count.
func folded(v any, caseSensitive bool) any {
	if s, ok := v.(string); ok && !caseSensitive {
		return strings.ToLower(s)
	}
	return v
}

func filterSort(c *call) (any, error) {
	l, err := c.list()
	if err != nil {
		return nil, err
	}
	keys, err := c.attributes(l, 2)
	if err != nil {
		return nil, err
	}
	type entry struct{ key, v any }
	entries := make([]entry, len(l))
	for i := range l {
		entries[i] = entry{folded(keys[i], c.bool(1, false)), l[i]}
	}
	reverse := c.bool(0, false)
	slices.SortStableFunc(entries, func(a, b entry) int {
		n, ok := compare(a.key, b.key)
		if !ok && err == nil {
			err = c.unordered(a.key, b.key)
		}
		if reverse {
			return -n
		}
		return n
	})
	out := make([]any, len(l))
	for i, e := range entries {
		out[i] = e.v
	}
	return out, err
}

// sort sorts l by a key of each item; keys that Python cannot order are an error.
func (c *call) sort(l []any, key func(any) any) (err error) {
	slices.SortStableFunc(l, func(a, b any) int {
		x, y := key(a), key(b)
		n, ok := compare(x, y)
		if !ok && err == nil {
			err = c.unordered(x, y)
		}
		return n
	})
	return err
}

func (c *call) unordered(a, b any) error {
	return c.fail("%s and %s cannot be ordered", TypeName(a), TypeName(b))
}

func filterReverse(c *call) (any, error) {
	if s, ok := c.in.(string); ok {
		r := []rune(s)
		slices.Reverse(r)
		return string(r), nil
	}
	l, err := c.list()
	if err != nil {
		return nil, err
	}
	l = slices.Clone(l)
	slices.Reverse(l)
	return l, nil
}

func unique(l []any, key func(any) any) []any {
	out := []any{}
	seenStrings := map[string]bool{}
	var seen []any
	for _, x := range l {
		k := key(x)
		if s, ok := k.(string); ok {
			if seenStrings[s] {
				continue
			}
			seenStrings[s] = true
		} else {
			if slices.ContainsFunc(seen, func(y any) bool { return Equal(k, y) }) {
				continue
			}
			seen = append(seen, k)
		}
		out = append(out, x)
	}
	return out
}

func filterUnique(c *call) (any, error) {
	l, err := c.list()
	if err != nil {
		return nil, err
	}
	// Jinja compares by hash, which lists and dictionaries do not have; then
	// Ansible falls back to a comparison in which case counts.
	caseSensitive := c.bool(0, false)
	for _, x := range l {
		switch x.(type) {
		case []any, *value.Map:
			caseSensitive = true
		}
	}
	return unique(l, func(v any) any { return folded(v, caseSensitive) }), nil
}

// sets makes a filter of two lists that keeps order and drops repetitions.
func sets(keep func(inA, inB bool) bool) func(*call) (any, error) {
	return func(c *call) (any, error) {
		a, ok := c.in.([]any)
		if !ok {
			return nil, c.fail("needs a list, not %s", TypeName(c.in))
		}
		b, err := c.argList(0)
		if err != nil {
			return nil, err
		}
		inA, inB := membership(a), membership(b)
		all := append(append([]any{}, a...), b...)
		all = slices.DeleteFunc(all, func(x any) bool { return !keep(inA(x), inB(x)) })
		return unique(all, func(v any) any { return v }), nil
	}
}

func membership(l []any) func(any) bool {
	texts := map[string]bool{}
	var others []any
	for _, x := range l {
		if s, ok := x.(string); ok {
			texts[s] = true
		} else {
			others = append(others, x)
		}
	}
	return func(v any) bool {
		if s, ok := v.(string); ok {
			return texts[s]
		}
		return slices.ContainsFunc(others, func(y any) bool { return Equal(v, y) })
	}
}

func extreme(c *call, sign int) (any, error) {
	l, err := c.list()
	if err != nil {
		return nil, err
	}
	if len(l) == 0 {
		return c.none(), nil
	}
	keys, err := c.attributes(l, 1)
	if err != nil {
		return nil, err
	}
	best := 0
	for i := 1; i < len(l); i++ {
		n, ok := compare(folded(keys[i], c.bool(0, false)), folded(keys[best], c.bool(0, false)))
		if !ok {
			return nil, c.unordered(keys[i], keys[best])
		}
		if n*sign > 0 {
			best = i
		}
	}
	return l[best], nil
}

func filterSum(c *call) (any, error) {
	l, err := c.list()
	if err != nil {
		return nil, err
	}
	if l, err = c.attributes(l, 0); err != nil {
		return nil, err
	}
	var total any = int64(0)
	if c.given(1) {
		total = c.args[1]
	}
	for _, x := range l {
		if total, err = arithmetic("+", total, x, c.at); err != nil {
			return nil, err
		}
	}
	return total, nil
}

func filterFlatten(c *call) (any, error) {
	l, err := c.list()
	if err != nil {
		return nil, err
	}
	levels, err := c.int(0, -1)
	if err != nil {
		return nil, err
	}
	return flatten(l, levels, c.bool(1, true)), nil
}

func flatten(l []any, levels int64, skipNulls bool) []any {
	out := []any{}
	for _, x := range l {
		if s, _ := x.(string); skipNulls && (x == nil || s == "None" || s == "null") {
			continue
		}
		if inner, ok := x.([]any); ok && levels != 0 {
			out = append(out, flatten(inner, levels-1, skipNulls)...)
			continue
		}
		out = append(out, x)
	}
	return out
}

func filterZip(c *call) (any, error) {
	l, err := c.list()
	if err != nil {
		return nil, err
	}
	lists := [][]any{l}
	for i := range c.args {
		other, err := c.argList(i)
		if err != nil {
			return nil, err
		}
		lists = append(lists, other)
	}
	out := []any{}
	for i := range l {
		row := []any{}
		for _, other := range lists {
			if i >= len(other) {
				return out, nil
			}
			row = append(row, other[i])
		}
		out = append(out, row)
	}
	return out, nil
}
