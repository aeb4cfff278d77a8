package kernel

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/pkg/kernel/kerneltest"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

const stageName = "fleetd.kernel.stage"

// planStage plans to stage what the repository has now.
func planStage(t tester, f *kerneltest.Fleet) planned {
	t.Helper()
	c, _, err := Modules(f)[stageName].Diff(host, observe(t, f, node.UnstagedKey), rollout.Args{})
	if err != nil {
		t.Fatal(err)
	}
	return planned{stageName, c}
}

// withoutNotes are the changes as a digest has them.
func withoutNotes(steps []planned) []rollout.Change {
	var out []rollout.Change
	for _, p := range steps {
		p.change.Note = ""
		out = append(out, p.change)
	}
	return out
}

func eachFlavour(t *testing.T, f func(t *testing.T, b *bench)) {
	for _, flavour := range []kerneltest.Flavour{kerneltest.EL7, kerneltest.EL8, kerneltest.EL9} {
		t.Run(string(flavour), func(t *testing.T) { f(t, newBench(t, flavour)) })
	}
}

// TestStaged: what is staged is installed though no repository answers any more, by the
// plan that was reviewed before. Staging has changed nothing else, and nothing of it is
// left.
func TestStaged(t *testing.T) {
	eachFlavour(t, func(t *testing.T, b *bench) {
		if note := b.steps[1].change.Note; note != "60 MB to download" {
			t.Errorf("before: %q", note)
		}
		before := b.World()
		if out := b.do(planStage(t, b.fleet)); out.Kind != rollout.Changed {
			t.Fatalf("%s %s", out.Kind, out.Message)
		}
		after := b.World()
		if after.Staged == "" {
			t.Error("nothing is staged")
		}
		after.Staged = ""
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("staging changed (-before +after):\n%s", diff)
		}
		if c := planStage(t, b.fleet).change; c.Action != rollout.NoOp {
			t.Errorf("again: %s %s", c.Action, c.Summary)
		}

		b.Behave(func(b *kerneltest.Behaviour) { b.RepoGone = true })
		now := plan(t, b.fleet, wholePlay...)
		if diff := cmp.Diff(withoutNotes(b.steps), withoutNotes(now)); diff != "" {
			t.Errorf("the plan is another one (-before +staged):\n%s", diff)
		}
		if note := now[1].change.Note; note != "staged 2026-11-27" {
			t.Errorf("staged: %q", note)
		}
		if out := b.do(b.steps...); out.Bad() {
			t.Fatalf("%s %s", out.Kind, out.Message)
		}
		if w := b.World(); w.Running != b.new || w.Staged != "" || b.Counts().Transactions != 2 {
			t.Errorf("running %s, staged %q, %d transactions", w.Running, w.Staged, b.Counts().Transactions)
		}
	})
}

// TestStagedStays: the repository has a newer kernel by then. What was staged is what
// plan and apply go by; staging anew takes the newer one.
func TestStagedStays(t *testing.T) {
	eachFlavour(t, func(t *testing.T, b *bench) {
		if out := b.do(planStage(t, b.fleet)); out.Bad() {
			t.Fatal(out.Message)
		}
		newer := node.Package{Name: "kernel-ml", EVR: strings.Replace(b.new, ".x86_64", "", 1), Arch: "x86_64"}
		newer.EVR = strings.Replace(newer.EVR, "6.1.176", "6.1.200", 1)
		b.Behave(func(b *kerneltest.Behaviour) { b.Repo = []node.Package{newer} })
		if diff := cmp.Diff(withoutNotes(b.steps), withoutNotes(plan(t, b.fleet, wholePlay...))); diff != "" {
			t.Errorf("the plan is another one (-before +staged):\n%s", diff)
		}
		again := planStage(t, b.fleet)
		if !strings.Contains(again.change.Summary, newer.NEVRA()) {
			t.Errorf("staged anew: %s", again.change.Summary)
		}
		begun := len(b.Log())
		if out := b.do(again); out.Bad() {
			t.Fatal(out.Message)
		}
		// The old answer is gone before the metadata that it hangs on is.
		forgets := func(l string) bool { return l == "rm -f -- "+node.StageDir+"/staged" }
		downloads := func(l string) bool { return strings.Contains(l, "--downloadonly") }
		log := b.Log()[begun:]
		if i := slices.IndexFunc(log, forgets); i < 0 || i > slices.IndexFunc(log, downloads) {
			t.Errorf("what is staged is not forgotten first:\n%s", strings.Join(log, "\n"))
		}
		if now := plan(t, b.fleet, wholePlay...); !strings.Contains(now[1].change.Summary, newer.NEVRA()) || now[1].change.Note != "staged 2026-11-27" {
			t.Errorf("%s [%s]", now[1].change.Summary, now[1].change.Note)
		}
		undo := &driver{remote: b.remote, undo: true}
		if out := undo.do(reversed([]planned{again})...); out.Bad() || b.World().Staged != "" {
			t.Errorf("undo: %s %s, staged %q", out.Kind, out.Message, b.World().Staged)
		}
	})
}

