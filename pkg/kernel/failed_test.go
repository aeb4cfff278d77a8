package kernel

import (
	"strings"
	"testing"

	"github.com/fleetd/fleetd/pkg/kernel/kerneltest"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// TestFailedTrialIsRemembered: whoever plans next, from wherever, is told, and has
// to say that it is meant.
func TestFailedTrialIsRemembered(t *testing.T) {
	for _, flavour := range flavours {
		t.Run(string(flavour), func(t *testing.T) {
			b := newBench(t, flavour)
			again := b.steps
			b.Behave(newKernel(kerneltest.Panics))
			if out := b.do(b.steps...); out.Kind != rollout.Failed || !strings.Contains(out.Hint, "retry_failed_kernels=true") {
				t.Fatalf("%s %s; %s", out.Kind, out.Message, out.Hint)
			}
			for _, name := range []string{wholePlay[0], wholePlay[2]} {
				_, _, err := Modules(b.fleet)[name].Diff(host, observe(t, b.fleet), rollout.Args{})
				if err == nil || !strings.Contains(err.Error(), b.new+" failed its trial there at 2026-03-01T02:00:00Z") {
					t.Errorf("%s plans it again: %v", name, err)
				}
			}
			found, err := Modules(b.fleet)[wholePlay[2]].(rollout.Judge).Judge(host, observe(t, b.fleet), rollout.Args{})
			if err != nil || len(found) != 1 || !found[0].Drift || found[0].Text != "does not run "+b.new {
				t.Errorf("judged: %+v, %v", found, err)
			}
			// A plan from before the failure, too, is refused before the node goes down.
			if out := b.do(again[2]); out.Kind != rollout.Failed || !strings.Contains(out.Message, "failed its trial there") || b.Counts().Reboots != 1 {
				t.Errorf("an older plan: %s %s", out.Kind, out.Message)
			}
			b.Behave(newKernel(""))
			if out := b.do(planWith(t, b.fleet, rollout.Args{"retry_failed": true}, wholePlay...)...); out.Bad() || b.World().Running != b.new {
				t.Fatalf("tried again: %s %s", out.Kind, out.Message)
			}
			if left := b.World().Failed; len(left) > 0 {
				t.Errorf("a kernel that passed is still known as failed: %q", left)
			}
		})
	}
}

// TestNeverTriedIsNotFailed: a boot that GRUB did not even begin says nothing of the
// kernel.
func TestNeverTriedIsNotFailed(t *testing.T) {
	b := newBench(t, kerneltest.EL8)
	b.Behave(func(b *kerneltest.Behaviour) { b.GrubIgnoresNext = true })
	if out := b.do(b.steps...); out.Kind != rollout.Failed || len(b.World().Failed) > 0 {
		t.Errorf("%s %s; %q", out.Kind, out.Message, b.World().Failed)
	}
}
