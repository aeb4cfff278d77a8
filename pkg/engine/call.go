package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// call is one attempt at one step, in a goroutine of its own. It owns its data:
// what the run holds is the loop's.
type call struct {
	loop *loop
	task rollout.PlannedTask
	step rollout.Step
	// problem is why the host cannot be changed, for a step that only stands for
	// that failure; no module is asked then.
	problem *rollout.Problem
	// open is what of the step only the run tells, results what it is told by.
	open    *rollout.Open
	results rollout.Results
	// recheck is set where it has to be planned anew.
	recheck *rollout.Recheck
	// leans is the step that has to hold still before this one takes its host out of
	// service, nil if there is none.
	leans *kept
	// rescuable is set where a rescue may want to know of a failure.
	rescuable bool
}

// mostIntents bounds the intentions of one attempt: a module that intends the
// same thing again and again would never be heard of.
const mostIntents = 100

// run executes the step and reports how it ended.
func (c *call) run(ctx context.Context) {
	ctx = rollout.WithRecorder(ctx, c)
	if c.leans != nil {
		ctx = rollout.WithKeepers(ctx, c.leans.holds)
	}
	var o rollout.Outcome
	if c.open != nil && len(c.open.Loop) > 0 && c.problem == nil && !c.task.Undo {
		o = c.each(ctx)
	} else {
		o = c.once(ctx)
	}
	c.loop.notes <- note{event: c.event(rollout.StepEnded, o)}
}

// once does the step, for one item if it has several, within the time that it may
// take. An intention is made durable, and the module called again with it.
func (c *call) once(ctx context.Context) rollout.Outcome {
	if c.task.Timeout == 0 || c.task.Undo {
		return c.untilOver(ctx)
	}
	within, cancel := context.WithTimeout(ctx, c.task.Timeout)
	defer cancel()
	o := c.untilOver(within)
	if o.Kind == rollout.Failed && within.Err() != nil && ctx.Err() == nil {
		o.Message = fmt.Sprintf("the task took longer than its timeout of %v; %s", c.task.Timeout, o.Message)
	}
	return o
}

func (c *call) untilOver(ctx context.Context) rollout.Outcome {
	o := c.outcome(ctx)
	for n := 0; o.Kind == rollout.Intends; n++ {
		if n == mostIntents {
			return rollout.Outcome{Kind: rollout.Failed, Message: fmt.Sprintf("%s on %s: defect in fleetd: it intends without end", c.task.Module, c.step.Host)}
		}
		if err := c.intend(o); err != nil {
			return rollout.RetryAfter(0, err)
		}
		o = c.outcome(ctx)
	}
	if o.Final() {
		o = c.judged(o)
	}
	return o
}

// intend makes the notes of an outcome durable, and keeps them for the next call.
// Where that fails, what was intended must not be done: the step stays open, and
// the loop ends the run.
func (c *call) intend(o rollout.Outcome) error {
	if err := c.send(rollout.StepIntended, o); err != nil {
		return err
	}
	c.step.SoFar = maps.Clone(c.step.SoFar)
	if c.step.SoFar == nil {
		c.step.SoFar = map[string]string{}
	}
	for k, v := range o.Notes {
		if v == "" {
			delete(c.step.SoFar, k)
		} else {
			c.step.SoFar[k] = v
		}
	}
	return nil
}

func (c *call) event(t rollout.EventType, o rollout.Outcome) rollout.Event {
	if c.task.NoLog && o.Message != "" {
		o.Message, o.Hint = rollout.HiddenText, "" // also of what is tried again
	}
	return rollout.Event{Type: t, Step: &c.step.ID, Attempt: c.step.Attempt, Outcome: &o}
}

// send waits until the event is on the disk.
func (c *call) send(t rollout.EventType, o rollout.Outcome) error {
	done := make(chan error, 1)
	c.loop.notes <- note{event: c.event(t, o), done: done}
	return <-done
}

func (c *call) outcome(ctx context.Context) (o rollout.Outcome) {
	if c.problem != nil {
		return rollout.Fail(c.problem)
	}
	m, ok := c.loop.Modules[c.task.Module]
	if !ok {
		return rollout.Fail(fmt.Errorf("there is no module %q in this fleetd", c.task.Module))
	}
	defer func() {
		// One module's defect must not take down the run that 299 other hosts
		// are in the middle of.
		if p := recover(); p != nil {
			o = rollout.Outcome{Kind: rollout.Failed, Message: fmt.Sprintf("%s on %s: defect in fleetd: %v", c.task.Module, c.step.Host, p)}
		}
	}()
	do := m.Do
	if c.task.Undo {
		do = m.Undo
	} else if o, ready := c.ready(ctx, m); !ready {
		return o
	}
	if len(c.step.Change.Items) > 0 {
		return c.items(ctx, do)
	}
	return do(ctx, c.step)
}

