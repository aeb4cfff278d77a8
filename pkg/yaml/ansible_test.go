package yaml

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/fleetd/fleetd/pkg/ansibletest"
	"github.com/fleetd/fleetd/pkg/text"
)

func load(s string) (string, error) {
	d, err := parseYAMLText(s)
	if err != nil {
		return "error", err
	}
	if d.Root == nil {
		return "~", nil
	}
	v, err := testReader(d).Value(d.Root)
	if err != nil {
		return "error", err
	}
	return ansibletest.Canonical(v), nil
}

var testLimits = Limits{Depth: 200, Expansion: 1_000_000}

// parseYAMLText reads YAML alone, as the loader does that is asked.
func parseYAMLText(s string) (*Document, error) {
	src := &text.Source{Name: "test.yml", Data: s}
	if err := src.CheckUTF8(); err != nil {
		return nil, err
	}
	return parseYAML(src, testLimits)
}

func testReader(d *Document) *Reader {
	return d.Reader(Options{Vault: func(cipher string, _ text.Place) any { return "vault " + cipher }})
}

// yamlPieces are what random YAML is put together from: whatever decides how
// a scanner goes on.
var yamlPieces = []string{
	"a", "b", "key", "1", "0x1F", "1.5", "1:30", "yes", "~", "2020-01-02", "é", "=", "<<",
	": ", ":", ":\n", "- ", "-", "-\n", "? ", "?", ", ", ",", "[", "]", "{", "}", "'", "\"", "''",
	"#", " #", "&x ", "*x", "&y ", "*y ", "!!str ", "!unsafe ", "! ", "!!int ", "!!map ", "|", ">", "|-", ">+", "|2", "\\", "\\n", "\\x41", "\\\n",
	"\n", "\n", "\n", "\n  ", "\n    ", "\n ", " ", "  ", "\t", "\n\n", "\n- ", "\n  - ", "\nb: ", "\n  c: ", "---", "\n---\n", "\n...\n", "%", "@", "`", "\r\n",
	"a: b\n", "x: 1\n  ", "k:\n  ", "- x\n", "{a: 1}", "[1, 2]", "'q'", "\"d\"", "text with blanks", "a:b", "a#b", "-a", "?b", "a,b", "<<: *x\n", "&x {p: 1}",
	"a?b", "?=1", "//h/?q", "\\/", "\"\\/\"", "[a?", "{k: v?", "\\\\/",
}

func randomYAML(r *rand.Rand) string {
	var b strings.Builder
	for range 1 + r.IntN(12) {
		b.WriteString(yamlPieces[r.IntN(len(yamlPieces))])
	}
	return b.String()
}

// quotedPieces make strings that are hard to write.
var quotedPieces = []string{"a", "word ", "  ", "'", `\"`, `\n`, `\t`, "#", " #", ":", ": ", "é", "🙂", `\x07`, "words that go on and on and on ",
	"-", "- ", "? ", "---", "{", "]", "&", "*", "!", "%", "@", "`", "|", ">", "=", "~", "null", "1", "0x1", `\\`, `\u2028`, `\x85`, "yes"}

func randomString(r *rand.Rand) string {
	var b strings.Builder
	b.WriteString(`k: ["`)
	for range 1 + r.IntN(12) {
		b.WriteString(quotedPieces[r.IntN(len(quotedPieces))])
	}
	b.WriteString("\"]\n")
	return b.String()
}

// TestYAMLLikeAnsible loads random texts with Ansible's loader and with this
// package: the same are refused, the others have the same value.
func TestYAMLLikeAnsible(t *testing.T) {
	n, seed := ansibletest.Cases(t, "FLEETD_YAML_CASES", 20000)
	r := rand.New(rand.NewPCG(seed, 1))
	texts := make([]string, n)
	for i := range texts {
		switch i % 3 {
		case 0:
			texts[i] = randomYAML(r)
		case 1:
			texts[i] = "a:\n  " + strings.ReplaceAll(randomYAML(r), "\n", "\n  ")
		case 2:
			texts[i] = randomString(r)
		}
	}
	var want []string
	ansibletest.Ask(t, "testdata/values.py", texts, &want)
	accepted, different := 0, 0
	for i, s := range texts {
		got, err := load(s)
		if want[i] != "error" {
			accepted++
		}
		if losesUnsafe(s, want[i]) || inItself(err) || strings.Contains(want[i], "vault") || known.MatchString(s) {
			continue
		}
		if got != want[i] {
			if different++; different <= 40 {
				t.Errorf("%q: %v\nansible %s\nfleetd  %s", s, err, want[i], got)
			}
		}
	}
	t.Logf("%d of %d texts are accepted, %d differ", accepted, n, different)
}

// known finds what yaml.v3 reads otherwise than PyYAML; see
// docs/ansible-differences.md.
var known = regexp.MustCompile(`(^|[\s\[{,])!(\s|$)|(^|\n)[ ]*\t\s*#|[\[{][^\]}]*\s\?`)

// losesUnsafe: what is nested in a list or dictionary marked !unsafe is lost
// in Ansible; see docs/ansible-differences.md.
func losesUnsafe(s, want string) bool {
	return strings.Contains(s, "!unsafe") && (strings.Contains(want, "[]") || strings.Contains(want, "{}"))
}

// inItself: Ansible takes a dictionary merged into itself for an empty one.
func inItself(err error) bool {
	return err != nil && strings.Contains(err.Error(), "an alias stands inside the value that it names")
}
