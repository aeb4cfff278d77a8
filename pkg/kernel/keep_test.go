package kernel

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// A node that takes work again since it was drained is not rebooted, and nothing of
// the attempt is left.
func TestNotDrainedAnyMoreIsNotRebooted(t *testing.T) {
	for _, flavour := range flavours {
		b := newBench(t, flavour)
		step := b.before(t, wholePlay[2])
		was := b.rawArgs()
		b.kept = func(context.Context) (rollout.Outcome, bool) {
			return rollout.Fail(&rollout.Problem{Message: "it takes work again", Hint: "apply again"}), false
		}
		out := b.do(step)
		if out.Kind != rollout.Failed || out.Message != host+" is not rebooted: it takes work again" || out.Hint != "apply again" {
			t.Errorf("%s: %+v", flavour, out)
		}
		if n := b.Counts().Reboots; n != 0 {
			t.Errorf("%s: %d reboots", flavour, n)
		}
		nothingLeft(t, b, was)
	}
}

// It is asked right before each reboot, until there is an answer or the time is over.
func TestKeepersAreAskedAgain(t *testing.T) {
	for name, c := range map[string]struct {
		answers int // no answer before that many
		reboots int
	}{"after a while": {3, 1}, "never": {1 << 30, 0}} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, flavours[0])
			step := b.before(t, wholePlay[2])
			asked := 0
			b.kept = func(context.Context) (rollout.Outcome, bool) {
				if asked++; asked < c.answers {
					return rollout.RetryAfter(30*time.Second, errors.New("the API server is away")), false
				}
				return rollout.Outcome{}, true
			}
			out := b.do(step)
			if n := b.Counts().Reboots; n != c.reboots || out.Bad() != (c.reboots == 0) {
				t.Errorf("%d reboots, %+v", n, out)
			}
			if c.reboots == 0 && !strings.Contains(out.Message, "the API server is away") {
				t.Errorf("%+v", out)
			}
		})
	}
}
