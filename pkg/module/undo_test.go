package module_test

import (
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/fleetd/fleetd/pkg/module"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// filesPlay changes files in every way that can be taken back, in steps that the
// plan knows and in one that a result decides.
const filesPlay = `
-- site.yml --
- hosts: a
  gather_facts: false
  tasks:
    - copy: {content: "new\n", dest: "{{ work }}/old.txt", mode: "0600", owner: daemon}
    - copy: {content: "made\n", dest: "{{ work }}/made.txt"}
    - copy: {content: "newer\n", dest: "{{ work }}/old.txt"}
    - file: {path: "{{ work }}/deep/er/est", state: directory, mode: "0700"}
    - file: {path: "{{ work }}/gone.txt", state: absent}
    - file: {path: "{{ work }}/link", src: made.txt, state: link}
    - file: {path: "{{ work }}/replaced.txt", src: made.txt, state: link, force: true}
    - file: {path: "{{ work }}/dir", mode: "0711", owner: "12345", group: "23456"}
    - file: {path: "{{ work }}/hard", src: "{{ work }}/made.txt", state: hard}
    - file: {path: "{{ work }}/touched", state: touch}
    - template: {src: t.j2, dest: "{{ work }}/out/t.txt", backup: true}
    - ping:
      register: pong
    - copy: {content: "{{ pong.ping }}\n", dest: "{{ work }}/open.txt"}
    - copy: {content: "{{ item }}\n", dest: "{{ work }}/{{ item }}.txt"}
      loop: [loop1, old, loop2, made]
    - file: {path: "{{ work }}/{{ item }}", state: absent}
      with_items: [loop1.txt, nothing.txt, looped.txt]
    - copy: {content: "again\n", dest: "{{ work }}/{{ item }}"}
      with_items: [loop2.txt, "{{ pong.ping }}.txt"]
      when: item != 'nothing'
-- looped.txt --
looped
-- old.txt --
old
-- gone.txt --
gone
-- replaced.txt --
replaced
-- open.txt --
open
-- dir/x --
x
-- out/t.txt --
t
-- templates/t.j2 --
of {{ inventory_hostname }}
`

// An undo brings back what was there: contents, modes, owners, links; and an undo of
// the undo what the run had made.
func TestUndoOfFiles(t *testing.T) {
	a := txtar.Parse([]byte(filesPlay))
	plan, e, dir := planned(t, a)
	before := tree(t, dir)
	r, err := e.Execute(t.Context(), plan, 1)
	if err != nil || len(r.LostHosts()) > 0 {
		t.Fatal(err, problems(r))
	}
	after := tree(t, dir)
	for _, round := range []struct {
		name string
		want []left
	}{{"undo", before}, {"undo of the undo", after}} {
		back, err := rollout.Reverse("run", r, nil, map[string]rollout.Observation{}, rollout.Basis{})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(back)
		if err != nil {
			t.Fatal(err)
		}
		if back, err = rollout.ReadPlan(raw); err != nil {
			t.Fatal(err)
		}
		if r, err = e.Execute(t.Context(), back, 1); err != nil || len(r.LostHosts()) > 0 {
			t.Fatal(round.name, err, problems(r))
		}
		var got []left
		for _, l := range tree(t, dir) {
			if !strings.HasSuffix(l.Tree, ".STAMP") { // a backup was asked for, and stays
				got = append(got, l)
			}
		}
		var want []left
		for _, l := range round.want {
			if !strings.HasSuffix(l.Tree, ".STAMP") {
				want = append(want, l)
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("after the %s (-want +got):\n%s", round.name, d)
		}
	}
}

// What somebody has changed since is left alone.
func TestUndoLeavesOthersAlone(t *testing.T) {
	a := txtar.Parse([]byte("-- site.yml --\n- hosts: a\n  tasks:\n    - copy: {content: new, dest: \"{{ work }}/f\"}\n-- f --\nold\n"))
	plan, e, dir := planned(t, a)
	r, err := e.Execute(t.Context(), plan, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("theirs"), 0o644); err != nil {
		t.Fatal(err)
	}
	back, err := rollout.Reverse("run", r, nil, map[string]rollout.Observation{}, rollout.Basis{})
	if err != nil {
		t.Fatal(err)
	}
	if r, err = e.Execute(t.Context(), back, 1); err != nil || len(r.LostHosts()) != 1 || !strings.Contains(problems(r), "somebody changed it since") {
		t.Errorf("%v %s", err, problems(r))
	}
	if raw, _ := os.ReadFile(filepath.Join(dir, "f")); string(raw) != "theirs" {
		t.Errorf("%q", raw)
	}
}

// A file that is not as it was when the plan was made is left alone.
func TestFilesAreAsTheyWereReviewed(t *testing.T) {
	for _, task := range []string{"copy: {content: new, dest: \"{{ work }}/f\"}", "file: {path: \"{{ work }}/f\", state: absent}", "file: {path: \"{{ work }}/f\", mode: \"0600\"}"} {
		plan, e, dir := planned(t, txtar.Parse([]byte("-- site.yml --\n- hosts: a\n  tasks:\n    - "+task+"\n-- f --\nold\n")))
		if err := os.WriteFile(filepath.Join(dir, "f"), []byte("theirs"), 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := e.Execute(t.Context(), plan, 1)
		if err != nil || len(r.LostHosts()) != 1 || !strings.Contains(problems(r), "it is not what the plan was made for") {
			t.Errorf("%s: %v %s", task, err, problems(r))
		}
		if raw, _ := os.ReadFile(filepath.Join(dir, "f")); string(raw) != "theirs" {
			t.Errorf("%s: %q", task, raw)
		}
	}
}

// problems are why hosts were lost.
func problems(r *rollout.Run) string {
	var out []string
	for _, h := range r.LostHosts() {
		id, _ := r.Lost(h)
		o := r.Step(id).Outcome
		out = append(out, id.String()+": "+o.Message+" "+o.Hint)
	}
	return strings.Join(out, "\n")
}

// What the plan had nothing to change in is not changed, though the run finds that a
// user's name means another number than the plan took it for.
func TestNothingIsChangedThatIsNotInThePlan(t *testing.T) {
	l := local{t.TempDir()}
	p := filepath.Join(l.dir, "f")
	if err := os.WriteFile(p, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := l.facts(t.Context(), []string{node.FileKey(p)})
	if err != nil {
		t.Fatal(err)
	}
	file := f.Files[p]
	file.Self.Owner = "daemon"
	state := node.Section.With(nil, f)
	m := module.Modules(l)["ansible.builtin.file"]
	change, _, err := m.Diff("a", state, rollout.Args{"path": p, "owner": "daemon"})
	if err != nil || change.Action != rollout.ReadOnly {
		t.Fatalf("%+v, %v", change, err)
	}
	o := m.Do(t.Context(), rollout.Step{Host: "a", Change: change, Attempt: 1})
	if o.Kind != rollout.Failed || !strings.Contains(o.Message, "the plan has nothing to change there") {
		t.Errorf("%+v", o)
	}
}

// The plan of a folder names each file that would change, and nothing but those.
func TestPlanOfAFolder(t *testing.T) {
	plan, _, _ := planned(t, txtar.Parse([]byte(`
-- site.yml --
- hosts: a
  tasks:
    - copy: {src: tree/, dest: "{{ work }}/at", mode: "0644"}
-- files/tree/same --
same
-- files/tree/new --
new
-- files/tree/sub/other --
other
-- at/same --
same
-- at/sub/other --
old
`)))
	s, _ := plan.Step(rollout.StepID{Host: "a"})
	var names []string
	for _, f := range s.Change.Fields {
		names = append(names, path.Base(f.Name))
	}
	if d := cmp.Diff([]string{"new", "other"}, names); d != "" || s.Change.Action != rollout.Update || !strings.Contains(s.Change.Summary, "2 of 3 files") {
		t.Errorf("%s %s (-want +got)\n%s\n%+v", s.Change.Action, s.Change.Summary, d, s.Change.Fields)
	}
}
