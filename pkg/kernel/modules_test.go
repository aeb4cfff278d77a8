package kernel

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

var wholePlay = []string{"fleetd.kernel.preflight", "fleetd.kernel.package", "fleetd.kernel.trial_boot", "fleetd.kernel.default"}

// planned is one module with its change.
type planned struct {
	name   string
	change rollout.Change
}

// planFor plans the play on what the node is now, repository included.
func planFor(t *testing.T, n *fakeNode, play ...string) []planned {
	t.Helper()
	f, err := node.Gather(context.Background(), n, "node2", true)
	if err != nil {
		t.Fatal(err)
	}
	f.Available = map[string][]node.Package{"kernel-ml@elrepo-kernel": n.repo}
	raw, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	state := rollout.State{"node": raw}
	var out []planned
	for _, name := range play {
		c, after, err := Modules(n)[name].Diff("node2", state, rollout.Args{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out, state = append(out, planned{name, c}), after
	}
	return out
}

func step(c rollout.Change, checkpoints map[string]string, attempt int) rollout.Step {
	return rollout.Step{Host: "node2", Change: c, Become: true, Attempt: attempt, First: time.Now(), Checkpoints: checkpoints}
}

// doAll runs the steps in order, each until it ends, and stops at the first
// that ends badly.
func doAll(n *fakeNode, steps []planned) (last rollout.Outcome) {
	for _, p := range steps {
		if !p.change.Action.Writes() && p.change.Action != rollout.ReadOnly {
			continue
		}
		j := &journal{n, map[string]string{}}
		for attempt := 1; attempt < 10; attempt++ {
			last = Modules(n)[p.name].Do(rollout.WithRecorder(context.Background(), j), step(p.change, j.checkpoints, attempt))
			if last.Final() {
				break
			}
		}
		if last.Bad() {
			return last
		}
	}
	return last
}

// end is what must be the same however often fleetd was killed on the way.
type end struct {
	Running, Saved, Next string
	Reboots              int
	Entries              []node.BootEntry
	RPMs                 []node.Package
}

func (n *fakeNode) end() end {
	return end{n.running, n.saved, n.next, n.reboots, n.entries, n.rpms}
}

func TestWholePlay(t *testing.T) {
	for _, bls := range []bool{false, true} {
		t.Run(fmt.Sprintf("bls=%v", bls), func(t *testing.T) {
			n := newNode(bls)
			before := n.entries[0].Args
			if out := doAll(n, planFor(t, n, wholePlay...)); out.Bad() {
				t.Fatalf("%s: %s", out.Message, out.Hint)
			}
			if n.running != newRelease || n.reboots != 1 || n.entryOf(n.saved).Release() != newRelease || n.next != "" {
				t.Errorf("ended as %+v", n.end())
			}
			for _, e := range n.entries {
				if e.Args != before {
					t.Errorf("entry of %s has args %q afterwards, had %q", e.Release(), e.Args, before)
				}
			}
			// Each command that the article types has its counterpart.
			for _, want := range []string{
				"yum --disablerepo=* --enablerepo=elrepo-kernel", "yum --enablerepo=elrepo-kernel install -y kernel-ml-6.1.176-1.el7.elrepo.x86_64",
				"grubby --info=ALL", "grubby --set-default=/boot/vmlinuz-" + newRelease, "grubby --default-kernel", "init 6", "uname -rv",
			} {
				if !slices.ContainsFunc(n.log, func(l string) bool { return strings.Contains(l, want) }) {
					t.Errorf("never ran: %s\n%s", want, strings.Join(n.log, "\n"))
				}
			}
			// A second plan changes nothing.
			for _, p := range planFor(t, n, wholePlay...) {
				if p.change.Action != rollout.NoOp {
					t.Errorf("again: %s: %s %s", p.name, p.change.Action, p.change.Summary)
				}
			}
		})
	}
}

// TestCrashAnywhere kills fleetd after each operation of each step and calls
// the step again with the checkpoints that were stored: the node ends as in an
// undisturbed run, and goes down once at most.
func TestCrashAnywhere(t *testing.T) {
	for _, name := range wholePlay[1:] {
		for _, fault := range []string{"", "panics"} {
			t.Run(strings.TrimPrefix(name, "fleetd.kernel.")+fault, func(t *testing.T) {
				prepare := func() (*fakeNode, rollout.Change) {
					n := newNode(true)
					var change rollout.Change
					for _, p := range planFor(t, n, wholePlay...) {
						if p.name == name {
							change = p.change
							break
						}
						doAll(n, []planned{p})
					}
					n.panics = fault != ""
					n.ops, n.log = 0, nil
					return n, change
				}
				calm, change := prepare()
				wanted := Modules(calm)[name].Do(rollout.WithRecorder(context.Background(), &journal{calm, map[string]string{}}), step(change, nil, 1))
				if calm.ops < 4 {
					t.Fatalf("only %d operations: this test would show nothing", calm.ops)
				}
				for at := 1; at <= calm.ops; at++ {
					n, change := prepare()
					n.crashAt = at
					j := &journal{n, map[string]string{}}
					ctx := rollout.WithRecorder(context.Background(), j)
					Modules(n)[name].Do(ctx, step(change, nil, 1))
					n.crashAt = 0 // fleetd is started again
					got := Modules(n)[name].Do(ctx, step(change, j.checkpoints, 2))
					if got.Bad() != wanted.Bad() {
						t.Errorf("crash after operation %d: %s %q, undisturbed %s %q", at, got.Kind, got.Message, wanted.Kind, wanted.Message)
					}
					a, b := calm.end(), n.end()
					if diff := cmp.Diff(a, b); diff != "" {
						t.Errorf("crash after operation %d (%s): the node differs (-undisturbed +crashed):\n%s", at, calm.log[min(at, len(calm.log))-1], diff)
					}
				}
			})
		}
	}
}

// TestFaults: each fault ends the step by name, and leaves the node where the
// message says it is.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name    string
		module  string // the one that fails
		break_  func(*fakeNode)
		kind    rollout.OutcomeKind
		message string
		hint    string
		check   func(*testing.T, *fakeNode)
	}{
		{"full boot", wholePlay[0], func(n *fakeNode) { n.bootMB = 34 }, rollout.Failed, "/boot has 34 MB free", "remove an old kernel", untouched},
		{"version gone", wholePlay[0], func(n *fakeNode) {
			n.repo = []node.Package{{Name: "kernel-ml", EVR: "6.2.0-1.el7.elrepo", Arch: "x86_64"}}
		}, rollout.Failed, "repository elrepo-kernel has 6.2.0-1.el7.elrepo", "make a new plan", untouched},
		{"yum installs nothing", wholePlay[1], func(n *fakeNode) { n.yumLies = true }, rollout.Failed, "rpm does not know the package", "Nothing else was changed", untouched},
		{"no entry", wholePlay[1], func(n *fakeNode) { n.noEntry = true }, rollout.Failed, "it has no boot entry", "yum reinstall -y kernel-ml-6.1.176", nil},
		{"no initramfs", wholePlay[1], func(n *fakeNode) { n.noImage = true }, rollout.Failed, "initramfs-" + newRelease + ".img is missing", "dracut -f", nil},
		{"driver missing", wholePlay[2], func(n *fakeNode) { n.missing = []string{"mptsas"} }, rollout.Failed, "mptsas", "kmod", neverDown},
		{"args not set", wholePlay[2], func(n *fakeNode) { n.argsLie = true }, rollout.Failed, "cannot set panic=10 on the boot entry", "", neverDown},
		{"next not set", wholePlay[2], func(n *fakeNode) { n.rebootLies = true }, rollout.Failed, "next_entry is \"\"", "1024 bytes", neverDown},
		{"panic", wholePlay[2], func(n *fakeNode) { n.panics = true }, rollout.Failed, "node2 came back on " + oldRelease + ": the new kernel " + newRelease + " did not stay up", "kubectl uncordon node2", backOnOld},
		{"next ignored", wholePlay[2], func(n *fakeNode) { n.ignoresNext = true }, rollout.Failed, "was never tried", "grub2-mkconfig", backOnOld},
		{"does not go down", wholePlay[2], func(n *fakeNode) { n.staysUp = true }, rollout.Failed, "still runs " + oldRelease + " (next_entry is cleared)", "list-jobs", neverDown},
		{"init refused", wholePlay[2], func(n *fakeNode) { n.initFails = true }, rollout.Failed, "init 6", "", neverDown},
		{"does not return", wholePlay[2], func(n *fakeNode) { n.staysDown = true }, rollout.Unreachable, "did not come back within 10m0s", "power cycle boots " + oldRelease, nil},
		{"default not set", wholePlay[3], func(n *fakeNode) { n.grubbyLies, n.toolsLie = true, true }, rollout.Failed, "the default is still " + oldRelease, "GRUB_DEFAULT=saved", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(false)
			steps := planFor(t, n, wholePlay...)
			i := slices.Index(wholePlay, c.module)
			if out := doAll(n, steps[:i]); out.Bad() {
				t.Fatalf("before the fault: %s", out.Message)
			}
			c.break_(n)
			out := doAll(n, steps[i:i+1])
			if out.Kind != c.kind || !strings.Contains(out.Message, c.message) || !strings.Contains(out.Hint, c.hint) {
				t.Errorf("%s: %s\nhint: %s", out.Kind, out.Message, out.Hint)
			}
			if !strings.Contains(out.Message, "node2") {
				t.Errorf("the message does not name the host: %s", out.Message)
			}
			if c.check != nil {
				c.check(t, n)
			}
		})
	}
}

