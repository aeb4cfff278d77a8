package jinja

import (
	"strings"

	"github.com/fleetd/fleetd/pkg/value"
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
	// rounds are those that loops of the template may still make.
	rounds *int
}

// maxRounds bounds how often the bodies of a template's loops are rendered, all
// together: two loops of 20,000 one in the other would take a minute.
const maxRounds = 1_000_000

func newFrame(s Scope) *frame {
	rounds := maxRounds
	return &frame{scope: s, rounds: &rounds}
}

// inner is a frame within f, for one round of a loop.
func (f *frame) inner() *frame {
	return &frame{scope: f.scope, parent: f, locals: map[string]any{}, rounds: f.rounds}
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
	case *value.Map:
		for _, x := range v.All() {
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
	out := value.NewMap(len(n.keys))
	for i, k := range n.keys {
		key, err := f.value(k)
		if err != nil {
			return nil, err
		}
		if err := hashable(key, k.pos()); err != nil {
			return nil, err
		}
		v, err := f.value(n.values[i])
		if err != nil {
			return nil, err
		}
		out.Set(key, v)
	}
	return out, nil
}

// hashable refuses what Python does not take for a dictionary's key.
func hashable(key any, at int) error {
	switch key.(type) {
	case []any, *value.Map:
		return errorAt(at, "%s cannot be a key of a dictionary", TypeName(key))
	}
	return nil
}
