package journal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fleetd/fleetd/pkg/rollout"
)

func mustOpen(t *testing.T, dir string) *Journal {
	t.Helper()
	j, err := open(dir, 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() }) // some tests have closed it
	return j
}

func begin(t *testing.T, j *Journal, run string) *Writer {
	t.Helper()
	w, err := j.Begin(t.Context(), run, start, []byte(`{"n1":"10.0.0.1"}`))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func mustAppend(t *testing.T, w *Writer, events ...rollout.Event) {
	t.Helper()
	if err := w.Append(t.Context(), events); err != nil {
		t.Fatal(err)
	}
}

// record is a run in the journal.
func record(t *testing.T, j *Journal, run string, events []rollout.Event) *Writer {
	t.Helper()
	w := begin(t, j, run)
	mustAppend(t, w, events...)
	return w
}

func mustRead(t *testing.T, j *Journal, run string) []rollout.Event {
	t.Helper()
	got, err := j.Events(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// change changes the file behind the journal's back.
func change(t *testing.T, j *Journal, query string, args ...any) {
	t.Helper()
	if _, err := j.db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatal(err)
	}
}

// wantError checks what an error says, and that it says what to do.
func wantError(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want %q", texts)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("the error does not say %q: %v", text, err)
		}
	}
	if rollout.AsProblem(err).Hint == "" {
		t.Errorf("no hint: %v", err)
	}
}

func TestAppendAndRead(t *testing.T) {
	dir := t.TempDir() + "/state with spaces?#%"
	j := mustOpen(t, dir)
	want := wholeRun(t, newPlan(t, 40, 3)) // more than a page
	w := begin(t, j, "r1")
	mustAppend(t, w)
	mustAppend(t, w, want[0])
	mustAppend(t, w, want[1:7]...)
	mustAppend(t, w, want[7:]...)
	begin(t, j, "r2")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}

	j = mustOpen(t, dir)
	if d := cmp.Diff(want, mustRead(t, j, "r1")); d != "" {
		t.Error(d)
	}
	reach, err := j.Reach(t.Context(), "r1")
	if err != nil || string(reach) != `{"n1":"10.0.0.1"}` {
		t.Errorf("reach %s, %v", reach, err)
	}
}

// A field that Event gets is a field that the journal has to keep.
func TestEveryFieldIsKept(t *testing.T) {
	j := mustOpen(t, t.TempDir())
	w := begin(t, j, "r")
	e := rollout.Event{}
	fill(t, &e)
	e.Seq = 1
	mustAppend(t, w, e)
	if d := cmp.Diff([]rollout.Event{e}, mustRead(t, j, "r")); d != "" {
		t.Error(d)
	}
}

func TestPlanIsStoredOnce(t *testing.T) {
	j := mustOpen(t, t.TempDir())
	p := newPlan(t, 1, 1)
	other := *p
	other.CreatedAt = p.CreatedAt.Add(time.Hour) // of the same digest
	record(t, j, "r1", wholeStart(p))
	record(t, j, "r2", wholeStart(p))
	record(t, j, "r3", wholeStart(&other))
	for run, want := range map[string]*rollout.Plan{"r1": p, "r2": p, "r3": &other} {
		if d := cmp.Diff(want, mustRead(t, j, run)[0].Plan); d != "" {
			t.Errorf("%s: %s", run, d)
		}
	}
	var n int
	if err := j.db.QueryRow(`SELECT count(*) FROM plans`).Scan(&n); err != nil || n != 2 {
		t.Errorf("%d plans, %v", n, err)
	}
	var events string
	if err := j.db.QueryRow(`SELECT group_concat(body) FROM events`).Scan(&events); err != nil || strings.Contains(events, "worker") {
		t.Errorf("the plan is in the event: %s, %v", events, err)
	}
}

func wholeStart(p *rollout.Plan) []rollout.Event {
	s := &script{}
	s.add(rollout.Event{Type: rollout.RunStarted, Plan: p})
	return s.events
}

