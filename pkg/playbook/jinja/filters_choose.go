package jinja

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/value"
)

// inner runs a filter or a test by name on one item, with arguments that are
// already evaluated; none of them is given by name.
func (c *call) inner(name string, in any, args []any, has []bool, s signature) (*call, error) {
	named := s.named()
	args, has = append(make([]any, named), args...), append(make([]bool, named), has...)
	for i, n := range s {
		if n != "*" && !strings.HasSuffix(n, "?") && i >= named && (i >= len(has) || !has[i]) {
			return nil, c.fail("%s needs %q", name, n)
		}
	}
	if variadic := len(s) > 0 && s[len(s)-1] == "*"; !variadic && len(args) > len(s) {
		return nil, c.fail("%s takes at most %d arguments: %s", name, len(s), s)
	}
	return &call{f: c.f, at: c.at, name: name, in: in, args: args, has: has}, use(in, c.at)
}

func filterMap(c *call) (any, error) {
	l, err := c.list()
	if err != nil {
		return nil, err
	}
	name, err := c.text(0, "")
	if err != nil {
		return nil, err
	}
	name = strings.TrimPrefix(name, "ansible.builtin.")
	f := filters[name]
	out := make([]any, len(l))
	for i, x := range l {
		ic, err := c.inner(name, x, c.args[1:], c.has[1:], f.sig)
		if err != nil {
			return nil, err
		}
		if out[i], err = f.fn(ic); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// mapAttribute is map with attribute=, which takes no filter.
var mapAttribute = filter{sig: sig("attribute", "default?"), fn: func(c *call) (any, error) {
	l, err := c.list()
	if err != nil {
		return nil, err
	}
	path, err := c.attributePath(0)
	if err != nil {
		return nil, err
	}
	out := make([]any, len(l))
	for i, x := range l {
		v, err := c.attribute(x, path)
		if err != nil {
			return nil, err
		}
		if isUndefined(v) && c.given(1) {
			v = c.args[1]
		}
		if err := use(v, c.at); err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}}

// choose keeps the items that pass the test whose name is argument i.
func choose(c *call, path string, i int, keep bool) (any, error) {
	l, err := c.list()
	if err != nil {
		return nil, err
	}
	name, err := c.text(i, "")
	if err != nil {
		return nil, err
	}
	name = strings.TrimPrefix(name, "ansible.builtin.")
	t := tests[name]
	out := []any{}
	for _, x := range l {
		v := x
		if path != "" {
			if v, err = c.attribute(x, path); err != nil {
				return nil, err
			}
		}
		var ok bool
		if name == "" {
			if err := use(v, c.at); err != nil {
				return nil, err
			}
			ok = Truth(v)
		} else {
			ic, err := c.inner(name, v, c.args[i+1:], c.has[i+1:], t.sig)
			if err != nil && !t.loose {
				return nil, err
			}
			if ok, err = t.fn(ic); err != nil {
				return nil, err
			}
		}
		if ok == keep {
			out = append(out, x)
		}
	}
	return out, nil
}

func chooseAttr(c *call, keep bool) (any, error) {
	path, err := c.attributePath(0)
	if err != nil {
		return nil, err
	}
	return choose(c, path, 1, keep)
}

func filterItems(c *call) (any, error) {
	switch c.in.(type) {
	case *value.Map, Mapping:
		return pairs(c.in), nil
	}
	return nil, c.fail("needs a dictionary, not %s", TypeName(c.in))
}

// filterDictsort is Jinja's: by key, whatever its case.
func filterDictsort(c *call) (any, error) {
	out, err := filterItems(c)
	if err != nil {
		return nil, err
	}
	return out, c.sort(out.([]any), func(pair any) any { return folded(pair.([]any)[0], false) })
}

// keyAndValue are the names that items have for the two.
func (c *call) keyAndValue() (key, val string, err error) {
	if key, err = c.text(0, "key"); err == nil {
		val, err = c.text(1, "value")
	}
	return key, val, err
}

func filterDict2items(c *call) (any, error) {
	key, val, err := c.keyAndValue()
	if err != nil {
		return nil, err
	}
	if _, err := filterItems(c); err != nil {
		return nil, err
	}
	out := []any{}
	for _, p := range pairs(c.in) {
		kv := p.([]any)
		item := value.NewMap(2)
		item.Set(key, kv[0])
		item.Set(val, kv[1])
		out = append(out, item)
	}
	return out, nil
}

func filterItems2dict(c *call) (any, error) {
	key, val, err := c.keyAndValue()
	if err != nil {
		return nil, err
	}
	l, ok := c.in.([]any)
	if !ok {
		return nil, c.fail("needs a list, not %s", TypeName(c.in))
	}
	out := &value.Map{}
	for _, x := range l {
		m, _ := x.(*value.Map)
		k, hasKey := m.Get(key)
		v, hasValue := m.Get(val)
		if !hasKey || !hasValue {
			return nil, c.fail("each item needs the keys %q and %q", key, val)
		}
		if err := hashable(k, c.at); err != nil {
			return nil, err
		}
		out.Set(k, v)
	}
	return out, nil
}

func filterCombine(c *call) (any, error) {
	out := &value.Map{}
	for _, x := range slices.Backward(flatten(append([]any{c.in}, c.args[1:]...), 1, true)) {
		m, ok := x.(*value.Map)
		if !ok {
			return nil, c.fail("needs dictionaries, not %s", TypeName(x))
		}
		out = laidOver(m, out, c.bool(0, false))
	}
	return out, nil
}

// laidOver is y laid over x, as Ansible's merge_hash does it: of two that are
// equal it is the second, whose order may be another.
func laidOver(x, y *value.Map, recursive bool) *value.Map {
	if Equal(x, y) {
		return y
	}
	out := x.Clone()
	for k, v := range y.All() {
		under, _ := out.Get(k)
		u, isMap := under.(*value.Map)
		if o, ok := v.(*value.Map); ok && isMap && recursive {
			v = laidOver(u, o, true)
		}
		out.Set(k, v)
	}
	return out
}

// filterExtract is what a container has under the key, and under more keys in that.
func filterExtract(c *call) (any, error) {
	keys := []any{c.in}
	if c.given(1) {
		if more, ok := c.args[1].([]any); ok {
			keys = append(keys, more...)
		} else {
			keys = append(keys, c.args[1])
		}
	}
	v := c.args[0]
	for _, key := range keys {
		if u, ok := v.(Undefined); ok {
			return u, nil
		}
		err := use(v, c.at)
		if err == nil {
			v, err = item(v, key, &nameNode{base{c.at}, Text(key)})
		}
		if err != nil {
			return nil, err
		}
	}
	return v, nil
}

// SubElements are pairs: each of a list, or of the values of a dictionary, with each
// element of the list that it has at a path of keys.
func SubElements(v, path any, skipMissing bool) ([]any, error) {
	var of []any
	switch v := v.(type) {
	case []any:
		of = v
	case *value.Map:
		for _, x := range v.All() {
			of = append(of, x)
		}
	default:
		return nil, fmt.Errorf("subelements needs a list or a dictionary, this is %s", TypeName(v))
	}
	var keys []any
	switch p := path.(type) {
	case string:
		for _, k := range strings.Split(p, ".") {
			keys = append(keys, k)
		}
	case []any:
		keys = p
	default:
		return nil, fmt.Errorf("subelements needs the keys as a text or a list, this is %s", TypeName(path))
	}
	out := []any{}
	for _, x := range of {
		inner := x
		for _, k := range keys {
			m, isMap := inner.(*value.Map)
			if !isMap {
				return nil, fmt.Errorf("there is nothing under %s in %s", Text(k), TypeName(inner))
			}
			next, has := m.Get(k)
			switch {
			case has:
				inner = next
			case skipMissing:
				inner = []any{}
			default:
				return nil, fmt.Errorf("an item has no %s", Text(k))
			}
			if !has {
				break
			}
		}
		l, isList := inner.([]any)
		if !isList {
			return nil, fmt.Errorf("under %s there has to be a list, this is %s", Text(path), TypeName(inner))
		}
		for _, y := range l {
			out = append(out, []any{x, y})
		}
	}
	return out, nil
}
