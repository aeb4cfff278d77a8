package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// itemNote keeps how an item of a loop ended.
func itemNote(n int) string { return fmt.Sprint(rollout.ItemNotes, n) }

// each does the step for every item of its loop, one after the other, as Ansible
// does also where one fails. How an item ended is durable before the next begins,
// so that after a crash none is done twice.
func (c *call) each(ctx context.Context) rollout.Outcome {
	items, err := c.loop.Resolver.Items(*c.open, c.results)
	if err != nil {
		return c.kept(rollout.Fail(err))
	}
	var ends []rollout.Outcome
	for n, results := range items {
		if c.task.Facts {
			results.See(ends) // what the items before have set
		}
		var end rollout.Outcome
		if kept, ok := c.step.SoFar[itemNote(n)]; ok {
			if err := json.Unmarshal([]byte(kept), &end); err != nil {
				return rollout.Fail(fmt.Errorf("cannot read how item %d of %s on %s ended: %w", n+1, c.task.Module, c.step.Host, err))
			}
			ends = append(ends, end)
			continue
		}
		c.results = results
		end = c.once(ctx)
		if !end.Final() || end.Kind == rollout.Unreachable || ctx.Err() != nil {
			return end // not over, or nobody knows whether it is
		}
		end.Notes = nil
		o, err := c.itemEnded(n, end)
		if err != nil {
			return rollout.Fail(err)
		}
		if err := c.intend(o); err != nil {
			return rollout.RetryAfter(0, err)
		}
		ends = append(ends, end)
		if pause := c.open.Pause; pause > 0 && n+1 < len(items) {
			return rollout.WaitFor(pause, "%d of %d items, and then a pause", n+1, len(items))
		}
	}
	return c.kept(c.loop.Resolver.Together(*c.open, items, ends))
}

// itemEnded is what has to be durable before the next item begins. What was noted of
// this one goes, but for what an undo needs; what was decided for all of them stays.
func (c *call) itemEnded(n int, end rollout.Outcome) (rollout.Outcome, error) {
	kept := rollout.ItemEnd{Outcome: end, Was: c.step.SoFar[rollout.WasNote]}
	if c.task.NoLog {
		kept.Outcome = end.Hidden()
	}
	if end.Kind != rollout.Unchanged {
		kept.Resolved = c.step.SoFar[rollout.ResolvedNote]
	}
	raw, err := json.Marshal(kept)
	if err != nil {
		return rollout.Outcome{}, fmt.Errorf("cannot write down how item %d of %s on %s ended: %w", n+1, c.task.Module, c.step.Host, err)
	}
	o := rollout.Intend(itemNote(n), string(raw))
	for name := range c.step.SoFar {
		if !strings.HasPrefix(name, rollout.ItemNotes) && name != wantedNote && name != recheckedNote {
			o = o.Note(name, "")
		}
	}
	return o, nil
}

// items does or takes back the changes that a loop made, one after the other: what
// the next call has to do is the first that has not ended.
func (c *call) items(ctx context.Context, do func(context.Context, rollout.Step) rollout.Outcome) rollout.Outcome {
	for n, change := range c.step.Change.Items {
		if _, ended := c.step.SoFar[itemNote(n)]; ended {
			continue
		}
		step := c.step
		step.Change = c.loop.run.Plan.WithContent(change)
		o := do(ctx, step)
		if !o.Final() || o.Bad() {
			return o
		}
		ended, err := c.itemEnded(n, o)
		if err != nil {
			return rollout.Fail(err)
		}
		if err := c.intend(ended); err != nil {
			return rollout.RetryAfter(0, err)
		}
	}
	return c.allItems()
}

// allItems is the outcome of items that have all ended well. What they register
// together is the change's Data.
func (c *call) allItems() rollout.Outcome {
	changed := 0
	for n := range c.step.Change.Items {
		var e rollout.ItemEnd
		if json.Unmarshal([]byte(c.step.SoFar[itemNote(n)]), &e) == nil && e.Kind == rollout.Changed {
			changed++
		}
	}
	o := rollout.AlreadyDone("all %d are as they should be", len(c.step.Change.Items))
	if changed > 0 {
		o = rollout.Did("%d of %d changed", changed, len(c.step.Change.Items))
	}
	result := map[string]any{}
	if json.Unmarshal(c.step.Change.Data, &result) == nil && len(result) > 0 {
		result["changed"], result["failed"] = changed > 0, false
		o.Result, _ = json.Marshal(result) // JSON that was read: it cannot fail
	}
	return o
}
