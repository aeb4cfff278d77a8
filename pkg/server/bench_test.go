package server

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// BenchmarkMillionRows: with a million events in the journal, each page is to be there
// within 200 ms of the server's time: the first time that it is asked for, and again.
// The run that goes on has 5,000 hosts.
func BenchmarkMillionRows(b *testing.B) {
	const hosts, most = 5000, 200 * time.Millisecond
	dir := b.TempDir()
	plan := fleet(hosts)
	var last string
	rows, runs := 0, 0
	for rows < 1_000_000 {
		runs++
		last = fmt.Sprintf("20261127-%06d-%04x", runs, runs)
		rec := recordRun(b, dir, last, plan)
		rec.each = 500
		if done := rec.play(1<<30, failing("worker1200")); !done {
			b.Fatal("the run is not over")
		}
		rec.flush()
		// As fleetd does at the end of a run.
		if err := rec.w.Snapshot(b.Context(), rec.run.Snapshot()); err != nil {
			b.Fatal(err)
		}
		rows += int(rec.run.Seq)
		if err := rec.lock.Release(); err != nil {
			b.Fatal(err)
		}
	}
	live := recordRun(b, dir, runID, plan)
	live.each = 500
	live.play(10_000, failing("worker1200"))
	live.flush()
	size := int64(0)
	for _, name := range []string{"journal.db", "journal.db-wal"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil {
			size += info.Size()
		}
	}
	fmt.Printf("\n%d runs of %d hosts, %d events, %d MB of journal\n", runs+1, hosts, rows+int(live.run.Seq), size/1e6)
	for b.Loop() {
		s := serve(b, dir)
		start, before := time.Now(), processorTime(b)
		if _, _, err := s.store.list(b.Context(), "", rowsOfPage); err != nil {
			b.Fatal(err)
		}
		fmt.Printf("  at start, in the background: %.1f s (%.1f of processor time)\n", time.Since(start).Seconds(), (processorTime(b) - before).Seconds())
		for _, path := range []string{
			"/", "/runs/" + runID, "/runs/" + runID + "/hosts/worker1200", "/runs/" + runID + "/plan", "/runs/" + last, "/runs/" + last + "/hosts/worker1200", "/compliance",
			"/api/v1/runs", "/api/v1/runs/" + runID, "/api/v1/runs/" + last, "/api/v1/compliance", "/metrics",
		} {
			var took, cpu [2]time.Duration
			for i := range took {
				start, before := time.Now(), processorTime(b)
				if w := get(b, s, path); w.Code != http.StatusOK {
					b.Fatalf("%s: %d", path, w.Code)
				}
				took[i], cpu[i] = time.Since(start), processorTime(b)-before
			}
			missed := ""
			if max(took[0], took[1]) > most {
				missed = "  MISSED"
			}
			fmt.Printf("  %-60s %7.1f ms (%.1f of processor time), again %7.1f ms (%.1f)%s\n", path,
				took[0].Seconds()*1000, cpu[0].Seconds()*1000, took[1].Seconds()*1000, cpu[1].Seconds()*1000, missed)
		}
	}
	b.ReportMetric(0, "ns/op")
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
