package rollout

import (
	"fmt"
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
	Plan    Plan
	Forks   int
	Status  RunStatus
	Started time.Time
	Ended   time.Time
	Halt    *Halt

	steps map[StepID]*StepState
	// lost are the hosts that failed or could not be reached; they take no
	// further part, as in Ansible.
	lost map[string]StepID
	// open counts the steps of each play and batch that are not over, so that
	// Next need not look at what is behind.
	open    [][]int
	batchOf []map[string]int
	// running counts the steps that are being executed now.
	running int
}

// StepState is how far one step is.
type StepState struct {
	Active      bool // being executed now
	Outcome     Outcome
	Attempts    int
	First       time.Time
	Ended       time.Time
	NotBefore   time.Time // when a retrying or waiting step may be asked again
	Checkpoints map[string]string
	Progress    string
	Operations  []Operation
}

// Over reports whether the step has its final outcome.
func (s *StepState) Over() bool { return s.Outcome.Kind != "" && s.Outcome.Final() }

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
// error: the journal is damaged, and going on would be guessing.
func (r *Run) Apply(e Event) error {
	if (r.Status == "") != (e.Type == RunStarted) {
		return fmt.Errorf("event %d: %s cannot come here", e.Seq, e.Type)
	}
	if e.Step != nil {
		return r.applyStep(e)
	}
	switch e.Type {
	case RunStarted:
		if e.Plan == nil {
			return fmt.Errorf("event %d: %s without a plan", e.Seq, e.Type)
		}
		r.Plan, r.Forks, r.Started, r.Status = *e.Plan, e.Forks, e.At, Running
		r.index()
	case RunResumed:
		// What was being executed when the process died is asked again.
		r.Status, r.Halt, r.Ended = Running, nil, time.Time{}
		for _, s := range r.steps {
			s.Active = false
		}
		r.running = 0
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

func (r *Run) applyStep(e Event) error {
	id := *e.Step
	planned, ok := r.Plan.Step(id)
	if !ok {
		return fmt.Errorf("event %d: the plan has no step %s", e.Seq, id)
	}
	s := r.steps[id]
	if s == nil {
		s = &StepState{}
		r.steps[id] = s
	}
	if s.Over() {
		return fmt.Errorf("event %d: %s after step %s was over", e.Seq, e.Type, id)
	}
	if !s.Active && e.Type != StepStarted {
		return fmt.Errorf("event %d: %s of step %s, which was not started", e.Seq, e.Type, id)
	}
	switch e.Type {
	case StepStarted:
		if s.Active {
			return fmt.Errorf("event %d: step %s is started twice", e.Seq, id)
		}
		if s.Attempts == 0 {
			s.First = e.At
		}
		s.Active, s.Attempts = true, s.Attempts+1
		r.running++
	case StepProgress:
		s.Progress = e.Text
	case StepOperation:
		s.Operations = append(s.Operations, *e.Operation)
	case StepCheckpoint:
		if s.Checkpoints == nil {
			s.Checkpoints = map[string]string{}
		}
		s.Checkpoints[e.Key] = e.Value
	case StepEnded:
		s.Active, s.Outcome, s.Ended = false, *e.Outcome, e.At
		r.running--
		switch {
		case !s.Over():
			s.NotBefore = e.At.Add(e.Outcome.After)
		case e.Outcome.Bad():
			r.lose(id)
		case counts(planned):
			r.open[id.Play][r.batchOf[id.Play][id.Host]]--
		}
	default:
		return fmt.Errorf("event %d: unknown type %q", e.Seq, e.Type)
	}
	return nil
}

// counts reports whether a planned step has to be executed: it writes, checks,
// or stands for a failure.
func counts(s PlannedStep) bool { return s.Problem != nil || s.Change.Action != NoOp }

// index prepares the counters from the plan.
func (r *Run) index() {
	r.steps = map[StepID]*StepState{}
	r.lost = map[string]StepID{}
	r.open = make([][]int, len(r.Plan.Plays))
	r.batchOf = make([]map[string]int, len(r.Plan.Plays))
	for pi, play := range r.Plan.Plays {
		r.open[pi] = make([]int, len(play.Batches))
		r.batchOf[pi] = map[string]int{}
		for bi, b := range play.Batches {
			for _, h := range b {
				r.batchOf[pi][h] = bi
			}
		}
	}
	r.Plan.Each(func(id StepID, s PlannedStep) bool {
		if counts(s) {
			r.open[id.Play][r.batchOf[id.Play][id.Host]]++
		}
		return true
	})
}

// lose takes a host out of the run: none of its open steps will be executed.
func (r *Run) lose(id StepID) {
	r.lost[id.Host] = id
	r.Plan.Each(func(o StepID, s PlannedStep) bool {
		if o.Host != id.Host || !counts(s) {
			return true
		}
		if st := r.steps[o]; st == nil || !st.Over() || o == id {
			r.open[o.Play][r.batchOf[o.Play][o.Host]]--
		}
		return true
	})
}

// Step returns the state of a step; nil if nothing happened to it yet.
func (r *Run) Step(id StepID) *StepState { return r.steps[id] }

// Lost returns the step at which the run lost the host.
func (r *Run) Lost(host string) (StepID, bool) {
	id, ok := r.lost[host]
	return id, ok
}

// LostHosts lists the hosts that failed or could not be reached, in the plan's
// order.
func (r *Run) LostHosts() []string {
	var out []string
	for _, h := range r.Plan.Hosts() {
		if _, ok := r.lost[h]; ok {
			out = append(out, h)
		}
	}
	return out
}
