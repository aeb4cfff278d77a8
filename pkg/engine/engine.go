package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// Journal keeps the events of a run durably. Append returns only when the
// event is safe, and returns it with its sequence number.
type Journal interface {
	Append(ctx context.Context, e rollout.Event) (rollout.Event, error)
}

// Engine executes plans.
type Engine struct {
	Modules map[string]rollout.Module
	Journal Journal
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Watch, if set, is called after every event with the run that includes
	// it, always from the same goroutine. It must not keep the run.
	Watch func(*rollout.Run, rollout.Event)
	// Ease, if set, ends the run gently when it is closed: steps that are being
	// executed come to their end, no other is started.
	Ease <-chan struct{}
}

// Execute carries out a plan from its beginning. The run it returns says how
// it ended; the error is about fleetd itself (the journal cannot be written),
// not about hosts. Cancelling ctx abandons the steps in flight: they stay open
// in the journal, as after a crash.
func (e *Engine) Execute(ctx context.Context, plan rollout.Plan, forks int) (*rollout.Run, error) {
	r := &rollout.Run{}
	return e.loop(ctx, r, rollout.Event{Type: rollout.RunStarted, Plan: &plan, Forks: forks})
}

// Resume goes on with the run that the events describe.
func (e *Engine) Resume(ctx context.Context, events []rollout.Event) (*rollout.Run, error) {
	r, err := rollout.Fold(events)
	if err != nil {
		return nil, fmt.Errorf("cannot resume: %w", err)
	}
	if r.Status == rollout.Done {
		return r, nil
	}
	return e.loop(ctx, r, rollout.Event{Type: rollout.RunResumed})
}

// note is an event on its way from a step to the loop. done, if set, is told
// when the event is in the journal.
type note struct {
	event rollout.Event
	done  chan error
}

func (e *Engine) loop(ctx context.Context, r *rollout.Run, first rollout.Event) (*rollout.Run, error) {
	now := e.Now
	if now == nil {
		now = time.Now
	}
	// Journal writes go on while ctx is being cancelled: how it ended matters.
	record := func(ev rollout.Event) error {
		ev.At = now()
		ev, err := e.Journal.Append(context.WithoutCancel(ctx), ev)
		if err != nil {
			return fmt.Errorf("cannot write the journal: %w", err)
		}
		if err := r.Apply(ev); err != nil {
			return err
		}
		if e.Watch != nil {
			e.Watch(r, ev)
		}
		return nil
	}
	if err := record(first); err != nil {
		return r, err
	}

	stepCtx, cancelSteps := context.WithCancel(ctx)
	defer cancelSteps()
	notes := make(chan note)
	active := 0
	ease := e.Ease
	easing := false
	var fatal error // the journal failed: nothing more may be started

	take := func(n note) {
		err := fatal
		// A step that ended badly because it was abandoned has not failed: it
		// stays open, as after a crash.
		abandoned := n.event.Type == rollout.StepEnded && stepCtx.Err() != nil && n.event.Outcome.Bad()
		if err == nil && !abandoned {
			if err = record(n.event); err != nil {
				fatal = err
				cancelSteps()
			}
		}
		if n.event.Type == rollout.StepEnded {
			active--
		}
		if n.done != nil {
			n.done <- err
		}
	}

	for {
		var d rollout.Decision
		if fatal == nil && !easing && ctx.Err() == nil {
			d = rollout.Next(r, now())
			for _, id := range d.Ready {
				id := id
				if fatal = record(rollout.Event{Type: rollout.StepStarted, Step: &id}); fatal != nil {
					cancelSteps()
					break
				}
				active++
				go e.call(stepCtx, r.Plan.Task(id), stepFor(r, id), notes)
			}
		}
		if active == 0 {
			switch {
			case fatal != nil:
				return r, fatal
			case easing || ctx.Err() != nil:
				return r, record(rollout.Event{Type: rollout.RunInterrupted})
			case d.Verdict == rollout.Finish:
				return r, record(rollout.Event{Type: rollout.RunDone})
			case d.Verdict == rollout.Stop:
				return r, record(rollout.Event{Type: rollout.RunHalted, Halt: d.Halt})
			case d.Wake.IsZero():
				return r, errors.New("the run stands still: no step is ready, running or waiting; this is a defect in fleetd")
			}
		}
		var wake <-chan time.Time
		if !d.Wake.IsZero() {
			wake = time.After(d.Wake.Sub(now()))
		}
		abandoned := ctx.Done()
		if active > 0 && ctx.Err() != nil {
			abandoned = nil // already seen; wait for the steps to let go
		}
		select {
		case n := <-notes:
			take(n)
		case <-wake:
		case <-ease:
			easing, ease = true, nil
		case <-abandoned:
		}
	}
}

// stepFor is the module's view of a step that was just started.
func stepFor(r *rollout.Run, id rollout.StepID) rollout.Step {
	planned, _ := r.Plan.Step(id)
	st := r.Step(id)
	s := rollout.Step{
		ID: id, Host: id.Host, Change: planned.Change, Problem: planned.Problem, Become: r.Plan.Task(id).Become,
		Attempt: st.Attempts, First: st.First, Checkpoints: map[string]string{},
	}
	for k, v := range st.Checkpoints {
		s.Checkpoints[k] = v
	}
	return s
}

// call executes one step and reports how it ended.
func (e *Engine) call(ctx context.Context, task rollout.PlannedTask, s rollout.Step, notes chan<- note) {
	rec := &recorder{step: s.ID, notes: notes}
	o := e.outcome(rollout.WithRecorder(ctx, rec), task, s)
	notes <- note{event: rollout.Event{Type: rollout.StepEnded, Step: &s.ID, Outcome: &o}}
}

func (e *Engine) outcome(ctx context.Context, task rollout.PlannedTask, s rollout.Step) (o rollout.Outcome) {
	if s.Problem != nil {
		return rollout.Fail(s.Problem)
	}
	m, ok := e.Modules[task.Module]
	if !ok {
		return rollout.Fail(fmt.Errorf("there is no module %q in this fleetd", task.Module))
	}
	defer func() {
		// One module's defect must not take down the run that 299 other hosts
		// are in the middle of.
		if p := recover(); p != nil {
			o = rollout.Outcome{Kind: rollout.Failed, Message: fmt.Sprintf("%s on %s: defect in fleetd: %v", task.Module, s.Host, p)}
		}
	}()
	return m.Do(ctx, s)
}

// recorder passes what a step says on to the loop.
type recorder struct {
	step  rollout.StepID
	notes chan<- note
}

func (c *recorder) send(e rollout.Event) error {
	e.Step = &c.step
	done := make(chan error, 1)
	c.notes <- note{event: e, done: done}
	return <-done
}

func (c *recorder) Record(o rollout.Operation) {
	_ = c.send(rollout.Event{Type: rollout.StepOperation, Operation: &o}) // a journal that fails ends the run from the loop
}

func (c *recorder) Progress(text string) {
	_ = c.send(rollout.Event{Type: rollout.StepProgress, Text: text})
}

func (c *recorder) Checkpoint(key, value string) error {
	return c.send(rollout.Event{Type: rollout.StepCheckpoint, Key: key, Value: value})
}