func untouched(t *testing.T, n *fakeNode) {
	t.Helper()
	if len(n.rpms) != 1 || len(n.entries) != 1 || n.reboots != 0 {
		t.Errorf("the node was touched: %+v", n.end())
	}
}

func neverDown(t *testing.T, n *fakeNode) {
	t.Helper()
	if n.reboots != 0 || n.running != oldRelease || n.next != "" || n.entryOf(n.saved).Release() != oldRelease {
		t.Errorf("the node went down, or would boot something else: %+v", n.end())
	}
}

func backOnOld(t *testing.T, n *fakeNode) {
	t.Helper()
	e, _ := node.Boot{Entries: n.entries}.Entry(newRelease)
	if n.reboots != 1 || n.running != oldRelease || n.next != "" || n.entryOf(n.saved).Release() != oldRelease || e.Args != "ro quiet" {
		t.Errorf("ended as %+v", n.end())
	}
}

// TestLiarsThatAreHelped: what can be mended is mended, and said.
func TestLiarsThatAreHelped(t *testing.T) {
	t.Run("grubby sets no default", func(t *testing.T) {
		n := newNode(false)
		steps := planFor(t, n, wholePlay...)
		n.grubbyLies = true
		if out := doAll(n, steps); out.Bad() || n.entryOf(n.saved).Release() != newRelease {
			t.Errorf("%s; %+v", out.Message, n.end())
		}
	})
	t.Run("the package moves the default", func(t *testing.T) {
		n := newNode(true)
		steps := planFor(t, n, wholePlay...)
		n.movesDefault = true
		if out := doAll(n, steps[:2]); out.Bad() || n.entryOf(n.saved).Release() != oldRelease {
			t.Errorf("%s; %+v", out.Message, n.end())
		}
	})
	t.Run("GRUB cannot clear next_entry", func(t *testing.T) {
		n := newNode(true)
		steps := planFor(t, n, wholePlay...)
		n.keepsNext = true
		out := doAll(n, steps[:3])
		if out.Kind != rollout.Changed || !strings.Contains(out.Message, "next_entry set, which is cleared") || n.next != "" {
			t.Errorf("%s %s; %+v", out.Kind, out.Message, n.end())
		}
	})
	t.Run("the default was changed by hand", func(t *testing.T) {
		n := newNode(true)
		doAll(n, planFor(t, n, wholePlay[:2]...))
		n.setDefault(newRelease)
		n.panics = true
		out := doAll(n, planFor(t, n, wholePlay...))
		if out.Kind != rollout.Failed {
			t.Errorf("%s %s", out.Kind, out.Message)
		}
		backOnOld(t, n)
	})
	t.Run("the site has panic= of its own", func(t *testing.T) {
		n := newNode(true)
		n.entries[0].Args = "ro panic=0 quiet"
		steps := planFor(t, n, wholePlay...)
		doAll(n, steps[:2])
		n.updateArgs("/boot/vmlinuz-"+newRelease, []string{"panic=0"}, nil)
		doAll(n, steps[2:])
		e, _ := node.Boot{Entries: n.entries}.Entry(newRelease)
		if e.Args != "ro quiet panic=0" {
			t.Errorf("args afterwards: %q", e.Args)
		}
	})
}

