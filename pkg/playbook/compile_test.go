package playbook

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
)

func compileText(t *testing.T, playbook string, inv Inventory, opts CompileOptions) (rollout.Desired, []text.Warning, error) {
	t.Helper()
	pb, err := Load(fstest.MapFS{"site.yml": {Data: []byte(playbook)}}, "site.yml", Options{})
	if err != nil {
		t.Fatal(err)
	}
	return pb.Compile(inv, testModules, opts)
}

func TestLimit(t *testing.T) {
	inv := &fakeInventory{hosts: hostNames(4)}
	const text = `
- hosts: all
  tasks: [{fleetd.kernel.default: }]
- hosts: localhost
  tasks: [{fleetd.calico.preflight: }]
`
	d, warnings, err := compileText(t, text, inv, CompileOptions{Limit: []string{"h0001", "h0003"}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][]string{{"h0001", "h0003"}}, d.Plays[0].Batches); diff != "" || len(d.Plays) != 1 {
		t.Errorf("%d plays, %s", len(d.Plays), diff)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0].String(), `"localhost" is skipped`) {
		t.Errorf("got %v", warnings)
	}
	if _, _, err := compileText(t, text, inv, CompileOptions{Limit: []string{"nobody"}}); err == nil || !strings.Contains(err.Error(), "the limit nobody matches no host") {
		t.Errorf("got %v", err)
	}
}

// TestExtraVarsWin: variables of the command line win over those of plays and
// tasks, and are known before there is a host.
func TestExtraVarsWin(t *testing.T) {
	inv := &fakeInventory{hosts: hostNames(4), vars: map[string]map[string]any{"all": {"v": "inventory"}}}
	d, _, err := compileText(t, `
- hosts: all
  serial: "{{ size }}"
  vars: {v: play}
  tasks:
    - vars: {v: task}
      fleetd.kernel.preflight: {name: "{{ v }}"}
`, inv, CompileOptions{ExtraVars: vars(map[string]any{"v": "extra", "size": "3"})})
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Plays[0].Tasks[0].Args["h0000"]["name"]; got != "extra" {
		t.Errorf("got %v", got)
	}
	if n := len(d.Plays[0].Batches); n != 2 {
		t.Errorf("%d batches", n)
	}
}

// TestCompileAgain: a playbook may be compiled more than once, with the same result.
func TestCompileAgain(t *testing.T) {
	inv := &fakeInventory{hosts: hostNames(5), vars: map[string]map[string]any{"h0002": {"special": "yes"}}}
	pb, err := Load(fstest.MapFS{"site.yml": {Data: []byte(`
- hosts: all
  name: Twice
  name: Once
  serial: [1, "50%"]
  tasks:
    - fleetd.kernel.preflight: {name: "{{ special | default('no') }}", ignore: [kdump]}
      when: inventory_hostname != 'h0003'
`)}}, "site.yml", Options{})
	if err != nil {
		t.Fatal(err)
	}
	first, w1, err1 := pb.Compile(inv, testModules, CompileOptions{})
	second, w2, err2 := pb.Compile(inv, testModules, CompileOptions{})
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if d := cmp.Diff(first, second); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(w1, w2); d != "" {
		t.Error(d)
	}
	want := map[string]rollout.Args{
		"h0000": {"name": "no", "ignore": []any{"kdump"}}, "h0001": {"name": "no", "ignore": []any{"kdump"}},
		"h0002": {"name": "yes", "ignore": []any{"kdump"}}, "h0004": {"name": "no", "ignore": []any{"kdump"}},
	}
	if d := cmp.Diff(want, first.Plays[0].Tasks[0].Args); d != "" {
		t.Error(d)
	}
}

// TestBecomeOfAHost: one host's variable says nothing of another, and what it says
// wrongly is told with its place. What Ansible makes of it is in
// testdata/differential/become.txtar.
func TestBecomeOfAHost(t *testing.T) {
	inv := &fakeInventory{hosts: hostNames(2), vars: map[string]map[string]any{"h0001": {"ansible_become": "yes"}}}
	d, _, err := compileText(t, "- hosts: all\n  tasks:\n    - fleetd.kernel.default:\n", inv, CompileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if task := d.Plays[0].Tasks[0]; task.Becomes("h0000") || !task.Becomes("h0001") {
		t.Errorf("got %+v", task)
	}
	inv.vars["h0000"] = map[string]any{"ansible_become": "maybe"}
	if _, _, err = compileText(t, "- hosts: all\n  tasks:\n    - fleetd.kernel.default:\n", inv, CompileOptions{}); err == nil || !strings.Contains(err.Error(), `ansible_become is "maybe" where true or false belongs (on h0000)`) {
		t.Errorf("got %v", err)
	}
}

// TestFileNames: errors name files as the user knows them, and paths stay
// within the file system.
func TestFileNames(t *testing.T) {
	fsys := fstest.MapFS{
		"home/me/site.yml":  {Data: []byte("- import_playbook: sub/a.yml\n- import_playbook: /etc/fleetd/b.yml\n")},
		"home/me/sub/a.yml": {Data: []byte("- hosts: all\n  tasks:\n    - import_tasks: t.yml\n")},
		"home/me/sub/t.yml": {Data: []byte("- fleetd.kernel.defalt:\n")},
		"etc/fleetd/b.yml":  {Data: []byte("- hosts: all\n  x: y\n")},
	}
	_, err := Load(fsys, "/home/me/site.yml", Options{Dir: "/", WorkDir: "home/me", Modules: testModules})
	for _, want := range []string{"sub/t.yml:1:3: unknown module", "/etc/fleetd/b.yml:2:3: unknown keyword"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	if _, err := Load(fsys, "nothing.yml", Options{Dir: "playbooks"}); err == nil || !strings.Contains(err.Error(), "playbooks/nothing.yml: cannot read playbooks/nothing.yml: file does not exist") {
		t.Errorf("got %v", err)
	}
}
