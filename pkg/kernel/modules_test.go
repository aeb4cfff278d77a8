package kernel

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fleetd/fleetd/pkg/kernel/kerneltest"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

var flavours = []kerneltest.Flavour{kerneltest.EL7, kerneltest.EL8, kerneltest.EL9}

func TestWholePlay(t *testing.T) {
	for _, flavour := range flavours {
		t.Run(string(flavour), func(t *testing.T) {
			b := newBench(t, flavour)
			before := b.args(b.old)
			if out := b.do(b.steps...); out.Kind != rollout.Changed {
				t.Fatalf("%s %s: %s", out.Kind, out.Message, out.Hint)
			}
			if w := b.World(); w.Running != b.new || b.defaultRelease() != b.new || w.Next != "" {
				t.Errorf("ended as %+v", w)
			}
			if diff := cmp.Diff(kerneltest.Counts{Reboots: 1, Transactions: 1, Defaults: 1}, b.Counts()); diff != "" {
				t.Errorf("effects (-want +got):\n%s", diff)
			}
			for _, e := range b.World().Entries {
				if e.Args != before {
					t.Errorf("entry of %s has args %q afterwards, had %q", e.Release(), e.Args, before)
				}
			}
			// Nothing takes a node back that was disarmed.
			for range 300 {
				b.up(t)
			}
			if w := b.World(); w.Running != b.new || w.DeadMan != "" {
				t.Errorf("later: %+v", w)
			}
			// Each command that the article types has its counterpart.
			for _, want := range []string{
				"yum '--disablerepo=*' --enablerepo=elrepo-kernel", "yum --enablerepo=elrepo-kernel install -y kernel-ml-6.1.176-1.",
				"grubby --info=ALL", "grubby --set-default=/boot/vmlinuz-" + b.new, "grubby --default-kernel", "init 6", "uname -rv",
			} {
				if !b.ran(want) {
					t.Errorf("never ran: %s\n%s", want, strings.Join(b.Log(), "\n"))
				}
			}
			// A second plan changes nothing.
			for _, p := range plan(t, b.fleet, wholePlay...) {
				if p.change.Action != rollout.NoOp {
					t.Errorf("again: %s: %s %s", p.name, p.change.Action, p.change.Summary)
				}
			}
		})
	}
}