func TestYumLock(t *testing.T) {
	n := newNode(false)
	steps := planFor(t, n, wholePlay...)
	n.lock = "812 packagekitd /usr/libexec/packagekitd"
	for _, p := range steps[:2] {
		s := step(p.change, nil, 1)
		out := Modules(n)[p.name].Do(context.Background(), s)
		if out.Kind != rollout.Retrying || !strings.Contains(out.Message, "packagekitd (pid 812)") {
			t.Errorf("%s: %s %s", p.name, out.Kind, out.Message)
		}
		s.First = time.Now().Add(-time.Hour)
		out = Modules(n)[p.name].Do(context.Background(), s)
		if out.Kind != rollout.Failed || !strings.Contains(out.Message, "packagekitd (pid 812)") {
			t.Errorf("%s, an hour later: %s %s", p.name, out.Kind, out.Message)
		}
	}
	untouched(t, n)
}

// TestUndo takes the whole play back in reverse order, killed anywhere.
func TestUndo(t *testing.T) {
	back := func(n *fakeNode, steps []planned, crash int) (ops int, out rollout.Outcome) {
		n.ops, n.crashAt = 0, crash
		for _, p := range slices.Backward(steps) {
			j := &journal{n, map[string]string{}}
			ctx := rollout.WithRecorder(context.Background(), j)
			out = Modules(n)[p.name].Undo(ctx, step(p.change, nil, 1))
			if n.crashAt > 0 && n.ops >= n.crashAt {
				n.crashAt = 0
				out = Modules(n)[p.name].Undo(ctx, step(p.change, j.checkpoints, 2))
			}
			if out.Bad() {
				return n.ops, out
			}
		}
		return n.ops, out
	}
	done := func() (*fakeNode, []planned) {
		n := newNode(true)
		steps := planFor(t, n, wholePlay...)
		if out := doAll(n, steps); out.Bad() {
			t.Fatal(out.Message)
		}
		return n, steps
	}
	fresh := newNode(true)
	n, steps := done()
	ops, out := back(n, steps, 0)
	for at := 0; at <= ops; at++ {
		n, steps = done()
		if _, out = back(n, steps, at); out.Bad() {
			t.Fatalf("crash after operation %d: %s", at, out.Message)
		}
		if n.running != oldRelease || n.saved != fresh.saved || n.next != "" || n.reboots != 2 || !cmp.Equal(n.rpms, fresh.rpms) || !cmp.Equal(n.entries, fresh.entries) {
			t.Errorf("crash after operation %d: ended as %+v", at, n.end())
		}
	}
	// A package whose kernel runs is not removed.
	n, steps = done()
	if out := Modules(n)[wholePlay[1]].Undo(context.Background(), step(steps[1].change, nil, 1)); out.Kind != rollout.Failed || len(n.rpms) != 3 {
		t.Errorf("%s %s; %+v", out.Kind, out.Message, n.end())
	}
}
