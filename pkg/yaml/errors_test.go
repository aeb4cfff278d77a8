package yaml

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/pkg/text"
)

var update = flag.Bool("update", false, "write testdata/errors.golden anew; read it afterwards")

// mistakes are what people get wrong, and a few things that they would not.
var mistakes = []string{
	"a: b: c\n", "a:\n  - x\n y: 1\n", "a: - x\n", "a: @x\n", "a: `x`\n", "a: %x\n", "\ta: 1\n", "a:\n\tb: 1\n", "a: \"x\n", "a: 'x\nb: 1\n", "a: \"\\q\"\n", "a: \"\\xzz\"\n",
	"a: [1, 2\n", "a: [1, 2\nb: 3\n", "a: {x: 1\nb: 3\n", "a: [1 2]\nb: ]\n", "a: {{ x }}\n", "a: {{ x }}.example.org\n", "a: |0\n  x\n", "a: | x\n", "a\nb: 1\n", "a:\n  b\n  c: 1\n",
	"a: *b\n", "a: &x 1\nb: &x 2\n", "a: &x [*x]\n", "a: *\n", "a: &\n", "a: !foo 1\n", "a: !foo!bar 1\n", "a: !<x 1\n", "a: !!int x\n", "a: 2020-99-99\n", "a: !x%zz 1\n",
	"<<: 1\n", "<<: [1]\n", "a: !!omap [1]\n", "? [a]\n: b\n", "a:\n---\nb:\n", "a: 1\n---\n[\n", "%YAML 2.0\n---\na:\n", "%FOO\na:\n", "a: \"\x07\"\n", "a: x\xff\n",
	"a: 1\nfoo\nb: 2\n", "a: 1\n  foo\n", "a:\n  x: 1\n  *.log\n  b: 1\n", "# *b\nx: '*b'\nc: *b\n", "a: 1\n%a,b: 1\n", "a: [x?y, z\nb: 1\n",
	"{\"a\": 1", "{\"a\": [1, \"x\\qy\"]}\n", "[NaN NaN, }\n", "{\"a\" 1}\n", "[\"\\q\"]\n", "{\"a\": 1} x\n",
}