// TestFaults: each fault ends the step by name, and leaves the node where the
// message says it is.
func TestFaults(t *testing.T) {
	const preflight, pkg, trial, makeDefault = "fleetd.kernel.preflight", "fleetd.kernel.package", "fleetd.kernel.trial_boot", "fleetd.kernel.default"
	old, newer := kerneltest.OldRelease(kerneltest.EL7), kerneltest.NewRelease(kerneltest.EL7)
	for _, c := range []struct {
		name    string
		module  string // the one that fails
		fault   func(*kerneltest.Behaviour)
		kind    rollout.OutcomeKind
		message string
		hint    string
		check   func(*testing.T, *bench)
	}{
		{"full boot", preflight, func(b *kerneltest.Behaviour) { b.BootFreeMB = 34 }, rollout.Failed, "/boot has 34 MB free", "remove an old kernel", untouched},
		{"version gone", preflight, func(b *kerneltest.Behaviour) {
			b.Repo = []node.Package{{Name: "kernel-ml", EVR: "6.2.0-1.el7.elrepo", Arch: "x86_64"}}
		}, rollout.Failed, "repository elrepo-kernel has 6.2.0-1.el7.elrepo", "make a new plan", untouched},
		{"another repository dead", preflight, func(b *kerneltest.Behaviour) { b.InstallFails = baseDead }, rollout.Failed, "yum would not: Cannot find a valid baseurl for repo: base/7/x86_64", "vault.centos.org", untouched},
		{"dependency missing", preflight, func(b *kerneltest.Behaviour) { b.InstallFails = dependencyMissing }, rollout.Failed, "yum would not: nothing provides linux-firmware >= 20190516 needed by kernel-ml", "--assumeno", untouched},
		{"grub.cfg boots entry 0", preflight, func(b *kerneltest.Behaviour) { b.GrubDefault = "0" }, rollout.Failed, `/boot/grub2/grub.cfg boots entry "0" and not the saved one`, "echo GRUB_DEFAULT=saved >>/etc/default/grub; grub2-mkconfig -o /boot/grub2/grub.cfg", untouched},
		{"grub.cfg boots entry 0 by now", trial, func(b *kerneltest.Behaviour) { b.GrubDefault = "0" }, rollout.Failed, `/boot/grub2/grub.cfg boots entry "0" and not the saved one`, "grub2-mkconfig", func(t *testing.T, b *bench) {
			neverDown(t, b)
			if b.ran("--set-default") {
				t.Error("grubby was let loose on a grub.cfg that it breaks")
			}
		}},
		{"yum would do more by now", preflight, func(b *kerneltest.Behaviour) {
			b.InstallsToo = "Removing:\n kernel   x86_64   3.10.0-957.el7   @anaconda   63 M\n"
		}, rollout.Failed, "yum would do something else by now than was planned: install kernel-ml-" + newer + ", remove kernel-3.10.0-957.el7.x86_64; was planned: install kernel-ml-" + newer, "make a new plan", untouched},
		{"yum installs nothing", pkg, func(b *kerneltest.Behaviour) { b.YumInstallsNothing = true }, rollout.Failed, "yum ended with exit status 0, and rpm does not know the package", "Nothing else was changed", untouched},
		{"yum fails", pkg, func(b *kerneltest.Behaviour) { b.YumFails = 9 }, rollout.Failed, "yum ended with exit status 1", "cat /var/log/fleetd/yum.log", untouched},
		{"yum does not end", pkg, func(b *kerneltest.Behaviour) { b.YumTakes = 1 << 30 }, rollout.Failed, "it has worked for 40m0s", "tail", nil},
		{"no entry", pkg, func(b *kerneltest.Behaviour) { b.YumAddsNoEntry = true }, rollout.Failed, "it has no boot entry", "yum reinstall -y 'kernel*-6.1.176", nil},
		{"no initramfs", pkg, func(b *kerneltest.Behaviour) { b.NoInitramfs = true }, rollout.Failed, "initramfs-" + newer + ".img is missing", "dracut -f", nil},
		{"driver missing, before the drain", pkg, func(b *kerneltest.Behaviour) { b.MissingDrivers = []string{"mptsas"} }, rollout.Failed, "is installed on node2 and must not be booted there: kernel " + newer + " lacks drivers that this node's disks and network cards use: mptsas", "kmod", neverDown},
		{"driver missing", trial, func(b *kerneltest.Behaviour) { b.MissingDrivers = []string{"mptsas"} }, rollout.Failed, "mptsas", "kmod", neverDown},
		{"no trial entry", trial, func(b *kerneltest.Behaviour) { b.NoTrialEntry = true }, rollout.Failed, "cannot make a boot entry for the trial of " + newer, "", neverDown},
		{"grubby breaks grub.cfg", trial, func(b *kerneltest.Behaviour) { b.AddingBreaks = true }, rollout.Failed, "grubby left a grub.cfg on node2 that GRUB cannot read: exit status 65: error: syntax error.", "before anybody reboots it: grub2-mkconfig -o", func(t *testing.T, b *bench) {
			if b.Counts().Reboots != 0 || b.World().Next != "" {
				t.Errorf("the node was rebooted all the same: %+v", b.World())
			}
		}},
		{"dead-man switch not taken", trial, func(b *kerneltest.Behaviour) { b.DeadManIgnored = true }, rollout.Failed, "systemd does not take /etc/systemd/system/fleetd-trial.service", "read-only", neverDown},
		{"dead-man switch stays", trial, func(b *kerneltest.Behaviour) { b.DeadManStays, b.DeadManTakes = true, 30 }, rollout.Failed, "cannot disarm the dead-man switch of node2", "systemctl stop fleetd-trial.service", func(t *testing.T, b *bench) {
			for range 40 {
				_, _ = node.Gather(t.Context(), b.fleet, host, true)
			}
			b.up(t)
			if w := b.World(); w.Running != old || b.defaultRelease() != old {
				t.Errorf("the node did not go back: %+v", w)
			}
			b.Behave(func(b *kerneltest.Behaviour) { b.DeadManStays = false })
			if out := b.do(plan(t, b.fleet, wholePlay...)...); out.Bad() {
				t.Errorf("applied again: %s", out.Message)
			}
			nothingLeft(t, b, map[string]string{old: b.args(old), newer: b.args(old)})
		}},
		{"nobody can log in", trial, newKernel(kerneltest.CutOff), rollout.Failed, "node2 came back on " + old + ": the new kernel " + newer + " did not stay up", "kubectl uncordon node2", backOnOld},
		{"next not set", trial, func(b *kerneltest.Behaviour) { b.Grub2RebootsNothing = true }, rollout.Failed, "next_entry is \"\"", "1024 bytes", neverDown},
		{"panic", trial, newKernel(kerneltest.Panics), rollout.Failed, "node2 came back on " + old + ": the new kernel " + newer + " did not stay up", "kubectl uncordon node2", backOnOld},
		{"next ignored", trial, func(b *kerneltest.Behaviour) { b.GrubIgnoresNext = true }, rollout.Failed, "was never tried", "kexec-load", backOnOld},
		{"does not go down", trial, func(b *kerneltest.Behaviour) { b.InitDoesNothing = true }, rollout.Failed, "still runs " + old + " (nothing is left of the attempt)", "list-jobs", neverDown},
		{"init refused", trial, func(b *kerneltest.Behaviour) { b.InitRefuses = true }, rollout.Failed, "init 6", "", neverDown},
		{"does not return", trial, newKernel(kerneltest.Dies), rollout.Unreachable, "did not come back within 30m0s after it was asked to boot " + newer, "power cycle boots " + old, nil},
		{"hangs, and is reset", trial, newKernel(kerneltest.Hangs), rollout.Unreachable, "did not come back within 30m0s", "power cycle boots " + old, func(t *testing.T, b *bench) {
			b.Reset()
			_ = observe(t, b.up(t))
			if w := b.World(); w.Running != old || w.Next != "" {
				t.Errorf("after the reset: %+v", w)
			}
		}},
		{"default not set", makeDefault, func(b *kerneltest.Behaviour) { b.GrubbySetsNoDefault, b.Grub2SetsNoDefault = true, true }, rollout.Failed, "the default is still " + old, "yum update -y grubby", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, kerneltest.EL7)
			step := b.before(t, c.module)
			b.Behave(c.fault)
			out := b.do(step)
			if out.Kind != c.kind || !strings.Contains(out.Message, c.message) || !strings.Contains(out.Hint, c.hint) {
				t.Errorf("%s: %s\nhint: %s", out.Kind, out.Message, out.Hint)
			}
			if !strings.Contains(out.Message, "node2") {
				t.Errorf("the message does not name the host: %s", out.Message)
			}
			if c.check != nil {
				c.check(t, b)
			}
		})
	}
}

