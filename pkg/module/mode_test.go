package module_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/fleetd/fleetd/pkg/module"
)

// clause is one change of a mode; simple ones do not look at the mode that is there.
func clause(simple bool) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		simple := simple
		who := rapid.SampledFrom([]string{"", "a", "u", "g", "o", "ug", "go", "ugo"}).Draw(t, "who")
		op := rapid.SampledFrom([]string{"+", "-", "="}).Draw(t, "op")
		if who == "" {
			simple = true // chmod heeds the umask also where it copies, and for X; Ansible does not
		}
		if !simple && rapid.Bool().Draw(t, "copies") {
			return who + op + rapid.SampledFrom([]string{"u", "g", "o"}).Draw(t, "from")
		}
		letters := "rwxst"
		if !simple {
			letters += "X"
		}
		perms := rapid.SliceOfNDistinct(rapid.SampledFrom([]rune(letters)), 0, 4, func(r rune) rune { return r }).Draw(t, "perms")
		return who + op + string(perms)
	})
}

// A symbolic mode means what it means to chmod.
func TestModesAreChmods(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(t *rapid.T, mode string) {
		was := uint32(rapid.IntRange(0, 0o7777).Draw(t, "was"))
		if err := syscall.Chmod(file, was); err != nil {
			t.Fatal(err)
		}
		// chmod complains where the umask keeps something from being done, and does the rest.
		_ = exec.Command("/bin/sh", "-c", `umask 027; chmod -- "$1" "$2"`, "sh", mode, file).Run()
		var st syscall.Stat_t
		if err := syscall.Stat(file, &st); err != nil {
			t.Fatal(err)
		}
		got, err := module.ModeOf(mode, was, false, 0o027)
		if err != nil {
			t.Fatal(err)
		}
		if want := st.Mode & 0o7777; got != want {
			t.Errorf("%q on %04o gives %04o, chmod %04o", mode, was, got, want)
		}
	}
	t.Run("one", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) { check(t, clause(false).Draw(t, "mode")) })
	})
	t.Run("several", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			check(t, strings.Join(rapid.SliceOfN(clause(true), 1, 4).Draw(t, "modes"), ","))
		})
	})
}

// No text makes a mode that is more than permissions.
func FuzzModeOf(f *testing.F) {
	for _, s := range []string{"0644", "u=rw,g+x", "0o755", "=", "a", "u=rw-x+X", "99", "+s", ",", "u=é", "-"} {
		f.Add(s, uint32(0o644), false)
	}
	f.Fuzz(func(t *testing.T, s string, was uint32, isDir bool) {
		if m, err := module.ModeOf(s, was&0o7777, isDir, 0o022); err == nil && m > 0o7777 {
			t.Errorf("%q on %o is %o", s, was, m)
		}
	})
}

// What a node prints of a folder is a list, or refused.
func FuzzParseBelow(f *testing.F) {
	f.Add("383161342030203020612062000")
	f.Add("38316134203020302061200a620038")
	f.Fuzz(func(t *testing.T, s string) {
		places, err := module.ParseBelow(s)
		for _, p := range places {
			if err == nil && p.Self == nil {
				t.Errorf("%q has nothing at %q", s, p.Path)
			}
		}
	})
}

// What is spaced as Python writes it is the same JSON, and ASCII.
func FuzzSpaced(f *testing.F) {
	f.Add(`{"a":[1,"x: y, \"z\""],"é":"\u003c日😀"}`)
	f.Fuzz(func(t *testing.T, s string) {
		var v, back any
		if json.Unmarshal([]byte(s), &v) != nil {
			return
		}
		raw, _ := json.Marshal(v)
		out := module.Spaced(raw)
		again, err := json.Marshal(func() any { _ = json.Unmarshal(out, &back); return back }())
		if err != nil || !bytes.Equal(raw, again) || bytes.IndexFunc(out, func(r rune) bool { return r > 127 }) >= 0 {
			t.Errorf("%s became %s", raw, out)
		}
	})
}
