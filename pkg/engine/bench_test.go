package engine_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/engine"
	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// quick is a module whose work takes no time: what is left is fleetd's own.
type quick struct{}

func (quick) About() rollout.About              { return rollout.About{} }
func (quick) Reads(rollout.Args) []rollout.Read { return nil }
func (quick) Diff(_ string, before rollout.State, _ rollout.Args) (rollout.Change, rollout.State, error) {
	return rollout.Change{
		Action: rollout.Update, Summary: "make 6.1.176-1.el9.elrepo.x86_64 the default kernel",
		Fields: []rollout.Field{{Name: "default kernel", Before: "5.14.0-503.40.1.el9_5.x86_64", After: "6.1.176-1.el9.elrepo.x86_64"}},
	}, before, nil
}

func (quick) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	rollout.RecorderFrom(ctx).Record(rollout.Operation{Kind: "ssh", Host: s.Host, Text: "grubby --set-default=/boot/vmlinuz-6.1.176-1.el9.elrepo.x86_64", Result: "rc 0"})
	return rollout.Did("6.1.176-1.el9.elrepo.x86_64 is the default of %s", s.Host)
}
func (quick) Undo(context.Context, rollout.Step) rollout.Outcome { return rollout.Did("") }

// BenchmarkRun is a whole run, from the plan to the last event, with the journal
// on the disk: 8 steps on each host, of which each runs one command, 64 forks.
func BenchmarkRun(b *testing.B) {
	for _, hosts := range []int{100, 1_000, 10_000} {
		b.Run(fmt.Sprintf("hosts=%d", hosts), func(b *testing.B) {
			const tasks = 8
			d := rollout.Desired{Plays: []rollout.Play{{Name: "kernels", Strategy: rollout.Free}}}
			args := map[string]rollout.Args{}
			var names []string
			for i := range hosts {
				names = append(names, fmt.Sprintf("worker%05d", i))
				args[names[i]] = rollout.Args{}
			}
			d.Plays[0].Batches = [][]string{names}
			for i := range tasks {
				d.Plays[0].Tasks = append(d.Plays[0].Tasks, rollout.Task{Name: fmt.Sprint("task ", i), Module: "quick", Args: args})
			}
			modules := map[string]rollout.Module{"quick": quick{}}
			var size, heap float64
			for b.Loop() {
				plan, err := rollout.Compute(d, nil, map[string]rollout.Differ{"quick": quick{}}, rollout.Basis{})
				if err != nil {
					b.Fatal(err)
				}
				var taken float64
				size, taken = onDisk(b, &engine.Engine{Modules: modules}, plan)
				heap = max(heap, taken)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*hosts*tasks), "µs/step")
			b.ReportMetric(size/1e6, "MB-journal")
			b.ReportMetric(heap/1e6, "MB-memory")
		})
	}
}

// onDisk carries a plan out with the journal on the disk, and tells the journal's
// size and the memory of the process, in bytes.
func onDisk(b *testing.B, e *engine.Engine, plan rollout.Plan) (size, memory float64) {
	b.Helper()
	dir := b.TempDir()
	j, err := journal.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	w, err := j.Begin(b.Context(), "r", time.Now(), []byte("{}"))
	if err != nil {
		b.Fatal(err)
	}
	e.Journal = w
	r, err := e.Execute(b.Context(), plan, 64)
	if err != nil || r.Status != rollout.Done || len(r.LostHosts()) > 0 {
		b.Fatal(r.Status, err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if err := j.Close(); err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "journal.db"))
	if err != nil {
		b.Fatal(err)
	}
	return float64(info.Size()), float64(m.Sys)
}
