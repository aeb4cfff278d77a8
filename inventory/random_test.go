package inventory_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/inventory/export"
	"github.com/fleetd/fleetd/inventory/local"
	"github.com/fleetd/fleetd/pkg/ansibletest"
)

// iniPieces are what random INI is put together from.
var iniPieces = []string{
	"a", "b", "web", "db", "host1", "localhost", "[web]", "[db]", "[all]", "[ungrouped]", "[web:vars]", "[db:children]", "[top:children]", "[all:vars]", "[x:children]",
	"[web:hosts]", "[ web ]", "[web] # c", "[we b]", "[web:foo]", "[]", "[:vars]", "[x", "]", "n[1:3]", "n[01:03]", "n[a:c]", "n[1:9:3]", "[1:2].x", "n[1:2]-m[a:b]", "n[3:1]", "n[01:2]", "n[:2]", "n[1:]", "n[x:1]", "n[ab:cd]",
	":22", ":2222", "::1", "[::1]:22", "10.0.0.1", ".example.org", "a.b:22", "_x:22", "x_:22",
	" x=1", " y=two", " z='q r'", ` w="1"`, ` v='"1"'`, " l=[1,2]", ` d="{'a': 1}"`, " t=1,2", " u=a,b", " n=None", " b=True", " o=0777", " h=0xff", " f=1.5e3", " e=", " k", " q=a=b", " c=a#b", " s=a;b", " r=\\'", ` p="\\"`, " x = 1",
	"x=1", "y = text # no", "z='a' # c", "v = [1, {'a': (1,)}]", "w={{ x }}", "w2={{ 'a' }}", "j={\"a\": true}", "u=1_000", "i=-5", "g=1+1", "ansible_group_priority=3", "ansible_group_priority=x", "m='''a'''", "r=r'\\n'", "by=b'x'", "cat='a' 'b'", "par=(1)", "tup=(1,)", "set={1,2", "fl=.5", "fl2=5.", "pl=+5", "pp=--5", "inf=1e999", "big=99999999999999999999", "us='\\x41\\u00e9\\n'", "ct=a\\tb", "em=", "com=5 # x", "jj=10.0.0.1", "cx=5,",
	"\n", "\n", "\n", "\n", "\n", "\n", "\n", " ", "\t", "#", "; c", "# c", "'", "\"", "\\", "=", "---", "\r\n", "é", ",", "-", "all:", "a:", "\f", "\x1c",
}

func randomINI(r *rand.Rand) string {
	var b strings.Builder
	for range 1 + r.IntN(20) {
		b.WriteString(iniPieces[r.IntN(len(iniPieces))])
	}
	return b.String()
}

func fleetdList(dir string, sources []string) (string, error) {
	inv, _, err := local.Load(context.Background(), local.Request{Dir: dir, Sources: sources,
		Env: func(string) (string, bool) { return "", false }})
	if err != nil {
		return "unparsed", err
	}
	var b bytes.Buffer
	if err := export.List(&b, inv, export.Options{}); err != nil {
		return "", err
	}
	return b.String(), nil
}

// TestINILikeAnsible reads random INI texts with both.
func TestINILikeAnsible(t *testing.T) {
	n, seed := ansibletest.Cases(t, "FLEETD_INI_CASES", 1000)
	r := rand.New(rand.NewPCG(seed, 2))
	root := t.TempDir()
	var questions []question
	for i := range n {
		dir := filepath.Join(root, fmt.Sprint(i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "hosts.ini"), []byte(randomINI(r)), 0o644); err != nil {
			t.Fatal(err)
		}
		questions = append(questions, question{Dir: dir, Quick: true, Sources: []string{filepath.Join(dir, "hosts.ini")}})
	}
	compareAll(t, questions)
}