// What yum 3 and dnf 4 say.
const (
	baseDead          = "One of the configured repositories failed (Unknown),\nand yum doesn't have enough cached data to continue.\n\nCannot find a valid baseurl for repo: base/7/x86_64\n"
	dependencyMissing = "Error: \n Problem: conflicting requests\n  - nothing provides linux-firmware >= 20190516 needed by kernel-ml-core-6.1.176-1.el8.elrepo.x86_64\n"
)

// TestPlanAsksWhatApplyDoes: what would fail the install fails the plan, but not
// on a node on which nothing is to be installed.
func TestPlanAsksWhatApplyDoes(t *testing.T) {
	for _, says := range []string{baseDead, dependencyMissing} {
		b := newBench(t, kerneltest.EL8)
		var risks []string
		diff := func() error {
			c, _, err := Modules(b.fleet)["fleetd.kernel.preflight"].Diff(host, observe(t, b.fleet), rollout.Args{})
			risks = c.Risks
			return err
		}
		b.Behave(func(b *kerneltest.Behaviour) { b.InstallFails = says })
		if err := diff(); err == nil || !strings.Contains(err.Error(), "yum would not: ") {
			t.Errorf("%q passes the plan: %v", says, err)
		}
		b.Behave(func(b *kerneltest.Behaviour) { b.Lock = "812 packagekitd" })
		if err := diff(); err != nil || !slices.ContainsFunc(risks, func(r string) bool { return strings.Contains(r, "holds yum's lock") }) {
			t.Errorf("with the lock in other hands: %v, %q", err, risks)
		}
		b.Behave(func(b *kerneltest.Behaviour) { b.InstallFails, b.Lock = "", "" })
		if out := b.do(b.steps...); out.Bad() {
			t.Fatal(out.Message)
		}
		b.Behave(func(b *kerneltest.Behaviour) { b.InstallFails = says })
		if err := diff(); err != nil {
			t.Errorf("with nothing to install: %v", err)
		}
	}
}

// newKernel gives the kernel in the repository a fate.
func newKernel(fate kerneltest.Fate) func(*kerneltest.Behaviour) {
	return func(b *kerneltest.Behaviour) { b.Kernels[b.Repo[0].Release()] = fate }
}

