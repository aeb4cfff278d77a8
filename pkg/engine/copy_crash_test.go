package engine_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/pkg/engine"
	"github.com/fleetd/fleetd/pkg/module"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/playbook"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/words"
)

// copyPlay writes files in steps that are known, open and in a loop.
const copyPlay = `
- hosts: all
  gather_facts: false
  tasks:
    - copy: {content: "new\n", dest: "DIR/f", mode: u+x, backup: true}
      register: copied
    - copy: {content: "{{ copied.checksum }}\n", dest: "DIR/sum"}
      register: sum
    - template: {src: t.j2, dest: "DIR/{{ item }}/"}
      loop: [x, y]
      register: looped
    - file: {path: "DIR/gone", state: absent}
      register: gone
`

// folder is a node whose files are in a folder of this machine; they outlive the
// process.
type folder struct {
	dir string
	mu  sync.Mutex
	// puts counts how often a file was written, by path.
	puts map[string]int
	dead func() bool
}

func (*folder) Forget(string) {}

func (f *folder) Run(ctx context.Context, _ string, c sshexec.Command) (sshexec.Result, error) {
	if f.dead() {
		return sshexec.Result{}, errDead
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", strings.ReplaceAll(c.Script, "/var/lib/fleetd", f.dir+".kept"))
	var out, complaints bytes.Buffer
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = f.dir, c.Stdin, &out, &complaints
	err := cmd.Run()
	f.mu.Lock()
	for l := range strings.Lines(c.Script) {
		if words := strings.Fields(l); len(words) > 2 && words[0] == "put" && len(words[1]) == 64 {
			f.puts[words[len(words)-1]]++
		}
	}
	f.mu.Unlock()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return sshexec.Result{Stdout: out.Bytes(), Stderr: complaints.Bytes(), ExitStatus: ended.ExitCode()}, nil
	}
	return sshexec.Result{Stdout: out.Bytes(), Stderr: complaints.Bytes()}, err
}

func (*folder) Section() string { return node.Section.Name() }

func (f *folder) Observe(ctx context.Context, keys map[string][]string) map[string]rollout.SectionObservation {
	out := map[string]rollout.SectionObservation{}
	for h, list := range keys {
		facts := node.Facts{Files: map[string]node.File{}}
		for _, k := range list {
			if p, ok := strings.CutPrefix(k, "file="); ok {
				res, err := f.Run(ctx, h, sshexec.Command{Script: node.LookScript([]string{words.Quote(p)}, "") + "sees\n"})
				seen, perr := node.ParseLook(res)
				if err = errors.Join(err, perr); err != nil {
					out[h] = rollout.SectionObservation{Err: err}
					return out
				}
				facts.Files[p] = seen.Places[0].File
			}
		}
		raw, err := json.Marshal(facts)
		out[h] = rollout.SectionObservation{Value: raw, Err: err}
	}
	return out
}

// copyLives runs the playbook in a folder of its own, in a process that dies with
// event killAt and in those that go on.
func copyLives(t *testing.T, killAt int, lost bool) (end string, events []rollout.Event, puts map[string]int) {
	t.Helper()
	f, p, params := copyBook(t, copyPlay)
	dir := f.dir
	r, kept := livesOn(t, f, params, killAt, lost, p, nil)
	if r.Status != rollout.Done || len(r.LostHosts()) > 0 {
		t.Fatalf("%s, lost %v", r.Status, r.LostHosts())
	}
	return leftBy(t, r, dir), kept, f.puts
}

// copyBook is a node with files, and a plan for it.
func copyBook(t *testing.T, play string) (*folder, rollout.Plan, map[string]rollout.Params) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "node")
	play = strings.ReplaceAll(play, "DIR", dir)
	for name, text := range map[string]string{"f": "old\n", "gone": "gone\n", "../book/t.j2": "of {{ inventory_hostname }}\n", "../book/site.yml": play, "../book/hosts": "a\n", "../book/files/tree/one": "1\n", "../book/files/tree/below/two": "2\n", "tree/below/two": "was\n"} {
		p := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "../book/files/tree/empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	f := &folder{dir: dir, puts: map[string]int{}, dead: func() bool { return false }}
	p, params := copyPlan(t, f, filepath.Join(dir, "../book"))
	return f, p, params
}

