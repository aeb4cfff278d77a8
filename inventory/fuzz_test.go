package inventory_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/inventory/export"
	"github.com/fleetd/fleetd/inventory/source"
	"github.com/fleetd/fleetd/inventory/vault"
	"github.com/fleetd/fleetd/pkg/text"
)

// fuzzLimits keep a fuzzer from spending its time on size.
var fuzzLimits = source.Limits{FileSize: 1 << 16, LineSize: 1 << 12, Hosts: 500, Expansion: 2000, Depth: 50}

// addCorpus seeds a fuzz target with the corpus' files of some extensions.
func addCorpus(f *testing.F, exts ...string) {
	f.Helper()
	paths, err := filepath.Glob("testdata/corpus/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range paths {
		a, err := txtar.ParseFile(p)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range a.Files {
			if slices.Contains(exts, filepath.Ext(file.Name)) && !strings.Contains(file.Name, ": ") {
				f.Add(file.Data)
			}
		}
	}
}

// checkError looks at what every error promises: a place within the file and
// a caret within the text.
func checkError(t *testing.T, data []byte, err error) {
	t.Helper()
	var e *text.Error
	if !errors.As(err, &e) {
		t.Fatalf("no *text.Error but %T: %v", err, err)
	}
	if e.Line > 1+strings.Count(string(data), "\n")+len(data) || e.Caret > utf8.RuneCountInString(e.Text) {
		t.Fatalf("out of place: %+v", e)
	}
	if strings.ContainsAny(e.Error(), "\x00\x1b") {
		t.Fatalf("control characters in %q", e.Error())
	}
	if len(e.Error()) > 2000 {
		t.Fatalf("a message of %d bytes", len(e.Error()))
	}
}

