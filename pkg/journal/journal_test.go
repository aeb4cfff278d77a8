package journal

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/pkg/rollout"
)

func events(n int) []rollout.Event {
	out := []rollout.Event{{Type: rollout.RunStarted, At: time.Unix(1e9, 5).UTC(), Plan: &rollout.Plan{Schema: rollout.PlanSchema}, Forks: 3}}
	for i := range n {
		id := rollout.StepID{Task: i, Host: "n1"}
		out = append(out, rollout.Event{Type: rollout.StepStarted, At: time.Unix(1e9+int64(i), 0).UTC(), Step: &id})
	}
	return out
}

func TestAppendAndRead(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir() + "/state with spaces?#"
	j, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	w, err := j.Begin(ctx, "r1", time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	want := events(3)
	for i, e := range want {
		if want[i], err = w.Append(ctx, e); err != nil {
			t.Fatal(err)
		}
		if want[i].Seq != int64(i+1) {
			t.Errorf("event %d got number %d", i+1, want[i].Seq)
		}
	}
	if _, err := j.Begin(ctx, "r2", time.Unix(2, 0)); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}

	if j, err = Open(dir); err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	got, err := j.Events(ctx, "r1")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	runs, err := j.Runs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"r2", "r1"}, runs); d != "" {
		t.Errorf("newest first: %s", d)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("state folder is %v, %v", st.Mode(), err)
	}
}

func TestContinue(t *testing.T) {
	ctx := context.Background()
	j, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	w, err := j.Begin(ctx, "r1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events(2) {
		if _, err := w.Append(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	w2, err := j.Continue(ctx, "r1")
	if err != nil {
		t.Fatal(err)
	}
	e, err := w2.Append(ctx, rollout.Event{Type: rollout.RunResumed})
	if err != nil || e.Seq != 4 {
		t.Fatalf("event %d, %v", e.Seq, err)
	}
	if _, err := w.Append(ctx, rollout.Event{Type: rollout.RunDone}); err == nil {
		t.Error("two processes wrote the same run")
	}
	for _, f := range []func() error{
		func() error { _, err := j.Continue(ctx, "nope"); return err },
		func() error { _, err := j.Events(ctx, "nope"); return err },
	} {
		if err := f(); !errors.Is(err, ErrNoRun) {
			t.Errorf("unknown run: %v", err)
		}
	}
}

// A process that is killed in the middle of writing leaves every event that
// Append confirmed.
func TestKilledWriter(t *testing.T) {
	dir := t.TempDir()
	if os.Getenv("FLEETD_JOURNAL_WRITER") != "" {
		writeUntilKilled(t, os.Getenv("FLEETD_JOURNAL_WRITER"))
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWriter$")
	cmd.Env = append(os.Environ(), "FLEETD_JOURNAL_WRITER="+dir)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 200)
	confirmed := 0
	for confirmed < 100 {
		n, err := pipe.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range buf[:n] {
			if c == '.' {
				confirmed++
			}
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	j, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	got, err := j.Events(context.Background(), "r")
	if err != nil {
		t.Fatal(err)
	}
	if len(got) < confirmed {
		t.Errorf("%d events confirmed, %d found", confirmed, len(got))
	}
	for i, e := range got {
		if e.Seq != int64(i+1) {
			t.Fatalf("event %d has number %d", i+1, e.Seq)
		}
	}
}

func writeUntilKilled(t *testing.T, dir string) {
	j, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	w, err := j.Begin(context.Background(), "r", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := w.Append(context.Background(), rollout.Event{Type: rollout.StepProgress, Text: "x"}); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString(".")
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	l, err := Acquire(dir, "r1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Acquire(dir, "r2")
	if !errors.Is(err, ErrLocked) || !cmp.Equal(err.Error()[:len("another run is under way: run r1, pid ")], "another run is under way: run r1, pid ") {
		t.Errorf("second lock: %v", err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	if l, err = Acquire(dir, "r3"); err != nil {
		t.Fatal(err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
}

func TestNewID(t *testing.T) {
	id := NewID(time.Date(2026, 11, 22, 16, 21, 44, 0, time.FixedZone("", 3600)))
	if got := id[:len("20261122-152144-")]; got != "20261122-152144-" || len(id) != len("20261122-152144-0000") {
		t.Errorf("id %q", id)
	}
}
