package engine

import (
	"context"
	"errors"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// Journal keeps the events of a run. Append returns when they are written, and,
// if one of them is durable, when they are on the disk. A failed call has
// written none of them. Requests are those to this run, to the process that is at
// it now, of which no event is written yet.
type Journal interface {
	Append(ctx context.Context, events []rollout.Event) error
	Requests(ctx context.Context) ([]rollout.Request, error)
}

// Engine executes plans.
type Engine struct {
	Modules map[string]rollout.Module
	// Resolver answers for the open steps; a plan without any needs none.
	Resolver Resolver
	// Observers look again where a step has to be planned anew.
	Observers []rollout.Observer
	Journal   Journal
	// Clock is the time; nil means the machine's.
	Clock Clock
	// By is who runs the plan.
	By rollout.Person
	// Watch, if set, is called after every event that is written with the run that
	// includes it, always from the same goroutine. It must not keep the run, and
	// must not wait for anything.
	Watch func(*rollout.Run, rollout.Event)
	// Ease, if set, ends the run gently when it is closed: steps that are being
	// executed come to their end, no other is started.
	Ease <-chan struct{}
}

// Resolver turns an open step into what it is, and judges its end. It is pure:
// what it says depends on nothing but its arguments.
type Resolver interface {
	// Resolve tells the arguments of a step of the module, or why it is skipped.
	Resolve(module string, open rollout.Open, results rollout.Results) (args rollout.Args, skip string, err error)
	// Items are, of a step with a loop, the results as each of its items finds them,
	// with the variables of the loop among them.
	Items(open rollout.Open, results rollout.Results) ([]rollout.Results, error)
	// Together is the outcome of a step whose items ended so.
	Together(open rollout.Open, items []rollout.Results, ends []rollout.Outcome) rollout.Outcome
	// Judge is the outcome by the playbook's changed_when, failed_when and until, of
	// the tries-th time that the step was done.
	Judge(open rollout.Open, results rollout.Results, o rollout.Outcome, tries int64) rollout.Outcome
}

// Clock is where the engine gets the time from.
type Clock interface {
	// Now is the wall clock, for people.
	Now() time.Time
	// Since is how long ago the engine was made, by a clock that nobody sets.
	Since() time.Duration
	// After sends once d has passed.
	After(d time.Duration) <-chan time.Time
}

// machineClock is the machine's. time.Since goes by its monotonic clock, which
// neither NTP nor a person moves (package time, "Monotonic Clocks").
type machineClock struct{ start time.Time }

func (c machineClock) Now() time.Time                         { return time.Now() }
func (c machineClock) Since() time.Duration                   { return time.Since(c.start) }
func (c machineClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

// Execute carries out a plan from its beginning. The run it returns says how
// it ended; the error is about fleetd itself (the journal cannot be written),
// not about hosts. Cancelling ctx abandons the steps in flight: they stay open
// in the journal, as after a crash.
func (e *Engine) Execute(ctx context.Context, plan rollout.Plan, forks int) (*rollout.Run, error) {
	return e.loop(ctx, &rollout.Run{}, rollout.Event{Type: rollout.RunStarted, Plan: &plan, Forks: forks, By: &e.By})
}

// Resume goes on with a run as the journal has it. past goes on in spite of the
// gate that halted it. forks, if not 0, is how many steps run at once from now on.
func (e *Engine) Resume(ctx context.Context, r *rollout.Run, forks int, past bool) (*rollout.Run, error) {
	if r.Status == rollout.Done {
		return r, nil
	}
	return e.loop(ctx, r, rollout.Event{Type: rollout.RunResumed, Forks: forks, By: &e.By, Past: past})
}

// JournalError says that events could not be written, or that what others ask of
// the run could not be read. The run was ended as
// gently as it could be: nothing was started any more, and nothing cut off.
type JournalError struct{ Err error }

func (e *JournalError) Error() string { return "cannot use the journal: " + e.Err.Error() }
func (e *JournalError) Unwrap() error { return e.Err }

// retryJournal is how long after a failed write the journal is tried again, while
// steps that are being executed come to their end.
const retryJournal = time.Second

// listenEvery is how often a run that starts nothing looks whether somebody asks it
// to stop. One that does looks before each start.
const listenEvery = time.Second

// loop is the state of one Execute or Resume.
type loop struct {
	*Engine
	run   *rollout.Run
	clock Clock
	base  time.Duration // the run's clock when the loop began
	notes chan note
	// pending are events that the run has taken and the journal has not.
	pending []rollout.Event
	// waiting are the answers that are due once pending is written.
	waiting []chan<- error
	// broken is the journal's first failure: nothing more may be started.
	broken error
	active int
}

// note is an event on its way from a step to the loop. done, if set, is told
// when the event is in the journal.
type note struct {
	event rollout.Event
	done  chan<- error
}

func (e *Engine) loop(ctx context.Context, r *rollout.Run, first rollout.Event) (*rollout.Run, error) {
	l := &loop{Engine: e, run: r, clock: e.Clock, base: r.Clock, notes: make(chan note, 256)}
	if l.clock == nil {
		l.clock = machineClock{time.Now()}
	}
	if err := l.take(note{event: first}); err != nil {
		return r, err
	}
	if err := l.flush(); err != nil {
		return r, &JournalError{err}
	}
	// What is running is only cut off when ctx is cancelled.
	stepCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	ease := e.Ease
	easing := false
	listen := time.NewTicker(listenEvery) // by no clock of the run: nothing of it depends on when
	defer listen.Stop()
	due := false
	for {
		var d rollout.Decision
		var err error
		if l.broken == nil && !easing && ctx.Err() == nil {
			d = rollout.Next(r, l.now())
			if due || len(d.Ready) > 0 {
				if d, err = l.listen(d); err != nil {
					return r, err
				}
				due = false
			}
			if err = l.start(stepCtx, d.Ready); err != nil {
				return r, err
			}
		}
		stopping := l.broken != nil || easing || ctx.Err() != nil
		if l.active == 0 && (stopping || d.Wake == 0) {
			return r, l.end(d, stopping)
		}
		abandoned := ctx.Done()
		if ctx.Err() != nil {
			abandoned = nil // already seen; wait for the steps to let go
		}
		select {
		case n := <-l.notes:
			if err := l.collect(stepCtx, n); err != nil {
				return r, err
			}
		case <-l.wake(d):
		case <-listen.C:
			due = true
		case <-ease:
			easing, ease = true, nil
		case <-abandoned:
		}
		if l.broken != nil {
			_ = l.flush() // the first failure is the one to tell
		}
	}
}

// now is the run's clock.
func (l *loop) now() time.Duration { return l.base + l.clock.Since() }

// wake is when the loop has to look again though nothing has ended.
func (l *loop) wake(d rollout.Decision) <-chan time.Time {
	switch {
	case l.broken != nil:
		return l.clock.After(retryJournal)
	case d.Wake > 0:
		return l.clock.After(d.Wake - l.now())
	}
	return nil
}

// listen takes what others ask of the run, and decides anew where somebody does. What
// cannot be read may be a request to stop: nothing more is started then.
func (l *loop) listen(d rollout.Decision) (rollout.Decision, error) {
	requests, err := l.Journal.Requests(context.Background())
	if err != nil {
		l.broken = err
		return rollout.Decision{}, nil
	}
	if len(requests) == 0 {
		return d, nil
	}
	for _, q := range requests {
		if err := l.take(note{event: rollout.Event{Type: rollout.RunRequested, Request: &q}}); err != nil {
			return d, err
		}
	}
	if l.flush() != nil {
		return rollout.Decision{}, nil // broken is set
	}
	return rollout.Next(l.run, l.now()), nil
}

// start begins the ready steps. Nothing of it is durable yet: a step that begins
// without a trace after a crash begins again.
func (l *loop) start(ctx context.Context, ready []rollout.StepID) error {
	for _, id := range ready {
		attempt := 1
		if s := l.run.Step(id); s != nil {
			attempt = s.Attempts + 1
		}
		if err := l.take(note{event: rollout.Event{Type: rollout.StepStarted, Step: &id, Attempt: attempt}}); err != nil {
			return err
		}
	}
	if l.flush() != nil {
		// They have not begun, as far as anybody knows: they stay unfinished.
		return nil
	}
	for _, id := range ready {
		l.active++
		planned, _ := l.run.Plan.Step(id)
		c := call{loop: l, task: l.run.Plan.Task(id), step: l.step(id), problem: planned.Problem, open: planned.Open, recheck: planned.Recheck}
		c.leans = l.leansOn(id)
		c.rescuable = len(l.run.Plan.Plays[id.Play].Blocks) > 0
		if c.open != nil {
			open := *c.open
			open.Contents = l.run.Plan.Contents
			c.open, c.results = &open, l.run.Results(id, open.Others)
		}
		go c.run(ctx)
	}
	return nil
}

// collect takes a note and all others that are there already, and writes them
// together: 300 hosts that answer at once cost the disk one sync.
func (l *loop) collect(ctx context.Context, n note) error {
	for more := cap(l.notes); ; more-- {
		if err := l.accept(ctx, n); err != nil {
			return err
		}
		if more > 0 {
			select {
			case n = <-l.notes:
				continue
			default:
			}
		}
		_ = l.flush() // broken is set
		return nil
	}
}

func (l *loop) accept(ctx context.Context, n note) error {
	ended := n.event.Type == rollout.StepEnded
	if ended {
		l.active--
	}
	// A step that ended badly because it was abandoned has not failed: it stays
	// open, as after a crash.
	if ended && ctx.Err() != nil && n.event.Outcome.Bad() {
		return nil
	}
	return l.take(n)
}

// take adds an event to the run, to be written with the next flush. Only an event
// that cannot be is an error; a late one is dropped.
func (l *loop) take(n note) error {
	e := n.event
	e.Seq, e.At, e.Clock = l.run.Seq+1, l.clock.Now(), max(l.now(), l.run.Clock)
	if err := l.run.Apply(e); err != nil {
		if !errors.Is(err, rollout.ErrLate) {
			return err
		}
		if n.done != nil {
			n.done <- err
		}
		return nil
	}
	if e.Step != nil && e.Outcome != nil && l.run.Plan.Task(*e.Step).NoLog {
		hidden := e.Outcome.Hidden()
		e.Outcome = &hidden
	}
	l.pending = append(l.pending, e)
	if n.done != nil {
		l.waiting = append(l.waiting, n.done)
	}
	return nil
}

// flush writes what is pending. After a failure the events stay pending, so that
// what has happened is not lost while there is hope; who waits for durability is
// told that there is none.
func (l *loop) flush() error {
	if len(l.pending) == 0 {
		return nil
	}
	// How a run ended matters also while it is being cancelled.
	err := l.Journal.Append(context.Background(), l.pending)
	for _, done := range l.waiting {
		done <- err
	}
	l.waiting = nil
	if err != nil {
		if l.broken == nil {
			l.broken = err
		}
		return err
	}
	written := l.pending
	l.pending = nil
	if l.Watch != nil {
		for _, e := range written {
			l.Watch(l.run, e)
		}
	}
	return nil
}

// end ends the run: nothing is being executed any more.
func (l *loop) end(d rollout.Decision, interrupted bool) error {
	last := rollout.Event{Type: rollout.RunInterrupted}
	switch {
	case interrupted, d.Verdict == rollout.Leave:
	case d.Verdict == rollout.Finish:
		last = rollout.Event{Type: rollout.RunDone}
	case d.Verdict == rollout.Stop:
		last = rollout.Event{Type: rollout.RunHalted, Halt: d.Halt}
	default:
		return errors.New("the run stands still: no step is ready, running or waiting; this is a defect in fleetd")
	}
	if err := l.take(note{event: last}); err != nil {
		return err
	}
	if err := l.flush(); err != nil || l.broken != nil {
		return &JournalError{l.broken}
	}
	return nil
}

// step is the module's view of a step that was just started.
func (l *loop) step(id rollout.StepID) rollout.Step {
	planned, _ := l.run.Plan.Step(id)
	s := l.run.Step(id)
	return rollout.Step{
		ID: id, Host: planned.Where(id.Host), Change: l.run.Plan.WithContent(planned.Change), Become: l.run.Plan.Becomes(id), BecomeAs: planned.BecomeAs,
		Attempt: s.Attempts, Now: l.run.Clock, Elapsed: l.run.Clock - s.First, SoFar: s.SoFar,
	}
}