// ready decides what the plan left open, and looks again where it may have changed. It
// reports whether the step is to be done.
func (c *call) ready(ctx context.Context, m rollout.Module) (o rollout.Outcome, ready bool) {
	if c.open != nil && c.open.Conditional() {
		if o, wanted := c.wanted(); !wanted {
			return o, false
		}
	}
	if c.recheck != nil {
		if o, same := c.asReviewed(ctx, m); !same {
			return o, false
		}
	}
	if c.open != nil && c.open.Late {
		return c.resolve(m)
	}
	return o, true
}

// wantedNote keeps that the condition of a step was true whose change was reviewed.
const wantedNote = "fleetd.wanted"

// wanted reports whether the step is to be done. That it is must be durable before
// anything of it is done.
func (c *call) wanted() (o rollout.Outcome, wanted bool) {
	if _, decided := c.step.SoFar[wantedNote]; decided {
		return o, true
	}
	_, skip, err := c.loop.Resolver.Resolve(c.task.Module, *c.open, c.results)
	switch {
	case err != nil:
		return rollout.Fail(err), false
	case skip != "":
		return c.skipped(skip), false
	}
	return rollout.Intend(wantedNote, strings.Join(c.open.Unknown, "; ")), false
}

func (c *call) skipped(why string) rollout.Outcome {
	o := rollout.Outcome{Kind: rollout.Skipped, Message: why}
	if c.task.Register != "" && why != rollout.NotNotified {
		o.Result = rollout.SkippedResult
	}
	return o
}

// triesNote keeps how often a step was done that is done until something is so.
const triesNote = "fleetd.tries"

// resolve takes over what the open step is. Where it is not in the journal yet the
// outcome says so: what was decided must be durable before it is done, so that a
// resume does not decide otherwise.
func (c *call) resolve(m rollout.Module) (o rollout.Outcome, resolved bool) {
	plan := &c.loop.run.Plan
	if kept, ok := c.step.SoFar[rollout.ResolvedNote]; ok {
		change, err := plan.ReadResolved(kept)
		if err != nil {
			return rollout.Fail(fmt.Errorf("cannot read what %s on %s was to do: %w", c.task.Module, c.step.Host, err)), false
		}
		c.step.Change = change
		return o, true
	}
	args, skip, err := c.loop.Resolver.Resolve(c.task.Module, *c.open, c.results)
	if err != nil {
		return rollout.Fail(err), false
	}
	if skip != "" {
		return c.skipped(skip), false
	}
	change, _, err := m.Diff(c.step.Host, nil, args)
	if err != nil {
		return rollout.Fail(err), false
	}
	note, err := plan.Resolved(change)
	if err != nil {
		return rollout.Fail(fmt.Errorf("cannot write down what %s on %s is to do: %w", c.task.Module, c.step.Host, err)), false
	}
	if c.task.NoLog { // it is decided again after a crash
		c.step.Change = change
		return o, true
	}
	return rollout.Intend(rollout.ResolvedNote, note), false
}

// judged is a final outcome as the playbook wants it judged, with a result where
// the task keeps one.
func (c *call) judged(o rollout.Outcome) rollout.Outcome {
	switch {
	case o.Kind == rollout.Skipped, c.problem != nil, c.task.Undo:
		return o
	case o.Kind == rollout.Unreachable:
		if o.Result == nil {
			o.Result, _ = json.Marshal(map[string]any{"unreachable": true, "changed": false, "msg": o.Message}) // as below
		}
		return c.kept(o)
	}
	if len(o.Result) == 0 {
		// A struct of strings and booleans: it cannot fail.
		o.Result, _ = json.Marshal(map[string]any{"changed": o.Kind == rollout.Changed, "failed": o.Kind == rollout.Failed, "msg": o.Message})
	}
	if c.open != nil {
		before, _ := strconv.ParseInt(c.step.SoFar[triesNote], 10, 64) // none is 0
		o = c.loop.Resolver.Judge(*c.open, c.results, o, before+1)
		if !o.Final() {
			return o.Note(triesNote, strconv.FormatInt(before+1, 10))
		}
	}
	return c.kept(o)
}

// kept is an outcome as the task wants it kept.
func (c *call) kept(o rollout.Outcome) rollout.Outcome {
	o.Ignored = o.Kind == rollout.Failed && c.task.IgnoreErrors || o.Kind == rollout.Unreachable && c.task.IgnoreUnreachable
	if c.task.Register == "" && !c.task.Facts && !(c.rescuable && o.Kind == rollout.Failed) {
		o.Result = nil
	}
	return o
}

// Record and Progress pass on what the step says while it runs.
func (c *call) Record(o rollout.Operation) {
	if c.task.NoLog {
		o.Text, o.Output = rollout.HiddenText, ""
	}
	c.loop.notes <- note{event: rollout.Event{Type: rollout.StepOperation, Step: &c.step.ID, Attempt: c.step.Attempt, Operation: &o}}
}

func (c *call) Progress(text string) {
	if c.task.NoLog {
		return
	}
	c.loop.notes <- note{event: rollout.Event{Type: rollout.StepProgress, Step: &c.step.ID, Attempt: c.step.Attempt, Text: text}}
}
