package journal

import (
	"os"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// What has to be durable is on the disk when Append returns, with all that came
// before it, and only that costs a sync.
func TestPowerCut(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	d := watch(t, dir)
	d.image = t.TempDir()
	j := mustOpen(t, dir)
	w := begin(t, j, "r")
	d.logSyncs()
	events := wholeRun(t, newPlan(t, 4, 2))
	onDisk, kinds := 0, map[bool]int{}
	for i, e := range events {
		mustAppend(t, w, e)
		durable := e.Durable()
		if durable {
			onDisk = i + 1
		}
		kinds[durable]++
		if synced := d.logSyncs() > 0; synced != durable {
			t.Errorf("event %d, %s: synced is %v, and durable is %v", e.Seq, e.Type, synced, durable)
		}
		if i == 6 {
			if err := w.Snapshot(ctx, fold(t, events[:i+1]).Snapshot()); err != nil {
				t.Fatal(err)
			}
			if d.logSyncs() > 0 {
				t.Error("a snapshot was synced")
			}
		}
		if got := afterPowerCut(t, d); len(got) < onDisk || !cmp.Equal(got, events[:len(got)]) {
			t.Fatalf("after event %d, %d events are on the disk, want %d", e.Seq, len(got), onDisk)
		}
	}
	if kinds[true] < 5 || kinds[false] < 5 {
		t.Errorf("the test has too little of a kind: %v", kinds)
	}
	// In one batch with others, too.
	s := &script{}
	s.events = append(s.events, events[0])
	s.step(rollout.StepID{Host: "worker-00001.example.com"}, rollout.Did("x"))
	w = begin(t, j, "batch")
	mustAppend(t, w, s.events[0])
	d.logSyncs()
	mustAppend(t, w, s.events[1:]...) // the last one has to be durable
	if n := d.logSyncs(); n != 1 {
		t.Errorf("a batch of 3 was synced %d times", n)
	}
}

// afterPowerCut reads what a bastion finds that lost its power now.
func afterPowerCut(t *testing.T, d *disk) []rollout.Event {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(d.image)); err != nil {
		t.Fatal(err)
	}
	j, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	got, err := j.Events(t.Context(), "r")
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestDiskFull(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	d := watch(t, dir)
	events := wholeRun(t, newPlan(t, 3, 2))

	d.setFull(true)
	_, err := open(dir, 0)
	wantError(t, err, "cannot open the journal "+dir, "the disk is full")
	d.setFull(false)

	j := mustOpen(t, dir)
	d.setFull(true)
	_, err = j.Begin(ctx, "r", start, []byte("{}"))
	wantError(t, err, "cannot begin run r: the disk is full")
	d.setFull(false)
	w := begin(t, j, "r")

	for i, e := range events {
		d.setFull(true)
		for range 2 {
			err = w.Append(ctx, events[i:min(i+2, len(events))])
			wantError(t, err, "cannot write event", "the disk is full")
		}
		d.setFull(false)
		if got := mustRead(t, j, "r"); len(got) != i {
			t.Fatalf("%d events, after %d were written", len(got), i)
		}
		mustAppend(t, w, e)
	}
	s := fold(t, events).Snapshot()
	d.setFull(true)
	wantError(t, w.Snapshot(ctx, s), "cannot write the snapshot of run r: the disk is full")
	d.setFull(false)
	if d := cmp.Diff(events, mustRead(t, j, "r")); d != "" {
		t.Error(d)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(events, mustRead(t, mustOpen(t, dir), "r")); d != "" {
		t.Error(d)
	}
}

// A process that is killed in the middle of writing leaves every event that
// Append confirmed.
func TestKilledWriter(t *testing.T) {
	if dir := os.Getenv("FLEETD_JOURNAL_WRITER"); dir != "" {
		writeUntilKilled(t, dir)
		return
	}
	dir := t.TempDir()
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
	got := mustRead(t, mustOpen(t, dir), "r")
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
	w := begin(t, mustOpen(t, dir), "r")
	for seq := int64(1); ; seq++ {
		kind := rollout.StepProgress
		if seq%3 == 0 {
			kind = rollout.RunResumed
		}
		mustAppend(t, w, rollout.Event{Seq: seq, At: start, Type: kind, Text: "x"})
		os.Stdout.WriteString(".")
	}
}