// up tries to reach the node until it is up, and not on its way down.
func (b *bench) up(t testing.TB) *kerneltest.Fleet {
	t.Helper()
	for answers, tries := 0, 0; tries < 20; tries++ {
		if _, err := node.Gather(t.Context(), b.fleet, host, true); err != nil {
			answers = 0
		} else if answers++; answers == 4 {
			return b.fleet
		}
	}
	t.Fatal("the node does not come up")
	return nil
}

func untouched(t *testing.T, b *bench) {
	t.Helper()
	if w := b.World(); len(w.Packages) != 1 || len(w.Entries) != 1 || b.Counts().Reboots != 0 {
		t.Errorf("the node was touched: %+v", w)
	}
}

func neverDown(t *testing.T, b *bench) {
	t.Helper()
	if w := b.World(); b.Counts().Reboots != 0 || w.Running != b.old || w.Next != "" || b.defaultRelease() != b.old || b.args(b.new) != b.args(b.old) || len(w.Entries) != 2 {
		t.Errorf("the node went down, or would boot something else: %+v", w)
	}
}

func backOnOld(t *testing.T, b *bench) {
	t.Helper()
	if w := b.World(); b.Counts().Reboots != 1 || w.Running != b.old || w.Next != "" || b.defaultRelease() != b.old || b.args(b.new) != b.args(b.old) || len(w.Entries) != 2 {
		t.Errorf("ended as %+v", w)
	}
}

// TestLiarsThatAreHelped: what can be mended is mended, and said.
func TestLiarsThatAreHelped(t *testing.T) {
	t.Run("grubby sets no default", func(t *testing.T) {
		b := newBench(t, kerneltest.EL7)
		b.Behave(func(b *kerneltest.Behaviour) { b.GrubbySetsNoDefault = true })
		if out := b.do(b.steps...); out.Bad() || b.defaultRelease() != b.new {
			t.Errorf("%s; %+v", out.Message, b.World())
		}
	})
	t.Run("the package moves the default", func(t *testing.T) {
		b := newBench(t, kerneltest.EL8)
		b.Behave(func(b *kerneltest.Behaviour) { b.YumMovesDefault = true })
		if out := b.do(b.steps[:2]...); out.Bad() || b.defaultRelease() != b.old {
			t.Errorf("%s; %+v", out.Message, b.World())
		}
	})
	t.Run("the mirror hiccups twice", func(t *testing.T) {
		b := newBench(t, kerneltest.EL8)
		b.Behave(func(b *kerneltest.Behaviour) { b.YumFails = 2 })
		if out := b.do(b.steps[:2]...); out.Kind != rollout.Changed || b.Counts().Transactions != 3 || !b.ran("clean expire-cache") {
			t.Errorf("%s %s; %+v", out.Kind, out.Message, b.Counts())
		}
	})
	t.Run("GRUB cannot clear next_entry", func(t *testing.T) {
		b := newBench(t, kerneltest.EL8)
		b.Behave(func(b *kerneltest.Behaviour) { b.GrubKeepsNext = true })
		out := b.do(b.steps[:3]...)
		if out.Kind != rollout.Changed || !strings.Contains(out.Message, "next_entry set, which is cleared") || b.World().Next != "" {
			t.Errorf("%s %s; %+v", out.Kind, out.Message, b.World())
		}
	})
	t.Run("grubby makes the trial the default", func(t *testing.T) {
		b := newBench(t, kerneltest.EL7)
		b.Behave(func(b *kerneltest.Behaviour) { b.AddingMovesDefault = true })
		step := b.before(t, wholePlay[2])
		b.Behave(newKernel(kerneltest.Panics))
		if out := b.do(step); out.Kind != rollout.Failed {
			t.Errorf("%s %s", out.Kind, out.Message)
		}
		backOnOld(t, b)
	})
	t.Run("the default is an index", func(t *testing.T) {
		for _, flavour := range flavours {
			b := newBench(t, flavour)
			step := b.before(t, wholePlay[2])
			b.SetSaved("1") // the old kernel's, until an entry is added before it
			b.Behave(newKernel(kerneltest.Panics))
			if out := b.do(step); out.Kind != rollout.Failed {
				t.Errorf("%s %s", out.Kind, out.Message)
			}
			backOnOld(t, b)
		}
	})
	t.Run("the default was changed by hand", func(t *testing.T) {
		b := newBench(t, kerneltest.EL9)
		b.before(t, wholePlay[2])
		b.SetDefault(b.new)
		b.Behave(newKernel(kerneltest.Panics))
		if out := b.do(plan(t, b.fleet, wholePlay...)...); out.Kind != rollout.Failed {
			t.Errorf("%s %s", out.Kind, out.Message)
		}
		backOnOld(t, b)
	})
	t.Run("entries with arguments of their own", func(t *testing.T) {
		for _, flavour := range flavours {
			b := newBench(t, flavour)
			b.SetArgs(b.old, "ro panic=0 quiet debug")
			step := b.before(t, wholePlay[2])
			b.SetArgs(b.new, "ro quiet panic=0 console=tty0 console=ttyS0")
			if out := b.do(step); out.Bad() || b.args(b.new) != "ro quiet panic=0 console=tty0 console=ttyS0" {
				t.Errorf("%s: %s; args afterwards: %q", flavour, out.Message, b.args(b.new))
			}
		}
	})
}

