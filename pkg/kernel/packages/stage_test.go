package packages

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestParseStaged reads what rpm of EL7, of EL8 and later, and of a broken file print.
func TestParseStaged(t *testing.T) {
	files, err := filepath.Glob("testdata/staged/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	want := map[string]string{
		"el7": "kernel-ml-6.9.7-1.el7.elrepo.x86_64 signed=true bad=", "el8": "kernel-ml-core-6.1.4-1.el8.elrepo.x86_64 signed=true bad=",
		"unsigned": "kernel-ml-6.1.4-1.el8.elrepo.x86_64 signed=false bad=", "cut": "-. signed=false bad=error: open of ./a/cut.rpm failed: not an rpm package",
		"nokey": "kernel-ml-6.1.4-1.el8.elrepo.x86_64 signed=false bad=Header V4 RSA/SHA256 Signature, key ID baadae52: NOKEY",
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		got := parseStaged(string(raw))
		if len(got) != 1 {
			t.Errorf("%s: %+v", name, got)
			continue
		}
		text := got[0].NEVRA() + " signed=" + map[bool]string{true: "true", false: "false"}[got[0].signed] + " bad=" + got[0].bad
		if text != want[name] {
			t.Errorf("%s: %s, want %s", name, text, want[name])
		}
	}
}