// livesOn runs a plan in a process that dies with event killAt and, unless it is to
// stay so, in those that go on.
func livesOn(t *testing.T, f *folder, params map[string]rollout.Params, killAt int, lost bool, p rollout.Plan, staysDead *bool) (r *rollout.Run, kept []rollout.Event) {
	t.Helper()
	for life := 0; ; life++ {
		m := &mortal{kept: &kept, lost: lost}
		if life == 0 {
			m.killAt = killAt
		}
		f.dead = func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.dead }
		e := &engine.Engine{Modules: module.Modules(f), Resolver: playbook.NewOpenSteps(params), Journal: m}
		var err error
		if len(kept) == 0 {
			r, err = e.Execute(t.Context(), p, 2)
		} else {
			r, err = e.Resume(t.Context(), restored(t, kept), 0, false)
		}
		f.dead = func() bool { return false }
		switch {
		case m.dead && staysDead != nil:
			*staysDead = true
			if len(kept) == 0 {
				return nil, nil
			}
			return restored(t, kept), kept
		case !m.dead && err != nil:
			t.Fatal(err)
		case !m.dead:
			return r, kept
		}
	}
}

// undoPlay changes files by items that come after each other.
const undoPlay = `
- hosts: all
  gather_facts: false
  tasks:
    - copy: {content: "{{ item }}\n", dest: "DIR/f", mode: "0600"}
      loop: [one, two, two, one, two]
    - copy: {content: "two\n", dest: "DIR/sum"}
    - copy: {src: tree, dest: DIR}
    - copy: {src: tree/, dest: "DIR/tree/below/"}
    - file: {path: "DIR/{{ item }}", state: absent}
      loop: [sum, nothing, f]
`

// Wherever a run is killed, an undo brings the files back to what they were; and so
// does an undo of the whole run that is itself killed, wherever that is, and resumed.
func TestUndoOfFilesKilledAtEveryEvent(t *testing.T) {
	back := func(f *folder, params map[string]rollout.Params, r *rollout.Run, killAt int) int {
		t.Helper()
		p, err := rollout.Reverse("run", r, nil, map[string]rollout.Observation{}, rollout.Basis{})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(p)
		if err == nil {
			p, err = rollout.ReadPlan(raw)
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Plays) == 0 {
			return 0
		}
		r, events := livesOn(t, f, params, killAt, killAt%2 == 0, p, nil)
		if len(r.LostHosts()) > 0 {
			id, _ := r.Lost("a")
			t.Errorf("lost in the undo: %+v", r.Step(id).Outcome)
		}
		return len(events)
	}
	f, p, params := copyBook(t, undoPlay)
	want := filesIn(t, f.dir)
	r, events := livesOn(t, f, params, 0, false, p, nil)
	if len(r.LostHosts()) > 0 || filesIn(t, f.dir) == want {
		t.Fatalf("undisturbed: lost %v, and it leaves\n%s", r.LostHosts(), filesIn(t, f.dir))
	}
	empty := filepath.Join(f.dir, "tree/empty")
	if info, err := os.Stat(empty); err != nil || !info.IsDir() {
		t.Errorf("the folder in which there is nothing: %v", err)
	}
	steps := back(f, params, r, 0)
	if _, err := os.Stat(empty); err == nil {
		t.Error("the folder in which there is nothing stays after the undo")
	}
	check := func(what string, at int, f *folder) {
		if got := filesIn(t, f.dir); got != want {
			t.Errorf("%s killed at event %d: the undo leaves\n%s\nnot\n%s", what, at, got, want)
		}
	}
	check("not", 0, f)
	for at := 1; at <= len(events); at++ {
		f, p, params := copyBook(t, undoPlay)
		dead := false
		if r, _ := livesOn(t, f, params, at, at%2 == 0, p, &dead); r != nil {
			back(f, params, r, 0)
		}
		check("the run", at, f)
	}
	for at := 1; at <= steps; at++ {
		f, p, params := copyBook(t, undoPlay)
		r, _ := livesOn(t, f, params, 0, false, p, nil)
		back(f, params, r, at)
		check("the undo", at, f)
	}
}

