package rollout

import "time"

// EventType is what happened.
type EventType string

const (
	RunStarted     EventType = "run.started"
	RunResumed     EventType = "run.resumed"
	RunInterrupted EventType = "run.interrupted"
	RunHalted      EventType = "run.halted"
	RunDone        EventType = "run.done"
	StepStarted    EventType = "step.started"
	StepProgress   EventType = "step.progress"
	StepOperation  EventType = "step.operation"
	StepCheckpoint EventType = "step.checkpoint"
	// StepEnded carries an Outcome, also one that is not final.
	StepEnded EventType = "step.ended"
)

// Event is one fact about a run. The journal is the list of them, in order,
// and the state of a run is nothing but their fold.
type Event struct {
	// Seq counts from 1 within a run; the journal gives it.
	Seq  int64     `json:"seq"`
	At   time.Time `json:"at"`
	Type EventType `json:"type"`
	// Step is set for the step events.
	Step *StepID `json:"step,omitempty"`
	// Plan and Forks come with RunStarted.
	Plan  *Plan `json:"plan,omitempty"`
	Forks int   `json:"forks,omitempty"`
	// Outcome comes with StepEnded, Operation with StepOperation.
	Outcome   *Outcome   `json:"outcome,omitempty"`
	Operation *Operation `json:"operation,omitempty"`
	// Text is the line of StepProgress; Key and Value are StepCheckpoint's.
	Text  string `json:"text,omitempty"`
	Key   string `json:"key,omitempty"`
	Value string `json:"value,omitempty"`
	// Halt comes with RunHalted.
	Halt *Halt `json:"halt,omitempty"`
}

// Halt says why a run stopped before its end.
type Halt struct {
	Play   int      `json:"play"`
	Batch  int      `json:"batch"`
	Reason string   `json:"reason"`
	Hosts  []string `json:"hosts,omitempty"`
}
