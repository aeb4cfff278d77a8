package journal

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// windowed is a run of an approved plan that has begun, and a journal as another process
// has it open.
func windowed(t *testing.T) (j *Journal, w *Writer, l *Lock) {
	t.Helper()
	dir := t.TempDir()
	own := mustOpen(t, dir)
	l, err := Acquire(dir, askedRun)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Release() }) // some tests have released it
	p := propose(t, own)
	if _, err := own.Approve(t.Context(), p.ID, p.Digest, "bert", start, start.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if w, err = own.BeginApproved(t.Context(), askedRun, start, []byte("{}"), p.ID, p.Digest); err != nil {
		t.Fatal(err)
	}
	plan := newPlan(t, 2, 1)
	appendOwn(t, w, rollout.Event{Type: rollout.RunStarted, Plan: plan, Forks: 5})
	return mustOpen(t, dir), w, l
}

func byWindow() rollout.Request {
	return rollout.Request{Verb: rollout.Pause, By: rollout.Window, At: start.Add(time.Hour), Reason: "no step begins after five"}
}

// hears has the run hear what is asked of it.
func hears(t *testing.T, j *Journal, w *Writer, q rollout.Request) {
	t.Helper()
	asked, err := j.Ask(t.Context(), askedRun, q)
	if err != nil {
		t.Fatal(err)
	}
	appendOwn(t, w, rollout.Event{Type: rollout.RunRequested, Request: &asked.Request})
}

func waitingIs(t *testing.T, j *Journal, want ...string) []Waiting {
	t.Helper()
	all, err := j.WaitingRuns(t.Context())
	var got []string
	for _, w := range all {
		got = append(got, w.Run)
	}
	if !slices.Equal(got, want) || err != nil {
		t.Fatalf("%q wait, %v; want %q", got, err, want)
	}
	return all
}

// pausedByWindow is that run once its window has paused it.
func pausedByWindow(t *testing.T) (*Journal, *Writer) {
	t.Helper()
	j, w, l := windowed(t)
	hears(t, j, w, byWindow())
	appendOwn(t, w, rollout.Event{Type: rollout.RunInterrupted})
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	return j, w
}

// TestWaiting: what waits for its window is what its window has paused, and nothing else.
func TestWaiting(t *testing.T) {
	interrupted := rollout.Event{Type: rollout.RunInterrupted}
	for name, c := range map[string]struct {
		happens func(*testing.T, *Journal, *Writer)
		waits   bool
	}{
		"under way":       {func(*testing.T, *Journal, *Writer) {}, false},
		"asked, and goes": {func(t *testing.T, j *Journal, w *Writer) { hears(t, j, w, byWindow()) }, false},
		"paused":          {func(t *testing.T, j *Journal, w *Writer) { hears(t, j, w, byWindow()); appendOwn(t, w, interrupted) }, true},
		"interrupted":     {func(t *testing.T, _ *Journal, w *Writer) { appendOwn(t, w, interrupted) }, false},
		"not heard": {func(t *testing.T, j *Journal, w *Writer) {
			if _, err := j.Ask(t.Context(), askedRun, byWindow()); err != nil {
				t.Fatal(err)
			}
			appendOwn(t, w, interrupted)
		}, false},
		"by a person": {func(t *testing.T, j *Journal, w *Writer) { hears(t, j, w, pause()); appendOwn(t, w, interrupted) }, false},
		"by a person as well": {func(t *testing.T, j *Journal, w *Writer) {
			hears(t, j, w, byWindow())
			hears(t, j, w, pause())
			appendOwn(t, w, interrupted)
		}, false},
		"a person was not heard": {func(t *testing.T, j *Journal, w *Writer) {
			hears(t, j, w, byWindow())
			if _, err := j.Ask(t.Context(), askedRun, pause()); err != nil {
				t.Fatal(err)
			}
			appendOwn(t, w, interrupted)
		}, false},
		"aborted": {func(t *testing.T, j *Journal, w *Writer) {
			hears(t, j, w, byWindow())
			appendOwn(t, w, rollout.Event{Type: rollout.RunHalted, Halt: &rollout.Halt{}})
		}, false},
		"gone on with": {func(t *testing.T, j *Journal, w *Writer) {
			hears(t, j, w, byWindow())
			appendOwn(t, w, interrupted)
			appendOwn(t, w, rollout.Event{Type: rollout.RunResumed})
		}, false},
		"gone on with, and interrupted": {func(t *testing.T, j *Journal, w *Writer) {
			hears(t, j, w, byWindow())
			appendOwn(t, w, interrupted)
			appendOwn(t, w, rollout.Event{Type: rollout.RunResumed})
			appendOwn(t, w, interrupted)
		}, false},
		"paused by a person, then by its window": {func(t *testing.T, j *Journal, w *Writer) {
			hears(t, j, w, pause())
			appendOwn(t, w, interrupted)
			appendOwn(t, w, rollout.Event{Type: rollout.RunResumed})
			hears(t, j, w, byWindow())
			appendOwn(t, w, interrupted)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			j, w, _ := windowed(t)
			c.happens(t, j, w)
			if c.waits {
				waitingIs(t, j, askedRun)
			} else {
				waitingIs(t, j)
			}
		})
	}
}

