package engine

import (
	"context"
	"fmt"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// recheckedNote keeps that a step was planned anew and still is what was reviewed.
const recheckedNote = "fleetd.rechecked"

// asReviewed plans the step anew, once, before anything of it is done: a change
// other than the one that was reviewed is not made. That it was the same is durable
// before the effect, because afterwards it is not any more.
func (c *call) asReviewed(ctx context.Context, m rollout.Module) (o rollout.Outcome, same bool) {
	host := c.step.Host
	if _, done := c.step.SoFar[recheckedNote]; done {
		return o, true
	}
	wanted := map[string]map[string][]string{}
	for _, r := range m.Reads(c.recheck.Args) {
		if wanted[r.Section] == nil {
			wanted[r.Section] = map[string][]string{}
		}
		wanted[r.Section][host] = append(wanted[r.Section][host], r.Key)
	}
	observed, err := observe(ctx, wanted, c.loop.Observers)
	if err != nil {
		return rollout.Fail(err), false
	}
	if problem := observed[host].Problem; problem != nil {
		return rollout.Fail(problem), false
	}
	now, _, err := m.Diff(host, observed[host].State, c.recheck.Args)
	if err != nil {
		return rollout.Fail(err), false
	}
	if other := c.step.Change.Same(now); other != "" {
		return rollout.Outcome{
			Kind:    rollout.Failed,
			Message: fmt.Sprintf("not done on %s: it is not what was reviewed any more, since a task before it has changed the host: now it would be: %s", host, other),
			Hint:    "look at what that task did; then plan again",
		}, false
	}
	if now.Action == rollout.NoOp {
		return rollout.AlreadyDone("%s", now.Summary), false
	}
	return rollout.Intend(recheckedNote, fmt.Sprint(c.step.Attempt)), false
}
