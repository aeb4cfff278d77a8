package rollout

import (
	"context"
	"fmt"
	"time"
)

// StepID names one task of one play on one host. Play and Task count from 0.
type StepID struct {
	Play int    `json:"play"`
	Task int    `json:"task"`
	Host string `json:"host"`
}

func (id StepID) String() string { return fmt.Sprintf("%d.%d@%s", id.Play+1, id.Task+1, id.Host) }

// Step is what a module gets when it is asked to act.
type Step struct {
	ID     StepID
	Host   string
	Change Change
	// Problem is why the host cannot be changed, for a step that only stands for
	// that failure; no module is asked then.
	Problem *Problem
	Become  bool
	// Attempt counts the calls, from 1. First is when the step first started:
	// a module that waits measures its timeout from there.
	Attempt int
	First   time.Time
	// Checkpoints are what earlier calls of the same step stored, also those
	// before a crash.
	Checkpoints map[string]string
}

// Module is one thing that a task can name: the only place where fleetd
// touches a node or the cluster. It is built when the program is wired, with
// the connections and clients that it needs.
type Module interface {
	Differ
	// Params declares the arguments that a task may give.
	Params() Params
	// Do makes the change. It is idempotent: called again after a crash at any
	// point it ends in the same state. The context carries the Recorder.
	Do(ctx context.Context, s Step) Outcome
	// Undo takes the change back, as far as Data in the change allows.
	Undo(ctx context.Context, s Step) Outcome
}

// Observer reads one section of the state of many hosts at once. It only reads.
// The answer has an entry for every host that was asked.
type Observer interface {
	Section() string
	Observe(ctx context.Context, keys map[string][]string) map[string]SectionObservation
}

// SectionObservation is one section of one host: its JSON, or why not.
type SectionObservation struct {
	Value []byte
	Err   error
}
