package value

import (
	"bytes"
	"encoding/json"
	"iter"
	"math"
	"math/big"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/text"
)

// Map is Python's dict: it keeps the order in which keys were set first, and a
// key that Python finds equal to another, as 1, 1.0 and True are, is that
// other. The zero Map is empty and ready; a nil *Map can be read.
type Map struct {
	entries []Entry
	index   map[any]int // by Key; nil while the map is small
}

// indexFrom is the size from which keeping an index beats comparing all keys: a
// host's variables, copied and laid over each other, are mostly fewer.
const indexFrom = 32

// NewMap makes an empty map with room for n keys.
func NewMap(n int) *Map { return &Map{entries: make([]Entry, 0, n)} }

// Key is one comparable value for all keys that Python finds equal.
func Key(k any) any {
	switch v := k.(type) {
	case string:
		return k // as it is: v would be copied to the heap
	case Unsafe:
		return string(v)
	case bool:
		if v {
			return int64(1)
		}
		return int64(0)
	case int:
		return int64(v)
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int64(v)
		}
	case *big.Int:
		return unhashable(v.String())
	case Tuple, []any, *Map:
		return unhashable(Repr(k))
	}
	return k
}

// unhashable is the key of what Go cannot compare, by its text.
type unhashable string

func (m *Map) find(key any) int {
	if m == nil {
		return -1
	}
	key = Key(key)
	if m.index != nil {
		if i, ok := m.index[key]; ok {
			return i
		}
		return -1
	}
	for i := range m.entries {
		if Key(m.entries[i].Key) == key {
			return i
		}
	}
	return -1
}

// Get is the value of a key.
func (m *Map) Get(key any) (any, bool) {
	if i := m.find(key); i >= 0 {
		return m.entries[i].Value, true
	}
	return nil, false
}

// At is where the key stands in a file; it is nowhere for a key that is not
// there, or that no file wrote.
func (m *Map) At(key any) text.Place {
	if i := m.find(key); i >= 0 {
		return m.entries[i].At
	}
	return text.Place{}
}

// Set stores a value; a key that is there keeps its place in the order.
func (m *Map) Set(key, v any) { m.SetAt(key, v, text.Place{}) }

// SetAt is Set for a key that stands at a place in a file.
func (m *Map) SetAt(key, v any, at text.Place) {
	if i := m.find(key); i >= 0 {
		m.entries[i].Value, m.entries[i].At = v, at
		return
	}
	m.entries = append(m.entries, Entry{key, v, at})
	switch {
	case m.index != nil:
		m.index[Key(key)] = len(m.entries) - 1
	case len(m.entries) >= indexFrom:
		m.reindex()
	}
}

func (m *Map) reindex() {
	m.index = make(map[any]int, 2*len(m.entries))
	for i := range m.entries {
		m.index[Key(m.entries[i].Key)] = i
	}
}

// Len is the number of keys.
func (m *Map) Len() int {
	if m == nil {
		return 0
	}
	return len(m.entries)
}

// All yields keys and values in order.
func (m *Map) All() iter.Seq2[any, any] {
	return func(yield func(any, any) bool) {
		for _, e := range m.Entries() {
			if !yield(e.Key, e.Value) {
				return
			}
		}
	}
}

// Entries are the keys, values and places in order. They are not to be changed.
func (m *Map) Entries() []Entry {
	if m == nil {
		return nil
	}
	return m.entries
}

// Sorted yields the entries in the order of their keys' words.
func (m *Map) Sorted() iter.Seq2[int, Entry] {
	type named struct {
		name string
		i    int
	}
	order := make([]named, m.Len())
	for i, e := range m.Entries() {
		order[i] = named{Word(e.Key), i}
	}
	slices.SortStableFunc(order, func(a, b named) int { return strings.Compare(a.name, b.name) })
	return func(yield func(int, Entry) bool) {
		for i, n := range order {
			if !yield(i, m.entries[n.i]) {
				return
			}
		}
	}
}

// Keys are the keys in order.
func (m *Map) Keys() []any {
	out := make([]any, 0, m.Len())
	for k := range m.All() {
		out = append(out, k)
	}
	return out
}

// Clone is a copy that can be changed, with room for some keys more; values are
// shared.
func (m *Map) Clone() *Map {
	c := &Map{entries: append(make([]Entry, 0, m.Len()*3/2+4), m.Entries()...)}
	if len(c.entries) >= indexFrom {
		c.reindex()
	}
	return c
}

// Put is SetAt of an entry; with merge, a mapping is laid over the one that is
// there, key by key, as by hash_behaviour=merge and combine(recursive=True).
func (m *Map) Put(e Entry, merge bool) {
	if over, ok := e.Value.(*Map); ok && merge {
		if old, ok := m.Get(e.Key); ok {
			if under, ok := old.(*Map); ok {
				e.Value = Combine(under, over, true)
			}
		}
	}
	m.SetAt(e.Key, e.Value, e.At)
}

// DeleteFunc takes the keys away for which drop is true.
func (m *Map) DeleteFunc(drop func(key, v any) bool) {
	m.entries = slices.DeleteFunc(m.entries, func(e Entry) bool { return drop(e.Key, e.Value) })
	if m.index != nil {
		m.reindex()
	}
}

// Update lays b over m, key by key as Put does.
func (m *Map) Update(b *Map, merge bool) {
	for _, e := range b.Entries() {
		m.Put(e, merge)
	}
}

// Combine is b laid over a; neither is changed.
func Combine(a, b *Map, merge bool) *Map {
	out := a.Clone()
	out.Update(b, merge)
	return out
}

// MarshalJSON writes the keys in their order. Values that JSON has no form for,
// such as NaN, are an error.
func (m *Map) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, e := range m.Entries() {
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := json.Marshal(Word(e.Key))
		if err != nil {
			return nil, err
		}
		v, err := json.Marshal(e.Value)
		if err != nil {
			return nil, err
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(v)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}
