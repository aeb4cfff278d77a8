package kernel

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fleetd/fleetd/pkg/kernel/kerneltest"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

// nothingLeft holds the node against one on which there never was a trial.
func nothingLeft(t tester, b *bench, args map[string]string) {
	t.Helper()
	w := b.World()
	for _, e := range w.Entries {
		if e.Trial() || e.Args != args[e.Release()] {
			t.Errorf("entry %s is left with args %q", entryName(e), e.Args)
		}
	}
	if w.Next != "" || len(w.Entries) != len(args) || w.DeadMan != "" || w.Jumpy {
		t.Errorf("next_entry %q, %d entries, dead-man switch %q, jumpy %v", w.Next, len(w.Entries), w.DeadMan, w.Jumpy)
	}
}

// rawArgs are those of all entries, variables and all.
func (b *bench) rawArgs() map[string]string {
	args := map[string]string{}
	for _, e := range b.World().Entries {
		args[e.Release()] = e.Args
	}
	return args
}

// TestCutOffAnywhere kills fleetd in each operation of a trial, for good. What it
// has left is found by the next plan, which ends as if nothing had been, and by
// an undo.
func TestCutOffAnywhere(t *testing.T) {
	for _, flavour := range flavours {
		for _, undo := range []bool{false, true} {
			cutOff, ended := 0, false
			for at := 1; !ended; at++ {
				b := newBench(t, flavour)
				step := b.before(t, wholePlay[2])
				was, counts := b.rawArgs(), b.Counts()
				b.remote.ops, b.remote.killAt = 0, []int{at}
				_, died := b.once(step)
				ended = !died
				b.up(t)
				if w := b.World(); len(w.Entries) > 2 || w.Next != "" {
					cutOff++
				}
				if undo {
					b.undo = true
					if out := b.do(reversed([]planned{step})...); out.Bad() {
						t.Fatalf("%s, cut off in operation %d, undone: %s", flavour, at, out.Message)
					}
					if w := b.World(); w.Running != b.old || b.defaultRelease() != b.old {
						t.Errorf("%s, cut off in operation %d, undone: %+v", flavour, at, w)
					}
				} else {
					if out := b.do(plan(t, b.fleet, wholePlay...)...); out.Bad() {
						t.Fatalf("%s, cut off in operation %d, applied again: %s", flavour, at, out.Message)
					}
					if w := b.World(); w.Running != b.new || b.defaultRelease() != b.new || b.Counts().Reboots != counts.Reboots+1 {
						t.Errorf("%s, cut off in operation %d, applied again: %+v", flavour, at, w)
					}
				}
				nothingLeft(t, b, was)
			}
			if cutOff < 3 {
				t.Errorf("%s: only %d cuts left anything: this test shows nothing", flavour, cutOff)
			}
		}
	}
}

// powerCut is a way to a node that loses its power after one of the operations.
type powerCut struct {
	*kerneltest.Fleet
	node    *kerneltest.Node
	ops, at int
}

func (p *powerCut) Run(ctx context.Context, host string, c sshexec.Command) (sshexec.Result, error) {
	res, err := p.Fleet.Run(ctx, host, c)
	if p.ops++; p.ops == p.at {
		p.node.Reset()
	}
	return res, err
}

// TestPowerCutAnywhere takes the node's power away after each operation of a trial
// and gives it back. It comes up with a kernel that is known, the step tells which,
// and the next plan, told to try again, ends as if nothing had been.
func TestPowerCutAnywhere(t *testing.T) {
	for _, flavour := range flavours {
		for at, ended := 1, false; !ended; at++ {
			b := newBench(t, flavour)
			step := b.before(t, wholePlay[2])
			was := b.rawArgs()
			cut := &powerCut{Fleet: b.fleet, node: b.Node, at: at}
			b.remote.way = cut
			out := b.do(step)
			b.remote.way, ended = nil, cut.ops < at
			b.up(t)
			// After its last operation a step does not see what becomes of the node.
			if w := b.World(); cut.at < cut.ops && out.Bad() == (w.Running == b.new) || b.defaultRelease() != b.old {
				t.Errorf("%s, cut in operation %d: %s %s, and the node runs %s", flavour, at, out.Kind, out.Message, w.Running)
			}
			// A trial that lost the power is one that failed, for all that is known.
			again := planWith(t, b.fleet, rollout.Args{"retry_failed": len(b.World().Failed) > 0}, wholePlay...)
			if out := b.do(again...); out.Bad() {
				t.Fatalf("%s, cut in operation %d, applied again: %s", flavour, at, out.Message)
			}
			if w := b.World(); w.Running != b.new || b.defaultRelease() != b.new {
				t.Errorf("%s, cut in operation %d, applied again: %+v", flavour, at, w)
			}
			nothingLeft(t, b, was)
		}
	}
}

