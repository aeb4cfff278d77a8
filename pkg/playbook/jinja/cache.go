package jinja

import (
	"errors"
	"reflect"
	"sync"

	"github.com/fleetd/fleetd/pkg/value"
)

// Cache keeps parsed templates and expressions, so that 10,000 hosts cost one
// parse. It may be used from several goroutines.
type Cache struct {
	// Foreign replaces values of types that templates do not know, such as
	// secrets, before they are used. It may be nil.
	Foreign func(v any) any

	templates, exprs sync.Map
}

type parsed[T any] struct {
	v   T
	err error
}

// Template parses src, or returns what an earlier call made of it.
func (c *Cache) Template(src string) (*Template, error) { return keep(&c.templates, src, Parse) }

// Expr parses src as an expression, or returns what an earlier call made of it.
func (c *Cache) Expr(src string) (*Expr, error) { return keep(&c.exprs, src, ParseExpr) }

func keep[T any](m *sync.Map, src string, parse func(string) (T, error)) (T, error) {
	if p, ok := m.Load(src); ok {
		p := p.(*parsed[T])
		return p.v, p.err
	}
	v, err := parse(src)
	m.Store(src, &parsed[T]{v, err})
	return v, err
}

// Raw is a Scope that can show a variable as it is written, before its own
// templates are resolved.
type Raw interface {
	Raw(name string) (value any, ok bool)
}

// Data resolves all templates in plain data: strings, and those in lists and
// dictionaries at any depth. Strings of a named type are taken as they are:
// they are marked as unsafe to template.
func (c *Cache) Data(v any, s Scope) (any, error) {
	switch v := v.(type) {
	case nil, bool, int64, float64, value.Timestamp:
		return v, nil
	case int:
		return int64(v), nil
	case string:
		if !MaybeTemplate(v) {
			return v, nil
		}
		t, err := c.Template(v)
		if err == nil {
			var out any
			if out, _, err = c.Native(t, s); err == nil {
				return out, nil
			}
		}
		return nil, &ValueError{Source: v, Err: err}
	case value.Tuple:
		return c.Data([]any(v), s) // Ansible makes a list of it, too
	case []any:
		out := v
		for i, x := range v {
			y, err := c.Data(x, s)
			if err != nil {
				return nil, err
			}
			// Most data holds no template: copy only what changes.
			if !identical(x, y) || changedText(x, y) {
				if len(out) > 0 && &out[0] == &v[0] {
					out = append([]any(nil), v...)
				}
				out[i] = y
			}
		}
		return out, nil
	case *value.Map:
		out := v
		for k, x := range v.All() {
			y, err := c.Data(x, s)
			if err != nil {
				return nil, err
			}
			if !identical(x, y) || changedText(x, y) {
				if out == v {
					out = v.Clone()
				}
				out.Set(k, y)
			}
		}
		return out, nil
	}
	if c.Foreign != nil {
		v = c.Foreign(v)
	}
	if r := reflect.ValueOf(v); r.Kind() == reflect.String {
		return r.String(), nil
	}
	return Normalize(v), nil
}

func changedText(x, y any) bool {
	s, ok := x.(string)
	if !ok {
		return false
	}
	t, ok := y.(string)
	return !ok || s != t
}

// Native is Template.Native with Ansible's exception: {{ x }} alone keeps a
// number a number and none none, whereas through any expression they become
// text.
func (c *Cache) Native(t *Template, s Scope) (v, before any, err error) {
	if raw, ok := s.(Raw); ok {
		if name, ok := t.Name(); ok {
			if v, ok := raw.Raw(name); ok {
				switch n := Normalize(v).(type) {
				case nil, bool, int64, float64:
					return n, n, nil
				}
			}
		}
	}
	return t.Native(s)
}

// ValueError is an error in a template that stands in data, such as in the
// value of a variable.
type ValueError struct {
	Source string // the template
	Err    error
}

func (e *ValueError) Error() string { return e.Err.Error() }
func (e *ValueError) Unwrap() error { return e.Err }

// Position is the innermost template error in a chain, or nil.
func Position(err error) *Error {
	var out *Error
	for {
		var e *Error
		if !errors.As(err, &e) {
			return out
		}
		out = e
		err = e.Err
	}
}
