package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fleetd/fleetd/pkg/rollout"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a journal in memory; it fails from event failAt on, if that is set.
type memory struct {
	mu     sync.Mutex
	events []rollout.Event
	failAt int
}

func (m *memory) Append(_ context.Context, e rollout.Event) (rollout.Event, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failAt > 0 && len(m.events)+1 >= m.failAt {
		return e, errors.New("disk full")
	}
	e.Seq = int64(len(m.events) + 1)
	m.events = append(m.events, e)
	return e, nil
}

func (m *memory) types() string {
	var out []string
	for _, e := range m.events {
		s := string(e.Type)
		if e.Step != nil {
			s = fmt.Sprintf("%s %s.%d", strings.TrimPrefix(s, "step."), e.Step.Host, e.Step.Task+1)
		}
		if e.Outcome != nil {
			s += " " + string(e.Outcome.Kind)
		}
		out = append(out, s)
	}
	return strings.Join(out, "\n")
}

// module does what its function says.
type module func(ctx context.Context, s rollout.Step) rollout.Outcome

func (module) Params() rollout.Params            { return nil }
func (module) Reads(rollout.Args) []rollout.Read { return nil }
func (module) Diff(_ string, st rollout.State, _ rollout.Args) (rollout.Change, rollout.State, error) {
	return rollout.Change{Action: rollout.Update}, st, nil
}
func (m module) Do(ctx context.Context, s rollout.Step) rollout.Outcome   { return m(ctx, s) }
func (m module) Undo(ctx context.Context, s rollout.Step) rollout.Outcome { return m(ctx, s) }

func plan(hosts ...string) rollout.Plan {
	steps := map[string]rollout.PlannedStep{}
	for _, h := range hosts {
		steps[h] = rollout.PlannedStep{Change: rollout.Change{Action: rollout.Update}}
	}
	zero := 0.0
	return rollout.Plan{Plays: []rollout.PlannedPlay{{
		Strategy: rollout.Free, Batches: [][]string{hosts}, MaxFailPercentage: &zero,
		Tasks: []rollout.PlannedTask{{Module: "m", Steps: steps}, {Module: "m", Steps: steps}},
	}}}
}

func TestExecute(t *testing.T) {
	j := &memory{}
	e := Engine{Journal: j, Modules: map[string]rollout.Module{"m": module(func(ctx context.Context, s rollout.Step) rollout.Outcome {
		rec := rollout.RecorderFrom(ctx)
		if s.Attempt == 1 && s.ID.Task == 0 {
			rec.Record(rollout.Operation{Kind: "ssh", Text: "true"})
			if err := rec.Checkpoint("boot_id", "b1"); err != nil {
				return rollout.Fail(err)
			}
			rec.Progress("half way")
			return rollout.WaitFor(time.Millisecond, "wait")
		}
		if s.ID.Task == 0 && s.Checkpoints["boot_id"] != "b1" {
			return rollout.Fail(errors.New("the checkpoint is gone"))
		}
		return rollout.Did("done")
	})}}
	r, err := e.Execute(t.Context(), plan("a"), 5)
	if err != nil || r.Status != rollout.Done {
		t.Fatalf("%s, %v\n%s", r.Status, err, j.types())
	}
	want := `run.started
started a.1
operation a.1
checkpoint a.1
progress a.1
ended a.1 waiting
started a.1
ended a.1 changed
started a.2
ended a.2 changed
run.done`
	if got := j.types(); got != want {
		t.Errorf("journal:\n%s\nwant:\n%s", got, want)
	}
}

func TestFailuresHaltTheRun(t *testing.T) {
	p := plan("a", "b")
	p.Plays[0].Tasks[0].Steps["b"] = rollout.PlannedStep{Problem: &rollout.Problem{Message: "down", Unreachable: true}}
	j := &memory{}
	e := Engine{Journal: j, Modules: map[string]rollout.Module{"m": module(func(_ context.Context, s rollout.Step) rollout.Outcome {
		if s.Host == "b" {
			t.Error("a host with a problem was touched")
		}
		if s.ID.Task == 1 {
			panic("defect")
		}
		return rollout.Did("")
	})}}
	r, err := e.Execute(t.Context(), p, 5)
	if err != nil || r.Status != rollout.Halted {
		t.Fatalf("%s, %v", r.Status, err)
	}
	if got := fmt.Sprint(r.Halt.Hosts); got != "[a b]" {
		t.Errorf("halted by %s", got)
	}
	if o := r.Step(rollout.StepID{Host: "b"}).Outcome; o.Kind != rollout.Unreachable {
		t.Errorf("b ended %s", o.Kind)
	}
	if o := r.Step(rollout.StepID{Task: 1, Host: "a"}).Outcome; !strings.Contains(o.Message, "defect in fleetd: defect") {
		t.Errorf("a ended %q", o.Message)
	}
}

