package inventory

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
)

// fuzzLimits keep a fuzzer from spending its time on size.
var fuzzLimits = Limits{FileSize: 1 << 16, LineSize: 1 << 12, Hosts: 500, Expansion: 2000, Depth: 50}

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
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("no *Error but %T: %v", err, err)
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
	inv, err := Load(fstest.MapFS{name: {Data: data}}, []string{name}, Options{Limits: fuzzLimits})
	if err != nil {
		checkError(t, data, err)
		return
	}
	var list, y bytes.Buffer
	if err := inv.WriteList(&list, ExportOptions{}); err != nil {
		t.Fatal(err)
	}
	var parsed map[string]any
	if err := json.Unmarshal(list.Bytes(), &parsed); err != nil && !bytes.Contains(list.Bytes(), []byte("NaN")) && !bytes.Contains(list.Bytes(), []byte("Infinity")) {
		t.Fatalf("not JSON: %v\n%s", err, list.String())
	}
	if err := inv.WriteYAML(&y, ExportOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := inv.WriteGraph(&y, "", true, ExportOptions{}); err != nil {
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
		if len(inv.host(h).member.names) == 0 && inv.loader.d.groups[h] == nil {
			t.Fatalf("%q is in no group", h)
		}
		if inv.Vars(h) == nil {
			t.Fatalf("%q has no variables", h)
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

// roundTrip writes a value as YAML and reads it again.
func roundTrip(t *testing.T, data []byte) {
	t.Helper()
	txt := &text{name: "x.yml", data: string(data)}
	if checkText(txt) != nil {
		return
	}
	n, err := parseDocument(txt, fuzzLimits)
	if err != nil || n == nil {
		return
	}
	c := testConstructor(txt)
	c.limits = fuzzLimits
	v, err := c.value(n)
	if err != nil {
		return
	}
	d := &dict{}
	d.set("value", v)
	want := canonical(plainUnsafe(d))
	var b bytes.Buffer
	if err := writeYAML(&b, d, ExportOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err := loadYAML(b.String())
	if got != want {
		t.Fatalf("%q\nwritten %s\nread    %s %v\nwant    %s", data, b.String(), got, err, want)
	}
}

// plainUnsafe takes the !unsafe marks off, which YAML output does not show,
// and sorts dictionaries as the output does.
func plainUnsafe(v any) any {
	switch v := v.(type) {
	case Unsafe:
		return string(v)
	case *list:
		out := &list{}
		for _, x := range v.items {
			out.items = append(out.items, plainUnsafe(x))
		}
		return out
	case *dict:
		out := &dict{}
		for _, i := range sortedKeys(v) {
			out.keys = append(out.keys, v.keys[i])
			out.vals = append(out.vals, plainUnsafe(v.vals[i]))
		}
		return out
	}
	return v
}

func FuzzJSON(f *testing.F) {
	addCorpus(f, ".json")
	f.Add([]byte(`{"a": [1, -2.5e3, true, null, "x\u00e9\n", {"b": {}}], "_meta": {"hostvars": {}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		loadOne(t, "saved.json", data)
		txt := &text{name: "x.json", data: string(data)}
		n, err := parseJSON(txt, fuzzLimits)
		if err != nil {
			checkError(t, data, err)
		}
		// Go's own parser refuses no less, but for what Python adds.
		if err == nil && n != nil && !json.Valid(data) && !bytes.Contains(data, []byte("NaN")) && !bytes.Contains(data, []byte("Infinity")) {
			t.Fatalf("%q is no JSON", data)
		}
	})
}

func FuzzRange(f *testing.F) {
	for _, s := range []string{"web[01:10:2].x:22", "[1:3].foo", "[::1]:22", "a[b:d]-[1:2]", "n[3:1]", "x[ab:cd]", "[1:3]:22", "fe80::1%eth0", "h[1:2", "h[0:99999999999]", "h[-1:1]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		hosts, port, err := expandHostPattern(nil, s, 1000)
		if err != nil {
			return
		}
		if len(hosts) > 1000 || port < 0 {
			t.Fatalf("%d hosts, port %d", len(hosts), port)
		}
		for _, h := range hosts {
			if strings.Contains(h, "[") && strings.Contains(s, "[") && !strings.HasPrefix(s, "[") {
				t.Fatalf("%q has a range left in %q", s, h)
			}
		}
	})
}

func FuzzPattern(f *testing.F) {
	inv, err := Load(fstest.MapFS{"hosts": {Data: []byte("lone\n[web]\nweb1\nweb2\n[db]\ndb1\nweb2\na.example.org\n")}}, []string{"hosts"}, Options{Limits: Limits{Matching: 20 * time.Millisecond}})
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
			if !slices.Contains(all, h) && !isLocalName(h) {
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

func FuzzVault(f *testing.F) {
	f.Add([]byte(vault11))
	f.Add([]byte(vault12))
	f.Add([]byte(longVault))
	f.Add([]byte("$ANSIBLE_VAULT;1.1;AES256\n6162\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		plain, err := Decrypt(data, []VaultSecret{{"default", "pw1"}})
		switch {
		case err == nil:
			// Nobody forges a checksum: only what ansible-vault made opens.
			if string(plain) != "hunter2" && !strings.HasPrefix(string(plain), "secret_a") {
				t.Fatalf("%q opens as %q", data, plain)
			}
		case !errors.Is(err, ErrVaultFormat) && !errors.Is(err, ErrVaultWrongPassword) && !errors.Is(err, ErrVaultTampered):
			t.Fatalf("no error of ours: %v", err)
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
		if _, err := Load(fstest.MapFS{}, []string{"a,"}, Options{ExtraVars: []string{s}, Limits: fuzzLimits}); err != nil {
			checkError(t, []byte(s), err)
		}
	})
}

func FuzzINIValue(f *testing.F) {
	for _, s := range []string{"1", "0x1f", "'a' \"b\"", "[1, (2,), {'a': {1}}]", "1_0.5e-3", "b'x'", "{{ 'a' }}", "-1", "1,2", "r'\\'", "'''a'''", "((((", "'\\u00e9'"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := iniValue(s)
		if err == nil && utf8.ValidString(s) {
			_ = canonical(v)
		}
	})
}
