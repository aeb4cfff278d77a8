package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Snapshot is a run written down, without its plan: the run goes on from it with
// the events that came later.
type Snapshot struct {
	// Plan is the digest of the run's plan.
	Plan    string         `json:"plan"`
	Forks   int            `json:"forks"`
	By      Person         `json:"by"`
	Status  RunStatus      `json:"status"`
	Started time.Time      `json:"started"`
	Ended   time.Time      `json:"ended,omitzero"`
	Clock   time.Duration  `json:"clock"`
	Seq     int64          `json:"seq"`
	Halt    *Halt          `json:"halt,omitempty"`
	Asked   *Request       `json:"asked,omitempty"`
	Steps   []SnapshotStep `json:"steps,omitempty"`
	Passed  []PassedHalt   `json:"passed,omitempty"`
}

// SnapshotStep is the state of one step.
type SnapshotStep struct {
	ID StepID `json:"id"`
	StepState
}

// PassedHalt is a halt that a resume went past, with the number of hosts that
// the batch had lost.
type PassedHalt struct {
	Play  int `json:"play"`
	Batch int `json:"batch"`
	Lost  int `json:"lost"`
}

// Snapshot writes the run down as it stands.
func (r *Run) Snapshot() Snapshot {
	s := Snapshot{
		Plan: r.Plan.Digest, Forks: r.Forks, By: r.By, Status: r.Status, Started: r.Started, Ended: r.Ended,
		Clock: r.Clock, Seq: r.Seq, Halt: r.Halt, Asked: r.Asked,
	}
	r.each(func(id StepID, state *StepState) {
		kept := *state
		if r.Plan.Task(id).NoLog {
			kept.Outcome = kept.Outcome.Hidden()
		}
		s.Steps = append(s.Steps, SnapshotStep{id, kept})
	})
	for b, lost := range r.passed {
		s.Passed = append(s.Passed, PassedHalt{b.play, b.batch, lost})
	}
	slices.SortFunc(s.Passed, func(a, b PassedHalt) int {
		return cmp.Or(cmp.Compare(a.Play, b.Play), cmp.Compare(a.Batch, b.Batch))
	})
	return s
}

// Restore is the run of a snapshot. The plan has to be the one that the snapshot
// names.
func Restore(p Plan, s Snapshot) (*Run, error) {
	if p.Digest != s.Plan {
		return nil, fmt.Errorf("the snapshot is of a run of plan %.12s, not %.12s", s.Plan, p.Digest)
	}
	r := &Run{
		Plan: p, Forks: s.Forks, By: s.By, Status: s.Status, Started: s.Started, Ended: s.Ended,
		Clock: s.Clock, Seq: s.Seq, Halt: s.Halt, Asked: s.Asked,
	}
	r.prepare()
	for _, step := range s.Steps {
		planned, ok := p.Step(step.ID)
		if !ok || !planned.Counts() {
			return nil, fmt.Errorf("the snapshot has a step %s that the plan has not", step.ID)
		}
		state := step.StepState
		place := r.index.find(step.ID).place
		r.steps[step.ID.Play][step.ID.Task][place] = &state
		r.isOnce(step.ID, place)
	}
	for _, h := range s.Passed {
		r.passed[batchID{h.Play, h.Batch}] = h.Lost
	}
	r.derive()
	return r, nil
}
