package kernel

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fleetd/fleetd/pkg/kernel/kerneltest"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// end is what must be the same however often fleetd was killed on the way.
type end struct {
	Kind   rollout.OutcomeKind
	World  kerneltest.World
	Counts kerneltest.Counts
}

// TestCrashAnywhere kills fleetd after each operation of each step, and loses
// the outcome of each call, and calls the step again with the notes that were
// durable: the node ends as in an undisturbed run, and nothing is done twice.
func TestCrashAnywhere(t *testing.T) {
	for _, undo := range []bool{false, true} {
		for _, name := range wholePlay[1:] {
			for _, fate := range []kerneltest.Fate{"", kerneltest.Panics, kerneltest.CutOff} {
				if undo && fate != "" {
					continue
				}
				t.Run(strings.TrimPrefix(name, "fleetd.kernel.")+fmt.Sprintf(" undo=%v %s", undo, fate), func(t *testing.T) {
					run := func(kill, lose int) (e end, ops, calls int) {
						b := newBench(t, kerneltest.EL8)
						step := b.before(t, name)
						if undo {
							b.do(b.steps...)
							b.undo = true
							for _, p := range reversed(b.steps) {
								if step = p; p.name == name {
									break
								}
								b.do(p)
							}
						}
						b.Behave(func(b *kerneltest.Behaviour) { b.Kernels[b.Repo[0].Release()] = fate })
						b.remote.ops, b.calls = 0, 0
						if kill > 0 {
							b.remote.killAt = []int{kill}
						}
						b.loseAt = []int{lose}
						out := b.do(step)
						return end{out.Kind, b.World(), b.Counts()}, b.remote.ops, b.calls
					}
					calm, ops, calls := run(0, 0)
					if ops < 4 {
						t.Fatalf("only %d operations: this test would show nothing", ops)
					}
					check := func(what string, at int, got end) {
						// What a lost call has done, the next one finds done.
						if got.Kind == rollout.Unchanged {
							got.Kind = calm.Kind
						}
						if diff := cmp.Diff(calm, got); diff != "" {
							t.Errorf("%s %d: the end differs (-undisturbed +crashed):\n%s", what, at, diff)
						}
					}
					for at := 1; at <= ops; at++ {
						got, _, _ := run(at, 0)
						check("crash in operation", at, got)
					}
					for at := 1; at <= calls; at++ {
						got, _, _ := run(0, at)
						check("crash after call", at, got)
					}
				})
			}
		}
	}
}

// TestCrashesProperty does and takes back the whole play on nodes of all kinds,
// once undisturbed and once with several crashes.
func TestCrashesProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		flavour := rapid.SampledFrom(flavours).Draw(rt, "flavour")
		fate := rapid.SampledFrom([]kerneltest.Fate{"", "", kerneltest.Panics, kerneltest.CutOff, kerneltest.Hangs, kerneltest.Dies}).Draw(rt, "fate")
		stop, boot := rapid.IntRange(0, 8).Draw(rt, "stop takes"), rapid.IntRange(0, 6).Draw(rt, "boot takes")
		yum, fails := rapid.IntRange(1, 9).Draw(rt, "yum takes"), rapid.IntRange(0, 3).Draw(rt, "yum fails")
		kills := rapid.SliceOfN(rapid.IntRange(1, 25), 1, 8).Draw(rt, "operations between crashes")
		run := func(kills []int) (out []end) {
			b := newBench(t, flavour)
			b.Behave(func(b *kerneltest.Behaviour) {
				b.StopTakes, b.BootTakes, b.YumTakes, b.YumFails = stop, boot, yum, fails
				b.Kernels[b.Repo[0].Release()] = fate
			})
			at := 0
			for _, k := range kills {
				at += k
				b.remote.killAt = append(b.remote.killAt, at)
			}
			o := b.do(b.steps...)
			out = append(out, end{o.Kind, b.World(), b.Counts()})
			if o.Kind == rollout.Unreachable {
				return out
			}
			b.undo = true
			o = b.do(reversed(b.steps)...)
			return append(out, end{o.Kind, b.World(), b.Counts()})
		}
		calm, crashed := run(nil), run(kills)
		for i := range crashed {
			if crashed[i].Kind == rollout.Unchanged {
				crashed[i].Kind = calm[i].Kind
			}
		}
		if diff := cmp.Diff(calm, crashed); diff != "" {
			rt.Fatalf("the end differs (-undisturbed +crashed):\n%s", diff)
		}
	})
}

// late tells the boot_id that a node had, as an answer that was long under way.
type late struct {
	*kerneltest.Fleet
	id string
}

func (l late) Run(ctx context.Context, host string, c sshexec.Command) (sshexec.Result, error) {
	if len(c.Argv) == 2 && c.Argv[1] == sshexec.BootIDFile {
		return sshexec.Result{Stdout: []byte(l.id + "\n")}, nil
	}
	return l.Fleet.Run(ctx, host, c)
}

// TestRebootUnderTheQuestion: a node that rebooted right after it was asked for
// its boot_id is not prepared for another reboot.
func TestRebootUnderTheQuestion(t *testing.T) {
	b := newBench(t, kerneltest.EL8)
	before := b.BootID()
	step := b.before(t, wholePlay[2])
	if out := b.do(step); out.Bad() {
		t.Fatal(out.Message)
	}
	ran := len(b.Log())
	out := Modules(late{b.fleet, before})[step.name].Do(t.Context(), rollout.Step{
		Host: host, Change: step.change, Become: true, SoFar: map[string]string{"boot_id": before},
	})
	for _, l := range b.Log()[ran:] {
		if strings.HasPrefix(l, "grub2-reboot") || l == "init 6" {
			t.Errorf("the node was prepared again: %s", l)
		}
	}
	if out.Kind != rollout.Changed {
		t.Errorf("%s %s", out.Kind, out.Message)
	}
}
