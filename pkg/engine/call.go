package engine

import (
	"context"
	"fmt"
	"maps"

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
}

// mostIntents bounds the intentions of one attempt: a module that intends the
// same thing again and again would never be heard of.
const mostIntents = 100

// run executes the step and reports how it ended. An intention is made durable,
// and the module called again with it.
func (c *call) run(ctx context.Context) {
	ctx = rollout.WithRecorder(ctx, c)
	o := c.outcome(ctx)
	for n := 0; o.Kind == rollout.Intends; n++ {
		if n == mostIntents {
			o = rollout.Outcome{Kind: rollout.Failed, Message: fmt.Sprintf("%s on %s: defect in fleetd: it intends without end", c.task.Module, c.step.Host)}
			break
		}
		if err := c.send(rollout.StepIntended, o); err != nil {
			// It is not durable, so what was intended must not be done. The step
			// stays open, and the loop ends the run.
			o = rollout.RetryAfter(0, err)
			break
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
		o = c.outcome(ctx)
	}
	c.loop.notes <- note{event: c.event(rollout.StepEnded, o)}
}

func (c *call) event(t rollout.EventType, o rollout.Outcome) rollout.Event {
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
	if c.task.Undo {
		return m.Undo(ctx, c.step)
	}
	return m.Do(ctx, c.step)
}

// Record and Progress pass on what the step says while it runs.
func (c *call) Record(o rollout.Operation) {
	c.loop.notes <- note{event: rollout.Event{Type: rollout.StepOperation, Step: &c.step.ID, Attempt: c.step.Attempt, Operation: &o}}
}

func (c *call) Progress(text string) {
	c.loop.notes <- note{event: rollout.Event{Type: rollout.StepProgress, Step: &c.step.ID, Attempt: c.step.Attempt, Text: text}}
}
