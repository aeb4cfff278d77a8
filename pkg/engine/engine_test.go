package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fleetd/fleetd/pkg/rollout"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a journal in memory. fail, if set, is asked before each write.
type memory struct {
	mu     sync.Mutex
	events []rollout.Event
	writes int
	fail   func(write int, events []rollout.Event) error
	// asked are requests that nobody has read; unreadable is why they cannot be.
	asked      []rollout.Request
	unreadable error
}

func (m *memory) Requests(context.Context) ([]rollout.Request, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	asked := m.asked
	m.asked = nil
	return asked, m.unreadable
}

func (m *memory) ask(v rollout.Verb) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, rollout.Request{ID: 1, Verb: v, By: rollout.Person{User: "anna", Host: "bastion1"}, Reason: "the storage is slow"})
}

func (m *memory) Append(_ context.Context, events []rollout.Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes++
	if m.fail != nil {
		if err := m.fail(m.writes, events); err != nil {
			return err
		}
	}
	m.events = append(m.events, events...)
	return nil
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

func (m *memory) fold(t *testing.T) *rollout.Run {
	t.Helper()
	r, err := rollout.Fold(m.events)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// module does what its function says.
type module func(ctx context.Context, s rollout.Step) rollout.Outcome

func (module) About() rollout.About              { return rollout.About{} }
func (module) Reads(rollout.Args) []rollout.Read { return nil }
func (module) Diff(_ string, st rollout.State, _ rollout.Args) (rollout.Change, rollout.State, error) {
	return rollout.Change{Action: rollout.Update}, st, nil
}
func (m module) Do(ctx context.Context, s rollout.Step) rollout.Outcome { return m(ctx, s) }
func (m module) Undo(ctx context.Context, s rollout.Step) rollout.Outcome {
	o := m(ctx, s)
	o.Message = "undone: " + o.Message
	return o
}

func modules(f module) map[string]rollout.Module { return map[string]rollout.Module{"m": f} }

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
	e := Engine{Journal: j, Modules: modules(func(ctx context.Context, s rollout.Step) rollout.Outcome {
		rec := rollout.RecorderFrom(ctx)
		if s.ID.Task == 1 {
			return rollout.Did("done")
		}
		switch {
		case s.SoFar["boot_id"] == "":
			rec.Record(rollout.Operation{Kind: "ssh", Text: "true"})
			return rollout.Intend("boot_id", "b1")
		case s.Attempt == 1:
			rec.Progress("half way")
			return rollout.WaitFor(time.Millisecond, "wait").Note("asked", "yes")
		case s.SoFar["boot_id"] != "b1" || s.SoFar["asked"] != "yes" || s.Elapsed <= 0 || s.Now < s.Elapsed:
			return rollout.Fail(fmt.Errorf("called with %+v", s))
		}
		return rollout.Did("done")
	})}
	r, err := e.Execute(t.Context(), plan("a"), 5)
	if err != nil || r.Status != rollout.Done {
		t.Fatalf("%s, %v\n%s", r.Status, err, j.types())
	}
	want := `run.started
started a.1
operation a.1
intended a.1 intends
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

// An intention is in the journal before the module is called again with it: the
// effect that follows must not come first.
func TestIntentionBeforeEffect(t *testing.T) {
	j := &memory{}
	e := Engine{Journal: j, Modules: modules(func(_ context.Context, s rollout.Step) rollout.Outcome {
		if s.SoFar["boot_id"] == "" {
			return rollout.Intend("boot_id", "b1")
		}
		j.mu.Lock()
		defer j.mu.Unlock()
		if !strings.Contains(j.types(), fmt.Sprintf("intended a.%d", s.ID.Task+1)) {
			t.Error("the effect comes before its intention is written")
		}
		return rollout.Did("")
	})}
	if r, err := e.Execute(t.Context(), plan("a"), 1); err != nil || r.Status != rollout.Done {
		t.Fatalf("%s, %v", r.Status, err)
	}
}

func TestIntendsWithoutEnd(t *testing.T) {
	e := Engine{Journal: &memory{}, Modules: modules(func(_ context.Context, s rollout.Step) rollout.Outcome {
		return rollout.Intend("again", "and again")
	})}
	r, err := e.Execute(t.Context(), plan("a"), 1)
	if err != nil || r.Status != rollout.Halted {
		t.Fatalf("%s, %v", r.Status, err)
	}
	if o := r.Step(rollout.StepID{Host: "a"}).Outcome; !strings.Contains(o.Message, "it intends without end") {
		t.Errorf("ended %q", o.Message)
	}
}

func TestUndoIsCalled(t *testing.T) {
	p := plan("a")
	p.Plays[0].Tasks[1].Undo = true
	e := Engine{Journal: &memory{}, Modules: modules(func(context.Context, rollout.Step) rollout.Outcome { return rollout.Did("it") })}
	r, err := e.Execute(t.Context(), p, 1)
	if err != nil {
		t.Fatal(err)
	}
	did, undid := r.Step(rollout.StepID{Host: "a"}).Outcome.Message, r.Step(rollout.StepID{Task: 1, Host: "a"}).Outcome.Message
	if did != "it" || undid != "undone: it" {
		t.Errorf("did %q, undid %q", did, undid)
	}
}

func TestFailuresHaltTheRun(t *testing.T) {
	p := plan("a", "b")
	p.Plays[0].Tasks[0].Steps["b"] = rollout.PlannedStep{Problem: &rollout.Problem{Message: "down", Unreachable: true}}
	j := &memory{}
	e := Engine{Journal: j, Modules: modules(func(_ context.Context, s rollout.Step) rollout.Outcome {
		if s.Host == "b" {
			t.Error("a host with a problem was touched")
		}
		if s.ID.Task == 1 {
			panic("defect")
		}
		return rollout.Did("")
	})}
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
	eased := make(chan struct{})
	var done []string
	e := Engine{Journal: j, Ease: ease, Modules: modules(func(_ context.Context, s rollout.Step) rollout.Outcome {
		if s.ID.Task == 0 && len(done) == 0 {
			close(ease)
			<-eased // the outcome must count all the same
		}
		done = append(done, s.ID.String())
		return rollout.Did("")
	})}
	go func() {
		<-ease
		close(eased)
	}()
	r, err := e.Execute(t.Context(), plan("a"), 1)
	if err != nil {
		t.Fatal(err)
	}
	// Whether the loop hears of the end or of the wish to end first is chance.
	if r.Status == rollout.Interrupted {
		e.Ease = nil
		if r, err = e.Resume(t.Context(), j.fold(t), 0, false); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(done, " "); r.Status != rollout.Done || got != "1.1@a 1.2@a" {
		t.Errorf("%s, done: %s", r.Status, got)
	}
}

// With steps that wait, the first interrupt ends the run at once: a wait is no
// work that has to come to an end.
func TestEaseWhileWaiting(t *testing.T) {
	j := &memory{}
	ease := make(chan struct{})
	e := Engine{Journal: j, Ease: ease, Modules: modules(func(context.Context, rollout.Step) rollout.Outcome {
		return rollout.WaitFor(time.Hour, "for ever")
	})}
	e.Watch = func(_ *rollout.Run, ev rollout.Event) {
		if ev.Type == rollout.StepEnded {
			close(ease)
		}
	}
	r, err := e.Execute(t.Context(), plan("a"), 1)
	if err != nil || r.Status != rollout.Interrupted {
		t.Fatalf("%s, %v", r.Status, err)
	}
}

// Cancelling abandons the step in flight: it has not failed, and is asked again.
func TestCancelThenResume(t *testing.T) {
	j := &memory{}
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	e := Engine{Journal: j, Modules: modules(func(ctx context.Context, s rollout.Step) rollout.Outcome {
		calls++
		if calls == 1 {
			cancel()
			<-ctx.Done()
			return rollout.Fail(ctx.Err())
		}
		return rollout.Did("")
	})}
	r, err := e.Execute(ctx, plan("a"), 1)
	if err != nil || r.Status != rollout.Interrupted {
		t.Fatalf("%s, %v", r.Status, err)
	}
	r, err = e.Resume(t.Context(), j.fold(t), 0, false)
	if err != nil || r.Status != rollout.Done || calls != 3 {
		t.Fatalf("%s, %v, %d calls\n%s", r.Status, err, calls, j.types())
	}
}

// When the journal cannot be written nothing more is started, no intention is
// acted on, and what runs comes to its end.
func TestJournalFails(t *testing.T) {
	for failAt := 1; failAt <= 8; failAt++ {
		j := &memory{fail: func(write int, _ []rollout.Event) error {
			if write >= failAt {
				return errors.New("disk full")
			}
			return nil
		}}
		var rebooted int
		e := Engine{Journal: j, Clock: &steppedClock{}, Modules: modules(func(ctx context.Context, s rollout.Step) rollout.Outcome {
			if s.SoFar["boot_id"] == "" {
				return rollout.Intend("boot_id", "b")
			}
			if ctx.Err() != nil {
				t.Error("a running step was cut off")
			}
			rebooted++
			return rollout.Did("")
		})}
		_, err := e.Execute(t.Context(), plan("a"), 1)
		var failed *JournalError
		if !errors.As(err, &failed) || !strings.Contains(err.Error(), "disk full") {
			t.Errorf("fails at write %d: error %v", failAt, err)
		}
		if intended := strings.Count(j.types(), "intended"); rebooted != intended {
			t.Errorf("fails at write %d: %d reboots with %d intentions", failAt, rebooted, intended)
		}
	}
}

// Steps that run when the journal fails are not cut off, and what became of them
// is written once there is room again; the run is interrupted, and a resume does
// nothing twice.
func TestJournalRecovers(t *testing.T) {
	full := true
	j := &memory{fail: func(_ int, events []rollout.Event) error {
		ended := slices.ContainsFunc(events, func(e rollout.Event) bool { return e.Type == rollout.StepEnded })
		if ended && full {
			full = false
			return errors.New("disk full")
		}
		return nil
	}}
	var done []string
	var mu sync.Mutex
	second := make(chan struct{})
	e := Engine{Journal: j, Modules: modules(func(ctx context.Context, s rollout.Step) rollout.Outcome {
		if s.Host == "b" && s.ID.Task == 0 {
			<-second
			if ctx.Err() != nil {
				t.Error("b was cut off because the journal failed")
			}
		}
		mu.Lock()
		defer mu.Unlock()
		done = append(done, s.ID.String())
		if s.Host == "a" && s.ID.Task == 0 {
			close(second)
		}
		return rollout.Did("")
	})}
	r, err := e.Execute(t.Context(), plan("a", "b"), 2)
	var failed *JournalError
	if !errors.As(err, &failed) || r.Status != rollout.Interrupted {
		t.Fatalf("%s, %v", r.Status, err)
	}
	r, err = e.Resume(t.Context(), j.fold(t), 0, false)
	if err != nil || r.Status != rollout.Done {
		t.Fatalf("%s, %v\n%s", r.Status, err, j.types())
	}
	slices.Sort(done)
	if got := strings.Join(done, " "); got != "1.1@a 1.1@b 1.2@a 1.2@b" {
		t.Errorf("done: %s", got)
	}
}

// steppedClock is a clock of which every wait is over at once. Its wall jumps an
// hour back and two forth in turn.
type steppedClock struct {
	mu  sync.Mutex
	n   int
	ran time.Duration
}

func (c *steppedClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return time.Unix(1e9, 0).Add(time.Duration(c.n%3-1) * time.Hour)
}

func (c *steppedClock) Since() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ran++
	return c.ran
}

func (c *steppedClock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ran += d
	ch := make(chan time.Time, 1)
	ch <- time.Time{}
	return ch
}

// The wall clock of the bastion decides nothing, in this process or the next: a
// step waits as long as it asked for, and what it waited before counts.
func TestClockJumps(t *testing.T) {
	j := &memory{}
	ease := make(chan struct{})
	clock := &steppedClock{}
	var elapsed []time.Duration
	e := Engine{Journal: j, Ease: ease, Clock: clock, Modules: modules(func(_ context.Context, s rollout.Step) rollout.Outcome {
		elapsed = append(elapsed, s.Elapsed.Truncate(time.Minute))
		if s.Elapsed >= 5*time.Minute {
			return rollout.Did("")
		}
		return rollout.WaitFor(time.Minute, "wait")
	})}
	e.Watch = func(_ *rollout.Run, ev rollout.Event) {
		if ev.Type == rollout.StepEnded && len(elapsed) == 3 {
			close(ease)
		}
	}
	r, err := e.Execute(t.Context(), plan("a"), 1)
	if err != nil || r.Status != rollout.Interrupted {
		t.Fatalf("%s, %v", r.Status, err)
	}
	e.Clock, e.Ease, e.Watch = &steppedClock{}, nil, nil // another process, a day later
	if r, err = e.Resume(t.Context(), j.fold(t), 0, false); err != nil || r.Status != rollout.Done {
		t.Fatalf("%s, %v", r.Status, err)
	}
	if got := fmt.Sprint(elapsed[:6]); got != "[0s 1m0s 2m0s 3m0s 4m0s 5m0s]" {
		t.Errorf("elapsed %s", got)
	}
}

func TestResumePastAHalt(t *testing.T) {
	p := plan("a", "b", "c")
	p.Plays[0].Batches = [][]string{{"a"}, {"b"}, {"c"}}
	j := &memory{}
	e := Engine{Journal: j, Modules: modules(func(_ context.Context, s rollout.Step) rollout.Outcome {
		if s.Host != "c" {
			return rollout.Fail(errors.New("broken"))
		}
		return rollout.Did("")
	})}
	if _, err := e.Execute(t.Context(), p, 1); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		past bool
		want string
	}{{false, "halted batch 1"}, {true, "halted batch 2"}, {true, "done"}} {
		r, err := e.Resume(t.Context(), j.fold(t), 0, c.past)
		if err != nil {
			t.Fatal(err)
		}
		got := string(r.Status)
		if r.Halt != nil {
			got += fmt.Sprintf(" batch %d", r.Halt.Batch+1)
		}
		if got != c.want {
			t.Errorf("resumed, past %t: %s, want %s", c.past, got, c.want)
		}
	}
}

// TestBecome: a step acts as another user where its task does and the host does
// not say otherwise.
func TestBecome(t *testing.T) {
	p := plan("a", "b")
	no := false
	p.Plays[0].Tasks = p.Plays[0].Tasks[:1]
	p.Plays[0].Tasks[0].Become = true
	s := p.Plays[0].Tasks[0].Steps["b"]
	s.Become = &no
	p.Plays[0].Tasks[0].Steps["b"] = s
	var mu sync.Mutex
	became := map[string]bool{}
	e := Engine{Journal: &memory{}, Modules: modules(func(_ context.Context, s rollout.Step) rollout.Outcome {
		mu.Lock()
		defer mu.Unlock()
		became[s.Host] = s.Become
		return rollout.Did("done")
	})}
	if _, err := e.Execute(t.Context(), p, 5); err != nil {
		t.Fatal(err)
	}
	if !became["a"] || became["b"] || len(became) != 2 {
		t.Errorf("got %v", became)
	}
}
