package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// itemNote keeps how an item of a loop ended.
func itemNote(n int) string { return fmt.Sprint(itemNotes, n) }

const itemNotes = "fleetd.item."

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
		kept := end
		if c.task.NoLog {
			kept = end.Hidden()
		}
		raw, err := json.Marshal(kept)
		if err != nil {
			return rollout.Fail(fmt.Errorf("cannot write down how item %d of %s on %s ended: %w", n+1, c.task.Module, c.step.Host, err))
		}
		o := rollout.Intend(itemNote(n), string(raw))
		for name := range c.step.SoFar {
			if !strings.HasPrefix(name, itemNotes) {
				o = o.Note(name, "") // it was this item's
			}
		}
		if err := c.intend(o); err != nil {
			return rollout.RetryAfter(0, err)
		}
		ends = append(ends, end)
	}
	return c.kept(c.loop.Resolver.Together(*c.open, items, ends))
}