func TestEach(t *testing.T) {
	j := mustOpen(t, t.TempDir())
	events := wholeRun(t, newPlan(t, 60, 2))
	w := record(t, j, "r", events[:len(events)-1])
	stop := errors.New("enough")
	n := 0
	err := j.Each(t.Context(), "r", func(e rollout.Event) error {
		if n++; n == page+1 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || n != page+1 {
		t.Errorf("%d events, %v", n, err)
	}
	// The run goes on while somebody reads it, and the log can be emptied.
	n = 0
	err = j.Each(t.Context(), "r", func(e rollout.Event) error {
		if n++; n == 1 {
			mustAppend(t, w, events[len(events)-1])
			var busy, log, moved int
			if err := j.conn.QueryRowContext(t.Context(), "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &log, &moved); err != nil || busy != 0 {
				t.Errorf("the reader holds the log: %d, %v", busy, err)
			}
		}
		return nil
	})
	if err != nil || n != len(events) {
		t.Errorf("%d of %d events, %v", n, len(events), err)
	}
}

func TestContinue(t *testing.T) {
	ctx := t.Context()
	j := mustOpen(t, t.TempDir())
	events := wholeRun(t, newPlan(t, 3, 2))
	w := record(t, j, "r1", events[:4])
	again, err := j.Continue(ctx, "r1")
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, again, events[4:6]...)
	// The first writer does not know of it.
	if err := w.Append(ctx, events[4:5]); !errors.Is(err, ErrOtherWriter) {
		t.Errorf("two processes wrote the same run: %v", err)
	}
	if err := again.Append(ctx, events[7:8]); err == nil {
		t.Error("an event is missing, and nobody says so")
	}
	if err := again.Append(ctx, events[5:6]); err == nil {
		t.Error("an event was written twice")
	}
	if d := cmp.Diff(events[:6], mustRead(t, j, "r1")); d != "" {
		t.Error(d)
	}
	if _, err := j.Begin(ctx, "r1", start, []byte("{}")); !errors.Is(err, ErrOtherWriter) {
		t.Errorf("a run began twice: %v", err)
	}
	for _, f := range []func() error{
		func() error { _, err := j.Continue(ctx, "nope"); return err },
		func() error { _, err := j.Events(ctx, "nope"); return err },
		func() error { _, err := j.Run(ctx, "nope"); return err },
		func() error { _, err := j.Reach(ctx, "nope"); return err },
	} {
		if err := f(); !errors.Is(err, ErrNoRun) {
			t.Errorf("unknown run: %v", err)
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := again.Append(ended, events[6:7]); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
}

// A run is the same from any of its snapshots as from all of its events.
func TestSnapshot(t *testing.T) {
	events := wholeRun(t, newPlan(t, 3, 2))
	want := fold(t, events)
	j := mustOpen(t, t.TempDir())
	w := begin(t, j, "r")
	for i, e := range events {
		mustAppend(t, w, e)
		so := fold(t, events[:i+1])
		got, err := j.Run(t.Context(), "r") // from the snapshot before
		if err != nil {
			t.Fatal(err)
		}
		same(t, so, got)
		if err := w.Snapshot(t.Context(), so.Snapshot()); err != nil {
			t.Fatal(err)
		}
		if got, err = j.Run(t.Context(), "r"); err != nil {
			t.Fatal(err)
		}
		same(t, so, got)
	}
	// What the snapshot tells is not read again.
	change(t, j, `UPDATE events SET body = '' WHERE seq > 1`)
	got, err := j.Run(t.Context(), "r")
	if err != nil {
		t.Fatal(err)
	}
	same(t, want, got)

	later := want.Snapshot()
	later.Seq++
	if err := w.Snapshot(t.Context(), later); err == nil {
		t.Error("a snapshot tells of an event that there is not")
	}
}

func TestRuns(t *testing.T) {
	j := mustOpen(t, t.TempDir())
	events := wholeRun(t, newPlan(t, 3, 2))
	for _, run := range []string{"whole", "no event", "damaged event", "event without outcome", "missing event", "damaged plan", "lost plan", "damaged snapshot", "another plan", "wrong snapshot"} {
		p := newPlan(t, 3, 2)
		p.Source.Playbook = run // so that each has a plan of its own
		if err := p.Seal(); err != nil {
			t.Fatal(err)
		}
		w := begin(t, j, run)
		if run == "no event" {
			continue
		}
		events[0].Plan = p
		mustAppend(t, w, events...)
		if run == "damaged snapshot" || run == "wrong snapshot" {
			s := fold(t, events).Snapshot()
			if run == "wrong snapshot" {
				s.Plan = "x"
			}
			if err := w.Snapshot(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
	}
	const plan = `(SELECT body->>'plan' FROM events WHERE run = ? AND seq = 1)`
	change(t, j, `UPDATE events SET body = '{"outcome":' WHERE run = 'damaged event' AND seq = 4`)
	change(t, j, `UPDATE events SET body = '{}' WHERE run = 'event without outcome' AND seq = 4`)
	change(t, j, `DELETE FROM events WHERE run = 'missing event' AND seq = 4`)
	change(t, j, `UPDATE plans SET body = substr(body, 1, length(body)-9) WHERE sum = `+plan, "damaged plan")
	change(t, j, `DELETE FROM plans WHERE sum = `+plan, "lost plan")
	change(t, j, `UPDATE snapshots SET body = x'00' WHERE run = 'damaged snapshot'`)
	change(t, j, `UPDATE runs SET plan_schema = 'fleetd.io/plan/v99', started = 0 WHERE id = 'another plan'`)

	want := map[string]string{
		"whole":                 "",
		"no event":              "it has no events",
		"damaged event":         "event 4 of run damaged event is damaged: unexpected end of JSON input",
		"event without outcome": "event 4 of run event without outcome is damaged: step.ended without what it tells",
		"missing event":         "event 5 comes after event 3",
		"damaged plan":          "event 1 of run damaged plan is damaged: cannot read its plan: unexpected EOF",
		"lost plan":             "cannot read its plan: sql: no rows",
		"damaged snapshot":      "", // the events tell all of it
		"wrong snapshot":        "",
		"another plan":          "recorded by another fleetd, whose plans (fleetd.io/plan/v99) this one does not read",
	}
	runs, err := j.Runs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, l := range runs {
		order = append(order, l.ID)
		switch text := want[l.ID]; {
		case text == "" && l.Err == nil:
			same(t, fold(t, mustRead(t, j, l.ID)), l.Run)
		case text == "" || l.Err == nil || !strings.Contains(l.Err.Error(), text) || l.Run != nil:
			t.Errorf("%s: %v, want %q", l.ID, l.Err, text)
		}
		if l.ID != "another plan" && !l.Started.Equal(start) {
			t.Errorf("%s started %v", l.ID, l.Started)
		}
	}
	newest := []string{"wrong snapshot", "another plan", "damaged snapshot", "lost plan", "damaged plan", "missing event", "event without outcome", "damaged event", "no event", "whole"}
	if d := cmp.Diff(newest, order); d != "" {
		t.Errorf("newest first: %s", d)
	}
}

// Several processes may be the first.
// TestEarlier: the last runs of the same playbook before a run, without undos and what
// cannot be read.
func TestEarlier(t *testing.T) {
	j := mustOpen(t, t.TempDir())
	for _, run := range []string{"oldest", "second", "other", "third", "undo", "broken", "fourth", "now", "later"} {
		p := newPlan(t, 3, 2)
		p.Source.Playbook = "site.yml"
		switch run {
		case "other":
			p.Source.Playbook = "other.yml"
		case "undo":
			p.Undoes = "third"
		}
		if err := p.Seal(); err != nil {
			t.Fatal(err)
		}
		mustAppend(t, begin(t, j, run), wholeRun(t, p)...)
	}
	change(t, j, `DELETE FROM events WHERE run = 'broken' AND seq = 4`)
	got, err := j.Earlier(t.Context(), "now", "site.yml")
	if err != nil || len(got) != 3 {
		t.Fatalf("%d, %v", len(got), err)
	}
	for i, run := range []string{"fourth", "third", "second"} {
		same(t, fold(t, mustRead(t, j, run)), got[i])
	}
	if got, err := j.Earlier(t.Context(), "oldest", "site.yml"); err != nil || len(got) != 0 {
		t.Errorf("before the first: %d, %v", len(got), err)
	}
	if _, err := j.Earlier(t.Context(), "none", "site.yml"); !errors.Is(err, ErrNoRun) {
		t.Errorf("before a run that there is not: %v", err)
	}
}

func TestOpenAtOnce(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			j, err := Open(dir)
			if err != nil {
				t.Error(err)
				return
			}
			defer j.Close()
			if _, err := j.Begin(t.Context(), string(rune('a'+i)), start, []byte("{}")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	runs, err := mustOpen(t, dir).Runs(t.Context())
	if err != nil || len(runs) != 8 {
		t.Errorf("%d runs, %v", len(runs), err)
	}
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if Exists(dir) {
		t.Error("there is a journal before one was made")
	}
	j := mustOpen(t, dir)
	begin(t, j, "r")
	l, err := Acquire(dir, "r")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Release() }() // the process ends anyway
	if !Exists(dir) {
		t.Error("there is no journal")
	}
	got := map[string]os.FileMode{}
	for _, name := range []string{"", fileName, fileName + "-wal", fileName + "-shm", lockName} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got[name] = st.Mode().Perm()
	}
	want := map[string]os.FileMode{"": 0o700, fileName: 0o600, fileName + "-wal": 0o600, fileName + "-shm": 0o600, lockName: 0o600}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestNewID(t *testing.T) {
	id := NewID(time.Date(2026, 11, 22, 16, 21, 44, 0, time.FixedZone("", 3600)))
	if got := id[:len("20261122-152144-")]; got != "20261122-152144-" || len(id) != len("20261122-152144-0000") {
		t.Errorf("id %q", id)
	}
}

// FuzzRow: whatever a row holds is an event or an error; an event is the same
// after another way through the table.
func FuzzRow(f *testing.F) {
	for _, e := range wholeRun(f, newPlan(f, 3, 2)) {
		r, err := newRow(e, "sum")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(r.seq, r.at, r.clock, r.kind, r.play.Int64, r.task.Int64, r.host.String, r.host.Valid, r.attempt, r.body)
	}
	f.Fuzz(func(t *testing.T, seq int64, at string, clock int64, kind string, play, task int64, host string, step bool, attempt int, body []byte) {
		r := row{seq: seq, at: at, clock: clock, kind: kind, attempt: attempt, body: body}
		r.play.Int64, r.task.Int64, r.host.String, r.host.Valid = play, task, host, step
		e, sum, err := r.event()
		if err != nil {
			return
		}
		again, err := newRow(e, sum)
		if err != nil {
			t.Fatal(err)
		}
		got, gotSum, err := again.event()
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(e, got, cmpopts.EquateEmpty()); d != "" || sum != gotSum {
			t.Error(d, sum, gotSum)
		}
		_, _ = rollout.Fold([]rollout.Event{{Seq: 1, Type: rollout.RunStarted, Plan: &rollout.Plan{}}, e}) // and nothing panics
	})
}