// loadOne reads data as one source and checks what holds for every inventory.
func loadOne(t *testing.T, name string, data []byte) {
	t.Helper()
	inv, err := inventory.Load(fstest.MapFS{name: {Data: data}}, []string{name}, inventory.Options{Options: source.Options{Limits: fuzzLimits}})
	if err != nil {
		checkError(t, data, err)
		return
	}
	var list, y bytes.Buffer
	if err := export.List(&list, inv, export.Options{}); err != nil {
		t.Fatal(err)
	}
	var parsed map[string]any
	if err := json.Unmarshal(list.Bytes(), &parsed); err != nil && !bytes.Contains(list.Bytes(), []byte("NaN")) && !bytes.Contains(list.Bytes(), []byte("Infinity")) {
		t.Fatalf("not JSON: %v\n%s", err, list.String())
	}
	if err := export.YAML(&y, inv, export.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := export.Graph(&y, inv, "", true, export.Options{}); err != nil {
		t.Fatal(err)
	}
	hosts, err := inv.Match("all")
	if slices.Contains(inv.Hosts(), "all") {
		hosts = inv.Hosts() // the pattern is that host's name then, as in Ansible
	}
	if err != nil || !slices.Equal(hosts, inv.Hosts()) {
		t.Fatalf("all is %v, %v; hosts are %v", hosts, err, inv.Hosts())
	}
	for _, h := range hosts {
		groups, _ := variable(t, inv, h, "group_names").([]any)
		if _, namesake := inv.Group(h); len(groups) == 0 && !namesake {
			t.Fatalf("%q is in no group", h)
		}
	}
}

func FuzzINI(f *testing.F) {
	addCorpus(f, "", ".ini")
	f.Fuzz(func(t *testing.T, data []byte) { loadOne(t, "hosts.ini", data) })
}

func FuzzYAML(f *testing.F) {
	addCorpus(f, ".yml", ".yaml", ".json")
	f.Fuzz(func(t *testing.T, data []byte) {
		loadOne(t, "inventory.yml", data)
		roundTrip(t, data)
	})
}

// roundTrip writes variables as YAML and reads them again.
func roundTrip(t *testing.T, data []byte) {
	t.Helper()
	host := func(file string, data []byte) (y, list string, err error) {
		inv, err := inventory.Load(fstest.MapFS{file: {Data: data}, "hosts": {Data: []byte("h\n")}}, []string{"hosts"}, inventory.Options{Options: source.Options{Limits: fuzzLimits}})
		if err != nil {
			return "", "", err
		}
		var b, l bytes.Buffer
		if err := errors.Join(export.Host(&b, inv, "h", true, export.Options{}), export.Host(&l, inv, "h", false, export.Options{})); errors.Is(err, vault.ErrNoPassword) {
			return "", "", err
		} else if err != nil {
			t.Fatal(err)
		}
		// The mark is not shown in YAML.
		return b.String(), strings.ReplaceAll(l.String(), "__ansible_unsafe", ""), nil
	}
	y, want, err := host("host_vars/h.yml", data)
	if err != nil || strings.Contains(want, `"": `) {
		return
	}
	if _, got, err := host("host_vars/h.yml", []byte(y)); err != nil || got != want {
		t.Fatalf("%q\nwritten %s\nread    %s %v\nwant    %s", data, y, got, err, want)
	}
}

func FuzzJSON(f *testing.F) {
	addCorpus(f, ".json")
	f.Add([]byte(`{"a": [1, -2.5e3, true, null, "x\u00e9\n", {"b": {}}], "_meta": {"hostvars": {}}}`))
	f.Fuzz(func(t *testing.T, data []byte) { loadOne(t, "saved.json", data) })
}

func FuzzPattern(f *testing.F) {
	inv, err := inventory.Load(fstest.MapFS{"hosts": {Data: []byte("lone\n[web]\nweb1\nweb2\n[db]\ndb1\nweb2\na.example.org\n")}}, []string{"hosts"}, inventory.Options{Options: source.Options{Limits: source.Limits{Matching: 20 * time.Millisecond}}})
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"~(?!web)", "~(?<=w)e\\Z", "~(?P<a>w)(?P=a)", "~(w)\\1[]\\]]", "all", "web", "web[0]", "web[-1]", "web[0:1]", "web*", "~web\\d", "web:db", "web:&db", "all:!web", "[ab]*", "[!a]*", "web[", "~(", "a,b", "::1", "localhost", "*[1:]", "db[1-2]"} {
		f.Add(s)
	}
	all := inv.Hosts()
	f.Fuzz(func(t *testing.T, p string) {
		got, err := inv.Match(p)
		if err != nil {
			checkError(t, []byte(p), err)
			return
		}
		for i, h := range got {
			if !slices.Contains(all, h) && !slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, h) {
				t.Fatalf("%q matches %q", p, h)
			}
			if slices.Contains(got[:i], h) {
				t.Fatalf("%q matches %q twice", p, h)
			}
		}
		if strings.ContainsAny(p, ",:;!&@ []\t\n") || p == "" {
			return
		}
		// A single pattern divides all hosts in two.
		in, err1 := inv.Match("all", "&"+p)
		out, err2 := inv.Match("all", "!"+p)
		if err1 != nil || err2 != nil {
			return
		}
		both := append(slices.Clone(in), out...)
		slices.Sort(both)
		want := slices.Sorted(slices.Values(all))
		if !slices.Equal(both, want) {
			t.Fatalf("%q: in %v, out %v", p, in, out)
		}
	})
}

func FuzzExtraVars(f *testing.F) {
	for _, s := range []string{"a=1 b='x y'", "a={{ b c }}", `a=\x41`, "{\"a\": 1}", "[1]", "a", "a='", "x=1\ny=2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.HasPrefix(s, "@") {
			return
		}
		if _, err := inventory.Load(fstest.MapFS{}, []string{"a,"}, inventory.Options{ExtraVars: []string{s}, Options: source.Options{Limits: fuzzLimits}}); err != nil {
			checkError(t, []byte(s), err)
		}
	})
}
