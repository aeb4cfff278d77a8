package jinja

import (
	"maps"
	"strings"
)

// inner runs a filter or a test by name on one item, with arguments that are
// already evaluated.
func (c *call) inner(name string, in any, args []any, has []bool, s signature) (*call, error) {
	for i, n := range s {
		if n != "*" && !strings.HasSuffix(n, "?") && (i >= len(has) || !has[i]) {
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
	case map[string]any, Mapping:
		return pairs(c.in), nil
	}
	return nil, c.fail("needs a dictionary, not %s", TypeName(c.in))
}

func filterDict2items(c *call) (any, error) {
	key, err := c.text(0, "key")
	if err != nil {
		return nil, err
	}
	value, err := c.text(1, "value")
	if err != nil {
		return nil, err
	}
	if _, err := filterItems(c); err != nil {
		return nil, err
	}
	out := []any{}
	for _, p := range pairs(c.in) {
		kv := p.([]any)
		out = append(out, map[string]any{key: kv[0], value: kv[1]})
	}
	return out, nil
}

func filterItems2dict(c *call) (any, error) {
	key, err := c.text(0, "key")
	if err != nil {
		return nil, err
	}
	value, err := c.text(1, "value")
	if err != nil {
		return nil, err
	}
	l, ok := c.in.([]any)
	if !ok {
		return nil, c.fail("needs a list, not %s", TypeName(c.in))
	}
	out := map[string]any{}
	for _, x := range l {
		m, _ := x.(map[string]any)
		k, hasKey := m[key].(string)
		v, hasValue := m[value]
		if !hasKey || !hasValue {
			return nil, c.fail("each item needs the keys %q (a string) and %q", key, value)
		}
		out[k] = v
	}
	return out, nil
}

func filterCombine(c *call) (any, error) {
	out := map[string]any{}
	for _, x := range flatten(append([]any{c.in}, c.args...), 1, true) {
		m, ok := x.(map[string]any)
		if !ok {
			return nil, c.fail("needs dictionaries, not %s", TypeName(x))
		}
		maps.Copy(out, m)
	}
	return out, nil
}
