package rollout

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var anna = Person{User: "anna", Host: "bastion1"}

// genCalm draws a plan in which it is not chance who a limit leaves behind.
func genCalm(t *rapid.T) (Plan, map[StepID][]Outcome) {
	p, script := genPlan(t, true)
	for pi := range p.Plays {
		p.Plays[pi].AnyErrorsFatal, p.Plays[pi].MaxUnavailable = false, 0
	}
	return p, script
}

// Once a run has heard that it is to stop, no step begins, and none is left in the
// middle: what waits for a node is waited for.
func TestPropertyRequest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, script := genPlan(t, true)
		if rapid.Bool().Draw(t, "with a control plane") {
			genControlPlane(t, &p)
		}
		if err := p.Seal(); err != nil {
			t.Fatal(err)
		}
		s := newSim(script, draws(t))
		verb := rapid.SampledFrom([]Verb{Pause, Abort}).Draw(t, "verb")
		s.asked = once(t, verb)
		s.check = func(r *Run) { sameAfterSnapshot(t, p, r, s.now) }
		r, err := s.execute(p, rapid.IntRange(0, 4).Draw(t, "forks"), 0)
		if err != nil {
			t.Fatal(err)
		}
		heard := false
		for _, e := range s.events {
			heard = heard || e.Type == RunRequested
			if heard && e.Type == StepStarted && e.Attempt == 1 {
				t.Fatalf("step %s begins after the request", e.Step)
			}
		}
		if !heard || r.Halt != nil && r.Halt.Gate { // any_errors_fatal waits for nobody, asked or not
			return
		}
		r.each(func(id StepID, st *StepState) {
			if _, lost := r.Lost(id.Host); !st.Over() && !lost {
				t.Fatalf("the run ended %s, and step %s is in the middle", r.Status, id)
			}
		})
		switch {
		case r.Status == Done:
		case verb == Pause && r.Status != Interrupted, verb == Abort && r.Status != Halted:
			t.Fatalf("asked to %s, the run ended %s", verb, r.Status)
		case verb == Abort && !strings.HasPrefix(r.Halt.Reason, "aborted by anna@bastion1: "):
			t.Fatalf("halted by %q", r.Halt.Reason)
		}
	})
}

// once asks for something at some moment.
func once(t *rapid.T, verb Verb) func(*Run) *Request {
	at := rapid.IntRange(1, 40).Draw(t, "asked at")
	return func(*Run) *Request {
		if at--; at != 0 {
			return nil
		}
		return &Request{ID: 1, Verb: verb, By: anna, Reason: "the storage is slow"}
	}
}

// A run that was paused, and resumed, ends where one ends that was left alone; also
// where the process dies between the request and the end.
func TestPropertyPausedThenResumed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, script := genCalm(t)
		forks := rapid.IntRange(1, 4).Draw(t, "forks")
		calm := newSim(script, func(int) int { return 0 })
		want, err := calm.execute(p, forks, 0)
		if err != nil {
			t.Fatal(err)
		}
		paused := newSim(script, draws(t))
		paused.asked = once(t, Pause)
		got, err := paused.execute(p, forks, rapid.IntRange(0, len(calm.events)).Draw(t, "crash after"))
		if err != nil {
			t.Fatal(err)
		}
		if got.Status == Interrupted {
			if got.Asked == nil {
				t.Fatal("it was interrupted, and nobody has asked for it")
			}
			if err := paused.emit(got, Event{Type: RunResumed}); err != nil {
				t.Fatal(err)
			}
			if err := paused.drive(got, 0); err != nil {
				t.Fatal(err)
			}
		}
		if got.Status != want.Status {
			t.Fatalf("ended %s, undisturbed %s", got.Status, want.Status)
		}
		if d := cmp.Diff([]any{calm.reboots, calm.writes, want.LostHosts()}, []any{paused.reboots, paused.writes, got.LostHosts()}); d != "" {
			t.Fatalf("another world after the pause (-undisturbed +paused):\n%s", d)
		}
	})
}

// An abort holds although the process dies on it: a resume brings to its end what was
// begun, and nothing else.
func TestPropertyAbortedThenCrashed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, script := genCalm(t)
		s := newSim(script, draws(t))
		s.asked = once(t, Abort)
		r, err := s.execute(p, rapid.IntRange(1, 4).Draw(t, "forks"), rapid.IntRange(1, 60).Draw(t, "crash after"))
		if err != nil {
			t.Fatal(err)
		}
		heard := false
		for _, e := range s.events {
			heard = heard || e.Type == RunRequested
			if heard && e.Type == StepStarted && e.Attempt == 1 {
				t.Fatalf("step %s begins after the abort", e.Step)
			}
		}
		if heard && r.Status != Halted && r.Status != Done {
			t.Fatalf("it ended %s", r.Status)
		}
	})
}

func TestRequests(t *testing.T) {
	at := time.Date(2026, 11, 27, 2, 0, 0, 0, time.UTC)
	asked := func(v Verb, who string) Event {
		return Event{Type: RunRequested, Request: &Request{Verb: v, By: Person{User: who}, At: at}}
	}
	for _, c := range []struct {
		name   string
		events []Event
		want   string // who is obeyed, or the error
	}{
		{"a pause", []Event{asked(Pause, "anna")}, "paused by anna"},
		{"a second pause", []Event{asked(Pause, "anna"), asked(Pause, "bert")}, "paused by anna"},
		{"an abort after it", []Event{asked(Pause, "anna"), asked(Abort, "bert")}, "aborted by bert"},
		{"a pause after an abort", []Event{asked(Abort, "bert"), asked(Pause, "anna")}, "aborted by bert"},
		{"a resume ends a pause", []Event{asked(Pause, "anna"), {Type: RunInterrupted}, {Type: RunResumed}}, ""},
		{"and no abort", []Event{asked(Abort, "anna"), {Type: RunInterrupted}, {Type: RunResumed}}, "aborted by anna"},
		{"after the end", []Event{{Type: RunDone}, asked(Pause, "anna")}, "run.requested of a run that is done"},
		{"without what it asks for", []Event{{Type: RunRequested}}, "run.requested without a request"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &Run{}
			var err error
			for i, e := range append([]Event{{Type: RunStarted, Plan: &Plan{}}}, c.events...) {
				e.Seq = int64(i) + 1
				if err = r.Apply(e); err != nil {
					break
				}
			}
			got := ""
			switch {
			case err != nil:
				got = err.Error()
			case r.Asked != nil:
				got = r.Asked.String()
			}
			if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// What a person wants stands, whatever the maintenance window asks, and in whatever order.
func TestRequestOfWindow(t *testing.T) {
	window, pause, abort := Request{ID: 1, Verb: Pause, By: Window}, Request{ID: 2, Verb: Pause, By: anna}, Request{ID: 3, Verb: Abort, By: anna}
	for _, c := range []struct {
		asked []Request
		want  Request
	}{
		{[]Request{window}, window}, {[]Request{window, pause}, pause}, {[]Request{pause, window}, pause},
		{[]Request{window, abort}, abort}, {[]Request{abort, window}, abort}, {[]Request{window, abort, pause}, abort},
	} {
		r := &Run{Status: Running}
		for _, q := range c.asked {
			if err := r.applyRun(Event{Type: RunRequested, Request: &q}); err != nil {
				t.Fatal(err)
			}
		}
		if *r.Asked != c.want {
			t.Errorf("of %v stands %v", c.asked, r.Asked)
		}
	}
}
