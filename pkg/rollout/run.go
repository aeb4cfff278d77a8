package rollout

import (
	"errors"
	"fmt"
	"maps"
	"time"
)

// RunStatus is where a run stands.
type RunStatus string

const (
	Running     RunStatus = "running"
	Halted      RunStatus = "halted"
	Done        RunStatus = "done"
	Interrupted RunStatus = "interrupted"
)

// Run is the state of one execution of a plan.
type Run struct {
	Plan   Plan
	Forks  int
	By     Person
	Status RunStatus
	// Started and Ended are by the bastion's clock, for people.
	Started time.Time
	Ended   time.Time
	// Clock is how long fleetd has worked at the run.
	Clock time.Duration
	Halt  *Halt
	// Asked is what somebody has asked of the run, until a resume goes on with it.
	Asked *Request
	// Seq is the number of the last event.
	Seq int64

	index index
	// steps are by play, task and place of the host in the play; nil where nothing
	// happened yet.
	steps [][][]*StepState
	// passed are the halts that a resume went past: by batch, how many hosts it
	// had lost by then.
	passed map[batchID]int
	// once are the places of the hosts that have begun a task with run_once.
	once map[onceID]int
	work work
}

// StepState is how far one step is. Times are by the run's clock.
type StepState struct {
	Active    bool              `json:"active,omitempty"` // being executed now
	Outcome   Outcome           `json:"outcome"`
	Attempts  int               `json:"attempts"`
	First     time.Duration     `json:"first"` // when the first attempt began
	Ended     time.Duration     `json:"ended,omitempty"`
	NotBefore time.Duration     `json:"not_before,omitempty"` // when a retrying or waiting step may be called again
	SoFar     map[string]string `json:"so_far,omitempty"`
}

// Over reports whether the step has its final outcome.
func (s *StepState) Over() bool { return s.Outcome.Kind != "" && s.Outcome.Final() }

// ErrLate says that an event belongs to an attempt that is over: somebody who
// was given up on has answered after all. The run does not take it.
var ErrLate = errors.New("it belongs to an attempt that is over")