func TestYumLock(t *testing.T) {
	for _, name := range wholePlay[:2] {
		b := newBench(t, kerneltest.EL7)
		step := b.before(t, name)
		b.Behave(func(b *kerneltest.Behaviour) { b.Lock = "812 packagekitd /usr/libexec/packagekitd" })
		out := b.do(step)
		if out.Kind != rollout.Failed || !strings.Contains(out.Message, "packagekitd (pid 812) has held yum's lock for 10m0s") {
			t.Errorf("%s: %s %s", name, out.Kind, out.Message)
		}
		waited := b.said[len(b.said)-2]
		if waited.Kind != rollout.Retrying || !strings.Contains(waited.Message, "packagekitd (pid 812)") || b.now < 10*time.Minute {
			t.Errorf("%s: after %v: %s %s", name, b.now, waited.Kind, waited.Message)
		}
		untouched(t, b)
	}
}

// TestUndo: what was done is taken back, and the node is as it was observed.
func TestUndo(t *testing.T) {
	for _, flavour := range flavours {
		t.Run(string(flavour), func(t *testing.T) {
			b := newBench(t, flavour)
			was := facts(t, b.fleet)
			if out := b.do(b.steps...); out.Bad() {
				t.Fatal(out.Message)
			}
			b.undo = true
			if out := b.do(reversed(b.steps)...); out.Kind != rollout.Changed {
				t.Fatalf("%s %s", out.Kind, out.Message)
			}
			if diff := cmp.Diff(was, facts(t, b.fleet), sameButBoot); diff != "" {
				t.Errorf("the facts afterwards (-before +after):\n%s", diff)
			}
			if diff := cmp.Diff(kerneltest.Counts{Reboots: 2, Transactions: 2, Defaults: 2}, b.Counts()); diff != "" {
				t.Errorf("effects (-want +got):\n%s", diff)
			}
			// Nothing is left to be taken back, and what was taken back can be done again.
			if out := b.do(reversed(b.steps)...); out.Kind != rollout.Unchanged {
				t.Errorf("undone again: %s %s", out.Kind, out.Message)
			}
			b.undo = false
			for _, p := range slices.Backward(reversed(b.steps)) {
				if out := b.do(planned{p.name, p.change.Reversed()}); out.Kind != rollout.Changed {
					t.Errorf("%s, done again: %s %s", p.name, out.Kind, out.Message)
				}
			}
			if w := b.World(); w.Running != b.new || b.defaultRelease() != b.new {
				t.Errorf("done again: %+v", w)
			}
		})
	}
}

// The boot is another one; all else is compared.
var sameButBoot = cmpopts.IgnoreFields(node.Facts{}, "BootID")

