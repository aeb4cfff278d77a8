package jinja

import (
	"regexp"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/value"
)

// Expr is a parsed expression, such as a condition.
type Expr struct{ root node }

// ParseExpr parses an expression without delimiters, with the escapes that
// Jinja takes in strings there.
func ParseExpr(src string) (*Expr, error) {
	l := &lexer{src: src}
	if _, err := l.expression("", tEOF, 0, true); err != nil {
		return nil, err
	}
	p := &parser{toks: l.tokens}
	n, err := p.expr()
	if err != nil {
		return nil, err
	}
	if p.cur().kind != tEOF {
		return nil, p.unexpected("the end of the expression")
	}
	return &Expr{n}, nil
}

// Eval returns the value. It may be Omit, but never Undefined.
func (e *Expr) Eval(s Scope) (any, error) {
	v, err := newFrame(s).value(e.root)
	if err != nil {
		return nil, err
	}
	return v, useAll(v, e.root.pos())
}

// Constant is the value of an expression that is written out as a literal.
func (e *Expr) Constant() (any, bool) {
	c, ok := e.root.(*constNode)
	if !ok {
		return nil, false
	}
	return c.v, true
}

// Template is a parsed text with {{ }} and {% %}.
type Template struct {
	src   string
	parts []part
}

// part is a piece of a template that prints something.
type part interface {
	render(f *frame, out *strings.Builder) error
}

// MaybeTemplate reports whether s needs parsing at all.
func MaybeTemplate(s string) bool {
	return strings.Contains(s, "{{") || strings.Contains(s, "{%") || strings.Contains(s, "{#")
}

// Parse parses a text.
func Parse(src string) (*Template, error) {
	// Jinja drops one newline at the very end; Render brings it back, as Ansible does.
	toks, err := lexTemplate(strings.TrimSuffix(src, "\n"), nil)
	if err != nil {
		return nil, err
	}
	p := &parser{toks: toks}
	parts, _, err := p.body()
	if err != nil {
		return nil, err
	}
	return &Template{src, parts}, nil
}

// Name returns the variable if the template is nothing but {{ name }}.
func (t *Template) Name() (string, bool) {
	m := singleVar.FindStringSubmatch(t.src)
	if m == nil {
		return "", false
	}
	return m[1], true
}

var singleVar = regexp.MustCompile(`^\{\{\s*(\w+)\s*\}\}\n?$`)

// only is the expression of a template that prints nothing else.
func (t *Template) only() node {
	if len(t.parts) == 1 {
		if o, ok := t.parts[0].(*outputPart); ok {
			return o.x
		}
	}
	return nil
}

// Eval is what Ansible's templating makes of the text: lists, dictionaries and
// booleans if it prints nothing else, and a string in all other cases. A text
// that reads like a list, a dictionary or a boolean becomes one, too.
func (t *Template) Eval(s Scope) (any, error) {
	v, _, err := t.Native(s)
	return v, err
}

// Native is Eval, and besides it tells the value of the expression as it was
// before it became text, if the template is nothing but one expression. The
// number 6.10 is the text 6.1 afterwards: who needs a text may want to know.
func (t *Template) Native(s Scope) (v, before any, err error) {
	f := newFrame(s)
	n := t.only()
	if n != nil {
		if n, err = chosen(n, f); err != nil {
			return nil, nil, err
		}
	}
	if n == nil || strings.HasSuffix(t.src, "\n") && !isTextFilter(n) {
		text, err := t.render(f)
		if err != nil {
			return nil, nil, err
		}
		return literal(text), text, nil
	}
	before, err = n.eval(f)
	if err != nil {
		return nil, nil, err
	}
	if u, ok := before.(Undefined); ok && u.quiet {
		return "", "", nil
	}
	if err := useAll(before, n.pos()); err != nil {
		return nil, nil, err
	}
	switch before.(type) {
	case []any, *value.Map, bool, Omit, Mapping:
		if !holdsDate(before) {
			return before, before, nil
		}
	}
	text := output(before)
	if isTextFilter(n) {
		return text + strings.Repeat("\n", trailingNewlines(t.src)), before, nil
	}
	return literal(text), before, nil
}

// holdsDate reports whether there is a date in a list or a dictionary: printed,
// it reads like no literal of Python's, so Ansible leaves the whole a text.
func holdsDate(v any) bool {
	switch v := v.(type) {
	case value.Timestamp:
		return true
	case []any:
		return slices.ContainsFunc(v, holdsDate)
	case *value.Map:
		for k, x := range v.All() {
			if holdsDate(k) || holdsDate(x) {
				return true
			}
		}
	}
	return false
}

// Render is the text that the template prints.
func (t *Template) Render(s Scope) (string, error) { return t.render(newFrame(s)) }

func (t *Template) render(f *frame) (string, error) {
	var b strings.Builder
	if err := renderAll(t.parts, f, &b); err != nil {
		return "", err
	}
	out := b.String()
	missing := trailingNewlines(t.src) - trailingNewlines(out)
	if missing > 0 {
		out += strings.Repeat("\n", missing)
	}
	return out, nil
}

func trailingNewlines(s string) int { return len(s) - len(strings.TrimRight(s, "\n")) }

type (
	dataPart   struct{ text string }
	outputPart struct{ x node }
	ifPart     struct {
		conds  []node
		bodies [][]part
		other  []part
	}
	setPart struct {
		name string
		x    node
	}
	forPart struct {
		names  []string
		at     int
		seq    node
		filter node
		body   []part
		other  []part
	}
)

func (d *dataPart) render(_ *frame, out *strings.Builder) error {
	return write(out, d.text, 0)
}

func (o *outputPart) render(f *frame, out *strings.Builder) error {
	v, err := o.x.eval(f)
	if err != nil {
		return err
	}
	if u, ok := v.(Undefined); ok && u.quiet {
		return nil
	}
	if err := useAll(v, o.x.pos()); err != nil {
		return err
	}
	if _, ok := v.(Omit); ok {
		return errorAt(o.x.pos(), "omit stands for a whole argument and cannot be part of a text").token("omit")
	}
	return write(out, output(v), o.x.pos())
}

func write(out *strings.Builder, s string, at int) error {
	if out.Len()+len(s) > maxText {
		return errorAt(at, "this makes a text of more than %d MB", maxText>>20)
	}
	out.WriteString(s)
	return nil
}
