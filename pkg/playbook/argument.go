package playbook

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/value"
)

// spec are the parameters of a module.
type spec rollout.Params

// of is the parameter of that name. A module may take any name.
func (s spec) of(name string) rollout.Param {
	if p, ok := s[name]; ok {
		return p
	}
	return s[rollout.AnyName]
}

func (s spec) has(name string) bool {
	_, named := s[name]
	_, anyName := s[rollout.AnyName]
	return named || anyName
}

// typeError is a value that a parameter does not take.
type typeError struct{ error }

func (e *typeError) Unwrap() error { return e.error }

// given reports whether an argument counts as given: null is a value only where any
// value is one.
func given(v any, p rollout.Param) bool {
	_, omitted := v.(jinja.Omit)
	return !omitted && (v != nil || p.Type == rollout.Any)
}

// argument is the value that a module gets for a parameter as it is written, Omit
// where it is left out.
func argument(cache *jinja.Cache, raw any, p rollout.Param, s jinja.Scope) (any, error) {
	switch p.Type {
	case rollout.Expression:
		return shown(cache, expressions(raw)[0], s)
	case rollout.Conditions:
		var out []rollout.Evaluated
		for _, src := range expressions(raw) {
			e, err := evaluated(cache, src, s)
			if err != nil {
				return nil, err
			}
			e.Value = jinja.Truth(e.Value)
			out = append(out, e)
		}
		return out, nil
	}
	if p.Type == rollout.Environment {
		return variables(cache, raw, s)
	}
	v, before := raw, raw
	var err error
	if src, isText := raw.(string); isText && jinja.MaybeTemplate(src) {
		var tmpl *jinja.Template
		if tmpl, err = cache.Template(src); err == nil {
			v, before, err = cache.Native(tmpl, s)
		}
	} else if hasTemplate(raw) {
		v, err = cache.Data(raw, s)
	}
	if err != nil {
		return nil, err
	}
	if o, ok := v.(jinja.Opaque); ok {
		return nil, o.Err
	}
	if _, omitted := v.(jinja.Omit); omitted {
		return v, nil
	}
	out, err := coerce(v, before, p)
	if err != nil {
		return nil, &typeError{err}
	}
	if p.Type == rollout.Any {
		out = jinja.Normalize(out)
		return out, kept(out)
	}
	return value.Plain(out), nil
}

// kept says why a value cannot be in a plan or a journal: it is no data, as
// hostvars, or a number that JSON has not.
func kept(v any) error {
	if _, err := jinja.JSON(v); err != nil {
		return err
	}
	_, err := json.Marshal(value.Plain(v))
	if u := (*json.UnsupportedValueError)(nil); errors.As(err, &u) {
		return fmt.Errorf("the number %s cannot be kept", u.Str)
	}
	return err
}

// shown is the value of an expression as a template gives it: a number is a text.
func shown(cache *jinja.Cache, src string, s jinja.Scope) (any, error) {
	e, err := evaluated(cache, src, s)
	if err != nil {
		return nil, err
	}
	switch v := e.Value.(type) {
	case bool, string, nil, []any, *value.Map:
	default:
		e.Value = jinja.Text(v)
	}
	return e, nil
}

// evaluated is the value of an expression.
func evaluated(cache *jinja.Cache, src string, s jinja.Scope) (rollout.Evaluated, error) {
	e, err := cache.Expr(src)
	if err != nil {
		return rollout.Evaluated{}, err
	}
	v, err := e.Eval(s)
	if err == nil {
		err = kept(v)
	}
	if err != nil {
		return rollout.Evaluated{}, fmt.Errorf("%s: %w", src, err)
	}
	return rollout.Evaluated{Text: src, Value: v}, nil
}

// variables are layers of variables of an environment, of which the last counts.
func variables(cache *jinja.Cache, layers any, s jinja.Scope) (any, error) {
	v, err := cache.Data(layers, s)
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	list, _ := v.([]any)
	for _, layer := range list {
		if o, ok := layer.(jinja.Opaque); ok {
			return nil, o.Err
		}
		m, ok := layer.(*value.Map)
		if !ok && layer != nil && layer != "" {
			return nil, &typeError{fmt.Errorf("is %s where variables with values belong", typeName(layer))}
		}
		for name, x := range m.All() {
			key, _ := name.(string)
			if !isName(key) {
				return nil, &typeError{fmt.Errorf("has %q, which is no name of a variable", jinja.Text(name))}
			}
			if o, ok := x.(jinja.Opaque); ok {
				return nil, o.Err
			}
			out[key] = jinja.Text(x)
		}
	}
	return out, nil
}