// Ease lets the running step end and starts no other; Resume goes on from there.
func TestEaseThenResume(t *testing.T) {
	j := &memory{}
	ease := make(chan struct{})
	var done []string
	e := Engine{Journal: j, Ease: ease, Modules: map[string]rollout.Module{"m": module(func(_ context.Context, s rollout.Step) rollout.Outcome {
		if s.ID.Task == 0 {
			close(ease)
			time.Sleep(20 * time.Millisecond) // let the loop see it; the outcome must count all the same
		}
		done = append(done, s.ID.String())
		return rollout.Did("")
	})}}
	r, err := e.Execute(t.Context(), plan("a"), 1)
	if err != nil || r.Status != rollout.Interrupted {
		t.Fatalf("%s, %v", r.Status, err)
	}
	e.Ease = nil
	r, err = e.Resume(t.Context(), j.events)
	if err != nil || r.Status != rollout.Done {
		t.Fatalf("%s, %v", r.Status, err)
	}
	if got := strings.Join(done, " "); got != "1.1@a 1.2@a" {
		t.Errorf("done: %s", got)
	}
}

// Cancelling abandons the step in flight: it has not failed, and is asked again.
func TestCancelThenResume(t *testing.T) {
	j := &memory{}
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	e := Engine{Journal: j, Modules: map[string]rollout.Module{"m": module(func(ctx context.Context, s rollout.Step) rollout.Outcome {
		calls++
		if calls == 1 {
			cancel()
			<-ctx.Done()
			return rollout.Fail(ctx.Err())
		}
		return rollout.Did("")
	})}}
	r, err := e.Execute(ctx, plan("a"), 1)
	if err != nil || r.Status != rollout.Interrupted {
		t.Fatalf("%s, %v", r.Status, err)
	}
	r, err = e.Resume(t.Context(), j.events)
	if err != nil || r.Status != rollout.Done || calls != 3 {
		t.Fatalf("%s, %v, %d calls\n%s", r.Status, err, calls, j.types())
	}
}

// When the journal cannot be written nothing more is started, and a step that
// needs a checkpoint does not go on.
func TestJournalFails(t *testing.T) {
	for failAt := 1; failAt <= 8; failAt++ {
		j := &memory{failAt: failAt}
		var rebooted int
		e := Engine{Journal: j, Modules: map[string]rollout.Module{"m": module(func(ctx context.Context, s rollout.Step) rollout.Outcome {
			if err := rollout.RecorderFrom(ctx).Checkpoint("boot_id", "b"); err != nil {
				return rollout.Fail(err)
			}
			rebooted++
			return rollout.Did("")
		})}}
		_, err := e.Execute(t.Context(), plan("a"), 1)
		if err == nil || !strings.Contains(err.Error(), "disk full") {
			t.Errorf("fails at event %d: error %v", failAt, err)
		}
		checkpoints := 0
		for _, ev := range j.events {
			if ev.Type == rollout.StepCheckpoint {
				checkpoints++
			}
		}
		if rebooted != checkpoints {
			t.Errorf("fails at event %d: %d reboots with %d checkpoints", failAt, rebooted, checkpoints)
		}
	}
}

// reader is a module that reads one key of section "s".
type reader struct {
	module
	key string
}

func (r reader) Reads(rollout.Args) []rollout.Read {
	return []rollout.Read{{Section: "s", Key: r.key}}
}

type observer struct{ asked map[string][]string }

func (*observer) Section() string { return "s" }
func (o *observer) Observe(_ context.Context, keys map[string][]string) map[string]rollout.SectionObservation {
	o.asked = keys
	return map[string]rollout.SectionObservation{
		"a": {Value: []byte(`1`)},
		"b": {Err: errors.New("down")},
	}
}

func TestObserve(t *testing.T) {
	both := map[string]rollout.Args{"a": nil, "b": nil}
	d := rollout.Desired{Plays: []rollout.Play{{Tasks: []rollout.Task{{Module: "x", Args: both}, {Module: "y", Args: both}, {Module: "x", Args: both}}}}}
	mods := map[string]rollout.Module{"x": reader{key: "2"}, "y": reader{key: "1"}}
	o := &observer{}
	got, err := Observe(t.Context(), d, mods, []rollout.Observer{o})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(o.asked) != "map[a:[1 2] b:[1 2]]" {
		t.Errorf("asked for %v: each key once, sorted", o.asked)
	}
	if string(got["a"].State["s"]) != "1" || got["a"].Problem != nil || got["b"].Problem == nil {
		t.Errorf("observed %+v", got)
	}
	if _, err := Observe(t.Context(), d, mods, nil); err == nil || !strings.Contains(err.Error(), `nobody observes section "s"`) {
		t.Errorf("no observer: %v", err)
	}
}
