package module_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/pkg/engine"
	"github.com/fleetd/fleetd/pkg/module"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/playbook"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/words"
)

// local are hosts that are all this machine: scripts run in one folder, in the
// environment that testdata/answers.py gives Ansible.
type local struct{ dir string }

func (local) Forget(string) {}

func (l local) Run(ctx context.Context, _ string, c sshexec.Command) (sshexec.Result, error) {
	// What is kept on a node for an undo lies beside the folder here.
	script := strings.ReplaceAll(c.Script, "/var/lib/fleetd", filepath.Join(filepath.Dir(l.dir), "fleetd"))
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", script)
	cmd.Dir, cmd.Stdin = l.dir, c.Stdin
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(l.dir, "home"), "LC_ALL=C.UTF-8", "WORDS=two  words", "EMPTY=", "STAR=*"}
	for name, v := range c.Env {
		cmd.Env = append(cmd.Env, name+"="+v)
	}
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err := cmd.Run()
	res := sshexec.Result{Stdout: out.Bytes(), Stderr: complaints.Bytes()}
	var ended *exec.ExitError
	if !errors.As(err, &ended) {
		return res, err
	}
	res.ExitStatus = ended.ExitCode()
	if w, ok := ended.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		res.ExitStatus, res.Signal = 128+int(w.Signal()), w.Signal().String()
	}
	return res, nil
}

// Section and Observe answer for the facts of these hosts: what the modules need of
// them are files.
func (local) Section() string { return node.Section.Name() }

func (l local) Observe(ctx context.Context, keys map[string][]string) map[string]rollout.SectionObservation {
	out := map[string]rollout.SectionObservation{}
	for h := range keys {
		f, err := l.facts(ctx, keys[h])
		raw, _ := json.Marshal(f)
		out[h] = rollout.SectionObservation{Value: raw, Err: err}
	}
	return out
}

func (l local) facts(ctx context.Context, keys []string) (node.Facts, error) {
	f := node.Facts{Files: map[string]node.File{}, Texts: map[string][]byte{}}
	for _, k := range keys {
		if p, ok := strings.CutPrefix(k, "text="); ok {
			f.Texts[p], _ = os.ReadFile(p)
		}
		p, ok := strings.CutPrefix(k, "file=")
		if !ok {
			continue
		}
		res, err := l.Run(ctx, "", sshexec.Command{Script: node.LookScript([]string{words.Quote(p)}, "") + "sees\n"})
		if err != nil {
			return f, err
		}
		seen, err := node.ParseLook(res)
		if err != nil {
			return f, err
		}
		f.Files[p] = seen.Places[0].File
	}
	return f, nil
}

// events is a journal in memory.
type events []rollout.Event

func (e *events) Append(_ context.Context, more []rollout.Event) error {
	*e = append(*e, more...)
	return nil
}

func (*events) Requests(context.Context) ([]rollout.Request, error) { return nil, nil }

// carryOut runs the playbook site.yml of an archive on the hosts a and b, in a
// folder with the archive's files.
func carryOut(t *testing.T, a *txtar.Archive) (*rollout.Run, string) {
	t.Helper()
	plan, e, dir := planned(t, a)
	r, err := e.Execute(t.Context(), plan, 1)
	if err != nil {
		t.Fatal(err)
	}
	return r, dir
}

// planned is the plan of the archive's playbook, and what carries it out.
func planned(t *testing.T, a *txtar.Archive) (rollout.Plan, *engine.Engine, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "work")
	fsys := fstest.MapFS{"hosts": {Data: []byte("a\nb\n")}}
	for _, f := range append(slices.Clone(a.Files), txtar.File{Name: "home/.keep"}) {
		fsys[f.Name] = &fstest.MapFile{Data: f.Data}
		file := filepath.Join(dir, f.Name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, f.Data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	l := local{dir}
	modules := module.Modules(l)
	params, differs := map[string]rollout.Params{}, map[string]rollout.Differ{}
	for name, m := range modules {
		params[name], differs[name] = m.About().Params, m
	}
	inv, err := inventory.Load(fsys, []string{"hosts"}, inventory.Options{ExtraVars: []string{"work=" + dir}})
	if err != nil {
		t.Fatal(err)
	}
	pb, err := playbook.Load(os.DirFS("/"), strings.TrimPrefix(dir, "/")+"/site.yml", playbook.Options{Dir: "/", Modules: params})
	if err != nil {
		t.Fatal(err)
	}
	desired, _, err := pb.Compile(inv, params, playbook.CompileOptions{ExtraVars: inv.ExtraVars()})
	if err != nil {
		t.Fatal(err)
	}
	before := tree(t, dir)
	observed, err := engine.Observe(t.Context(), desired, modules, []rollout.Observer{l})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := rollout.Compute(desired, observed, differs, rollout.Basis{})
	if err != nil {
		t.Fatal(err)
	}
	if p := plan.Problems(); len(p) > 0 {
		t.Fatalf("problems in the plan: %+v", p)
	}
	if d := cmp.Diff(before, tree(t, dir)); d != "" {
		t.Fatalf("making the plan has changed the node:\n%s", d)
	}
	// A plan is kept between plan and apply: what runs is what was written down.
	raw, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	plan = rollout.Plan{}
	if err := json.Unmarshal(raw, &plan); err != nil {
		t.Fatal(err)
	}
	return plan, &engine.Engine{Modules: modules, Resolver: playbook.NewOpenSteps(params), Journal: &events{}}, dir
}