// TestLeftoversProperty makes up what trials, killed anywhere, or somebody by hand,
// can leave on a node that runs either kernel. The plan shows
// it, the apply takes it away, and the plan after that changes nothing.
func TestLeftoversProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBench(t, rapid.SampledFrom(flavours).Draw(rt, "flavour"))
		upgraded := rapid.Bool().Draw(rt, "upgraded")
		if b.do(b.steps[:2]...); upgraded {
			b.do(b.steps[2:]...)
		}
		was := b.rawArgs()
		shown := 0
		if rapid.Bool().Draw(rt, "arguments") {
			was[b.new] = "ro quiet"
			b.SetArgs(b.new, "ro quiet fleetd.trial=x "+strings.Join(argsFor(time.Hour), " "))
			shown++
		}
		if rapid.Bool().Draw(rt, "trial entry") {
			l := loader{t.Context(), b.fleet, rollout.Step{Host: host, Become: true}}
			boot, err := l.entries()
			if err != nil {
				rt.Fatal(err)
			}
			if _, err := l.addTrial(boot, b.defaultRelease(), b.new, "an-earlier-boot", time.Minute); err != nil {
				rt.Fatal(err)
			}
			shown++
		}
		if rapid.Bool().Draw(rt, "dead-man switch") {
			if err := (loader{t.Context(), b.fleet, rollout.Step{Host: host, Become: true}}).arm("an-earlier-boot", time.Minute); err != nil {
				rt.Fatal(err)
			}
			shown++
		}
		real, _ := node.Boot{Entries: b.World().Entries}.Entry(b.new)
		next := rapid.SampledFrom([]string{"", entryName(real), real.ID + trialSuffix, trialTitle(b.new), "gone"}).Draw(rt, "next_entry")
		if b.SetNext(next); next != "" {
			shown++
		}
		steps := plan(rt, b.fleet, wholePlay...)
		trial := steps[2].change
		switch {
		case upgraded && (trial.Action.Writes() != (shown > 0) || len(trial.Fields) != shown || trial.Disruptive):
			rt.Errorf("%d things are left, and the plan says %s %s: %v", shown, trial.Action, trial.Summary, trial.Fields)
		case !upgraded && next != "" && trial.Fields[1].Before != next:
			rt.Errorf("next_entry is %s, and the plan says %v", next, trial.Fields)
		}
		reboots := b.Counts().Reboots
		if out := b.do(steps...); out.Bad() {
			rt.Fatalf("%s", out.Message)
		}
		if w := b.World(); w.Running != b.new || b.defaultRelease() != b.new || upgraded && b.Counts().Reboots != reboots {
			rt.Errorf("%+v", w)
		}
		nothingLeft(rt, b, was)
		for _, p := range plan(rt, b.fleet, wholePlay...) {
			if p.change.Action != rollout.NoOp {
				rt.Errorf("again: %s %s", p.name, p.change.Summary)
			}
		}
	})
}

// TestLeftoverStays: a tool that ends with 0 and takes nothing away is found out.
func TestLeftoverStays(t *testing.T) {
	for _, flavour := range flavours {
		b := newBench(t, flavour)
		step := b.before(t, wholePlay[2])
		b.Behave(func(b *kerneltest.Behaviour) { b.TrialStays = true })
		if out := b.do(step); out.Kind != rollout.Changed || !strings.Contains(out.Message, "there is still the boot entry of an earlier trial") {
			t.Errorf("%s: %s %s", flavour, out.Kind, out.Message)
		}
		if out := b.do(plan(t, b.fleet, wholePlay[2])...); out.Kind != rollout.Failed || !strings.Contains(out.Message, "there is still the boot entry of an earlier trial") {
			t.Errorf("%s, again: %s %s", flavour, out.Kind, out.Message)
		}
	}
}

