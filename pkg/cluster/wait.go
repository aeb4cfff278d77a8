package cluster

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
)

const (
	// pollEvery is how often a waiting step looks again.
	pollEvery = 2 * time.Second
	// outagePatience is how long the API server may be away in the middle of a
	// step. It is away for a while when its only node is rebooted.
	outagePatience = 5 * time.Minute
	// degradedPatience is how long the operator may call itself degraded. It
	// does so for a moment whenever an update of its own met a conflict.
	degradedPatience = 30 * time.Second
	// defaultStall is how long a roll may stand still. A bound on the whole of
	// it would be too short for 300 nodes or too long to notice anything.
	defaultStall = 10 * time.Minute
)

// steady says for how long value has been the same across the calls of this
// step, and remembers it, also over a crash. The empty value forgets.
func steady(ctx context.Context, s rollout.Step, key, value string) (time.Duration, error) {
	stored := s.Checkpoints[key]
	at, was, _ := strings.Cut(stored, " ")
	if value == was && (value == "" || stored != "") {
		since, err := time.Parse(time.RFC3339Nano, at)
		if value == "" || err != nil {
			return 0, nil
		}
		return time.Since(since), nil
	}
	next := ""
	if value != "" {
		next = time.Now().UTC().Format(time.RFC3339Nano) + " " + value
	}
	return 0, rollout.RecorderFrom(ctx).Checkpoint(key, next)
}

// failure is the outcome of an error of the API server: a retry while it may
// pass, else the end of the step.
func failure(ctx context.Context, s rollout.Step, err error) rollout.Outcome {
	if !passing(err) {
		return rollout.Fail(err)
	}
	away, cerr := steady(ctx, s, "outage", "yes")
	if cerr != nil {
		return rollout.Fail(cerr)
	}
	if away > outagePatience {
		return rollout.Fail(fmt.Errorf("%w (for %s)", err, away.Round(time.Second)))
	}
	return rollout.RetryAfter(pollEvery, err)
}

// answered notes that the API server is there.
func answered(ctx context.Context, s rollout.Step) error {
	_, err := steady(ctx, s, "outage", "")
	return err
}

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
}

// await turns the state of a roll into the outcome: wait on, or fail when it
// stands still or the operator stays degraded.
func await(ctx context.Context, s rollout.Step, stall time.Duration, r roll) rollout.Outcome {
	complaint := ""
	if r.degraded != "" {
		complaint = "yes"
	}
	ill, err := steady(ctx, s, "degraded", complaint)
	if err != nil {
		return rollout.Fail(err)
	}
	if ill >= degradedPatience {
		return rollout.Fail(&rollout.Problem{
			Message: fmt.Sprintf("cannot finish: %s: the operator is degraded: %s", r.doing, r.degraded),
			Hint:    "see kubectl get tigerastatus calico -o yaml, and the log of the tigera-operator",
		})
	}
	still, err := steady(ctx, s, "progress", r.mark)
	if err != nil {
		return rollout.Fail(err)
	}
	if still >= stall {
		m := fmt.Sprintf("cannot finish: %s: no progress for %s: %s", r.doing, still.Round(time.Second), r.now)
		if r.laggards != nil {
			if l := r.laggards(); l != "" {
				m += "; " + l
			}
		}
		return rollout.Fail(&rollout.Problem{Message: m, Hint: r.hint})
	}
	now := r.now
	if r.degraded != "" {
		now += "; the operator is degraded: " + r.degraded
	}
	return rollout.WaitFor(pollEvery, "%s", now)
}
