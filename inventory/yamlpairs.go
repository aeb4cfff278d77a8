package inventory

import "slices"

// pairs returns the keys and values of a mapping after merge keys (<<) are
// resolved: merged ones first, so that the mapping's own win. A key that
// stands twice is warned of and keeps its first place and its last value.
func (c *constructor) pairs(n *node) ([]pair, error) {
	if p, ok := c.flat[n]; ok {
		return p, nil
	}
	var merged, own []pair
	for i := 0; i+1 < len(n.items); i += 2 {
		kn, vn := n.items[i], n.items[i+1]
		if k := kn.resolve(); k.kind == scalarNode && ((k.plain && k.tag == "" && k.value == "<<") || k.tag == tagPrefix+"merge") {
			m, err := c.merge(n, kn, vn)
			if err != nil {
				return nil, err
			}
			merged = append(merged, m...)
			continue
		}
		key, err := c.key(kn)
		if err != nil {
			return nil, err
		}
		own = append(own, pair{key, kn, vn})
	}
	all := own
	if len(merged) > 0 {
		all = append(merged, own...)
	}
	at := 0
	var index map[any]int
	if len(all) > dictIndexFrom {
		index = make(map[any]int, len(all))
	}
	for _, p := range all {
		old := -1
		if index != nil {
			if i, ok := index[p.key]; ok {
				old = i
			}
		} else {
			for i := range all[:at] {
				if all[i].key == p.key {
					old = i
					break
				}
			}
		}
		if old < 0 {
			if index != nil {
				index[p.key] = at
			}
			all[at] = p
			at++
			continue
		}
		switch {
		case n.typed || c.settings.DuplicateKeys == "ignore": // JSON takes the last without a word
		case c.settings.DuplicateKeys == "error":
			return nil, c.errorAt(p.kn, "Remove one of the two.", "the key %s stands twice in this dictionary", keyString(p.key))
		default:
			c.warn(p.kn.line, p.kn.col, "the key %s stands twice in this dictionary, the last value is used", keyString(p.key))
		}
		// The value that is dropped must be one all the same.
		if _, err := c.value(all[old].vn); err != nil {
			return nil, err
		}
		all[old].vn, all[old].kn = p.vn, p.kn
	}
	all = all[:at]
	if len(merged) > 0 {
		if c.flat == nil {
			c.flat = map[*node][]pair{}
		}
		c.flat[n] = all
	}
	return all, nil
}

const (
	aliasHint = "Give *name a value that is complete before it is used."
	mergeHint = "Give << a dictionary or a list of dictionaries, usually *an_anchor."
)

func (c *constructor) merge(n, kn, vn *node) ([]pair, error) {
	target := vn.resolve()
	if c.open[target] && target != n || target == n {
		return nil, c.errorAt(vn, aliasHint, "an alias stands inside the value that it names")
	}
	switch target.kind {
	case mappingNode:
		defer c.enter(target)()
		p, err := c.pairs(target)
		return slices.Clone(p), err
	case sequenceNode:
		defer c.enter(target)()
		var out []pair
		for i := len(target.items) - 1; i >= 0; i-- {
			x := target.items[i].resolve()
			if x.kind != mappingNode {
				return nil, c.errorAt(target.items[i], mergeHint, "only dictionaries can be merged with <<")
			}
			if c.open[x] {
				return nil, c.errorAt(target.items[i], aliasHint, "an alias stands inside the value that it names")
			}
			leave := c.enter(x)
			p, err := c.pairs(x)
			leave()
			if err != nil {
				return nil, err
			}
			out = append(out, p...)
			if c.expanded += len(p); c.expanded > c.limits.Expansion {
				return nil, c.errorAt(kn, "Write the values out, or split the file.", "merge keys expand to more than %d values", c.limits.Expansion)
			}
		}
		return out, nil
	}
	return nil, c.errorAt(vn, mergeHint, "only dictionaries can be merged with <<")
}
