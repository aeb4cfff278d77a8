package inventory_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/inventory/export"
	"github.com/fleetd/fleetd/inventory/source"
	"github.com/fleetd/fleetd/inventory/vault"
)

func hexSum(data string) string {
	sum := sha256.Sum256([]byte(data))
	return hex.EncodeToString(sum[:])
}

// TestFiles: every file that was read has its digest, and no other file has;
// changing one changes its entry alone.
func TestFiles(t *testing.T) {
	files := map[string]string{
		"srv/inv/1.yml":                   "all: {hosts: {a: , b: }}\n",
		"srv/inv/2":                       "[web]\na\n",
		"srv/inv/notes.txt":               "ignored\n",
		"srv/inv/group_vars/all.yml":      "x: 1\n",
		"srv/inv/group_vars/web/1.yml":    "y: 1\n",
		"srv/inv/group_vars/web/vault":    string(encryptVault(t, "z: 1\n", "pw")),
		"srv/inv/group_vars/nobody.yml":   "x: 1\n",
		"srv/inv/host_vars/a.json":        "{}\n",
		"srv/inv/host_vars/elsewhere.yml": "x: 1\n",
		"srv/play/group_vars/all":         "p: 1\n",
		"srv/play/host_vars/b":            "p: 2\n",
		"etc/more.ini":                    "c\n",
		"srv/extra.yml":                   "e: 1\n",
	}
	unread := []string{"srv/inv/notes.txt", "srv/inv/group_vars/nobody.yml", "srv/inv/host_vars/elsewhere.yml"}
	digests := func() map[string]string {
		fsys := fstest.MapFS{}
		for name, text := range files {
			fsys[name] = &fstest.MapFile{Data: []byte(text)}
		}
		inv, err := inventory.Load(fsys, []string{"srv/inv", "/etc/more.ini", "d,e"}, inventory.Options{
			PlaybookDir: "srv/play", ExtraVars: []string{"@srv/extra.yml", "k=v"}, Options: source.Options{
				Root: "/", WorkDir: "srv",
				VaultSecrets: []vault.Secret{{ID: "default", Password: "pw"}},
				Digests:      map[string]string{"srv/ansible.cfg": "given", "etc/ansible.cfg": "given"},
			}})
		if err != nil {
			t.Fatal(err)
		}
		return inv.Files()
	}
	name := func(p string) string {
		if rest, ok := strings.CutPrefix(p, "srv/"); ok {
			return rest
		}
		return "/" + p
	}
	before := digests()
	want := map[string]string{"ansible.cfg": "given", "/etc/ansible.cfg": "given"}
	for p, text := range files {
		if !slices.Contains(unread, p) {
			want[name(p)] = hexSum(text)
		}
	}
	if d := cmp.Diff(want, before); d != "" {
		t.Fatalf("(-want +got)\n%s", d)
	}
	for _, p := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(p, "vault") {
			files[p] = string(encryptVault(t, "z: 2\n", "pw"))
		} else {
			files[p] += "\n"
		}
		after := digests()
		for n := range before {
			if (before[n] == after[n]) != (n != name(p)) {
				t.Errorf("%s changed, and the digest of %s went from %s to %s", p, n, before[n], after[n])
			}
		}
		if len(after) != len(before) {
			t.Errorf("%s changed, and got %v", p, after)
		}
		before = after
	}
}

