package playbook

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-multierror"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/fleetd/fleetd/inventory"
)

const smallInventory = `all:
  children:
    kube_control_plane: {hosts: {cp1: }}
    workers: {hosts: {"w[1:6]": }}
`

// TestErrors shows a person what is said of playbooks that are wrong: each
// archive in testdata/errors holds one, and in the file "errors" the words.
func TestErrors(t *testing.T) {
	files, err := filepath.Glob("testdata/errors/*.txtar")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d archives, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			fsys := fstest.MapFS{"inventory.yaml": {Data: []byte(smallInventory)}}
			want := -1
			for i, f := range a.Files {
				if f.Name == "errors" {
					want = i
					continue
				}
				fsys[f.Name] = &fstest.MapFile{Data: f.Data}
			}
			if want < 0 {
				a.Files = append(a.Files, txtar.File{Name: "errors"})
				want = len(a.Files) - 1
			}
			got := complaints(t, fsys)
			if os.Getenv("UPDATE_GOLDEN") != "" {
				a.Files[want].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(string(a.Files[want].Data), got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

// complaints are the warnings and errors of site.yml.
func complaints(t *testing.T, fsys fstest.MapFS) string {
	t.Helper()
	inv, err := inventory.Load(fsys, []string{"inventory.yaml"}, inventory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	pb, err := Load(fsys, "site.yml", Options{Modules: testModules})
	warnings := pb.warnings
	if err == nil {
		_, warnings, err = pb.Compile(inv, testModules, CompileOptions{})
	}
	var b strings.Builder
	for _, w := range warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	if err == nil {
		return b.String() + "no error\n"
	}
	var all *multierror.Error
	if !errors.As(err, &all) {
		t.Fatalf("not a multierror: %T", err)
	}
	for _, e := range all.Errors {
		var pe *Error
		if !errors.As(e, &pe) {
			t.Errorf("not an *Error: %v", e)
		}
	}
	fmt.Fprintf(&b, "%v\n", err)
	return b.String()
}