// TestErrorsGolden: each mistake is told with its place, the text and what would
// be right. testdata/errors.golden is for people to read.
func TestErrorsGolden(t *testing.T) {
	var b strings.Builder
	for _, m := range mistakes {
		name := "vars.yml"
		if strings.ContainsAny(m[:1], "{[") {
			name = "vars.json"
		}
		fmt.Fprintf(&b, "== %q\n%v\n\n", m, problem(name, m, false))
	}
	const golden = "testdata/errors.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// problem is what is wrong with a text, read as far as its value.
func problem(name, data string, secret bool) error {
	d, err := Parse(&text.Source{Name: name, Data: data, Secret: secret}, testLimits)
	if err == nil && d.Root != nil {
		_, err = testReader(d).Value(d.Root)
	}
	return err
}

// TestErrorsStandBelowWhatIsRight: lines that are right are not blamed for what
// follows, whatever it is.
func TestErrorsStandBelowWhatIsRight(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 50000 {
		s := "k1: v\nk2: v\n" + randomYAML(r)
		_, err := parseYAMLText(s)
		var e *text.Error
		if errors.As(err, &e) && e.Line < 2 {
			t.Fatalf("%q: %v", s, err)
		}
	}
}

// TestNumbersOfPythonInJSON: NaN and Infinity are values, but no keys.
func TestNumbersOfPythonInJSON(t *testing.T) {
	for s, want := range map[string]string{
		`["NaN", NaN, Infinity, -Infinity]`: "",
		`{NaN: 1}`:                          "v.json:1:2: ",
		`{"a": {-Infinity: 1}}`:             "v.json:1:8: ",
		`[NaN, -NaN]`:                       "v.json:1:8: ",
		`["\" NaN", NaN NaN]`:               "v.json:1:16: ",
	} {
		_, err := ParseJSON(&text.Source{Name: "v.json", Data: s}, testLimits)
		if (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", s, err, want)
		}
	}
}

// BenchmarkParse: the time per host stays the same, also where all of them stand
// on one line, as scripts print them.
func BenchmarkParse(b *testing.B) {
	for _, format := range []string{"yaml", "json"} {
		for _, n := range []int{1000, 10000} {
			var s strings.Builder
			for i := range n {
				if format == "yaml" {
					fmt.Fprintf(&s, "node%06d.example.org:\n  ansible_host: 10.0.0.1\n  slot: %d\n", i, i)
				} else {
					fmt.Fprintf(&s, "%c\"node%06d.example.org\": {\"ansible_host\": \"10.0.0.1\", \"slot\": %d}", "{,"[min(i, 1)], i, i)
				}
			}
			if format == "json" {
				s.WriteByte('}')
			}
			b.Run(fmt.Sprintf("%s/hosts=%d", format, n), func(b *testing.B) {
				for b.Loop() {
					if err := problem("h", s.String(), false); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/host")
			})
		}
	}
}

// TestErrorsOfSecrets: nothing of an encrypted file is told.
func TestErrorsOfSecrets(t *testing.T) {
	for _, m := range []string{"a: *hush\n", "a: &hush 1\nb: &hush 2\n", "a: !hush 1\n", "a: !hush!x 1\n", "a: !!int hush\n", "a: 2020-99-99 #hush\n", "a: \"hush\n", "hush: [\n", "a: @hush\n", "{\"a\": hush"} {
		err := problem("v.yml", m, true)
		if err == nil || strings.Contains(err.Error(), "hush") || !strings.HasPrefix(err.Error(), "v.yml:") {
			t.Errorf("%q: %v", m, err)
		}
	}
}

// TestExpansion: a small file may not stand for more than memory holds, by
// aliases or by merge keys; hosts that share variables may.
func TestExpansion(t *testing.T) {
	keys := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "k%d: %d, ", i, i)
		}
		return "{" + strings.TrimSuffix(b.String(), ", ") + "}"
	}
	shared := func(hosts, vars int, body string) string {
		var b strings.Builder
		fmt.Fprintf(&b, "shared: &s %s\n", keys(vars))
		for i := range hosts {
			fmt.Fprintf(&b, "host%05d: "+body+"\n", i)
		}
		return b.String()
	}
	// The bombs are small, and so is what is allowed beside the size of the file:
	// without a bound they are a failure and not the machine's end.
	const small = 10_000
	for name, c := range map[string]struct {
		data  string
		limit int
		want  string
	}{
		"6,000 hosts merge 200 variables": {shared(6000, 200, "{<<: *s}"), testLimits.Expansion, ""},
		"6,000 hosts share 200 variables": {shared(6000, 200, "*s"), testLimits.Expansion, ""},
		"a list of merges":                {shared(20000, 10, "{<<: [*s, *s]}"), testLimits.Expansion, ""},
		"merges":                          {shared(1200, 1200, "{<<: *s}"), small, "aliases and merge keys expand to more than"},
		"aliases":                         {shared(1200, 1200, "*s"), small, "aliases and merge keys expand to more than"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := Parse(&text.Source{Name: "i.yml", Data: c.data}, Limits{Depth: 10, Expansion: c.limit})
			if err == nil {
				_, err = testReader(d).Value(d.Root)
			}
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestNumbersAreNoKeys: NaN is a value of Python's JSON, and no key.
func TestNumbersAreNoKeys(t *testing.T) {
	_, err := ParseJSON(&text.Source{Name: "v.json", Data: `{"a": NaN, NaN: 1}`}, testLimits)
	if err == nil || !strings.HasPrefix(err.Error(), "v.json:1:12: ") {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, m := range mistakes {
		f.Add(m)
	}
	for _, s := range yamlPieces {
		f.Add("a: " + s + "\nb:\n  - " + s)
	}
	f.Add(`{NaN: 1, "a": {Infinity`)
	f.Add(`{"a": [1, -2.5e3, true, null, "x\u00e9\n", NaN, -Infinity, {"b": {}}], "__ansible_vault": "x"}`)
	// To YAML these end a line, too; text.Source counts \n alone.
	breaks := strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n")
	f.Fuzz(func(t *testing.T, s string) {
		lines := 1 + strings.Count(breaks.Replace(s), "\n")
		src := &text.Source{Name: "f", Data: s}
		for _, parse := range []func(*text.Source, Limits) (*Document, error){Parse, ParseJSON} {
			d, err := parse(src, Limits{Depth: 50, Expansion: 2000})
			if err == nil && d.Root != nil {
				_, err = testReader(d).Value(d.Root)
			}
			var e *text.Error
			if err == nil {
				continue
			}
			if !errors.As(err, &e) || e.Line < 1 || e.Column < 1 || e.Line > lines || len(e.Error()) > 2000 {
				t.Fatalf("out of place: %#v", err)
			}
		}
	})
}
