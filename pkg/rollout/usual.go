package rollout

import (
	"slices"
	"time"
)

// Usual is how long the steps of tasks took in earlier runs: the median of those that
// changed something, by the task's name and module.
type Usual map[taskKind]time.Duration

type taskKind struct {
	name, module string
	undo         bool
}

// UsualOf is what runs have shown, by the clock of each, which stands while nobody is at
// it.
func UsualOf(runs []*Run) Usual {
	took := map[taskKind][]time.Duration{}
	for _, r := range runs {
		r.each(func(id StepID, s *StepState) {
			if s.Outcome.Kind == Changed && s.Ended > s.First {
				t := r.Plan.Task(id)
				k := taskKind{t.Name, t.Module, t.Undo}
				took[k] = append(took[k], s.Ended-s.First)
			}
		})
	}
	u := Usual{}
	for k, all := range took {
		slices.Sort(all)
		u[k] = all[len(all)/2]
	}
	return u
}

// Of is how long a step of the task usually takes; 0 = that is not known.
func (u Usual) Of(t PlannedTask) time.Duration { return u[taskKind{t.Name, t.Module, t.Undo}] }
