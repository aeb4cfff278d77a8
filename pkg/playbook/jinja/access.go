package jinja

import (
	"strings"

	"github.com/fleetd/fleetd/pkg/value"
)

// contains is Python's x in container.
func contains(container, x any, at int) (bool, error) {
	switch c := container.(type) {
	case string:
		s, ok := x.(string)
		if !ok {
			return false, errorAt(at, "in a string only strings can be looked for, not %s", TypeName(x))
		}
		return strings.Contains(c, s), nil
	case []any:
		if s, ok := x.(string); ok {
			// inventory_hostname in groups['x'] is asked for every host of a
			// fleet, with lists as long as the fleet.
			for _, y := range c {
				if t, ok := y.(string); ok && t == s {
					return true, nil
				}
			}
			return false, nil
		}
		for _, y := range c {
			if Equal(x, y) {
				return true, nil
			}
		}
		return false, nil
	case *value.Map:
		switch x.(type) {
		case []any, *value.Map:
			return false, errorAt(at, "%s cannot be a key of a dictionary", TypeName(x))
		}
		_, ok := c.Get(x)
		return ok, nil
	case Mapping:
		s, ok := x.(string)
		if !ok {
			return false, nil
		}
		_, found, err := c.Item(s)
		return found, err
	}
	return false, errorAt(at, "nothing can be looked for in %s", TypeName(container))
}

func (n *attrNode) eval(f *frame) (any, error) {
	x, err := n.x.eval(f)
	if err != nil {
		return nil, err
	}
	if u, ok := x.(Undefined); ok && !u.quiet {
		// As Ansible's undefined: attributes of what is undefined are undefined.
		return u, nil
	}
	if err := use(x, n.x.pos()); err != nil {
		return nil, err
	}
	if isMethod(x, n.name) {
		return method{x, n.name}, nil
	}
	return item(x, n.name, n)
}

func (n *itemNode) eval(f *frame) (any, error) {
	x, err := n.x.eval(f)
	if err != nil {
		return nil, err
	}
	if u, ok := x.(Undefined); ok && !u.quiet {
		return u, nil
	}
	if err := use(x, n.x.pos()); err != nil {
		return nil, err
	}
	key, err := f.value(n.key)
	if err != nil {
		return nil, err
	}
	return item(x, key, n)
}

// item is x[key], or Undefined.
func item(x, key any, n node) (any, error) {
	missing := Undefined{Name: written(n), at: n.pos()}
	switch c := x.(type) {
	case *value.Map:
		if v, ok := c.Get(key); ok {
			return v, nil
		}
		return missing, nil
	case Mapping:
		if s, ok := key.(string); ok {
			v, ok, err := c.Item(s)
			if err != nil {
				return nil, wrap(n.pos(), s, err)
			}
			if ok {
				return v, nil
			}
		}
		return missing, nil
	case []any:
		if i, ok := key.(int64); ok {
			if i < 0 {
				i += int64(len(c))
			}
			if i >= 0 && i < int64(len(c)) {
				return c[i], nil
			}
		}
		return missing, nil
	case string:
		if i, ok := key.(int64); ok {
			r := []rune(c)
			if i < 0 {
				i += int64(len(r))
			}
			if i >= 0 && i < int64(len(r)) {
				return string(r[i]), nil
			}
		}
		return missing, nil
	}
	return missing, nil
}

// written writes an access as a person would.
func written(n node) string {
	switch n := n.(type) {
	case *nameNode:
		return n.name
	case *attrNode:
		return written(n.x) + "." + n.name
	case *itemNode:
		if c, ok := n.key.(*constNode); ok {
			return written(n.x) + "[" + value.Repr(c.v) + "]"
		}
		return written(n.x) + "[" + written(n.key) + "]"
	}
	return "…"
}

func (n *sliceNode) eval(f *frame) (any, error) {
	x, err := f.value(n.x)
	if err != nil {
		return nil, err
	}
	var at [3]*int64
	for i, p := range n.parts {
		if p == nil {
			continue
		}
		v, err := f.value(p)
		if err != nil {
			return nil, err
		}
		if v == nil {
			continue
		}
		k, ok := v.(int64)
		if !ok {
			return nil, errorAt(p.pos(), "a slice is cut at whole numbers, not at %s", TypeName(v))
		}
		at[i] = &k
	}
	switch c := x.(type) {
	case []any:
		idx, err := sliceIndexes(len(c), at, n.at)
		out := make([]any, len(idx))
		for i, j := range idx {
			out[i] = c[j]
		}
		return out, err
	case string:
		r := []rune(c)
		idx, err := sliceIndexes(len(r), at, n.at)
		out := make([]rune, len(idx))
		for i, j := range idx {
			out[i] = r[j]
		}
		return string(out), err
	}
	return nil, errorAt(n.at, "%s cannot be sliced", TypeName(x))
}

func sliceIndexes(n int, at [3]*int64, pos int) ([]int, error) {
	step := int64(1)
	if at[2] != nil {
		step = *at[2]
	}
	if step == 0 {
		return nil, errorAt(pos, "the step of a slice cannot be 0")
	}
	size := int64(n)
	lo, hi := int64(0), size
	if step < 0 {
		lo, hi = -1, size-1
	}
	bound := func(p *int64, def int64) int64 {
		if p == nil {
			return def
		}
		v := *p
		if v < 0 {
			v += size
		}
		return max(lo, min(hi, v))
	}
	var start, stop int64
	if step > 0 {
		start, stop = bound(at[0], lo), bound(at[1], hi)
	} else {
		start, stop = bound(at[0], hi), bound(at[1], lo)
	}
	var out []int
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		out = append(out, int(i))
		if step > size || step < -size {
			break
		}
	}
	return out, nil
}