// A run that somebody has begun by hand waits for no window, whoever has paused it.
func TestWaitingByHand(t *testing.T) {
	j, _, w, _ := underWay(t)
	hears(t, j, w, byWindow())
	appendOwn(t, w, rollout.Event{Type: rollout.RunInterrupted})
	waitingIs(t, j)
}

// Each try is counted before it is made, and one of two counts it.
func TestTryResume(t *testing.T) {
	j, w := pausedByWindow(t)
	now := start.Add(day)
	for n := range 3 {
		is := waitingIs(t, j, askedRun)[0]
		if is.Tries != n || n > 0 && !is.Tried.Equal(now) {
			t.Errorf("try %d: %+v", n, is)
		}
		if err := j.TryResume(t.Context(), is, now); err != nil {
			t.Fatal(err)
		}
		if err := j.TryResume(t.Context(), is, now); !errors.Is(err, ErrNotWaiting) {
			t.Errorf("of two: %v", err)
		}
	}
	// What is paused anew is counted anew.
	appendOwn(t, w, rollout.Event{Type: rollout.RunResumed})
	if _, err := Acquire(strings.TrimSuffix(j.file, fileName), askedRun); err != nil {
		t.Fatal(err)
	}
	hears(t, j, w, byWindow())
	appendOwn(t, w, rollout.Event{Type: rollout.RunInterrupted})
	if is := waitingIs(t, j, askedRun)[0]; is.Tries != 0 {
		t.Errorf("%+v", is)
	}
}

// TestPauseOfWaiting: who pauses a run that waits for its window keeps it from going on,
// and is told so; nothing else can be asked of it.
func TestPauseOfWaiting(t *testing.T) {
	j, w := pausedByWindow(t)
	is := waitingIs(t, j, askedRun)[0]
	abort := pause()
	abort.Verb = rollout.Abort
	var hinted interface{ Hint() string }
	if _, err := j.Ask(t.Context(), askedRun, abort); !errors.Is(err, ErrNotUnderWay) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "fleetd pause") {
		t.Errorf("%v", err)
	}
	// A run that goes on just when its window closes has not begun its life yet: what the
	// window asked of the one before, nobody would hear.
	window := pause()
	window.By = rollout.Window
	if _, err := j.Ask(t.Context(), askedRun, window); !errors.Is(err, ErrNotUnderWay) {
		t.Errorf("%v", err)
	}
	q, err := j.Ask(t.Context(), askedRun, pause())
	if err != nil {
		t.Fatal(err)
	}
	wantAnswer(t, j, q, Heard)
	waitingIs(t, j)
	if err := j.TryResume(t.Context(), is, start); !errors.Is(err, ErrNotWaiting) {
		t.Errorf("%v", err)
	}
	if _, err := j.Ask(t.Context(), askedRun, pause()); !errors.Is(err, ErrNotUnderWay) {
		t.Errorf("a second time: %v", err)
	}
	// Somebody goes on by hand all the same.
	appendOwn(t, w, rollout.Event{Type: rollout.RunResumed})
	wantAnswer(t, j, q, Missed)
}
