// Package docs holds what people read; its tests hold it against the code.
package docs

import (
	"go/build"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/fleetd/fleetd"

// row is a line of the table of rooms: | `pkg/x` | its job | `pkg/a` `pkg/b` |.
var row = regexp.MustCompile("^\\| `([^`]+)` \\|[^|]+\\|([^|]*)\\|$")

// TestArchitecture: the map names every package, whom it imports, and is drawn
// from the top down.
func TestArchitecture(t *testing.T) {
	text, err := os.ReadFile("architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	drawn := map[string][]string{}
	var order []string
	for line := range strings.Lines(string(text)) {
		if m := row.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			order = append(order, m[1])
			drawn[m[1]] = strings.Fields(strings.ReplaceAll(m[2], "`", ""))
			slices.Sort(drawn[m[1]])
		}
	}
	built := imports(t)
	for _, p := range slices.Sorted(maps.Keys(built)) {
		if p == "docs" {
			continue
		}
		if _, ok := drawn[p]; !ok {
			t.Errorf("%s has no line in architecture.md", p)
			continue
		}
		if !slices.Equal(built[p], drawn[p]) {
			t.Errorf("%s imports %v, architecture.md says %v", p, built[p], drawn[p])
		}
	}
	for i, p := range order {
		if _, ok := built[p]; !ok {
			t.Errorf("architecture.md draws %s, which is no package", p)
		}
		for _, below := range drawn[p] {
			if at := slices.Index(order, below); at >= 0 && at < i {
				t.Errorf("%s imports %s, which is drawn above it", p, below)
			}
		}
	}
}

// imports are the packages of the program with those of fleetd that each of them
// imports; what only tests and labs use is left out.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	err := filepath.WalkDir("..", func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if name := d.Name(); p != ".." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "integration" || strings.HasSuffix(name, "test") || name == "bench") {
			return filepath.SkipDir
		}
		pkg, err := build.ImportDir(p, 0)
		if err != nil || len(pkg.GoFiles) == 0 {
			return nil
		}
		rel, err := filepath.Rel("..", p)
		if err != nil {
			return err
		}
		below := []string{}
		for _, i := range pkg.Imports {
			if rest, ok := strings.CutPrefix(i, module+"/"); ok {
				below = append(below, rest)
			}
		}
		slices.Sort(below)
		out[filepath.ToSlash(rel)] = below
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 15 {
		t.Fatalf("only %d packages were found", len(out))
	}
	return out
}
