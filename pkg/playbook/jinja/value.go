package jinja

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/big"
	"reflect"
	"slices"
	"strings"
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

// Opaque is a value that is defined but must not be looked into, such as a
// secret. Any use but "is defined" is Err.
type Opaque struct{ Err error }

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

// Normalize turns any plain Go data into the types that templates work with.
// What it does not know it returns as it is.
func Normalize(v any) any {
	switch v := v.(type) {
	case nil, bool, int64, float64, string, Undefined, Omit, Opaque, Mapping:
		return v
	case int:
		return int64(v)
	case float32:
		return float64(v)
	case []byte:
		return string(v)
	case *big.Int:
		if v.IsInt64() {
			return v.Int64()
		}
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
	case map[string]any:
		var out map[string]any
		for k, x := range v {
			if n := Normalize(x); !identical(x, n) {
				if out == nil {
					out = maps.Clone(v)
				}
				out[k] = n
			}
		}
		if out != nil {
			return out
		}
		return v
	}
	r := reflect.ValueOf(v)
	switch r.Kind() {
	case reflect.Int8, reflect.Int16, reflect.Int32:
		return r.Int()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if u := r.Uint(); u <= math.MaxInt64 {
			return int64(u)
		}
	case reflect.Slice, reflect.Array:
		out := make([]any, r.Len())
		for i := range out {
			out[i] = Normalize(r.Index(i).Interface())
		}
		return out
	case reflect.Map:
		if r.Type().Key().Kind() != reflect.String {
			return v
		}
		out := make(map[string]any, r.Len())
		for it := r.MapRange(); it.Next(); {
			out[it.Key().String()] = Normalize(it.Value().Interface())
		}
		return out
	}
	return v
}

// identical reports whether Normalize left a value as it was.
func identical(a, b any) bool {
	switch a.(type) {
	case nil, bool, int64, float64, string:
		return true
	case []any:
		x, ok := b.([]any)
		y := a.([]any)
		return ok && len(x) == len(y) && (len(x) == 0 || &x[0] == &y[0])
	case map[string]any:
		x, ok := b.(map[string]any)
		return ok && reflect.ValueOf(x).Pointer() == reflect.ValueOf(a).Pointer()
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
	case map[string]any:
		return len(v) > 0
	case Mapping:
		return len(v.Keys()) > 0
	case Undefined:
		return false
	}
	return true
}

// TypeName is Python's name of the value's type.
func TypeName(v any) string {
	switch v.(type) {
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
	case map[string]any, Mapping:
		return "dict"
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
	case map[string]any:
		m, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, m, Equal)
	case Omit:
		_, ok := b.(Omit)
		return ok
	}
	return false
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
	case map[string]any:
		return anys(slices.Sorted(maps.Keys(v))), true
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
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, fmt.Errorf("more than one JSON value")
	}
	return numbers(v), nil
}

func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i
		}
		f, _ := v.Float64()
		return f
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = numbers(v[k])
		}
	}
	return v
}
