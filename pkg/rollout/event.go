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
	// RunRequested carries a Request: somebody wants the run to stop, and it has
	// heard so. No other step begins after it.
	RunRequested  EventType = "run.requested"
	StepStarted   EventType = "step.started"
	StepProgress  EventType = "step.progress"
	StepOperation EventType = "step.operation"
	// StepIntended carries an Outcome of the kind Intends: its notes have to be
	// durable before the step is called again, in the same attempt.
	StepIntended EventType = "step.intended"
	// StepEnded carries the Outcome of an attempt, also one that is not final.
	StepEnded EventType = "step.ended"
)

// Event is one fact about a run. The journal is the list of them, in order,
// and the state of a run is nothing but their fold.
type Event struct {
	// Seq counts from 1 within a run.
	Seq int64 `json:"seq"`
	// At is the bastion's clock, for people: it may jump. Clock is the run's own,
	// by which everything is decided: how long fleetd has worked at the run.
	At    time.Time     `json:"at"`
	Clock time.Duration `json:"clock"`
	Type  EventType     `json:"type"`
	// Step and Attempt are set for the step events.
	Step    *StepID `json:"step,omitempty"`
	Attempt int     `json:"attempt,omitempty"`
	// Plan comes with RunStarted. Forks and By come with it and with RunResumed.
	Plan  *Plan   `json:"plan,omitempty"`
	Forks int     `json:"forks,omitempty"`
	By    *Person `json:"by,omitempty"`
	// Past comes with a RunResumed that goes on in spite of the halt.
	Past bool `json:"past,omitempty"`
	// Outcome comes with StepIntended and StepEnded, Operation with
	// StepOperation, Text with StepProgress, Halt with RunHalted.
	Outcome   *Outcome   `json:"outcome,omitempty"`
	Operation *Operation `json:"operation,omitempty"`
	Text      string     `json:"text,omitempty"`
	Halt      *Halt      `json:"halt,omitempty"`
	// Request comes with RunRequested.
	Request *Request `json:"request,omitempty"`
}

// Durable reports whether the event has to be on the disk before anything
// follows from it. The others are told for people, and can be told again.
func (e Event) Durable() bool {
	switch e.Type {
	case StepStarted, StepProgress, StepOperation:
		return false
	}
	return true
}

// Person is who ran fleetd.
type Person struct {
	User string `json:"user"`
	Host string `json:"host"`
	// Key is the fingerprint of the SSH key with which the nodes let fleetd in,
	// "" where it was a password, or no node was asked.
	Key string `json:"key,omitempty"`
}

// String names the person, as user@host; without the host where it is not known.
func (p Person) String() string {
	if p.Host == "" {
		return p.User
	}
	return p.User + "@" + p.Host
}

// Window asks a run to pause because its maintenance window closes. No token and no
// account has such a name.
var Window = Person{User: "the maintenance window"}

// Verb is what is asked of a run.
type Verb string

const (
	// Pause ends the run so that a resume goes on with it.
	Pause Verb = "pause"
	// Abort ends it for good: it can be undone, and not resumed.
	Abort Verb = "abort"
)

// Past is what a run was that heard it: paused, aborted.
func (v Verb) Past() string {
	if v == Abort {
		return "aborted"
	}
	return "paused"
}

// Request is what somebody asks of a run that is being worked on. Steps that have
// begun come to their end, also those that wait for a node; no other begins.
type Request struct {
	// ID is its number in the journal.
	ID   int64  `json:"id"`
	Verb Verb   `json:"verb"`
	By   Person `json:"by"`
	// At is the clock of the bastion, for people.
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty"`
}

// String says what came of it: "paused by anna@bastion1: the storage is slow".
func (q Request) String() string {
	s := q.Verb.Past() + " by " + q.By.String()
	if q.Reason != "" {
		s += ": " + q.Reason
	}
	return s
}

// Halt says why a run stopped before its end.
type Halt struct {
	Play   int    `json:"play"`
	Batch  int    `json:"batch"`
	Reason string `json:"reason"`
	// Hosts are those that the gate counts: lost, or out of service.
	Hosts []string `json:"hosts,omitempty"`
	// Left are the hosts that are not lost and have steps left to do.
	Left []string `json:"left,omitempty"`
	// Gate is set when it was the limit of failed hosts that halted the run: only
	// such a halt can be passed by a resume.
	Gate bool `json:"gate,omitempty"`
}