func facts(t testing.TB, f *kerneltest.Fleet) node.Facts {
	t.Helper()
	out, err := node.Section.Get(observe(t, f))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestUndoOfWhatWasCutOff takes back trials that came to no good end.
func TestUndoOfWhatWasCutOff(t *testing.T) {
	t.Run("the node hung and was reset", func(t *testing.T) {
		b := newBench(t, kerneltest.EL8)
		b.before(t, wholePlay[2])
		b.SetDefault(b.new) // by hand, so that the trial moves it
		was := facts(t, b.fleet)
		b.steps = plan(t, b.fleet, wholePlay...)
		b.Behave(newKernel(kerneltest.Hangs))
		if out := b.do(b.steps[2]); out.Kind != rollout.Unreachable {
			t.Fatalf("%s %s", out.Kind, out.Message)
		}
		b.Reset()
		b.up(t)
		b.undo = true
		if out := b.do(reversed(b.steps[2:3])...); out.Bad() {
			t.Fatal(out.Message)
		}
		if diff := cmp.Diff(was, facts(t, b.fleet), sameButBoot); diff != "" {
			t.Errorf("the facts afterwards (-before +after):\n%s", diff)
		}
	})
	t.Run("a package that was there in part", func(t *testing.T) {
		b := newBench(t, kerneltest.EL8)
		var d struct{ Package node.Package }
		if err := json.Unmarshal(b.steps[1].change.Data, &d); err != nil {
			t.Fatal(err)
		}
		b.AddPackage(node.Package{Name: "kernel-ml-core", EVR: d.Package.EVR, Arch: d.Package.Arch})
		was := b.World()
		b.steps = plan(t, b.fleet, wholePlay...)
		b.do(b.steps[:2]...)
		b.undo = true
		if out := b.do(reversed(b.steps[:2])...); out.Kind != rollout.Changed {
			t.Fatalf("%s %s", out.Kind, out.Message)
		}
		if diff := cmp.Diff(was, b.World()); diff != "" {
			t.Errorf("the node afterwards (-before +after):\n%s", diff)
		}
	})
	t.Run("a package whose entry stays behind", func(t *testing.T) {
		b := newBench(t, kerneltest.EL7)
		b.before(t, wholePlay[2])
		b.Behave(func(b *kerneltest.Behaviour) { b.YumLeavesEntry = true })
		b.undo = true
		if out := b.do(reversed(b.steps[:2])...); out.Kind != rollout.Failed || !strings.Contains(out.Hint, "grubby --info=ALL") {
			t.Errorf("%s %s", out.Kind, out.Message)
		}
	})
	t.Run("a package whose kernel runs", func(t *testing.T) {
		b := newBench(t, kerneltest.EL8)
		b.do(b.steps...)
		b.undo = true
		if out := b.do(b.steps[1]); out.Kind != rollout.Failed || !strings.Contains(out.Message, "it runs") || b.Counts().Transactions != 1 {
			t.Errorf("%s %s", out.Kind, out.Message)
		}
	})
	t.Run("a package whose kernel is the default", func(t *testing.T) {
		b := newBench(t, kerneltest.EL8)
		b.before(t, wholePlay[2])
		b.SetDefault(b.new)
		b.undo = true
		if out := b.do(b.steps[1]); out.Kind != rollout.Failed || !strings.Contains(out.Message, "it is the default") || b.Counts().Transactions != 1 {
			t.Errorf("%s %s", out.Kind, out.Message)
		}
	})
}

func TestJudge(t *testing.T) {
	b := newBench(t, kerneltest.EL9)
	judge := func(args rollout.Args) []rollout.Finding {
		t.Helper()
		found, err := Modules(b.fleet)["fleetd.kernel.package"].(rollout.Judge).Judge(host, observe(t, b.fleet), args)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	want := []rollout.Finding{
		{Rule: "kernel-minimum", Drift: true, Text: "runs a kernel older than 5.15", Fields: []rollout.Field{{Name: "running kernel", Before: b.old, After: ">= 5.15"}}},
		{Rule: "kernel-installed", Drift: true, Text: "would install kernel-ml-" + b.new, Fields: []rollout.Field{{Name: "package", After: "kernel-ml-" + b.new}}},
	}
	if diff := cmp.Diff(want, judge(rollout.Args{"minimum": "5.15"})); diff != "" {
		t.Errorf("before (-want +got):\n%s", diff)
	}
	if out := b.do(b.steps...); out.Bad() {
		t.Fatal(out.Message)
	}
	want = []rollout.Finding{
		{Rule: "kernel-minimum", Text: b.new + " is at least 5.15"},
		{Rule: "kernel-installed", Text: "kernel-ml-" + b.new + " is installed"},
	}
	if diff := cmp.Diff(want, judge(rollout.Args{"minimum": "5.15"})); diff != "" {
		t.Errorf("after (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want[1:], judge(rollout.Args{})); diff != "" {
		t.Errorf("without a minimum (-want +got):\n%s", diff)
	}
	// What runs is judged also where the repository has nothing new enough.
	if found := judge(rollout.Args{"minimum": "6.5"}); len(found) != 1 || !found[0].Drift {
		t.Errorf("nothing to be had: %+v", found)
	}
	if _, err := Modules(b.fleet)["fleetd.kernel.package"].(rollout.Judge).Judge(host, observe(t, b.fleet), rollout.Args{"minimum": "new"}); err == nil {
		t.Error("a minimum that is no version is taken")
	}
}
