package value

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/pkg/text"
)

// TestPython: what Python 3.11 printed for these values.
func TestPython(t *testing.T) {
	huge, _ := new(big.Int).SetString("123456789012345678901234567890", 10)
	m := NewMap(2)
	m.Set("k", Tuple{int64(1)})
	m.Set(int64(2), nil)
	for _, c := range []struct {
		v         any
		str, repr string
	}{
		{nil, "None", "None"}, {true, "True", "True"}, {int64(-3), "-3", "-3"}, {huge, huge.String(), huge.String()},
		{1.0, "1.0", "1.0"}, {1e16, "1e+16", "1e+16"}, {0.0001, "0.0001", "0.0001"}, {0.00001, "1e-05", "1e-05"}, {math.Inf(-1), "-inf", "-inf"}, {math.NaN(), "nan", "nan"},
		{"a'b", "a'b", `"a'b"`}, {"a'b\"", "a'b\"", `'a\'b"'`}, {"\n\t\x1b\u00ad\u2028\U0001f600", "\n\t\x1b\u00ad\u2028\U0001f600", `'\n\t\x1b\xad\u2028😀'`},
		{Unsafe("{{ x }}"), "{{ x }}", "'{{ x }}'"}, {Binary("x"), "b'x'", "b'x'"}, {Timestamp{Str: "2020-01-01", Repr: "datetime.date(2020, 1, 1)"}, "2020-01-01", "datetime.date(2020, 1, 1)"},
		{[]any{"a", []any{}}, "['a', []]", "['a', []]"}, {Tuple{}, "()", "()"}, {Tuple{"a", int64(1)}, "('a', 1)", "('a', 1)"}, {m, "{'k': (1,), 2: None}", "{'k': (1,), 2: None}"},
	} {
		if s, r := Str(c.v), Repr(c.v); s != c.str || r != c.repr {
			t.Errorf("%#v: str %s, repr %s; want %s, %s", c.v, s, r, c.str, c.repr)
		}
	}
}

func TestPlain(t *testing.T) {
	m := NewMap(3)
	m.Set("b", Tuple{Unsafe("u"), Timestamp{ISO: "2020-01-01"}})
	m.Set(int64(1), Binary("ok"))
	m.Set(true, Binary("\xff"))
	want := map[string]any{"b": []any{"u", "2020-01-01"}, "1": "/w=="}
	if d := cmp.Diff(want, Plain(m)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// TestSecretsStayHidden: no way of printing, logging or encoding shows one.
func TestSecretsStayHidden(t *testing.T) {
	at := text.Place{File: "f", Line: 3, Column: 1}
	opened := 0
	s := NewVault(at, "cipher", func() (any, error) { opened++; return "hush", nil })
	m := NewMap(1)
	m.Set("k", []any{s, Conceal("hush", at), Conceal([]any{"hush", int64(4711), true, nil}, at)})
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "s", s, "m", Plain(m))
	shown := fmt.Sprintf("%v %+v %#v %s %q %x %d", s, s, s, s, s, s, s) + Str(m) + string(raw) + log.String() + fmt.Sprint(Plain(m))
	for _, hidden := range []string{"hush", "cipher", "4711"} {
		if strings.Contains(shown, hidden) {
			t.Errorf("%s is shown: %s", hidden, shown)
		}
	}
	if opened != 0 {
		t.Errorf("decrypted %d times", opened)
	}
	for range 2 {
		if v, err := s.Reveal(); v != "hush" || err != nil {
			t.Errorf("revealed as %q, %v", v, err)
		}
	}
	if opened != 1 || s.Position() != "f:3:1" {
		t.Errorf("decrypted %d times, at %s", opened, s.Position())
	}
	bad := errors.New("no password")
	m.Set("bad", NewSecret(at, func() (any, error) { return nil, bad }))
	if _, err := Reveal(m); !errors.Is(err, bad) {
		t.Errorf("got %v", err)
	}
}
