package pyliteral

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/fleetd/fleetd/pkg/ansibletest"
)

// literalPieces are what random INI values are put together from.
var literalPieces = []string{"1", "0", "00", "07", "12", "1_000", "_", "0x1F", "0o17", "0b11", ".", ".5", "5.", "e3", "E-2", "1e999", "j", "+", "-", "True", "False", "None", "true", "x",
	"'", "\"", "''", "'a'", "\"b\"", "'''", "\"\"\"", `r'\n'`, "u'x'", "b'y'", "f'z'", `\n`, `\x41`, `\u00e9`, `\N{BULLET}`, `\101`, `\q`, `\`, "é",
	"[", "]", "(", ")", "{", "}", ",", ", ", ":", ": ", " ", "#", "# c", "=", "*", "/", "[1, 2]", "(1,)", "{'a': 1}", "{1, 2}", "set()", "...", "if", "99999999999999999999"}

// TestINIValuesLikeAnsible gives random values of INI inventories their types
// with both.
func TestINIValuesLikeAnsible(t *testing.T) {
	n, seed := ansibletest.Cases(t, "FLEETD_LITERAL_CASES", 30000)
	r := rand.New(rand.NewPCG(seed, 5))
	texts := make([]string, n)
	for i := range texts {
		var b strings.Builder
		for range 1 + r.IntN(7) {
			b.WriteString(literalPieces[r.IntN(len(literalPieces))])
		}
		texts[i] = b.String()
	}
	var want []string
	ansibletest.Ask(t, "../../pkg/yaml/testdata/values.py", texts, &want, "ini")
	typed, different := 0, 0
	for i, s := range texts {
		got := "error"
		if v, err := Value(s); err == nil {
			got = ansibletest.Canonical(v)
		}
		if !strings.HasPrefix(want[i], "s") {
			typed++
		}
		// Complex numbers, Ellipsis, sets and names of characters: see
		// docs/ansible-differences.md.
		if got != want[i] && !strings.ContainsAny(want[i], "?{") && !strings.Contains(s, `\N`) {
			if different++; different <= 20 {
				t.Errorf("%q\nansible %s\nfleetd  %s", s, want[i], got)
			}
		}
	}
	t.Logf("%d of %d are no strings, %d differ", typed, n, different)
}

func FuzzValue(f *testing.F) {
	for _, s := range []string{"1", "0x1f", "'a' \"b\"", "[1, (2,), {'a': {1}}]", "1_0.5e-3", "b'x'", "{{ 'a' }}", "-1", "1,2", "r'\\'", "'''a'''", "((((", "'\\u00e9'"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if v, err := Value(s); err == nil {
			_ = ansibletest.Canonical(v)
		}
	})
}