// TestFilesOfGroupsWithoutHosts: they are read when somebody asks for them, and
// are listed then.
func TestFilesOfGroupsWithoutHosts(t *testing.T) {
	inv, err := inventory.Load(fstest.MapFS{"hosts": {Data: []byte("a\n[empty]\n")}, "group_vars/empty": {Data: []byte("x: 1\n")}}, []string{"hosts"}, inventory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := inv.Files(); len(got) != 1 {
		t.Errorf("before: %v", got)
	}
	if err := export.YAML(&bytes.Buffer{}, inv, export.Options{Export: true}); err != nil {
		t.Fatal(err)
	}
	if got := inv.Files()["group_vars/empty"]; got != hexSum("x: 1\n") {
		t.Errorf("afterwards: %v", inv.Files())
	}
}

// TestFilesOfScripts: what an executable printed was read, not its text.
func TestFilesOfScripts(t *testing.T) {
	fsys := fstest.MapFS{"inv.sh": {Data: []byte("#!/bin/sh\n"), Mode: 0o755}}
	outputs := map[string]string{"--list": `{"web": ["a", "b"]}`, "--host a": `{"x": 1}`, "--host b": "{}"}
	digests := func() map[string]string {
		inv, err := inventory.Load(fsys, []string{"inv.sh"}, inventory.Options{Options: source.Options{RunScript: func(_ context.Context, _ string, args ...string) ([]byte, string, error) {
			return []byte(outputs[strings.Join(args, " ")]), "", nil
		}}})
		if err != nil {
			t.Fatal(err)
		}
		return inv.Files()
	}
	check := func(what, text string) {
		t.Helper()
		if d := cmp.Diff(map[string]string{"inv.sh": hexSum(text)}, digests()); d != "" {
			t.Errorf("%s (-want +got)\n%s", what, d)
		}
	}
	check("at first", `{"web": ["a", "b"]}{"x": 1}{}`)
	fsys["inv.sh"].Data = []byte("#!/bin/bash\n")
	check("another text", `{"web": ["a", "b"]}{"x": 1}{}`)
	outputs["--host b"] = `{"y": 2}`
	check("another host's variables", `{"web": ["a", "b"]}{"x": 1}{"y": 2}`)
	outputs["--list"] = `{"_meta": {"hostvars": {}}, "web": ["a"]}`
	check("all at once", outputs["--list"])
	// One that cannot be started is a file.
	fsys["inv.sh"].Data = []byte("[web]\na\n")
	inv, err := inventory.Load(fsys, []string{"inv.sh"}, inventory.Options{Options: source.Options{RunScript: func(context.Context, string, ...string) ([]byte, string, error) { return nil, "", source.ErrNotScript }}})
	if err != nil {
		t.Fatal(err)
	}
	if got := inv.Files()["inv.sh"]; got != hexSum("[web]\na\n") {
		t.Errorf("got %v", inv.Files())
	}
}

func TestPipesAreNoFiles(t *testing.T) {
	inv, err := inventory.Load(fstest.MapFS{
		"hosts": {Data: []byte("a\n")}, "fd/63": {Data: []byte("x: 1\n"), Mode: fs.ModeNamedPipe},
	}, []string{"hosts"}, inventory.Options{ExtraVars: []string{"@fd/63"}})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]string{"hosts": hexSum("a\n")}, inv.Files()); d != "" || variable(t, inv, "a", "x") != int64(1) {
		t.Errorf("x is %v (-want +got)\n%s", variable(t, inv, "a", "x"), d)
	}
}

// changing gives another text each time a file is opened.
type changing struct {
	fs.FS
	opened map[string]int
}

func (c changing) Open(name string) (fs.File, error) {
	if name != "group_vars/all" {
		return c.FS.Open(name)
	}
	c.opened[name]++
	return fstest.MapFS{name: {Data: []byte(strings.Repeat("\n", c.opened[name]) + "x: 1\n")}}.Open(name)
}

// TestFileChangedMeanwhile: what lies beside both inventory and playbook is read
// for each; one digest cannot stand for two texts.
func TestFileChangedMeanwhile(t *testing.T) {
	fsys := fstest.MapFS{"hosts": {Data: []byte("a\n")}, "group_vars/all": {}}
	_, err := inventory.Load(changing{fsys, map[string]int{}}, []string{"hosts"}, inventory.Options{PlaybookDir: "."})
	if err == nil || !strings.Contains(err.Error(), "group_vars/all: the file was changed while fleetd read it") {
		t.Errorf("got %v", err)
	}
	if _, err := inventory.Load(fsys, []string{"hosts"}, inventory.Options{PlaybookDir: "."}); err != nil {
		t.Error(err)
	}
}
