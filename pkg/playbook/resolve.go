package playbook

import (
	"fmt"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/value"
)

// A Resolver resolves the templates in variables of hosts outside of any play:
// those that say how a host is reached. Unlike the arguments of modules they
// may hold secrets, which it opens: what it returns is not for showing. It
// serves one goroutine.
type Resolver struct{ c *compiler }

// NewResolver makes a resolver for an inventory and the variables given with -e.
func NewResolver(inv Inventory, extraVars *value.Map) (*Resolver, error) {
	c := &compiler{
		inv: inv, opts: CompileOptions{ExtraVars: extraVars}, known: map[string]hostVars{}, others: map[otherHost]*scope{},
		cache: &jinja.Cache{Foreign: reveal},
	}
	if err := c.prepare(); err != nil {
		return nil, fmt.Errorf("cannot resolve variables: %w", err)
	}
	return &Resolver{c}, nil
}

// reveal opens a secret. What came out of a vault is no template.
func reveal(v any) any {
	s, ok := v.(interface{ Value() (any, error) })
	if !ok {
		return v
	}
	open, err := s.Value()
	if err != nil {
		return jinja.Opaque{Err: err}
	}
	return open
}

// hinted is an error with what to do about it.
type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }
func (h *hinted) Hint() string  { return h.hint }

// Variable is a host's variable without templates; ok is false if there is
// none, or if its value is {{ omit }}. An error names the variable, and shows
// templates, but no value.
func (r *Resolver) Variable(host, name string) (v any, ok bool, err error) {
	s := r.c.otherHost(host)
	if s == nil {
		return nil, false, nil
	}
	v, ok, err = s.Lookup(name)
	if err != nil {
		if inner := jinja.Position(err); inner != nil && inner.Undefined != "" {
			if hint := s.undefinedHint(inner.Undefined); hint != "" {
				err = &hinted{err, hint}
			}
		}
		return nil, false, err
	}
	switch v := v.(type) {
	case jinja.Omit:
		return nil, false, nil
	case jinja.Opaque:
		return nil, false, &varError{name, v.Err}
	case value.Timestamp:
		return v.Str, true, nil // YAML takes a text without quotes for a date
	}
	return v, ok, nil
}