// Fold replays events into the run that they describe.
func Fold(events []Event) (*Run, error) {
	r := &Run{}
	for _, e := range events {
		if err := r.Apply(e); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Apply adds one event. An event that cannot follow the ones before it is an
// error, and changes nothing: the journal is damaged, and going on would be
// guessing.
func (r *Run) Apply(e Event) error {
	if (r.Status == "") != (e.Type == RunStarted) {
		return fmt.Errorf("event %d: %s cannot come here", e.Seq, e.Type)
	}
	if e.Seq != r.Seq+1 {
		return fmt.Errorf("event %d comes after event %d", e.Seq, r.Seq)
	}
	if e.Clock < r.Clock {
		return fmt.Errorf("event %d: the run's clock goes back from %v to %v", e.Seq, r.Clock, e.Clock)
	}
	var err error
	if e.Step != nil {
		err = r.applyStep(e)
	} else {
		err = r.applyRun(e)
	}
	if err != nil {
		return err
	}
	r.Seq, r.Clock = e.Seq, e.Clock
	return nil
}

func (r *Run) applyRun(e Event) error {
	switch e.Type {
	case RunStarted:
		if e.Plan == nil {
			return fmt.Errorf("event %d: %s without a plan", e.Seq, e.Type)
		}
		r.Plan, r.Started, r.Forks = *e.Plan, e.At, e.Forks
		r.begin(e)
		r.prepare()
	case RunResumed:
		if r.Status == Done {
			return fmt.Errorf("event %d: %s after the run was done", e.Seq, e.Type)
		}
		if e.Past && r.Halt != nil && r.Halt.Gate {
			r.passed[batchID{r.Halt.Play, r.Halt.Batch}] = r.work.lost[r.Halt.Play][r.Halt.Batch]
		}
		r.begin(e)
		// What was being executed when the process died is asked again.
		r.each(func(_ StepID, s *StepState) { s.Active = false })
		r.derive()
	case RunRequested:
		switch {
		case e.Request == nil:
			return fmt.Errorf("event %d: %s without a request", e.Seq, e.Type)
		case r.Status != Running:
			return fmt.Errorf("event %d: %s of a run that is %s", e.Seq, e.Type, r.Status)
		case r.Asked == nil || e.Request.Verb == Abort && r.Asked.Verb != Abort,
			r.Asked.By == Window && e.Request.By != Window: // what a person wants stands
			r.Asked = e.Request // a pause takes nothing from an abort
		}
	case RunInterrupted:
		r.Status, r.Ended = Interrupted, e.At
	case RunHalted:
		r.Status, r.Ended, r.Halt = Halted, e.At, e.Halt
	case RunDone:
		r.Status, r.Ended = Done, e.At
	default:
		return fmt.Errorf("event %d: unknown type %q", e.Seq, e.Type)
	}
	return nil
}

func (r *Run) begin(e Event) {
	r.Status, r.Halt, r.Ended = Running, nil, time.Time{}
	if r.Asked != nil && r.Asked.Verb == Pause {
		r.Asked = nil
	}
	if e.Forks > 0 {
		r.Forks = e.Forks
	}
	if e.By != nil {
		r.By = *e.By
	}
}

// prepare makes room for the state of the plan's steps.
func (r *Run) prepare() {
	r.index = newIndex(&r.Plan)
	r.passed, r.once = map[batchID]int{}, map[onceID]int{}
	r.steps = make([][][]*StepState, len(r.Plan.Plays))
	for pi, play := range r.Plan.Plays {
		r.steps[pi] = make([][]*StepState, len(play.Tasks))
		for ti := range play.Tasks {
			r.steps[pi][ti] = make([]*StepState, len(r.index.plays[pi].hosts))
		}
	}
	r.derive()
}

func (r *Run) applyStep(e Event) error {
	id := *e.Step
	planned, ok := r.Plan.Step(id)
	at := r.index.find(id)
	if !ok || !planned.Counts() || at.place < 0 {
		return fmt.Errorf("event %d: the plan has no step %s", e.Seq, id)
	}
	s := r.steps[id.Play][id.Task][at.place]
	if e.Type == StepStarted {
		return r.start(e, at, s, planned.Change.Disruptive)
	}
	switch {
	case s == nil || e.Attempt > s.Attempts:
		return fmt.Errorf("event %d: %s of attempt %d of step %s, which was not started", e.Seq, e.Type, e.Attempt, id)
	case e.Attempt < s.Attempts || !s.Active:
		return fmt.Errorf("event %d: %s of attempt %d of step %s: %w", e.Seq, e.Type, e.Attempt, id, ErrLate)
	}
	if e.Outcome == nil && (e.Type == StepIntended || e.Type == StepEnded) {
		return fmt.Errorf("event %d: %s of step %s without an outcome", e.Seq, e.Type, id)
	}
	switch e.Type {
	case StepProgress, StepOperation: // for people; nothing follows from them
	case StepIntended:
		s.note(e.Outcome.Notes)
	case StepEnded:
		s.Active, s.Outcome, s.Ended = false, *e.Outcome, e.Clock
		s.note(e.Outcome.Notes)
		s.Outcome.Notes = nil
		if !s.Over() {
			s.NotBefore = e.Clock + e.Outcome.After
		}
		r.ended(id, at, s)
	default:
		return fmt.Errorf("event %d: unknown type %q", e.Seq, e.Type)
	}
	return nil
}

func (r *Run) start(e Event, at spot, s *StepState, disruptive bool) error {
	id := *e.Step
	before := 0
	if s != nil {
		before = s.Attempts
	}
	switch {
	case s != nil && s.Over():
		return fmt.Errorf("event %d: %s after step %s was over", e.Seq, e.Type, id)
	case s != nil && s.Active:
		return fmt.Errorf("event %d: step %s is started twice", e.Seq, id)
	case !r.turn(id, at):
		return fmt.Errorf("event %d: step %s starts, and it is not its turn", e.Seq, id)
	case e.Attempt != before+1:
		return fmt.Errorf("event %d: attempt %d of step %s follows attempt %d", e.Seq, e.Attempt, id, before)
	}
	if s == nil {
		s = &StepState{First: e.Clock}
		r.steps[id.Play][id.Task][at.place] = s
		r.isOnce(id, at.place)
	}
	s.Active, s.Attempts = true, e.Attempt
	r.started(id, at, e.Attempt == 1, disruptive)
	return nil
}

// note folds notes into what later calls are told.
func (s *StepState) note(notes map[string]string) {
	if len(notes) == 0 {
		return
	}
	// A new map: a module may still read the one that it was given.
	next := maps.Clone(s.SoFar)
	if next == nil {
		next = make(map[string]string, len(notes))
	}
	for k, v := range notes {
		if v == "" {
			delete(next, k)
		} else {
			next[k] = v
		}
	}
	s.SoFar = next
}

// Step returns the state of a step; nil if nothing happened to it yet, or if
// the plan has none of that name.
func (r *Run) Step(id StepID) *StepState {
	place := r.index.find(id).place
	if place < 0 || id.Task < 0 || id.Task >= len(r.steps[id.Play]) {
		return nil
	}
	return r.steps[id.Play][id.Task][place]
}

// each calls f for every step to which something happened.
func (r *Run) each(f func(id StepID, s *StepState)) {
	for pi, tasks := range r.steps {
		for ti, states := range tasks {
			for place, s := range states {
				if s != nil {
					f(StepID{pi, ti, r.index.hosts[r.index.plays[pi].hosts[place]]}, s)
				}
			}
		}
	}
}

// Lost returns the step at which the run lost the host.
func (r *Run) Lost(host string) (StepID, bool) {
	n, ok := r.index.number[host]
	if !ok || !r.work.hosts[n].lost {
		return StepID{}, false
	}
	return r.work.hosts[n].failedAt, true
}

// LostHosts lists the hosts that failed or could not be reached, in the plan's
// order.
func (r *Run) LostHosts() []string {
	var out []string
	for n, h := range r.index.hosts {
		if r.work.hosts[n].lost {
			out = append(out, h)
		}
	}
	return out
}
