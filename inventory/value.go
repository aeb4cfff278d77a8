package inventory

import (
	"math/big"
	"strconv"
)

// Values inside the package keep what Python keeps: the order of dictionary
// keys and keys that are no strings. They are nil, bool, int, *big.Int,
// float64, string, Unsafe, Secret, binaryData, timestamp, *list and *dict.
// Toward callers they become plain Go values (see plain).

// Unsafe is a string marked !unsafe: it must never be templated.
type Unsafe string

// binaryData is the value of !!binary and of Python's b” literals.
type binaryData string

// timestamp is a YAML date or time, in the forms Python writes it.
type timestamp struct{ iso, str, repr string }

type list struct {
	items []any
	tuple bool // written in parentheses or with bare commas in INI: the graph shows it so
}

// dict is an ordered dictionary. Small ones are scanned, large ones indexed.
type dict struct {
	keys  []any
	vals  []any
	index map[any]int
}

const dictIndexFrom = 12

func (d *dict) find(key any) int {
	if d.index != nil {
		if i, ok := d.index[key]; ok {
			return i
		}
		return -1
	}
	for i, k := range d.keys {
		if k == key {
			return i
		}
	}
	return -1
}

func (d *dict) get(key any) (any, bool) {
	if d == nil {
		return nil, false
	}
	if i := d.find(key); i >= 0 {
		return d.vals[i], true
	}
	return nil, false
}

// set stores value under key; an existing key keeps its place, as in Python.
func (d *dict) set(key, value any) {
	if i := d.find(key); i >= 0 {
		d.vals[i] = value
		return
	}
	d.keys = append(d.keys, key)
	d.vals = append(d.vals, value)
	if d.index != nil {
		d.index[key] = len(d.keys) - 1
	} else if len(d.keys) >= dictIndexFrom {
		d.index = make(map[any]int, 2*len(d.keys))
		for i, k := range d.keys {
			d.index[k] = i
		}
	}
}

func (d *dict) len() int {
	if d == nil {
		return 0
	}
	return len(d.keys)
}

func (d *dict) clone() *dict {
	c := &dict{}
	if d == nil {
		return c
	}
	c.keys = append([]any(nil), d.keys...)
	c.vals = append([]any(nil), d.vals...)
	if len(c.keys) >= dictIndexFrom {
		c.index = make(map[any]int, 2*len(c.keys))
		for i, k := range c.keys {
			c.index[k] = i
		}
	}
	return c
}

// combine lays b over a and returns the result; neither is changed. With
// merge, dictionaries on both sides are merged key by key.
func combine(a, b *dict, merge bool) *dict {
	out := a.clone()
	out.update(b, merge)
	return out
}

func (d *dict) update(b *dict, merge bool) {
	if b == nil {
		return
	}
	for i, k := range b.keys {
		v := b.vals[i]
		if merge {
			if nv, ok := v.(*dict); ok {
				if ov, ok := d.get(k); ok {
					if od, ok := ov.(*dict); ok {
						d.set(k, combine(od, nv, true))
						continue
					}
				}
			}
		}
		d.set(k, v)
	}
}

// truthy is Python's bool(v).
func truthy(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case int:
		return v != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case Unsafe:
		return v != ""
	case binaryData:
		return v != ""
	case *list:
		return len(v.items) > 0
	case *dict:
		return v.len() > 0
	}
	return true
}

// typeName is what a person calls the value's type.
func typeName(v any) string {
	switch v.(type) {
	case nil:
		return "nothing"
	case bool:
		return "a boolean"
	case int, *big.Int:
		return "a whole number"
	case float64:
		return "a number"
	case string, Unsafe, Secret:
		return "a string"
	case binaryData:
		return "binary data"
	case timestamp:
		return "a date"
	case *list:
		return "a list"
	case *dict:
		return "a dictionary"
	}
	return "a value"
}

// keyString is the name of a dictionary key as Python's json module writes it.
func keyString(k any) string {
	switch k := k.(type) {
	case string:
		return k
	case Unsafe:
		return string(k)
	case nil:
		return "null"
	case bool:
		if k {
			return "true"
		}
		return "false"
	case int:
		return strconv.Itoa(k)
	case *big.Int:
		return k.String()
	case float64:
		return pyFloat(k)
	case timestamp:
		return k.iso
	case binaryData:
		return string(k)
	}
	return ""
}

// plain turns an inner value into what callers get: map[string]any, []any,
// string, int, *big.Int, float64, bool, nil, Unsafe and Secret. Dates become
// ISO 8601 strings, binary data []byte.
func plain(v any) any {
	switch v := v.(type) {
	case *dict:
		m := make(map[string]any, v.len())
		for i, k := range v.keys {
			m[keyString(k)] = plain(v.vals[i])
		}
		return m
	case *list:
		s := make([]any, len(v.items))
		for i, x := range v.items {
			s[i] = plain(x)
		}
		return s
	case timestamp:
		return v.iso
	case binaryData:
		return []byte(v)
	}
	return v
}