// compareAll asks Ansible all questions and compares each answer with this
// package's.
func compareAll(t *testing.T, questions []question) {
	t.Helper()
	answers := ask(t, questions)
	accepted, shown := 0, 0
	for i, q := range questions {
		got, err := fleetdList(q.Dir, q.Sources)
		want := answers[i].Out
		switch want {
		case "failed":
			// Ansible itself fell over; nothing can be compared.
			continue
		case "unparsed":
		default:
			accepted++
		}
		if want != "unparsed" && got != "unparsed" {
			want, got = shape(t, want), shape(t, got)
		}
		if got != want {
			if shown++; shown <= 15 {
				t.Errorf("%s\n%s\nansible: %s\nfleetd:  %v\n(-ansible +fleetd)\n%s", q.Sources, contents(t, q.Dir), answers[i].Err, err, cmp.Diff(want, got))
			}
		}
	}
	t.Logf("%d of %d are accepted, %d differ", accepted, len(questions), shown)
	if accepted < len(questions)/20 {
		t.Errorf("too few are accepted for the comparison to mean much")
	}
}

func contents(t *testing.T, dir string) string {
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || b.Len() > 4000 {
			return err
		}
		data, err := os.ReadFile(p)
		rel, _ := filepath.Rel(dir, p)
		fmt.Fprintf(&b, "-- %s --\n%s\n%q\n", rel, data, data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestRandomInventories draws whole inventories and compares what
// ansible-inventory --list and this package make of them.
func TestRandomInventories(t *testing.T) {
	n, seed := ansibletest.Cases(t, "FLEETD_INVENTORY_CASES", 200)
	root := t.TempDir()
	var questions []question
	for i := range n {
		dir := filepath.Join(root, fmt.Sprint(i))
		questions = append(questions, question{Dir: dir, Quick: true, Sources: genInventory.Example(int(seed>>1)+i).write(t, dir)})
	}
	compareAll(t, questions)
}

// patternPieces are what random patterns are put together from.
var patternPieces = []string{
	"web", "db", "web1", "web2", "lone", "all", "*", "ungrouped", "localhost", "127.0.0.1", "::1", "a.example.org", "10.0.0.1", "host-x", "no", "wEb",
	"web*", "*1", "w?b1", "[wd]*", "[!w]*", "[a-z]*", "[z-a]", "[]]", "[!]]*", "[", "]", "*.example.*", "~web", "~.*1$", "~(web|db)[12]", "~^w", "~b", "~(",
	"~(?!web|all|u)", "~(?=w)", "~.*(?<!1)", "(?=b)", "(?<=web)", "(?!", "(w)", "\\1", "(?P<n>e)", "(?P=n)", "\\Z",
	"[0]", "[1]", "[-1]", "[-9]", "[9]", "[0:1]", "[1:]", "[0:0]", "[1:0]", "[2:1]", "[1:99]", "[0-1]", "[x]", "[:1]",
	":", ":", ":", ",", ",", ":&", ":!", ",&", ",!", "&", "!", " ", ":22", ".", "?", ";",
}

// laxer finds what Python refuses and fleetd may take: a repeated anchor, a
// reference to a group that comes later, a group's name twice.
var laxer = regexp.MustCompile(`(\$|\\Z)[*?]|\\1|\(\?P=|\(\?P<.*\(\?P<`)

// TestPatternsLikeAnsible matches random patterns, with and without a limit,
// with both.
func TestPatternsLikeAnsible(t *testing.T) {
	n, seed := ansibletest.Cases(t, "FLEETD_PATTERN_CASES", 10000)
	r := rand.New(rand.NewPCG(seed, 3))
	dir := t.TempDir()
	source := filepath.Join(dir, "hosts.ini")
	if err := os.WriteFile(source, []byte("lone\n10.0.0.1\nhost-x\n[web]\nweb1\nweb2\nweb3\n[db]\ndb1\nweb2\na.example.org\n[web0]\nweb3\nz\n[top:children]\nweb\ndb\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	draw := func() string {
		var b strings.Builder
		for range 1 + r.IntN(5) {
			b.WriteString(patternPieces[r.IntN(len(patternPieces))])
		}
		return b.String()
	}
	q := question{Dir: dir, Sources: []string{source}}
	for range n {
		m := [2]string{draw(), ""}
		if r.IntN(3) == 0 {
			m[1] = draw()
		}
		q.Matches = append(q.Matches, m)
	}
	want := strings.Split(ask(t, []question{q})[0].Out, "\n")
	if len(want) != n+1 {
		t.Fatalf("%d answers", len(want))
	}
	inv, _, err := local.Load(context.Background(), local.Request{Dir: dir, Sources: []string{source}, Env: func(string) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	matched, different := 0, 0
	for i, m := range q.Matches {
		got := "error"
		if hosts, err := inv.Match(m[0]); err == nil {
			if hosts, err = inv.Limit(hosts, m[1]); err == nil {
				got = strings.Join(hosts, " ")
			}
		}
		if want[i] != "" && want[i] != "error" {
			matched++
		}
		if got != want[i] && !(want[i] == "error" && laxer.MatchString(m[0]+" "+m[1])) {
			if different++; different <= 20 {
				t.Errorf("%q limit %q\nansible %s\nfleetd  %s", m[0], m[1], want[i], got)
			}
		}
	}
	t.Logf("%d of %d match something, %d differ", matched, n, different)
}

// extraPieces are what random extra vars are put together from.
var extraPieces = []string{"a", "b", "c=", "=", "=1", "x=1", " ", " ", " ", "  ", "'", "\"", "'q r'", "\"d e\"", "{{ x }}", "{{", "}}", "{% if %}", "{#", "\\", "\\=", `\n`, `\x41`, `\u00e9`, "\n", "\t", "é", "k='v w'", "k=\"v\"", "l=[1,2]", "-", ".", "#"}

// TestExtraVarsLikeAnsible reads random -e arguments with both.
func TestExtraVarsLikeAnsible(t *testing.T) {
	n, seed := ansibletest.Cases(t, "FLEETD_EXTRA_CASES", 10000)
	r := rand.New(rand.NewPCG(seed, 4))
	dir := t.TempDir()
	q := question{Dir: dir}
	for range n {
		var b strings.Builder
		for range 1 + r.IntN(8) {
			b.WriteString(extraPieces[r.IntN(len(extraPieces))])
		}
		q.Extras = append(q.Extras, b.String())
	}
	want := strings.Split(ask(t, []question{q})[0].Out, "\n")
	if len(want) != n+1 {
		t.Fatalf("%d answers", len(want))
	}
	accepted, different := 0, 0
	for i, e := range q.Extras {
		var wantVars, gotVars map[string]any
		if want[i] != "error" {
			accepted++
			if err := json.Unmarshal([]byte(want[i]), &wantVars); err != nil {
				t.Fatal(err)
			}
		}
		inv, err := inventory.Load(os.DirFS(dir), []string{"h,"}, inventory.Options{ExtraVars: []string{e}})
		if err == nil {
			var b bytes.Buffer
			if err := export.Host(&b, inv, "h", false, export.Options{}); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(b.Bytes(), &gotVars); err != nil {
				t.Fatal(err)
			}
		}
		if d := cmp.Diff(wantVars, gotVars); d != "" {
			if different++; different <= 20 {
				t.Errorf("%q: %v (-ansible +fleetd)\n%s", e, err, d)
			}
		}
	}
	t.Logf("%d of %d are accepted, %d differ", accepted, n, different)
}

// TestCompareFolder reads every file below $FLEETD_COMPARE that can be a
// source, on its own, with both: for inventories that one has at hand.
func TestCompareFolder(t *testing.T) {
	root := os.Getenv("FLEETD_COMPARE")
	if root == "" {
		t.Skip("set FLEETD_COMPARE to a folder of inventories")
	}
	var questions []question
	err := filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		switch filepath.Ext(p) {
		case "", ".yml", ".yaml", ".json", ".ini", ".cfg":
			questions = append(questions, question{Dir: filepath.Dir(p), Quick: true, Sources: []string{p}})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	compareAll(t, questions)
}
