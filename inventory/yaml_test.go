package inventory

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// canonical is testdata/yamlvalues.py's form of a value.
func canonical(v any) string {
	switch v := v.(type) {
	case nil:
		return "~"
	case bool:
		return pyRepr(v, false)
	case int:
		return fmt.Sprintf("i%d", v)
	case *big.Int:
		return "i" + v.String()
	case float64:
		return "f" + pyFloat(v)
	case string:
		return "s" + string(appendJSONString(nil, v))
	case Unsafe:
		return "u" + string(appendJSONString(nil, string(v)))
	case Secret:
		return "v" + string(appendJSONString(nil, v.p.cipher))
	case binaryData:
		return "b" + hex.EncodeToString([]byte(v))
	case timestamp:
		return "d" + v.iso
	case *list:
		parts := make([]string, len(v.items))
		for i, x := range v.items {
			parts[i] = canonical(x)
		}
		return "[" + strings.Join(parts, ",") + "]"
	case *dict:
		parts := make([]string, len(v.keys))
		for i, k := range v.keys {
			parts[i] = canonical(k) + "=" + canonical(v.vals[i])
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	return "?"
}

func testConstructor(t *text) *constructor {
	return &constructor{t: t, limits: Limits{}.orDefault(), vault: &vault{}, warn: func(int, int, string, ...any) {}}
}

func loadYAML(s string) (string, error) {
	t := &text{name: "test.yml", data: s}
	if err := checkText(t); err != nil {
		return "error", err
	}
	n, err := parseYAML(t, Limits{}.orDefault())
	if err != nil {
		return "error", err
	}
	if n == nil {
		return "~", nil
	}
	v, err := testConstructor(t).value(n)
	if err != nil {
		return "error", err
	}
	return canonical(v), nil
}

// yamlPieces are what random YAML is put together from: whatever decides how
// a scanner goes on.
var yamlPieces = []string{
	"a", "b", "key", "1", "0x1F", "1.5", "1:30", "yes", "~", "2020-01-02", "é", "=", "<<",
	": ", ":", ":\n", "- ", "-", "-\n", "? ", "?", ", ", ",", "[", "]", "{", "}", "'", "\"", "''",
	"#", " #", "&x ", "*x", "&y ", "*y ", "!!str ", "!unsafe ", "! ", "!!int ", "!!map ", "|", ">", "|-", ">+", "|2", "\\", "\\n", "\\x41", "\\\n",
	"\n", "\n", "\n", "\n  ", "\n    ", "\n ", " ", "  ", "\t", "\n\n", "\n- ", "\n  - ", "\nb: ", "\n  c: ", "---", "\n---\n", "\n...\n", "%", "@", "`", "\r\n",
	"a: b\n", "x: 1\n  ", "k:\n  ", "- x\n", "{a: 1}", "[1, 2]", "'q'", "\"d\"", "text with blanks", "a:b", "a#b", "-a", "?b", "a,b", "<<: *x\n", "&x {p: 1}",
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
// package: the same are refused, the others have the same value, which both
// write alike as YAML, as JSON and as the graph shows it.
func TestYAMLLikeAnsible(t *testing.T) {
	n, seed := RandomCases(t, "FLEETD_YAML_CASES", 20000)
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
	want := askValues(t, texts)
	accepted, different := 0, 0
	for i, s := range texts {
		got, err := loadFour(s)
		if want[i][0] != "error" {
			accepted++
		}
		if want[i][1] == "" {
			got[1], got[2], got[3] = "", "", ""
		}
		if losesUnsafe(s, want[i][0]) || inItself(err) || strings.Contains(want[i][0], "vault") {
			continue
		}
		if d := cmp.Diff(want[i], got); d != "" {
			if different++; different <= 20 {
				t.Errorf("%q: %v (-ansible +fleetd)\n%s", s, err, d)
			}
		}
	}
	t.Logf("%d of %d texts are accepted, %d differ", accepted, n, different)
}

// askValues gives texts to testdata/yamlvalues.py, under the interpreter of
// the installed Ansible.
func askValues(t *testing.T, texts []string, args ...string) [][4]string {
	t.Helper()
	if testing.Short() {
		t.Skip("asks the real Ansible; run without -short")
	}
	tool, err := exec.LookPath("ansible-inventory")
	if err != nil {
		t.Skip("ansible-inventory is not installed: apt-get install ansible-core")
	}
	f, err := os.Open(tool)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	line, _ := bufio.NewReader(f).ReadString('\n')
	in, err := json.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(strings.Fields(strings.TrimPrefix(line, "#!"))[0], append([]string{"testdata/yamlvalues.py"}, args...)...)
	cmd.Stdin = bytes.NewReader(in)
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1"}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var want [][4]string
	if err := json.Unmarshal(out, &want); err != nil {
		t.Fatal(err)
	}
	return want
}

// literalPieces are what random INI values are put together from.
var literalPieces = []string{"1", "0", "00", "07", "12", "1_000", "_", "0x1F", "0o17", "0b11", ".", ".5", "5.", "e3", "E-2", "1e999", "j", "+", "-", "True", "False", "None", "true", "x",
	"'", "\"", "''", "'a'", "\"b\"", "'''", "\"\"\"", `r'\n'`, "u'x'", "b'y'", "f'z'", `\n`, `\x41`, `\u00e9`, `\N{BULLET}`, `\101`, `\q`, `\`, "é",
	"[", "]", "(", ")", "{", "}", ",", ", ", ":", ": ", " ", "#", "# c", "=", "*", "/", "[1, 2]", "(1,)", "{'a': 1}", "{1, 2}", "set()", "...", "if", "99999999999999999999"}

// TestINIValuesLikeAnsible gives random values of INI inventories their types
// with both.
func TestINIValuesLikeAnsible(t *testing.T) {
	n, seed := RandomCases(t, "FLEETD_LITERAL_CASES", 30000)
	r := rand.New(rand.NewPCG(seed, 5))
	texts := make([]string, n)
	for i := range texts {
		var b strings.Builder
		for range 1 + r.IntN(7) {
			b.WriteString(literalPieces[r.IntN(len(literalPieces))])
		}
		texts[i] = b.String()
	}
	want := askValues(t, texts, "ini")
	typed, different := 0, 0
	for i, s := range texts {
		got := "error"
		v, err := iniValue(s)
		if err == nil {
			got = canonical(v)
		}
		w := want[i][0]
		if !strings.HasPrefix(w, "s") {
			typed++
		}
		// Complex numbers, Ellipsis, sets and names of characters: see
		// docs/ansible-differences.md.
		if got != w && !strings.ContainsAny(w, "?{") && !strings.Contains(s, `\N`) {
			if different++; different <= 20 {
				t.Errorf("%q\nansible %s\nfleetd  %s", s, w, got)
			}
		}
	}
	t.Logf("%d of %d are no strings, %d differ", typed, n, different)
}

// loadFour is what testdata/yamlvalues.py answers.
func loadFour(s string) ([4]string, error) {
	t := &text{name: "test.yml", data: s}
	none := [4]string{"error"}
	if err := checkText(t); err != nil {
		return none, err
	}
	n, err := parseYAML(t, Limits{}.orDefault())
	if err != nil {
		return none, err
	}
	var v any
	if n != nil {
		if v, err = testConstructor(t).value(n); err != nil {
			return none, err
		}
	}
	out := [4]string{canonical(v)}
	var y, j bytes.Buffer
	if err := writeYAML(&y, v, ExportOptions{}); err != nil {
		return none, err
	}
	if err := (&jsonWriter{w: &j}).document(v); err != nil {
		return none, err
	}
	out[1], out[2], out[3] = y.String(), strings.TrimSuffix(j.String(), "\n"), pyRepr(v, true)
	return out, nil
}

// losesUnsafe: what is nested in a list or dictionary marked !unsafe is lost
// in Ansible; see docs/ansible-differences.md.
func losesUnsafe(s, want string) bool {
	return strings.Contains(s, "!unsafe") && (strings.Contains(want, "[]") || strings.Contains(want, "{}"))
}

// inItself: Ansible takes a dictionary merged into itself for an empty one.
func inItself(err error) bool {
	return err != nil && strings.Contains(err.Error(), "an alias stands inside the value that it names")
}
