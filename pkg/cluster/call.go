package cluster

import (
	"fmt"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// OutagePatience is how long the API server may be away in the middle of a
// step. It is away for a while when its only node is rebooted.
const OutagePatience = 5 * time.Minute

// outage is the note of since when every call has met an API server that is away
// or refuses for a reason that may pass.
const outage = "outage"

// Call is one call of Do or Undo: the step that it is for, and the notes that
// its outcome takes along. Nothing else is remembered from call to call.
type Call struct {
	rollout.Step
	notes map[string]string
	// away is set when the API server could not be asked.
	away bool
}

// Act makes one call for a step whose change holds a T.
func Act[T any](s rollout.Step, do func(c *Call, data T) rollout.Outcome) rollout.Outcome {
	data, err := unpack[T](s)
	if err != nil {
		return rollout.Fail(err)
	}
	c := &Call{Step: s}
	o := do(c, data)
	if o.Final() {
		return o // there is no later call that would read the notes
	}
	if !c.away {
		c.Steady(outage, "")
	}
	for key, value := range c.notes {
		o = o.Note(key, value)
	}
	return o
}

func (c *Call) note(key, value string) {
	if c.notes == nil {
		c.notes = map[string]string{}
	}
	c.notes[key] = value
}

// Steady says for how long value has been the same across the calls of this
// step, by the run's clock. The empty value forgets.
func (c *Call) Steady(key, value string) time.Duration {
	stored := c.SoFar[key]
	if value == "" {
		if stored != "" {
			c.note(key, "")
		}
		return 0
	}
	at, was, _ := strings.Cut(stored, " ")
	if since, err := time.ParseDuration(at); err == nil && was == value {
		return c.Now - since
	}
	c.note(key, c.Now.String()+" "+value)
	return 0
}

// Failed is the outcome of an error of the API server: a retry while it may
// pass, else the end of the step.
func (c *Call) Failed(err error) rollout.Outcome {
	if !passing(err) {
		return rollout.Fail(err)
	}
	c.away = true
	if away := c.Steady(outage, "yes"); away > OutagePatience {
		return rollout.Fail(fmt.Errorf("%w (for %s)", err, away.Round(time.Second)))
	}
	return rollout.RetryAfter(PollEvery, err)
}

// Done is the end of a step with nothing left to do. The first attempt found
// it like that, and it is not fleetd's to take back; of a later one nobody can
// tell, because an earlier one may have made the change.
func (c *Call) Done(format string, a ...any) rollout.Outcome {
	if c.Attempt > 1 {
		return rollout.Did(format, a...)
	}
	return rollout.AlreadyDone(format, a...)
}
