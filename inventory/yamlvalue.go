package inventory

import (
	"encoding/base64"
	"fmt"
	"math"
	"math/big"
	"strings"
)

// constructor gives YAML nodes their values, as PyYAML's SafeLoader with
// Ansible's tags does: that is YAML 1.1, where yes is true, 0777 is octal and
// 1:30 is ninety.
type constructor struct {
	t        *text
	settings Settings
	limits   Limits
	vault    *vault
	warn     func(line, col int, format string, args ...any)

	done     map[*node]any // values of anchored nodes: aliases share them
	open     map[*node]bool
	expanded int // values reached through aliases
	size     map[*node]int
	flat     map[*node][]pair
}

type pair struct {
	key    any
	kn, vn *node
}

func (c *constructor) errorAt(n *node, hint, format string, args ...any) error {
	return c.t.errorAt(n.line, n.col, hint, format, args...)
}

// resolve follows aliases.
func (n *node) resolve() *node {
	for n != nil && n.kind == aliasNode {
		n = n.target
	}
	return n
}

// value constructs the value of n.
func (c *constructor) value(n *node) (any, error) {
	if n.kind == aliasNode {
		target := n.resolve()
		if c.open[target] {
			return nil, c.errorAt(n, aliasHint, "an alias stands inside the value that it names")
		}
		if c.expanded += c.measure(target); c.expanded > c.limits.Expansion {
			return nil, c.errorAt(n, "Write the values out, or split the file.", "aliases expand to more than %d values", c.limits.Expansion)
		}
		if v, ok := c.done[target]; ok {
			return v, nil
		}
		return c.value(target)
	}
	if v, ok := c.done[n]; ok {
		return v, nil
	}
	var v any
	var err error
	switch n.kind {
	case scalarNode:
		v, err = c.scalar(n)
	case sequenceNode:
		v, err = c.sequence(n)
	default:
		v, err = c.mapping(n)
	}
	if n.shared && err == nil {
		if c.done == nil {
			c.done = map[*node]any{}
		}
		c.done[n] = v
	}
	return v, err
}

// measure is how many values n would be with all aliases written out.
func (c *constructor) measure(n *node) int {
	n = n.resolve()
	if n.kind == scalarNode {
		return 1
	}
	if s, ok := c.size[n]; ok {
		return s
	}
	if c.size == nil {
		c.size = map[*node]int{}
	}
	c.size[n] = c.limits.Expansion // while measuring: an alias to itself is endless
	sum := 1
	for _, x := range n.items {
		if sum += c.measure(x); sum > c.limits.Expansion {
			sum = c.limits.Expansion
			break
		}
	}
	c.size[n] = sum
	return sum
}

func (c *constructor) enter(n *node) func() {
	if c.open == nil {
		c.open = map[*node]bool{}
	}
	c.open[n] = true
	return func() { delete(c.open, n) }
}

func (c *constructor) sequence(n *node) (any, error) {
	switch n.tag {
	case "", "!", tagPrefix + "seq":
	case "!unsafe":
		v, err := c.untagged(n)
		return markUnsafe(v), err
	case tagPrefix + "omap", tagPrefix + "pairs":
	default:
		return nil, c.badTag(n)
	}
	defer c.enter(n)()
	l := &list{items: make([]any, 0, len(n.items))}
	for _, x := range n.items {
		v, err := c.value(x)
		if err != nil {
			return nil, err
		}
		if n.tag == tagPrefix+"omap" || n.tag == tagPrefix+"pairs" {
			d, ok := v.(*dict)
			if !ok || d.len() != 1 {
				return nil, c.errorAt(x, "Write it as in !!omap [a: 1, b: 2].", "each item of an ordered map must be one key with one value")
			}
			v = &list{items: []any{d.keys[0], d.vals[0]}}
		}
		l.items = append(l.items, v)
	}
	return l, nil
}

func (c *constructor) untagged(n *node) (any, error) {
	bare := *n
	bare.tag = ""
	return c.value(&bare)
}

