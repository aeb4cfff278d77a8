package journal

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/pkg/rollout"
)

const askedRun = "20261126-010203-abcd"

func pause() rollout.Request {
	return rollout.Request{Verb: rollout.Pause, By: rollout.Person{User: "anna", Host: "bastion1"}, At: start.Add(time.Hour), Reason: "the storage is slow"}
}

// underWay is a run that has begun, in a process that holds the lock, and a journal as
// another process has it open.
func underWay(t *testing.T) (other *Journal, dir string, w *Writer, l *Lock) {
	t.Helper()
	dir = t.TempDir()
	j := mustOpen(t, dir)
	l, err := Acquire(dir, askedRun)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Release() }) // some tests have released it
	w = begin(t, j, askedRun)
	mustAppend(t, w, wholeStart(newPlan(t, 2, 1))...)
	return mustOpen(t, dir), dir, w, l
}

func wantAnswer(t *testing.T, j *Journal, q Request, want Answer) {
	t.Helper()
	if got, err := j.Answer(t.Context(), q); got != want || err != nil {
		t.Errorf("answer %q, %v; want %q", got, err, want)
	}
}

// appendOwn appends an event of the run itself.
func appendOwn(t *testing.T, w *Writer, e rollout.Event) {
	t.Helper()
	e.Seq, e.At = w.last+1, start
	mustAppend(t, w, e)
}

func TestAskAndHear(t *testing.T) {
	j, _, w, l := underWay(t)
	if got, err := w.Requests(t.Context()); len(got) > 0 || err != nil {
		t.Fatalf("before anybody asks: %v, %v", got, err)
	}
	q, err := j.Ask(t.Context(), askedRun, pause())
	if err != nil {
		t.Fatal(err)
	}
	wantAnswer(t, j, q, Pending)
	want := pause()
	want.ID = q.ID
	for range 2 { // it stays until it is among the events
		got, err := w.Requests(t.Context())
		if d := cmp.Diff([]rollout.Request{want}, got); d != "" || err != nil {
			t.Fatalf("%v (-asked +read):\n%s", err, d)
		}
	}
	second, err := j.Ask(t.Context(), askedRun, pause())
	if err != nil {
		t.Fatal(err)
	}
	appendOwn(t, w, rollout.Event{Type: rollout.RunRequested, Request: &want})
	wantAnswer(t, j, q, Heard)
	wantAnswer(t, j, second, Pending)
	if got, err := w.Requests(t.Context()); len(got) != 1 || got[0].ID != second.ID || err != nil {
		t.Errorf("after the first was heard: %v, %v", got, err)
	}
	// The run ends, and the second comes too late.
	appendOwn(t, w, rollout.Event{Type: rollout.RunInterrupted})
	wantAnswer(t, j, q, Heard)
	wantAnswer(t, j, second, Missed)
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	wantAnswer(t, j, q, Heard)
}

// What nobody has heard before the process was gone is not done by the one that goes
// on with the run: who resumes it has seen how it stands.
func TestAskedOfAProcessThatDies(t *testing.T) {
	j, dir, _, l := underWay(t)
	q, err := j.Ask(t.Context(), askedRun, pause())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	wantAnswer(t, j, q, Missed)
	if l, err = Acquire(dir, askedRun); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Release() }()
	w, err := j.Continue(t.Context(), askedRun)
	if err != nil {
		t.Fatal(err)
	}
	// It holds the lock, and has not said yet that it goes on.
	between, err := j.Ask(t.Context(), askedRun, pause())
	if err != nil {
		t.Fatal(err)
	}
	appendOwn(t, w, rollout.Event{Type: rollout.RunResumed})
	wantAnswer(t, j, q, Missed)
	wantAnswer(t, j, between, Missed)
	if got, err := w.Requests(t.Context()); len(got) > 0 || err != nil {
		t.Errorf("the process after it hears %v, %v", got, err)
	}
	now, err := j.Ask(t.Context(), askedRun, pause())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := w.Requests(t.Context()); len(got) != 1 || got[0].ID != now.ID || err != nil {
		t.Errorf("of the three it hears %v, %v", got, err)
	}
}

func TestAskInVain(t *testing.T) {
	for name, c := range map[string]struct {
		run     string
		prepare func(w *Writer, l *Lock)
		request func(*rollout.Request)
		err     error
		text    string
	}{
		"no such run":  {run: "none", err: ErrNoRun, text: "cannot pause run none"},
		"nobody there": {prepare: func(_ *Writer, l *Lock) { _ = l.Release() }, err: ErrNotUnderWay, text: "the fleetd that was at it is gone"},
		"another run is": {prepare: func(w *Writer, l *Lock) {
			_ = l.Release()
			other, err := Acquire(strings.TrimSuffix(w.j.file, fileName), "another")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = other.Release() }) // as the others
		}, err: ErrNotUnderWay, text: "gone"},
		"done": {prepare: func(w *Writer, _ *Lock) { appendOwn(t, w, rollout.Event{Type: rollout.RunDone}) }, err: ErrNotUnderWay, text: "it is done"},
		"halted": {prepare: func(w *Writer, _ *Lock) {
			appendOwn(t, w, rollout.Event{Type: rollout.RunHalted, Halt: &rollout.Halt{}})
		}, err: ErrNotUnderWay, text: "it was halted"},
		"interrupted": {prepare: func(w *Writer, _ *Lock) { appendOwn(t, w, rollout.Event{Type: rollout.RunInterrupted}) }, err: ErrNotUnderWay, text: "it was interrupted"},
		"a long tale": {request: func(q *rollout.Request) { q.Reason = strings.Repeat("x", mostReason+1) }, text: "the reason is too long"},
		"two lines":   {request: func(q *rollout.Request) { q.Reason = "a\nb" }, text: "or not one line of text"},
		"no text":     {request: func(q *rollout.Request) { q.Reason = "\xff" }, text: "or not one line of text"},
	} {
		t.Run(name, func(t *testing.T) {
			j, _, w, l := underWay(t)
			if c.prepare != nil {
				c.prepare(w, l)
			}
			q := pause()
			if c.request != nil {
				c.request(&q)
			}
			run := c.run
			if run == "" {
				run = askedRun
			}
			_, err := j.Ask(t.Context(), run, q)
			if err == nil || !strings.Contains(err.Error(), c.text) || c.err != nil && !errors.Is(err, c.err) {
				t.Errorf("%v is not %v", err, c.err)
			}
			if got, err := w.Requests(t.Context()); len(got) > 0 || err != nil {
				t.Errorf("the run hears %v, %v", got, err)
			}
		})
	}
}

// A run that has begun and tells nothing yet is not asked.
func TestAskBeforeTheFirstEvent(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, dir)
	l, err := Acquire(dir, askedRun)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Release() }()
	begin(t, j, askedRun)
	_, err = j.Ask(t.Context(), askedRun, pause())
	if !errors.Is(err, errEmpty) {
		t.Errorf("%v", err)
	}
}
