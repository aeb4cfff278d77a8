package engine

import (
	"context"
	"testing"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// drains keeps a host out of service, as far as nobody puts it back.
type drains struct {
	module
	drained map[string]bool
	asked   *int
}

func (d drains) Keeps(_ context.Context, s rollout.Step, undo bool) (rollout.Outcome, bool) {
	*d.asked++
	if undo || s.SoFar["who"] != "was there" || !d.drained[s.Host] {
		return rollout.Outcome{Kind: rollout.Failed, Message: "put back"}, false
	}
	return rollout.Outcome{}, true
}

// A host that was put back by hand between two fleetds is not taken down: the step
// that does so asks the one before it, also after a resume.
func TestWhatCameBeforeHasToHold(t *testing.T) {
	for name, byHand := range map[string]bool{"as it was left": false, "put back by hand": true} {
		t.Run(name, func(t *testing.T) {
			j, asked := &memory{}, 0
			drained, down := map[string]bool{}, map[string]bool{}
			ctx, cancel := context.WithCancel(t.Context())
			e := Engine{Journal: j, Modules: map[string]rollout.Module{
				"drain": drains{module(func(_ context.Context, s rollout.Step) rollout.Outcome {
					if s.SoFar["who"] == "" {
						return rollout.Intend("who", "was there")
					}
					drained[s.Host] = true
					return rollout.Did("drained")
				}), drained, &asked},
				"reboot": module(func(ctx context.Context, s rollout.Step) rollout.Outcome {
					if o, holds := rollout.StillKept(ctx); !holds {
						return o
					}
					down[s.Host] = true
					return rollout.Did("rebooted")
				}),
			}}
			e.Watch = func(_ *rollout.Run, ev rollout.Event) {
				if ev.Type == rollout.StepEnded {
					cancel() // this fleetd ends between the two
				}
			}
			p := plan("a")
			p.Plays[0].Tasks[0].Module, p.Plays[0].Tasks[1].Module = "drain", "reboot"
			r, err := e.Execute(ctx, p, 1)
			if err != nil || r.Status != rollout.Interrupted || !drained["a"] {
				t.Fatalf("%s, %v", r.Status, err)
			}
			drained["a"] = !byHand
			if r, err = e.Resume(t.Context(), j.fold(t), 0, false); err != nil {
				t.Fatal(err)
			}
			if down["a"] == byHand || asked != 1 || (r.Status == rollout.Done) == byHand {
				t.Errorf("%s: down %v, asked %d times", r.Status, down, asked)
			}
		})
	}
}
