package playbook

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func hexSum(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// TestFiles: every file that was read has its digest, and no other file has;
// changing one changes its entry alone.
func TestFiles(t *testing.T) {
	files := map[string]string{
		"site.yml":        "- import_playbook: plays/more.yml\n- hosts: all\n  tasks: [{import_tasks: tasks/a.yml}]\n",
		"plays/more.yml":  "- hosts: all\n  vars_files: [../vars/v.yml, ../vars/empty.yml]\n  tasks: [{import_tasks: ../tasks/a.yml}, {import_tasks: ../tasks/none.yml}]\n",
		"vars/v.yml":      "v: 1\n",
		"vars/empty.yml":  "",
		"tasks/a.yml":     "- block: [{import_tasks: b.yml}]\n",
		"tasks/b.yml":     "- fleetd.kernel.default:\n",
		"tasks/none.yml":  "",
		"tasks/other.yml": "- fleetd.kernel.default:\n",
	}
	digests := func() map[string]string {
		pb, err := loadFiles(files, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := pb.Compile(&fakeInventory{hosts: hostNames(1)}, testModules, CompileOptions{}); err != nil {
			t.Fatal(err)
		}
		return pb.Files()
	}
	before := digests()
	want := map[string]string{}
	for name, text := range files {
		if name != "tasks/other.yml" {
			want[name] = hexSum(text)
		}
	}
	if d := cmp.Diff(want, before); d != "" {
		t.Fatalf("(-want +got)\n%s", d)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		files[name] += "# changed\n"
		after := digests()
		for n := range before {
			if (before[n] == after[n]) != (n != name) {
				t.Errorf("%s changed, and the digest of %s went from %s to %s", name, n, before[n], after[n])
			}
		}
		if len(after) != len(before) {
			t.Errorf("%s changed, and got %v", name, after)
		}
		before = after
	}
}

// TestFilesAsTheUserNamesThem: relative below the working folder, absolute
// elsewhere, and below playbooks/ for those that are built in.
func TestFilesAsTheUserNamesThem(t *testing.T) {
	const site, tasks = "- hosts: all\n  tasks: [{import_tasks: ../shared/t.yml}]\n", "- fleetd.kernel.default:\n"
	fsys := fstest.MapFS{"home/me/fleet/site.yml": {Data: []byte(site)}, "home/me/shared/t.yml": {Data: []byte(tasks)}}
	pb, err := Load(fsys, "home/me/fleet/site.yml", Options{Dir: "/", WorkDir: "home/me/fleet"})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]string{"site.yml": hexSum(site), "/home/me/shared/t.yml": hexSum(tasks)}, pb.Files()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	pb, err = loadFiles(map[string]string{"site.yml": "- hosts: all\n"}, Options{Dir: "playbooks"})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]string{"playbooks/site.yml": hexSum("- hosts: all\n")}, pb.Files()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// TestPipesAreNoFiles: a playbook out of a pipe can be read once only.
func TestPipesAreNoFiles(t *testing.T) {
	pb, err := Load(fstest.MapFS{"fd/63": {Data: []byte("- hosts: all\n"), Mode: fs.ModeNamedPipe}}, "fd/63", Options{})
	if err != nil || len(pb.Files()) != 0 {
		t.Errorf("got %v, %v", pb.Files(), err)
	}
}

// changing gives another text each time a file is opened.
type changing struct {
	files  fstest.MapFS
	opened map[string]int
}

func (c changing) Open(name string) (fs.File, error) {
	text := string(c.files[name].Data) + strings.Repeat("#\n", c.opened[name])
	c.opened[name]++
	return fstest.MapFS{name: {Data: []byte(text)}}.Open(name)
}

// TestFilesAreReadOnce: a file that is imported twice is made of one reading, so
// that the digest is of all that was parsed.
func TestFilesAreReadOnce(t *testing.T) {
	const tasks = "- fleetd.kernel.default:\n"
	pb, err := Load(changing{fstest.MapFS{
		"site.yml": {Data: []byte("- hosts: all\n  tasks: [{import_tasks: t.yml}, {import_tasks: t.yml}]\n")},
		"t.yml":    {Data: []byte(tasks)},
	}, map[string]int{}}, "site.yml", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := pb.Files()["t.yml"]; got != hexSum(tasks) {
		t.Errorf("got %s, which is not the digest of the first reading", got)
	}
}
