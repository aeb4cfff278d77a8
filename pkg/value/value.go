// Package value is what variables hold: the values of an inventory, of a
// playbook's vars and of a template's expressions, one model for all three.
//
// It is Python's, as far as Ansible shows it: mappings keep the order of their
// keys, keys need not be strings, 1 and True are one key. A value is one of
//
//	nil  bool  int64  *big.Int  float64  string  Unsafe
//	[]any  Tuple  *Map  Binary  Timestamp  Secret
//
// Values are shared, between hosts and between packages: once they are read
// nobody changes them.
package value

import (
	"encoding/base64"
	"math/big"
	"strconv"
	"strings"

	"github.com/fleetd/fleetd/pkg/text"
)

// Unsafe is a string marked !unsafe: it is no template.
type Unsafe string

// Binary are the bytes of !!binary, and of Python's b” literals.
type Binary string

// Tuple is a list written in parentheses, or with bare commas, in an INI file.
// It is a list in all but how Python prints it.
type Tuple []any

// Timestamp is a date or a time of YAML, in the three forms that Python writes
// it.
type Timestamp struct{ ISO, Str, Repr string }

// Items are the elements of a list or a tuple.
func Items(v any) ([]any, bool) {
	switch v := v.(type) {
	case []any:
		return v, true
	case Tuple:
		return v, true
	}
	return nil, false
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
	case Unsafe:
		return v != ""
	case Binary:
		return v != ""
	case []any:
		return len(v) > 0
	case Tuple:
		return len(v) > 0
	case *Map:
		return v.Len() > 0
	}
	return true
}

// Kind is what a person calls a value's type, with its article.
func Kind(v any) string {
	switch v.(type) {
	case nil:
		return "nothing"
	case bool:
		return "a boolean"
	case int64, *big.Int:
		return "a whole number"
	case float64:
		return "a number"
	case string, Unsafe, Secret:
		return "a string"
	case Binary:
		return "binary data"
	case Timestamp:
		return "a date"
	case []any, Tuple:
		return "a list"
	case *Map:
		return "a dictionary"
	}
	return "a value"
}

// Word is a scalar, or a mapping's key, as Python's json module writes a key:
// None is null, True is true.
func Word(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case Unsafe:
		return string(v)
	case Binary:
		return string(v)
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(v)
	case Timestamp:
		return v.ISO
	}
	return Repr(v)
}

// Plain turns v into what any Go program works with: map[string]any, []any,
// string, int64, *big.Int, float64, bool and nil. Keys become words, dates and
// bytes text (bytes that are no UTF-8 in base64). Secrets stay.
func Plain(v any) any {
	switch v := v.(type) {
	case *Map:
		m := make(map[string]any, v.Len())
		for k, x := range v.All() {
			m[Word(k)] = Plain(x)
		}
		return m
	case []any:
		return plainList(v)
	case Tuple:
		return plainList(v)
	case Unsafe:
		return string(v)
	case Timestamp:
		return v.ISO
	case Binary:
		if s := strings.ToValidUTF8(string(v), ""); s != string(v) {
			return base64.StdEncoding.EncodeToString([]byte(v))
		}
		return string(v)
	}
	return v
}

func plainList(items []any) []any {
	out := make([]any, len(items))
	for i, x := range items {
		out[i] = Plain(x)
	}
	return out
}

// MapScalars is v with every scalar within it replaced by f of it; mappings and
// lists are new ones.
func MapScalars(v any, f func(any) (any, error)) (any, error) {
	switch v := v.(type) {
	case *Map:
		out := NewMap(v.Len())
		for _, e := range v.entries {
			x, err := MapScalars(e.Value, f)
			if err != nil {
				return nil, err
			}
			out.SetAt(e.Key, x, e.At)
		}
		return out, nil
	case []any:
		return mapItems(v, f)
	case Tuple:
		items, err := mapItems(v, f)
		return Tuple(items), err
	}
	return f(v)
}

func mapItems(items []any, f func(any) (any, error)) ([]any, error) {
	out := make([]any, len(items))
	for i, x := range items {
		var err error
		if out[i], err = MapScalars(x, f); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Reveal is v with its secrets decrypted; the error is the first secret's that
// cannot be.
func Reveal(v any) (any, error) {
	return MapScalars(v, func(x any) (any, error) {
		if s, ok := x.(Secret); ok {
			return s.Value()
		}
		return x, nil
	})
}

// Entry is one key of a Map, its value, and where the key stands in a file.
type Entry struct {
	Key, Value any
	At         text.Place
}
