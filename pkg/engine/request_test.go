package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// A run that is asked to stop before a step starts does not start it. What waits for
// a node is waited for.
func TestRequestBeforeTheNextStep(t *testing.T) {
	for _, c := range []struct {
		verb   rollout.Verb
		status rollout.RunStatus
		last   string
	}{{rollout.Pause, rollout.Interrupted, "run.interrupted"}, {rollout.Abort, rollout.Halted, "run.halted"}} {
		j := &memory{}
		e := Engine{Journal: j, Modules: modules(func(_ context.Context, s rollout.Step) rollout.Outcome {
			if s.Attempt < 3 {
				j.ask(c.verb)
				return rollout.WaitFor(time.Millisecond, "the node reboots")
			}
			return rollout.Did("")
		})}
		r, err := e.Execute(t.Context(), plan("a"), 1)
		if err != nil || r.Status != c.status {
			t.Fatalf("%s: %s, %v\n%s", c.verb, r.Status, err, j.types())
		}
		want := `run.started
started a.1
ended a.1 waiting
run.requested
started a.1
ended a.1 waiting
run.requested
started a.1
ended a.1 changed
` + c.last
		if got := j.types(); got != want {
			t.Errorf("%s:\n%s\nwant:\n%s", c.verb, got, want)
		}
	}
}

// A request is heard within moments also where no step is about to start.
func TestRequestWhileAllWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memory{}
		var heard time.Time
		begun := make(chan struct{})
		end := make(chan struct{})
		e := Engine{Journal: j, Modules: modules(func(context.Context, rollout.Step) rollout.Outcome {
			close(begun)
			<-end
			return rollout.Did("")
		})}
		e.Watch = func(_ *rollout.Run, ev rollout.Event) {
			if ev.Type == rollout.RunRequested {
				heard = time.Now()
				close(end)
			}
		}
		go func() {
			<-begun
			j.ask(rollout.Pause)
		}()
		began := time.Now()
		r, err := e.Execute(t.Context(), plan("a"), 1)
		if err != nil || r.Status != rollout.Interrupted || heard.Sub(began) > listenEvery {
			t.Errorf("%s, %v, heard after %v\n%s", r.Status, err, heard.Sub(began), j.types())
		}
	})
}

// What cannot be read may be a wish to stop: the run ends as gently as where the
// journal cannot be written.
func TestRequestsUnreadable(t *testing.T) {
	j := &memory{unreadable: errors.New("the file is damaged")}
	e := Engine{Journal: j, Modules: modules(func(context.Context, rollout.Step) rollout.Outcome {
		t.Error("a step was done")
		return rollout.Did("")
	})}
	r, err := e.Execute(t.Context(), plan("a"), 1)
	var failed *JournalError
	if !errors.As(err, &failed) || r.Status != rollout.Interrupted || !strings.Contains(fmt.Sprint(err), "the file is damaged") {
		t.Errorf("%s, %v", r.Status, err)
	}
}
