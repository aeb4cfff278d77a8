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
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/pkg/engine"
	"github.com/fleetd/fleetd/pkg/module"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/playbook"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// local are hosts that are all this machine: scripts run in one folder, in the
// environment that testdata/answers.py gives Ansible.
type local struct{ dir string }

func (l local) Run(ctx context.Context, _ string, c sshexec.Command) (sshexec.Result, error) {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", c.Script)
	cmd.Dir, cmd.Stdin = l.dir, c.Stdin
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(l.dir, "home"), "LC_ALL=C.UTF-8", "WORDS=two  words", "EMPTY=", "STAR=*"}
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

// Section and Observe answer for the facts of these hosts, of which the modules
// need none.
func (local) Section() string { return node.Section.Name() }

func (local) Observe(_ context.Context, keys map[string][]string) map[string]rollout.SectionObservation {
	out := map[string]rollout.SectionObservation{}
	for h := range keys {
		out[h] = rollout.SectionObservation{Value: []byte("{}")}
	}
	return out
}

// events is a journal in memory.
type events []rollout.Event

func (e *events) Append(_ context.Context, more []rollout.Event) error {
	*e = append(*e, more...)
	return nil
}

// carryOut runs the playbook site.yml of an archive on the hosts a and b, in a
// folder with the archive's files.
func carryOut(t *testing.T, a *txtar.Archive) (*rollout.Run, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "work")
	fsys := fstest.MapFS{"hosts": {Data: []byte("a\nb\n")}}
	for _, f := range append(slices.Clone(a.Files), txtar.File{Name: "home/.keep"}) {
		fsys[f.Name] = &fstest.MapFile{Data: f.Data}
		file := filepath.Join(dir, f.Name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, f.Data, 0o600)); err != nil {
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
	pb, err := playbook.Load(fsys, "site.yml", playbook.Options{Modules: params})
	if err != nil {
		t.Fatal(err)
	}
	desired, _, err := pb.Compile(inv, params, playbook.CompileOptions{ExtraVars: inv.ExtraVars()})
	if err != nil {
		t.Fatal(err)
	}
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
	// A plan is kept between plan and apply: what runs is what was written down.
	raw, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	plan = rollout.Plan{}
	if err := json.Unmarshal(raw, &plan); err != nil {
		t.Fatal(err)
	}
	r, err := (&engine.Engine{Modules: modules, Resolver: playbook.NewOpenSteps(params), Journal: &events{}}).Execute(t.Context(), plan, 1)
	if err != nil {
		t.Fatal(err)
	}
	return r, dir
}
