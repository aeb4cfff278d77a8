package journal

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// BenchmarkAppend tells what an event costs: of the processor, and in the file.
func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct {
		name    string
		batch   int
		durable bool
	}{{"single", 1, false}, {"batch of 32", 32, false}, {"step of 3 durable", 3, true}} {
		b.Run(c.name, func(b *testing.B) {
			ctx := context.Background()
			dir := b.TempDir()
			j, err := Open(dir)
			if err != nil {
				b.Fatal(err)
			}
			w, err := j.Begin(ctx, "20261122-152144-abcd", start, []byte("{}"))
			if err != nil {
				b.Fatal(err)
			}
			step := &script{}
			step.step(rollout.StepID{Host: "worker-00001.example.com"}, rollout.Did("installed kernel-ml-6.1.176-1.el7.elrepo.x86_64"))
			batch := make([]rollout.Event, c.batch)
			var seq int64
			before := cpu(b)
			for b.Loop() {
				for i := range batch {
					seq++
					batch[i] = step.events[seq%2] // not the end: it is durable
					if c.durable {
						batch[i] = step.events[i]
					}
					batch[i].Seq = seq
				}
				if err := w.Append(ctx, batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/1e3/float64(seq), "cpu-µs/event")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/1e3/float64(seq), "µs/event")
			if err := j.Close(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(size(b, dir))/float64(seq), "bytes/event")
		})
	}
}

// cpu is the processor time that the process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func size(t testing.TB, dir string) int64 {
	t.Helper()
	st, err := os.Stat(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

// A run of 10,000 hosts leaves less than 100 MB.
func TestSize(t *testing.T) {
	if testing.Short() {
		t.Skip("240,000 events")
	}
	ctx := context.Background()
	dir := t.TempDir()
	j, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	p := newPlan(t, 10_000, 8)
	w, err := j.Begin(ctx, "20261122-152144-abcd", start, []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	events := wholeRun(t, p)
	for len(events) > 0 {
		n := min(1000, len(events))
		if err := w.Append(ctx, events[:n]); err != nil {
			t.Fatal(err)
		}
		events = events[n:]
	}
	r, err := j.Run(ctx, "20261122-152144-abcd")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Snapshot(ctx, r.Snapshot()); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if got := size(t, dir); got > 100<<20 {
		t.Errorf("%d bytes", got)
	}
}

// BenchmarkJudged records what was found on 10,000 hosts by ten rules: the first time,
// and when next to nothing has changed.
func BenchmarkJudged(b *testing.B) {
	rulings := make([]rollout.Ruling, 0, 100_000)
	for h := range 10_000 {
		for r := range 10 {
			rulings = append(rulings, rollout.Ruling{Host: fmt.Sprintf("node%05d", h), Policy: "policy", Rule: fmt.Sprintf("rule%d", r), Status: "compliant"})
		}
	}
	j, err := Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	n := 0
	judge := func() {
		rulings[n].Status = "drift"
		l := Look{Name: fmt.Sprint(n), Fleet: "f", At: time.Unix(int64(n)*86400, 0)}
		n++
		if err := j.Judged(context.Background(), l, rulings, func(string) bool { return true }, 400*24*time.Hour); err != nil {
			b.Fatal(err)
		}
	}
	start := time.Now()
	judge()
	first := time.Since(start)
	for b.Loop() {
		judge()
	}
	b.ReportMetric(first.Seconds(), "s-first")
	var rows int
	if err := j.db.QueryRow("SELECT count(*) FROM rulings").Scan(&rows); err != nil || rows != len(rulings)+n-1 {
		b.Fatalf("%d rows after %d looks, %v", rows, n, err)
	}
}
