package jinja

import (
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
	"github.com/fleetd/fleetd/pkg/yaml"
)

// Undefined is the value of a name that is not there.
type Undefined struct {
	// Name is what was asked for, as a person would write it.
	Name string
	// quiet is the value of an inline if without else: no text, and false.
	quiet bool
	at    int
}

// Omit is the value of Ansible's variable omit: an argument whose value it is
// counts as not given.
type Omit struct{}

// Opaque is a value that must not be looked into, such as a secret. Any use but "is
// defined" and default is Err.
type Opaque struct {
	Err error
	// Maybe is set where nobody knows whether it is defined: these are Err, too.
	Maybe bool
}

// Mapping is a dictionary that is computed on demand, such as hostvars. Its
// values are in the types of Normalize.
type Mapping interface {
	Item(key string) (value any, ok bool, err error)
	Keys() []string
}

// method is a Python method that is bound to its value and not called yet.
type method struct {
	self any
	name string
}

// Normalize turns values, and plain Go data, into the types that templates work
// with. What it does not know it returns as it is.
func Normalize(v any) any {
	switch v := v.(type) {
	case nil, bool, int64, float64, string, value.Timestamp, Undefined, Omit, Opaque, Mapping:
		return v
	case int:
		return int64(v)
	case value.Unsafe:
		return string(v)
	case value.Binary:
		return string(v)
	case value.Tuple:
		return Normalize([]any(v))
	case *big.Int:
		return Opaque{Err: fmt.Errorf("the number %s is too large for a template", v)}
	case []any:
		for i, x := range v {
			n := Normalize(x)
			if !identical(x, n) {
				// Copy on the first difference: the caller's data stays his.
				out := slices.Clone(v)
				for j := i; j < len(out); j++ {
					out[j] = Normalize(v[j])
				}
				return out
			}
		}
		return v
	case *value.Map:
		out := v
		for k, x := range v.All() {
			if n := Normalize(x); !identical(x, n) {
				if out == v {
					out = v.Clone()
				}
				out.Set(k, n)
			}
		}
		return out
	case map[string]any: // a Go map has no order but that of its keys
		out := value.NewMap(len(v))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			out.Set(k, Normalize(v[k]))
		}
		return out
	}
	return v
}

// identical reports whether Normalize left a value as it was.
func identical(a, b any) bool {
	switch a := a.(type) {
	case nil, bool, int64, float64, string, value.Timestamp:
		return true
	case []any:
		x, ok := b.([]any)
		return ok && len(x) == len(a) && (len(x) == 0 || &x[0] == &a[0])
	case *value.Map:
		return a == b
	}
	return false
}

// Truth is Python's bool(v).
func Truth(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case int64:
		return v != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case *value.Map:
		return v.Len() > 0
	case Mapping:
		return len(v.Keys()) > 0
	case Undefined:
		return false
	}
	return true
}

// TypeName is Python's name of the value's type.
func TypeName(v any) string {
	switch v := v.(type) {
	case nil:
		return "NoneType"
	case bool:
		return "bool"
	case int64:
		return "int"
	case float64:
		return "float"
	case string:
		return "str"
	case []any:
		return "list"
	case *value.Map, Mapping:
		return "dict"
	case value.Timestamp:
		if len(v.ISO) == len(dateOnly) {
			return "date"
		}
		return "datetime"
	case method:
		return "method"
	}
	return "object"
}

// number reports whether v takes part in arithmetic; booleans do, as 0 and 1.
func number(v any) (i int64, f float64, isInt, ok bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return 1, 1, true, true
		}
		return 0, 0, true, true
	case int64:
		return v, float64(v), true, true
	case float64:
		return 0, v, false, true
	}
	return 0, 0, false, false
}

// Equal is Python's a == b.
func Equal(a, b any) bool {
	ai, af, aInt, aNum := number(a)
	bi, bf, bInt, bNum := number(b)
	switch {
	case aNum && bNum:
		if aInt && bInt {
			return ai == bi
		}
		return af == bf
	case aNum || bNum:
		return false
	}
	switch a := a.(type) {
	case nil:
		return b == nil
	case string:
		s, ok := b.(string)
		return ok && a == s
	case []any:
		l, ok := b.([]any)
		return ok && slices.EqualFunc(a, l, Equal)
	case *value.Map:
		m, ok := b.(*value.Map)
		if !ok || a.Len() != m.Len() {
			return false
		}
		for k, x := range a.All() {
			if y, ok := m.Get(k); !ok || !Equal(x, y) {
				return false
			}
		}
		return true
	case value.Timestamp:
		b, ok := b.(value.Timestamp)
		order, comparable := chronological(a, b)
		return ok && comparable && order == 0
	case Omit:
		_, ok := b.(Omit)
		return ok
	}
	return false
}

const dateOnly = time.DateOnly

// chronological compares two dates, two times with a zone or two without one.
// Python compares no others.
func chronological(a, b value.Timestamp) (order int, ok bool) {
	for _, layout := range []string{dateOnly, "2006-01-02T15:04:05", "2006-01-02T15:04:05-07:00"} {
		x, errA := time.Parse(layout, a.ISO)
		y, errB := time.Parse(layout, b.ISO)
		if errA == nil && errB == nil {
			return x.Compare(y), true
		}
	}
	return 0, false
}

// compare orders two values as Python's < does, or says that it cannot.
func compare(a, b any) (int, bool) {
	ai, af, aInt, aNum := number(a)
	bi, bf, bInt, bNum := number(b)
	if aNum && bNum {
		switch {
		case aInt && bInt:
			return order(ai, bi), true
		default:
			return order(af, bf), true
		}
	}
	switch a := a.(type) {
	case string:
		if b, ok := b.(string); ok {
			return strings.Compare(a, b), true
		}
	case []any:
		if b, ok := b.([]any); ok {
			for i := range min(len(a), len(b)) {
				if Equal(a[i], b[i]) {
					continue
				}
				return compare(a[i], b[i])
			}
			return order(len(a), len(b)), true
		}
	case value.Timestamp:
		if b, ok := b.(value.Timestamp); ok {
			return chronological(a, b)
		}
	}
	return 0, false
}

func order[T int | int64 | float64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// elements are what Python's iter(v) gives: items, keys or characters.
func elements(v any) ([]any, bool) {
	switch v := v.(type) {
	case []any:
		return v, true
	case string:
		out := make([]any, 0, len(v))
		for _, r := range v {
			out = append(out, string(r))
		}
		return out, true
	case *value.Map:
		return v.Keys(), true
	case Mapping:
		return anys(v.Keys()), true
	}
	return nil, false
}

func anys[T any](in []T) []any {
	out := make([]any, len(in))
	for i, x := range in {
		out[i] = x
	}
	return out
}

// fromJSON reads JSON into the types that templates work with.
func fromJSON(s string) (any, error) {
	src := &text.Source{Data: s}
	d, err := yaml.ParseJSON(src, yaml.Limits{Depth: jsonDepth})
	if err == nil {
		var v any
		if v, err = d.Reader(yaml.Options{}).Value(d.Root); err == nil {
			return Normalize(v), nil
		}
	}
	var e *text.Error
	if errors.As(err, &e) {
		return nil, errors.New(e.Message)
	}
	return nil, err
}

// jsonDepth is how deep JSON may nest, about as deep as Python's own reader goes.
const jsonDepth = 900