// TestStageRefusesRotten: a package whose signature is bad is never staged, and a
// stage that rots is no obstacle: the repository is asked instead.
func TestStageRefusesRotten(t *testing.T) {
	eachFlavour(t, func(t *testing.T, b *bench) {
		rots := func(name string) { b.Behave(func(b *kerneltest.Behaviour) { b.Rotten = name }) }
		rots("kernel-ml")
		step := planStage(t, b.fleet)
		if out := b.do(step); out.Kind != rollout.Failed || !strings.Contains(out.Message, "key ID baadae52: BAD") || b.World().Staged != "" {
			t.Fatalf("%s %s; staged %q", out.Kind, out.Message, b.World().Staged)
		}
		rots("")
		if out := b.do(step); out.Bad() {
			t.Fatal(out.Message)
		}
		rots("kernel-ml")
		if out := b.do(b.steps...); out.Bad() || b.World().Running != b.new {
			t.Errorf("%s %s; runs %s", out.Kind, out.Message, b.World().Running)
		}
	})
}

// TestStageCrashAnywhere: killed after any operation and done again it ends staged, with
// one download.
func TestStageCrashAnywhere(t *testing.T) {
	for at := 1; ; at++ {
		b := newBench(t, kerneltest.EL8)
		step := planStage(t, b.fleet)
		b.remote.ops, b.remote.killAt = 0, []int{at}
		out := b.do(step)
		if len(b.remote.killAt) > 0 {
			if at < 10 {
				t.Errorf("only %d operations", at)
			}
			return
		}
		if n := b.Counts().Transactions; out.Bad() || b.World().Staged == "" || n != 1 {
			t.Errorf("killed after operation %d: %s %s; staged %q, %d downloads", at, out.Kind, out.Message, b.World().Staged, n)
		}
	}
}

// TestInStep: -devel and -headers are taken along where older ones are installed. An
// undo removes what came beside the old one, and leaves what replaced it.
func TestInStep(t *testing.T) {
	eachFlavour(t, func(t *testing.T, b *bench) {
		old := node.Package{Name: "kernel-ml-devel", EVR: "6.0.1-1.elrepo", Arch: "x86_64"}
		headers := node.Package{Name: "kernel-ml-headers", EVR: "6.0.1-1.elrepo", Arch: "x86_64"}
		b.AddPackage(old)
		b.AddPackage(headers)
		steps := plan(t, b.fleet, wholePlay...)
		c := steps[1].change
		newHeaders := "kernel-ml-headers-" + b.new
		if !slices.Contains(c.Fields, rollout.Field{Name: "package that yum upgrades with it", Before: headers.NEVRA(), After: newHeaders}) {
			t.Errorf("the plan does not show the headers: %+v", c.Fields)
		}
		if !strings.Contains(c.Back, "stays: "+newHeaders) || strings.Contains(c.Back, "devel") {
			t.Errorf("back: %s", c.Back)
		}
		if out := b.do(steps...); out.Bad() {
			t.Fatal(out.Message)
		}
		has := func(nevra string) bool {
			return slices.ContainsFunc(b.World().Packages, func(p node.Package) bool { return p.NEVRA() == nevra })
		}
		newDevel := "kernel-ml-devel-" + b.new
		if !has(newDevel) || !has(old.NEVRA()) || !has(newHeaders) || has(headers.NEVRA()) {
			t.Errorf("installed: %v", b.World().Packages)
		}
		undo := &driver{remote: b.remote, undo: true}
		if out := undo.do(reversed(steps)...); out.Bad() {
			t.Fatal(out.Message)
		}
		if has(newDevel) || !has(old.NEVRA()) || !has(newHeaders) || has("kernel-ml-"+b.new) {
			t.Errorf("after undo: %v", b.World().Packages)
		}
	})
}

// TestUnlike: what would be staged is held against what a plan installs, host by host.
func TestUnlike(t *testing.T) {
	step := func(action rollout.Action, fields ...rollout.Field) rollout.PlannedStep {
		return rollout.PlannedStep{Change: rollout.Change{Action: action, Fields: fields}}
	}
	old, newer := rollout.Field{Name: "package", After: "kernel-ml-6.1.4"}, rollout.Field{Name: "package", After: "kernel-ml-6.1.5"}
	headers := rollout.Field{Name: "package that yum upgrades with it", Before: "kernel-ml-headers-6.0.1", After: "kernel-ml-headers-6.1.5"}
	of := func(module string, steps map[string]rollout.PlannedStep) *rollout.Plan {
		return &rollout.Plan{Plays: []rollout.PlannedPlay{{Batches: [][]string{{"n1", "n2", "n3", "n4", "n5"}}, Tasks: []rollout.PlannedTask{{Module: module, Steps: steps}}}}}
	}
	reviewed := of("fleetd.kernel.package", map[string]rollout.PlannedStep{
		"n1": step(rollout.Create, old), "n2": step(rollout.Create, old), "n3": step(rollout.Create, old), "n4": step(rollout.NoOp),
	})
	staging := of(stageName, map[string]rollout.PlannedStep{
		"n1": step(rollout.Create, old), "n2": step(rollout.NoOp, old), "n3": step(rollout.Create, newer, headers), "n4": step(rollout.NoOp), "n5": step(rollout.Create, old),
	})
	want := []string{
		"n3: the plan installs kernel-ml-6.1.4, to be had is kernel-ml-6.1.5, kernel-ml-headers-6.1.5 instead of kernel-ml-headers-6.0.1",
		"n5: the plan installs nothing, to be had is kernel-ml-6.1.4",
	}
	if diff := cmp.Diff(want, Unlike(reviewed, staging)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
