package rollout

import (
	"testing"
	"time"
)

// TestUsual: the median of the steps that changed something; what failed after an hour,
// or had nothing to do, says nothing of how long it takes.
func TestUsual(t *testing.T) {
	run := func(took ...time.Duration) *Run {
		p := Plan{Schema: PlanSchema, Plays: []PlannedPlay{{Strategy: Free, Batches: [][]string{{"a", "b", "c"}}, Tasks: []PlannedTask{{Name: "boot", Module: "m", Steps: map[string]PlannedStep{}}}}}}
		r := &Run{}
		events := []Event{{Type: RunStarted, Plan: &p, Forks: 3}}
		for i, d := range took {
			host := p.Plays[0].Batches[0][i]
			p.Plays[0].Tasks[0].Steps[host] = PlannedStep{Change: Change{Action: Update}}
			id := StepID{Host: host}
			o := Did("")
			if d == 0 {
				o, d = Outcome{Kind: Failed}, time.Hour
			} else if d < 0 {
				o, d = AlreadyDone(""), time.Millisecond
			}
			began := events[len(events)-1].Clock
			events = append(events, Event{Type: StepStarted, Step: &id, Attempt: 1, Clock: began}, Event{Type: StepEnded, Step: &id, Attempt: 1, Outcome: &o, Clock: began + d})
		}
		p = mustSeal(t, p)
		for i, e := range events {
			e.Seq = int64(i + 1)
			if err := r.Apply(e); err != nil {
				t.Fatal(err)
			}
		}
		return r
	}
	u := UsualOf([]*Run{run(time.Minute, 0, 3*time.Minute), run(2*time.Minute, -1), run()})
	boot := PlannedTask{Name: "boot", Module: "m"}
	if got := u.Of(boot); got != 2*time.Minute {
		t.Errorf("usually %v", got)
	}
	for _, other := range []PlannedTask{{Name: "boot", Module: "m", Undo: true}, {Name: "boot", Module: "n"}, {Name: "drain", Module: "m"}} {
		if got := u.Of(other); got != 0 {
			t.Errorf("%+v: %v", other, got)
		}
	}
	if got := Usual(nil).Of(boot); got != 0 {
		t.Errorf("nothing was seen, and usually %v", got)
	}
}
