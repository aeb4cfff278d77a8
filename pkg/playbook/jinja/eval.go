package jinja

import (
	"fmt"
	"strings"
)

// Scope knows the variables. Lookup resolves a variable's own templates before
// it answers, and answers in the types of Normalize; ok is false if there is no
// such variable.
type Scope interface {
	Lookup(name string) (value any, ok bool, err error)
}

// Vars is a Scope of plain values.
type Vars map[string]any

// Lookup returns the value as it is.
func (v Vars) Lookup(name string) (any, bool, error) {
	x, ok := v[name]
	return Normalize(x), ok, nil
}

type node interface {
	eval(*frame) (any, error)
	pos() int
}

type base struct{ at int }

func (b base) pos() int { return b.at }

type keyword struct {
	name  string
	value node
	at    int
}

type operand struct {
	op string
	x  node
	at int
}

type (
	constNode struct {
		base
		v any
	}
	nameNode struct {
		base
		name string
	}
	listNode struct {
		base
		items []node
		tuple bool // written with ( ), which only % tells from [ ]
	}
	dictNode struct {
		base
		keys, values []node
	}
	condNode struct {
		base
		cond, yes, no node
	}
	boolNode struct {
		base
		l, r node
		or   bool
	}
	notNode struct {
		base
		x node
	}
	compareNode struct {
		base
		first node
		ops   []operand
	}
	binaryNode struct {
		base
		op   string
		l, r node
	}
	signNode struct {
		base
		negative bool
		x        node
	}
	attrNode struct {
		base
		x    node
		name string
	}
	itemNode struct {
		base
		x, key node
	}
	sliceNode struct {
		base
		x     node
		parts [3]node
	}
)

// frame is where an expression is evaluated: the scope and the local
// variables of loops and set.
type frame struct {
	scope  Scope
	locals map[string]any
	parent *frame
}

func (f *frame) lookup(name string, at int) (any, error) {
	for l := f; l != nil; l = l.parent {
		if v, ok := l.locals[name]; ok {
			return v, nil
		}
	}
	v, ok, err := f.scope.Lookup(name)
	if err != nil {
		return nil, wrap(at, name, err)
	}
	if !ok {
		return Undefined{Name: name, at: at}, nil
	}
	return v, nil
}

// wrap gives an error of the scope a place in this template. One that already
// has a place keeps it inside: it belongs to another template.
func wrap(at int, tok string, err error) error {
	e := &Error{Offset: at, Token: tok, Message: err.Error(), Err: err}
	return e
}

// use refuses a value that must not be looked into.
func use(v any, at int) error {
	switch v := v.(type) {
	case Undefined:
		if v.quiet {
			return errorAt(at, "this inline if has no else, and its condition is false").hint("add an else")
		}
		e := errorAt(v.at, "%q is undefined", v.Name)
		e.Undefined = v.Name
		e.Token = v.Name[strings.LastIndexAny(v.Name, ".[")+1:]
		return e
	case Opaque:
		return &Error{Offset: at, Message: v.Err.Error(), Err: v.Err}
	case method:
		return errorAt(at, "%s is a method; it is called with ()", v.name).token(v.name)
	}
	return nil
}

// useAll is use for a value that is printed or handed out with all it contains.
func useAll(v any, at int) error {
	switch v := v.(type) {
	case []any:
		for _, x := range v {
			if err := useAll(x, at); err != nil {
				return err
			}
		}
		return nil
	case map[string]any:
		for _, x := range v {
			if err := useAll(x, at); err != nil {
				return err
			}
		}
		return nil
	}
	return use(v, at)
}

// value evaluates a node whose value is used at once.
func (f *frame) value(n node) (any, error) {
	v, err := n.eval(f)
	if err != nil {
		return nil, err
	}
	return v, use(v, n.pos())
}

func (f *frame) truth(n node) (bool, error) {
	v, err := n.eval(f)
	if err != nil {
		return false, err
	}
	if u, ok := v.(Undefined); ok && u.quiet {
		return false, nil
	}
	return Truth(v), use(v, n.pos())
}

func (n *constNode) eval(*frame) (any, error)  { return n.v, nil }
func (n *nameNode) eval(f *frame) (any, error) { return f.lookup(n.name, n.at) }