func (c *constructor) mapping(n *node) (any, error) {
	switch n.tag {
	case "", "!", tagPrefix + "map", tagPrefix + "set":
	case "!unsafe":
		v, err := c.untagged(n)
		return markUnsafe(v), err
	default:
		return nil, c.badTag(n)
	}
	defer c.enter(n)()
	pairs, err := c.pairs(n)
	if err != nil {
		return nil, err
	}
	d := &dict{keys: make([]any, 0, len(pairs)), vals: make([]any, 0, len(pairs))}
	for _, p := range pairs {
		v, err := c.value(p.vn)
		if err != nil {
			return nil, err
		}
		d.set(p.key, v)
	}
	return d, nil
}

func (c *constructor) key(kn *node) (any, error) {
	n := kn.resolve()
	if n.kind != scalarNode {
		return nil, c.errorAt(kn, "A template in braces must be quoted: \"{{ name }}\".", "a dictionary key must be a single value")
	}
	if n.plain && n.tag == "" && n.value == "=" {
		return "=", nil
	}
	if n.typed {
		return n.val, nil
	}
	k, err := c.bare(n) // names in an encrypted file are no secrets
	if err != nil {
		return nil, err
	}
	switch v := k.(type) {
	case Unsafe:
		return string(v), nil
	case Secret:
		return nil, c.errorAt(kn, "Encrypt the value, not the name.", "a vault cannot be a dictionary key")
	case *big.Int:
		return v.String(), nil
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1e15 {
			return int(v), nil // Python finds 1 and 1.0 to be the same key
		}
	}
	return k, nil
}

// name is value for what may be a name: that is no secret in an encrypted file
// either.
func (c *constructor) name(n *node) (any, error) {
	if n.kind == scalarNode {
		return c.bare(n)
	}
	return c.value(n)
}

func (c *constructor) badTag(n *node) error {
	return c.errorAt(n, "Known tags are !vault, !unsafe and those of YAML itself (!!str, !!int, …).",
		"the tag %s is not known", c.t.clip(strings.Replace(n.tag, tagPrefix, "!!", 1)))
}

func (c *constructor) scalar(n *node) (any, error) {
	v, err := c.bare(n)
	if err != nil {
		return nil, err
	}
	return c.vault.hide(v, c.t), nil
}

// bare is a scalar's value, whatever file it stands in.
func (c *constructor) bare(n *node) (any, error) {
	if n.typed {
		return n.val, nil
	}
	tag := n.tag
	if tag == "" || tag == "!" {
		if tag == "!" || !n.plain {
			return n.value, nil
		}
		return c.plainScalar(n)
	}
	switch tag {
	case tagPrefix + "str":
		return n.value, nil
	case "!unsafe":
		return Unsafe(n.value), nil
	case "!vault", "!vault-encrypted":
		return c.vault.inline(n.value, c.t, n.line, n.col), nil
	case tagPrefix + "null":
		return nil, nil
	case tagPrefix + "bool":
		if b, ok := yamlBool(strings.ToLower(n.value)); ok {
			return b, nil
		}
	case tagPrefix + "int":
		if v, ok := constructInt(n.value); ok {
			return v, nil
		}
	case tagPrefix + "float":
		if v, ok := constructFloat(n.value); ok {
			return v, nil
		}
	case tagPrefix + "timestamp":
		if v, ok := constructTimestamp(n.value); ok {
			return v, nil
		}
	case tagPrefix + "binary":
		raw, err := base64.StdEncoding.DecodeString(strings.Map(dropSpace, n.value))
		if err == nil {
			return binaryData(raw), nil
		}
	default:
		return nil, c.badTag(n)
	}
	return nil, c.errorAt(n, "Correct the value, or take the tag away.", "%q is not a value of type %s", c.t.clip(n.value), strings.Replace(tag, tagPrefix, "!!", 1))
}

func (c *constructor) plainScalar(n *node) (any, error) {
	v, isString, ok := resolvePlain(n.value)
	switch {
	case isString:
		return n.value, nil
	case ok:
		return v, nil
	}
	return nil, c.errorAt(n, fmt.Sprintf("Quote it if a string is meant: %q.", c.t.clip(n.value)), "%s looks like a number or a date but is none", c.t.clip(n.value))
}
