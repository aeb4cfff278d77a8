package kernel

import (
	"cmp"
	"context"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/fleetd/fleetd/pkg/kernel/kerneltest"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// nothingLeft holds the node against one on which there never was a trial.
func nothingLeft(t tester, b *bench, args map[string]string) {
	t.Helper()
	w := b.World()
	for _, e := range w.Entries {
		if e.Trial() || e.Args != args[e.Release()] {
			t.Errorf("entry %s is left with args %q", cmp.Or(e.ID, e.Title), e.Args)
		}
	}
	if w.Next != "" || len(w.Entries) != len(args) || w.DeadMan != "" || w.Jumpy || w.Trial != "" {
		t.Errorf("next_entry %q, %d entries, dead-man switch %q, jumpy %v, record of a trial %q", w.Next, len(w.Entries), w.DeadMan, w.Jumpy, w.Trial)
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
			b.SetArgs(b.new, "ro quiet fleetd.trial=x "+"rd.timeout=3600 rd.shell=0 rd.emergency=reboot panic=10 oops=panic softlockup_panic=1 hung_task_panic=1 nmi_watchdog=panic")
			shown++
		}
		if rapid.Bool().Draw(rt, "trial entry") {
			b.LeaveTrial(b.new, "an-earlier-boot")
			shown++
		}
		if rapid.Bool().Draw(rt, "dead-man switch") {
			b.LeaveDeadMan("an-earlier-boot")
			shown++
		}
		real, _ := node.Boot{Entries: b.World().Entries}.Entry(b.new)
		next := rapid.SampledFrom([]string{"", cmp.Or(real.ID, real.Title), real.ID + "~fleetd", node.TrialTitle + b.new, "gone"}).Draw(rt, "next_entry")
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
