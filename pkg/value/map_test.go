package value

import (
	"encoding/json"
	"fmt"
	"math/big"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fleetd/fleetd/pkg/text"
)

// key draws keys, some of which Python finds equal to others.
var key = rapid.OneOf(
	rapid.Map(rapid.IntRange(-3, 3), func(i int) any { return int64(i) }),
	rapid.Map(rapid.IntRange(-3, 3), func(i int) any { return float64(i) }),
	rapid.Map(rapid.SampledFrom([]float64{0.5, 1e300}), func(f float64) any { return f }),
	rapid.Map(rapid.Bool(), func(b bool) any { return b }),
	rapid.Map(rapid.StringMatching(`[a-z0-3]{0,2}`), func(s string) any { return s }),
	rapid.Map(rapid.StringMatching(`[a-c]`), func(s string) any { return Unsafe(s) }),
	rapid.Just[any](nil), rapid.Just[any](Timestamp{ISO: "2020-01-01"}), rapid.Just[any](Binary("a")), rapid.Just[any](Tuple{int64(1), "a"}),
	rapid.Map(rapid.SampledFrom([]string{"99999999999999999999", "88888888888888888888"}), func(s string) any { i, _ := new(big.Int).SetString(s, 10); return i }),
)

// same is Python's equality of keys, written another way than Key.
func same(a, b any) bool {
	number := func(v any) (float64, bool) {
		switch v := v.(type) {
		case bool:
			if v {
				return 1, true
			}
			return 0, true
		case int64:
			return float64(v), true
		case float64:
			return v, true
		}
		return 0, false
	}
	x, xNumber := number(a)
	y, yNumber := number(b)
	if xNumber || yNumber {
		return xNumber && yNumber && x == y
	}
	word := func(v any) string {
		if u, ok := v.(Unsafe); ok {
			v = string(u)
		}
		return fmt.Sprintf("%T %v", v, v)
	}
	return word(a) == word(b)
}

// TestMapIsADict: whatever is set in whatever order, a Map is what a list of
// pairs searched from the front is, below and above the size of its index.
func TestMapIsADict(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &Map{}
		var model []Entry
		for i := range rapid.IntRange(0, 60).Draw(t, "steps") {
			k := key.Draw(t, "key")
			at := text.Place{Line: i}
			m.SetAt(k, int64(i), at)
			found := false
			for j := range model {
				if same(model[j].Key, k) {
					model[j].Value, model[j].At, found = int64(i), at, true
				}
			}
			if !found {
				model = append(model, Entry{k, int64(i), at})
			}
		}
		bigInts := cmp.Comparer(func(a, b *big.Int) bool { return a.Cmp(b) == 0 })
		if d := cmp.Diff(append([]Entry{}, model...), append([]Entry{}, m.Entries()...), bigInts); d != "" {
			t.Fatalf("(-want +got)\n%s", d)
		}
		for range 10 {
			k := key.Draw(t, "asked")
			var want any
			for _, e := range model {
				if same(e.Key, k) {
					want = e.Value
				}
			}
			if got, ok := m.Get(k); got != want || ok != (want != nil) {
				t.Fatalf("%v is %v, %v, want %v", k, got, ok, want)
			}
		}
		odd := m.Clone()
		odd.DeleteFunc(func(_, v any) bool { return v.(int64)%2 == 0 })
		for _, e := range model {
			if _, ok := odd.Get(e.Key); ok != (e.Value.(int64)%2 == 1) {
				t.Fatalf("%v is there: %v", e.Key, ok)
			}
		}
		c := m.Clone()
		c.Set("new", true)
		if _, ok := m.Get("new"); ok || c.Len() != m.Len()+1 {
			t.Fatal("a clone is not a copy")
		}
	})
}

// TestCombine: what is laid over wins, merged only if asked; nothing given is
// changed.
func TestCombine(t *testing.T) {
	inner := func(kv ...any) *Map {
		m := &Map{}
		for i := 0; i < len(kv); i += 2 {
			m.Set(kv[i], kv[i+1])
		}
		return m
	}
	a := inner("x", int64(1), "d", inner("a", int64(1), "b", inner("c", int64(2))), "l", []any{int64(1)})
	b := inner("d", inner("b", inner("e", int64(3)), "f", int64(4)), "l", []any{int64(2)}, "y", nil)
	before := Repr(a) + Repr(b)
	for merge, want := range map[bool]string{
		false: "{'x': 1, 'd': {'b': {'e': 3}, 'f': 4}, 'l': [2], 'y': None}",
		true:  "{'x': 1, 'd': {'a': 1, 'b': {'c': 2, 'e': 3}, 'f': 4}, 'l': [2], 'y': None}",
	} {
		if got := Repr(Combine(a, b, merge)); got != want {
			t.Errorf("merge %v: %s, want %s", merge, got, want)
		}
	}
	if Repr(a)+Repr(b) != before {
		t.Error("what was combined is changed")
	}
}

func TestJSONKeepsTheOrder(t *testing.T) {
	m := &Map{}
	for _, k := range []any{"z", int64(1), nil, "a\"", Unsafe("u"), true} {
		m.Set(k, []any{k, &Map{}})
	}
	raw, err := json.Marshal(m)
	want := `{"z":["z",{}],"1":[true,{}],"null":[null,{}],"a\"":["a\"",{}],"u":["u",{}]}`
	if err != nil || string(raw) != want {
		t.Errorf("%s, %v\nwant %s", raw, err, want)
	}
	var none *Map
	if raw, err := json.Marshal(none); err != nil || string(raw) != "null" && string(raw) != "{}" {
		t.Errorf("nil is %s, %v", raw, err)
	}
}

func TestNilMap(t *testing.T) {
	var m *Map
	if _, ok := m.Get("x"); ok || m.Len() != 0 || len(m.Keys()) != 0 || m.Clone().Len() != 0 || m.At("x") != (text.Place{}) {
		t.Error("a nil map holds something")
	}
}
