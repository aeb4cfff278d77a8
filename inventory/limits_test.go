package inventory_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/inventory/source"
	"github.com/fleetd/fleetd/pkg/text"
)

// TestHostile gives what is meant to hurt: each is refused with a clear
// error, in bounded time and memory.
func TestHostile(t *testing.T) {
	var laughs, merges strings.Builder
	laughs.WriteString("all:\n  vars:\n    a0: &a0 [x, x, x, x, x, x, x, x, x]\n")
	merges.WriteString("all:\n  vars:\n    m0: &m0 {a: 1, b: 2, c: 3}\n")
	for i := 1; i < 30; i++ {
		fmt.Fprintf(&laughs, "    a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 9), ", "))
		fmt.Fprintf(&merges, "    m%d: &m%d\n      <<: [%s]\n      k%d: 1\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*m%d, ", i-1), 9), ", "), i)
	}
	var deepGroups, chain, chainUp strings.Builder
	for i := range 100000 {
		fmt.Fprintf(&chain, "[g%d:children]\ng%d\n", i, i+1)
	}
	for i := range 100000 {
		fmt.Fprintf(&chainUp, "[g%d]\n[g%d:children]\ng%d\n", i, i+1, i)
	}
	for i := range 300 {
		fmt.Fprintf(&deepGroups, "%sg%d:\n%s  children:\n", strings.Repeat(" ", 4*i), i, strings.Repeat(" ", 4*i))
	}
	longLine := bytes.Repeat([]byte("x"), 100<<20)
	for name, c := range map[string]struct {
		file string
		data []byte
		want string
	}{
		"billion laughs":      {"i.yml", []byte(laughs.String()), "aliases and merge keys expand to more than"},
		"merge bomb":          {"i.yml", []byte(merges.String()), ""}, // merged keys are one each: no bomb here
		"alias to itself":     {"i.yml", []byte("all:\n  vars:\n    a: &a [1, *a]\n"), "i.yml:3:15: an alias stands inside the value that it names"},
		"group in itself":     {"i.yml", []byte("all: &a\n  children:\n    x: *a\n"), "i.yml:3:8: an alias stands inside"},
		"deep brackets":       {"i.yml", []byte("all: {vars: {x: " + strings.Repeat("[", 100000)), "nested too deeply"},
		"deep blocks":         {"i.yml", []byte("all:\n  vars:\n    x:\n" + deepList(100000)), "nested too deeply"},
		"deep JSON":           {"i.json", []byte(strings.Repeat("[", 100000)), "nested too deeply"},
		"deep groups":         {"i.yml", []byte(deepGroups.String()), "nested too deeply"},
		"chain of groups":     {"hosts.ini", []byte(chain.String()), "nested too deeply, more than 200 levels"},
		"chain from its end":  {"hosts.ini", []byte(chainUp.String()), "nested too deeply, more than 200 levels"},
		"NUL in YAML":         {"i.yml", []byte("all:\n  hosts:\n    a\x00b:\n"), "i.yml:3:6: the file has a NUL byte"},
		"NUL in INI":          {"hosts", []byte("a\n\x00\n"), "hosts:2:1: the file has a NUL byte"},
		"Latin-1 in YAML":     {"i.yml", []byte("all:\n  vars: {x: gr\xfc\xdfe}\n"), "i.yml:2:15: the file is not valid UTF-8: byte 0xfc"},
		"Latin-1 in INI":      {"hosts.ini", []byte("a x=gr\xfcn\n"), "hosts.ini:1:7: the line is not valid UTF-8"},
		"control character":   {"i.yml", []byte("all:\n  vars: {x: \"a\x07b\"}\n"), "i.yml:2:15: control characters"},
		"100 MB line, INI":    {"hosts.ini", longLine, "hosts.ini:1:1: the line is longer than"},
		"100 MB line, YAML":   {"i.yml", longLine, "must be a dictionary of groups, not a string"},
		"range of a billion":  {"hosts.ini", []byte("h[1:999999999]\n"), "has more than 2000000 hosts"},
		"ranges in ranges":    {"hosts.ini", []byte("h[1:9999][1:9999][1:9999]\n"), "has more than 2000000 hosts"},
		"range of long names": {"hosts.ini", []byte("h[" + strings.Repeat("0", 500000) + "1:" + strings.Repeat("9", 500001) + "]\n"), ""},
		"circle in INI":       {"hosts.ini", []byte("[a:children]\nb\n[b:children]\nc\n[c:children]\na\n"), "closes a circle"},
		"two documents":       {"i.yml", []byte("all:\n---\nall:\n"), "i.yml:2:1: a second YAML document starts here"},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			start := time.Now()
			inv, err := inventory.Load(fstest.MapFS{c.file: {Data: c.data}}, []string{c.file}, inventory.Options{})
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", clipError(err), c.want)
			}
			if err != nil && len(err.Error()) > 2000 {
				t.Errorf("a message of %d bytes", len(err.Error()))
			}
			// Generous: a hundred times what it takes. Exponential work
			// would miss it by far.
			if took > 60*time.Second {
				t.Errorf("took %s", took)
			}
			if n := int64(after.TotalAlloc-before.TotalAlloc) - 8*int64(len(c.data)); n > 600<<20 {
				t.Errorf("allocated %d MB more than its size explains", n>>20)
			}
			_ = inv
		})
	}
}

