package playbook

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/hashicorp/go-multierror"
	"github.com/rogpeppe/go-internal/txtar"
)

// FuzzLoad reads anything as a playbook. Whatever it is, loading and compiling
// end, and every error points into the file.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/errors/*.txtar", "testdata/differential/*.txtar"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			a, err := txtar.ParseFile(file)
			if err != nil {
				f.Fatal(err)
			}
			for _, m := range a.Files {
				if strings.HasSuffix(m.Name, ".yml") {
					f.Add(string(m.Data))
				}
			}
		}
	}
	shipped, err := filepath.Glob("../../playbooks/*.yml")
	if err != nil || len(shipped) == 0 {
		f.Fatalf("%v, %v", shipped, err)
	}
	for _, file := range shipped {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	inv := &fakeInventory{hosts: hostNames(5), groups: map[string][]string{"workers": {"h0001", "h0002"}}}
	tasks, err := fs.ReadFile(os.DirFS("../../playbooks"), "tasks/kernel.yml")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		fsys := fstest.MapFS{"site.yml": {Data: []byte(text)}, "tasks/kernel.yml": {Data: tasks}}
		pb, err := Load(fsys, "site.yml", Options{Modules: testModules})
		if err == nil {
			_, _, err = pb.Compile(inv, testModules, CompileOptions{ExtraVars: vars(map[string]any{"flag": true})})
		}
		if err == nil {
			return
		}
		var all *multierror.Error
		if !errors.As(err, &all) {
			t.Fatalf("not a multierror: %v", err)
		}
		lines := strings.Count(text, "\n") + 1
		for _, e := range all.Errors {
			var pe *Error
			if !errors.As(e, &pe) || pe.Message == "" {
				t.Fatalf("not an *Error with a message: %#v", e)
			}
			if pe.File == "site.yml" && (pe.Line < 0 || pe.Line > lines) {
				t.Fatalf("line %d of %d: %v", pe.Line, lines, pe)
			}
		}
	})
}
