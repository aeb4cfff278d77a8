package rollout

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// counted counts how often it is decoded.
type counted struct{ N int }

var decoded atomic.Int64

func (c *counted) UnmarshalJSON(raw []byte) error {
	decoded.Add(1)
	c.N = len(raw)
	return nil
}

func TestStateDecodesOnce(t *testing.T) {
	section := NewSection[counted]("counted")
	observed := State{"counted": Encoded([]byte("12345"))}
	decoded.Store(0)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if v, err := section.Get(observed); err != nil || v.N != 5 {
				t.Error(v, err)
			}
		})
	}
	wg.Wait()
	after := section.With(observed, counted{7})
	for st, want := range map[*State]int{&observed: 5, &after: 7} {
		if v, err := section.Get(*st); err != nil || v.N != want {
			t.Error(v, err)
		}
	}
	if n := decoded.Load(); n != 1 {
		t.Errorf("it was decoded %d times", n)
	}
	// What is decoded of a state that was not read yet is not held by the one that it is of.
	fresh := observed.Unread()
	for range 2 {
		if v, err := section.Get(fresh); err != nil || v.N != 5 {
			t.Error(v, err)
		}
	}
	if v, err := section.Get(after.Unread()); err != nil || v.N != 7 || decoded.Load() != 2 {
		t.Errorf("%v, %v, decoded %d times", v, err, decoded.Load())
	}
}

func TestStateErrors(t *testing.T) {
	section := NewSection[counted]("counted")
	for name, c := range map[string]struct {
		st   State
		want string
	}{
		"not observed":  {State{"other": Encoded([]byte("1"))}, `nothing was observed of section "counted"`},
		"no state":      {nil, `nothing was observed of section "counted"`},
		"not JSON":      {State{"counted": Encoded([]byte("{"))}, `section "counted": unexpected end`},
		"no JSON":       {State{"counted": Encoded(nil)}, `section "counted": unexpected end`},
		"of two owners": {NewSection[int]("counted").With(nil, 1), `section "counted" is a int, not a rollout.counted`},
	} {
		for range 2 { // an error is remembered as a value is
			if _, err := section.Get(c.st); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