func deepList(n int) string {
	// "- - - …" opens a list in a list with two bytes each.
	return "      " + strings.Repeat("- ", n) + "x\n"
}

func clipError(err error) string {
	s := fmt.Sprint(err)
	return s[:min(len(s), 300)]
}

// TestFileSize: the bound holds for files and for what scripts print.
func TestFileSize(t *testing.T) {
	_, err := inventory.Load(fstest.MapFS{"hosts": {Data: []byte("aaaaaaaaaaaaaaaa\n")}}, []string{"hosts"}, inventory.Options{Options: source.Options{Limits: source.Limits{FileSize: 10}}})
	if err == nil || !strings.Contains(err.Error(), "larger than 10 bytes") {
		t.Errorf("got %v", err)
	}
}

// TestPatternBomb: no pattern takes exponential time.
func TestPatternBomb(t *testing.T) {
	inv, err := inventory.Load(fstest.MapFS{"hosts": {Data: []byte(strings.Repeat("a", 200) + "\n")}}, []string{"hosts"}, inventory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"~(a+)+$b", strings.Repeat("*a", 100) + "b", "~" + strings.Repeat("(a?)", 100) + strings.Repeat("a", 100) + "b"} {
		if got, err := inv.Match(p); err != nil || len(got) != 0 {
			t.Errorf("%s: %v, %v", p, got, err)
		}
	}
}

// TestSlowExpression: what RE2 does not have is matched in bounded time.
func TestSlowExpression(t *testing.T) {
	match := func(l source.Limits, p string) ([]string, error) {
		inv, err := inventory.Load(fstest.MapFS{"hosts": {Data: []byte(strings.Repeat("a", 200) + "\nb\n")}}, []string{"hosts"}, inventory.Options{Options: source.Options{Limits: l}})
		if err != nil {
			t.Fatal(err)
		}
		return inv.Match(p)
	}
	_, err := match(source.Limits{Matching: 50 * time.Millisecond}, "~(?=a)(a+)+$b")
	var e *text.Error
	if !errors.As(err, &e) || !strings.Contains(e.Message, "takes longer than 50ms") || e.Hint == "" {
		t.Errorf("got %v", err)
	}
	if got, err := match(source.Limits{}, "~(?!a|u)"); err != nil || !slices.Equal(got, []string{"b"}) {
		t.Errorf("got %v, %v", got, err)
	}
}

// TestUnreadable: a file that is there and cannot be read is an error that
// says so.
func TestUnreadable(t *testing.T) {
	for _, name := range []string{"missing", "missing/hosts"} {
		_, err := inventory.Load(fstest.MapFS{}, []string{name}, inventory.Options{})
		var e *text.Error
		if !errors.As(err, &e) || e.File != name || !errors.Is(err, fs.ErrNotExist) || e.Hint == "" {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
