package jinja

import (
	"fmt"
)

// chosen is the branch of an inline if, of the branch of that, and so on: what
// comes out of to_json stays a text in there, too.
func chosen(n node, f *frame) (node, error) {
	for {
		c, ok := n.(*condNode)
		if !ok {
			return n, nil
		}
		yes, err := f.truth(c.cond)
		if err != nil {
			return nil, err
		}
		switch {
		case yes:
			n = c.yes
		case c.no == nil:
			return c, nil
		default:
			n = c.no
		}
	}
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
