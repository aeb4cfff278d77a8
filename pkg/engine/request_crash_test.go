package engine_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/pkg/kernel/kerneltest"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// asking is a journal through which somebody asks something of the run once it holds
// so many events; who goes on with the run later is not asked.
type asking struct {
	*process
	verb  rollout.Verb
	after int64
}

func (a *asking) Requests(ctx context.Context) ([]rollout.Request, error) {
	if a.verb == "" || a.written.Load() < a.after {
		return a.process.Requests(ctx)
	}
	// Its ID says which event it becomes.
	q := rollout.Request{ID: a.written.Load() + 1, Verb: a.verb, By: rollout.Person{User: "anna", Host: "bastion1"}}
	a.verb = ""
	return []rollout.Request{q}, nil
}

// askedOf carries the plan out on two workers, a batch each, and asks for verb once
// there are so many events. The first process is killed after killAt events, 0 =
// never; a run that is interrupted is gone on with by another.
func askedOf(t *testing.T, verb rollout.Verb, after, killAt int) (*rollout.Run, *kerneltest.Fleet, int) {
	t.Helper()
	fleet, workers, _ := crashHosts()
	plan := crashPlan(t, fleet, workers[:2], nil)
	dir := stateFolder(t)
	p := &process{fleet: fleet, killAt: killAt}
	p.asks = &asking{p, verb, int64(after)}
	total := 0
	for {
		r, err := p.live(t, dir, plan)
		total += int(p.written.Load())
		switch {
		case p.dead.Load():
		case err != nil:
			t.Fatal(err)
		case r.Status == rollout.Interrupted && r.Asked == nil:
			t.Fatal("the run was interrupted, and nobody has asked for it")
		case r.Status != rollout.Interrupted:
			return r, fleet, total
		}
		p = &process{fleet: fleet}
	}
}

// A pause in the middle of a batch, a kill after any event before or after it, and
// resumes end where the undisturbed run ends.
func TestPausedAndKilledAfterEveryEvent(t *testing.T) {
	calm, fleet, events := askedOf(t, "", 0, 0)
	want := endOf(calm, fleet)
	if want.Status != rollout.Done || len(want.Lost) > 0 {
		t.Fatalf("undisturbed, the run ends %s without %v", want.Status, want.Lost)
	}
	for at := 0; at <= events; at++ {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			t.Parallel()
			r, fleet, _ := askedOf(t, rollout.Pause, events/2, at)
			if d := cmp.Diff(want, endOf(r, fleet)); d != "" {
				t.Errorf("paused, and killed after event %d (-undisturbed +killed):\n%s", at, d)
			}
		})
	}
}

// An abort that was heard holds, whenever the process dies after it: the second batch
// is not begun, and the host of the first is not left on its way through a reboot.
func TestAbortedAndKilledAfterEveryEvent(t *testing.T) {
	const after = 14 // in the middle of the reboot of the first host
	calm, fleet, events := askedOf(t, rollout.Abort, after, 0)
	want := endOf(calm, fleet)
	if want.Status != rollout.Halted || calm.Halt.Gate || calm.Halt.Reason != "aborted by anna@bastion1" || want.Counts["w2"] != (kerneltest.Counts{}) {
		t.Fatalf("undisturbed, the run ends %s, %+v; w2 has seen %+v", want.Status, calm.Halt, want.Counts["w2"])
	}
	if want.Counts["w1"].Reboots != 1 {
		t.Fatalf("w1 has seen %+v", want.Counts["w1"])
	}
	for at := int(calm.Asked.ID); at <= events; at++ {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			t.Parallel()
			r, fleet, _ := askedOf(t, rollout.Abort, after, at)
			if d := cmp.Diff(want, endOf(r, fleet)); d != "" {
				t.Errorf("aborted, and killed after event %d (-undisturbed +killed):\n%s", at, d)
			}
		})
	}
}
