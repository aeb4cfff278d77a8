package calico

import (
	"fmt"
	"time"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/rollout"
)

const (
	// degradedPatience is how long the operator may call itself degraded. It does so
	// for a moment whenever an update of its own met a conflict, and for as long as a
	// pod of calico-node crashes again and again (tigera/operator, pkg/controller/status).
	degradedPatience = 30 * time.Second
	// defaultStall is how long a roll may stand still. A bound on the whole of
	// it would be too short for 300 nodes or too long to notice anything.
	defaultStall = 10 * time.Minute
)

// roll is how far a change has come on its way through the cluster.
type roll struct {
	// doing names it: "calico-node rolls to BPF".
	doing string
	// now is the state for the person who watches.
	now string
	// mark changes whenever there was progress, and only then. Readiness is no
	// part of it: a pod that crashes again and again becomes ready in between.
	mark string
	// degraded is what the operator complains of.
	degraded string
	// hint is what to look at when it gets stuck.
	hint string
	// laggards, if set, says what holds it up. It is asked only for the end.
	laggards func() string
	// back is set on the way back, where a degraded operator is a reason to go on: it
	// is so because of what is being taken back.
	back bool
	// giveUp, if set, is the end in place of a failure when nothing moves any
	// more, or the operator stays degraded.
	giveUp func(*rollout.Problem) rollout.Outcome
}

// await turns the state of a roll into the outcome: wait on, or fail when it
// stands still or the operator stays degraded.
func await(c *cluster.Call, stall time.Duration, r roll) rollout.Outcome {
	complaint := ""
	if r.degraded != "" {
		complaint = "yes"
	}
	var p *rollout.Problem
	if c.Steady("degraded", complaint) >= degradedPatience && !r.back {
		p = &rollout.Problem{
			Message: fmt.Sprintf("cannot finish: %s: the operator is degraded: %s", r.doing, r.degraded),
			Hint:    "see kubectl get tigerastatus calico -o yaml, and the log of the tigera-operator",
		}
	} else if still := c.Steady("progress", r.mark); still >= stall {
		m := fmt.Sprintf("cannot finish: %s: no progress for %s: %s", r.doing, still.Round(time.Second), r.now)
		if r.laggards != nil {
			if l := r.laggards(); l != "" {
				m += "; " + l
			}
		}
		if r.degraded != "" {
			m += "; the operator is degraded: " + r.degraded
		}
		p = &rollout.Problem{Message: m, Hint: r.hint}
	}
	switch {
	case p != nil && r.giveUp != nil:
		return r.giveUp(p)
	case p != nil:
		return rollout.Fail(p)
	}
	now := r.now
	if r.degraded != "" {
		now += "; the operator is degraded: " + r.degraded
	}
	return rollout.WaitFor(cluster.PollEvery, "%s", now)
}