func copyPlan(t *testing.T, f *folder, book string) (rollout.Plan, map[string]rollout.Params) {
	t.Helper()
	modules, params, differs := module.Modules(f), map[string]rollout.Params{}, map[string]rollout.Differ{}
	for name, m := range modules {
		params[name], differs[name] = m.About().Params, m
	}
	inv, err := inventory.Load(os.DirFS(book), []string{"hosts"}, inventory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	pb, err := playbook.Load(os.DirFS(book), "site.yml", playbook.Options{Modules: params})
	if err != nil {
		t.Fatal(err)
	}
	d, _, err := pb.Compile(inv, params, playbook.CompileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	observed, err := engine.Observe(t.Context(), d, modules, []rollout.Observer{f})
	if err != nil {
		t.Fatal(err)
	}
	p, err := rollout.Compute(d, observed, differs, rollout.Basis{})
	if err != nil || len(p.Problems()) > 0 {
		t.Fatal(p.Problems(), err)
	}
	return p, params
}

// filesIn are the files of a folder.
func filesIn(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		raw, err := os.ReadFile(p)
		name, _, _ := strings.Cut(strings.TrimPrefix(p, dir), ".")
		fmt.Fprintf(&out, "%s %o %q\n", name, info.Mode(), raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// leftBy is all that a run has left: files, modes, and what was registered.
func leftBy(t *testing.T, r *rollout.Run, dir string) string {
	t.Helper()
	var out strings.Builder
	out.WriteString(filesIn(t, dir))
	for name, raw := range r.Results(rollout.StepID{Task: len(r.Plan.Plays[0].Tasks), Host: "a"}, nil) {
		var v map[string]any
		if err := json.Unmarshal([]byte(strings.ReplaceAll(string(raw), dir, "")), &v); err != nil {
			t.Fatal(err)
		}
		if b, ok := v["backup_file"].(string); ok {
			v["backup_file"], _, _ = strings.Cut(b, ".")
		}
		text, _ := json.Marshal(v)
		if name == "copied" || name == "gone" || name == "sum" {
			fmt.Fprintf(&out, "%s %s\n", name, text)
		}
	}
	lines := strings.Split(out.String(), "\n")
	return strings.Join(sorted(lines), "\n")
}

// Killed with any event, before or after it is written, a run that writes files ends
// where an undisturbed one does.
func TestFilesKilledAtEveryEvent(t *testing.T) {
	want, events, _ := copyLives(t, 0, false)
	if !strings.Contains(want, `/f 744 "new\n"`) || !strings.Contains(want, `/x/t 644 "of a\n"`) || strings.Count(want, "/f") < 3 {
		t.Fatalf("undisturbed, it ends with\n%s", want)
	}
	for at := range len(events) {
		for _, lost := range []bool{false, true} {
			if testing.Short() && lost != (at%2 == 0) {
				continue // half of them, one or the other of each
			}
			got, _, puts := copyLives(t, at+1, lost)
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("killed at event %d (lost: %t):\n%s", at+1, lost, d)
			}
			for path, n := range puts {
				if n > 1 {
					t.Errorf("killed at event %d (lost: %t): %s was written %d times", at+1, lost, path, n)
				}
			}
		}
	}
}

func sorted(lines []string) []string {
	slices.Sort(lines)
	return lines
}
