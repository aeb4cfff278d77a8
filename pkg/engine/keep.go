package engine

import (
	"context"
	"slices"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// kept is a step on which another one leans.
type kept struct {
	keeper rollout.Keeper
	step   rollout.Step
	undo   bool
}

// leansOn finds what a step needs to hold still: the last step before it on its
// host that a Keeper has done. What an earlier one did, that one may have taken back.
func (l *loop) leansOn(id rollout.StepID) *kept {
	for pi := id.Play; pi >= 0; pi-- {
		tasks := l.run.Plan.Plays[pi].Tasks
		if pi == id.Play {
			tasks = tasks[:id.Task]
		}
		for ti, task := range slices.Backward(tasks) {
			keeper, ok := l.Modules[task.Module].(rollout.Keeper)
			if !ok {
				continue
			}
			before := rollout.StepID{Play: pi, Task: ti, Host: id.Host}
			planned, _ := l.run.Plan.Step(before)
			if s := l.run.Step(before); s != nil && s.Over() && !s.Outcome.Bad() && planned.Change.Action.Writes() {
				return &kept{keeper, l.step(before), task.Undo}
			}
		}
	}
	return nil
}

// holds asks whether what the step did still holds.
func (k *kept) holds(ctx context.Context) (rollout.Outcome, bool) {
	return k.keeper.Keeps(ctx, k.step, k.undo)
}