func (n *listNode) eval(f *frame) (any, error) {
	out := make([]any, 0, len(n.items))
	for _, x := range n.items {
		v, err := f.value(x)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func (n *dictNode) eval(f *frame) (any, error) {
	out := make(map[string]any, len(n.keys))
	for i, k := range n.keys {
		key, err := f.value(k)
		if err != nil {
			return nil, err
		}
		s, ok := key.(string)
		if !ok {
			return nil, errorAt(k.pos(), "fleetd's dictionaries have only strings as keys, this is of type %s", TypeName(key))
		}
		if out[s], err = f.value(n.values[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (n *condNode) eval(f *frame) (any, error) {
	ok, err := f.truth(n.cond)
	switch {
	case err != nil:
		return nil, err
	case ok:
		return n.yes.eval(f)
	case n.no != nil:
		return n.no.eval(f)
	}
	return Undefined{Name: "the inline if", quiet: true, at: n.at}, nil
}

func (n *boolNode) eval(f *frame) (any, error) {
	l, err := f.value(n.l)
	if err != nil {
		return nil, err
	}
	if Truth(l) == n.or {
		return l, nil
	}
	return n.r.eval(f)
}

func (n *notNode) eval(f *frame) (any, error) {
	ok, err := f.truth(n.x)
	return !ok, err
}

func (n *compareNode) eval(f *frame) (any, error) {
	l, err := f.value(n.first)
	if err != nil {
		return nil, err
	}
	for _, o := range n.ops {
		r, err := f.value(o.x)
		if err != nil {
			return nil, err
		}
		ok, err := relation(o.op, l, r, o.at)
		if err != nil || !ok {
			return false, err
		}
		l = r
	}
	return true, nil
}

func relation(op string, l, r any, at int) (bool, error) {
	switch op {
	case "==":
		return Equal(l, r), nil
	case "!=":
		return !Equal(l, r), nil
	case "in", "not in":
		ok, err := contains(r, l, at)
		return ok == (op == "in"), err
	}
	c, ok := compare(l, r)
	if !ok {
		return false, errorAt(at, "%s cannot be compared with %s by %s", TypeName(l), TypeName(r), op).token(op).
			hint("make both the same type, for instance with | int")
	}
	switch op {
	case "<":
		return c < 0, nil
	case "<=":
		return c <= 0, nil
	case ">":
		return c > 0, nil
	}
	return c >= 0, nil
}

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
	case map[string]any:
		s, ok := x.(string)
		if ok {
			_, ok = c[s]
		}
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
	case map[string]any:
		if s, ok := key.(string); ok {
			if v, ok := c[s]; ok {
				return v, nil
			}
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
			var b strings.Builder
			writeRepr(&b, c.v)
			return written(n.x) + "[" + b.String() + "]"
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

func (n *signNode) eval(f *frame) (any, error) {
	v, err := f.value(n.x)
	if err != nil {
		return nil, err
	}
	i, x, isInt, ok := number(v)
	if !ok {
		return nil, errorAt(n.at, "%s has no sign", TypeName(v))
	}
	switch {
	case isInt && n.negative:
		return arithmetic("-", int64(0), i, n.at)
	case isInt:
		return i, nil
	case n.negative:
		return -x, nil
	}
	return x, nil
}

func (n *binaryNode) eval(f *frame) (any, error) {
	l, err := f.value(n.l)
	if err != nil {
		return nil, err
	}
	r, err := f.value(n.r)
	if err != nil {
		return nil, err
	}
	if n.op == "~" {
		if err := useAll([]any{l, r}, n.at); err != nil {
			return nil, err
		}
		return limited(Text(l)+Text(r), n.at)
	}
	if s, ok := l.(string); ok && n.op == "%" {
		args := []any{r}
		if list, ok := n.r.(*listNode); ok && list.tuple {
			args = r.([]any)
		}
		return formatPercent(s, args, n.at)
	}
	return arithmetic(n.op, l, r, n.at)
}

// maxText bounds what one expression may build in memory.
const maxText = 4 << 20

func limited(s string, at int) (any, error) {
	if len(s) > maxText {
		return nil, errorAt(at, "this makes a text of more than %d MB", maxText>>20)
	}
	return s, nil
}

func mismatch(op string, l, r any, at int) error {
	return errorAt(at, "%s %s %s is not possible", TypeName(l), op, TypeName(r)).token(op).
		hint("convert with | int, | float or | string; texts are joined with ~")
}

var errOverflow = fmt.Errorf("does not fit 64 bits")