// TestTrialEntry: the entry that is booted is the real one with the trial's
// arguments, and is never the first that a path or saved_entry finds.
func TestTrialEntry(t *testing.T) {
	for _, flavour := range flavours {
		b := newBench(t, flavour)
		b.before(t, wholePlay[2])
		b.SetArgs(b.old, "ro panic=0 quiet debug")
		b.SetArgs(b.new, "ro quiet $tuned_params console=tty0 console=ttyS0")
		l := loader{t.Context(), b.fleet, rollout.Step{Host: host, Become: true}}
		boot, err := l.entries()
		if err != nil {
			t.Fatal(err)
		}
		e, err := l.addTrial(boot, b.old, b.new, "RUN", 90*time.Second)
		if err != nil {
			t.Errorf("%s: %v", flavour, err)
			continue
		}
		want := "ro quiet $tuned_params console=tty0 console=ttyS0 fleetd.trial=RUN rd.timeout=90 rd.shell=0 rd.emergency=reboot panic=10 oops=panic softlockup_panic=1 hung_task_panic=1 nmi_watchdog=panic"
		if diff := cmp.Diff(sorted(want), sorted(e.Args)); diff != "" {
			t.Errorf("%s: args (-want +got):\n%s", flavour, diff)
		}
		now, err := l.entries()
		if err != nil {
			t.Fatal(err)
		}
		if real, _ := now.Entry(b.new); real.Trial() || names(now, entryName(e), b.new) {
			t.Errorf("%s: the trial's entry passes for the real one: %+v", flavour, real)
		}
	}
}

// TestCopyFile runs the script in a real shell on a file as EL8's kernels bring it.
func TestCopyFile(t *testing.T) {
	dir := t.TempDir()
	real, trial := filepath.Join(dir, "id-6.1.conf"), filepath.Join(dir, "id-6.1~fleetd.conf")
	const text = "title\tRocky Linux (6.1) 8.10 (Green Obsidian)\nversion 6.1\nlinux /vmlinuz-6.1\ninitrd /initramfs-6.1.img $tuned_initrd\n%s\ngrub_users $grub_users\n"
	before := fmt.Sprintf(text, "options $kernelopts $tuned_params")
	if err := os.WriteFile(real, []byte(before), 0o640); err != nil {
		t.Fatal(err)
	}
	server := sshtest.New(t)
	pool := sshexec.NewPool(sshexec.Options{})
	defer pool.Close()
	run := func(from string) int {
		t.Helper()
		res, err := pool.Run(t.Context(), server.Target("node1"), sshexec.Command{Script: copyFileScript, Env: map[string]string{
			"real": from, "trial": trial, "title": "fleetd trial of 6.1", "args": "fleetd.trial=x rd.shell=0",
		}})
		if err != nil {
			t.Fatal(err)
		}
		return res.ExitStatus
	}
	if status := run(filepath.Join(dir, "missing.conf")); status == 0 {
		t.Error("a file that is missing is copied")
	}
	if _, err := os.Stat(trial); err == nil {
		t.Error("and something is there")
	}
	if status := run(real); status != 0 {
		t.Errorf("exit status %d", status)
	}
	want := strings.Replace(fmt.Sprintf(text, "options $kernelopts $tuned_params fleetd.trial=x rd.shell=0"), "title\tRocky Linux (6.1) 8.10 (Green Obsidian)", "title fleetd trial of 6.1", 1)
	for file, want := range map[string]string{trial: want, real: before} {
		got, err := os.ReadFile(file)
		if diff := cmp.Diff(want, string(got)); err != nil || diff != "" {
			t.Errorf("%s (-want +got), %v:\n%s", filepath.Base(file), err, diff)
		}
	}
	if info, err := os.Stat(trial); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.new")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
