package engine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/bpf"
	"github.com/fleetd/fleetd/pkg/engine"
	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/kernel"
	"github.com/fleetd/fleetd/pkg/kernel/kerneltest"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// errDead is what a process hears that was killed: nothing it asks for happens.
var errDead = errors.New("killed")

// process is one life of fleetd: its way to the nodes and to the journal ends
// when it is killed, in the middle of whatever it does.
type process struct {
	fleet   *kerneltest.Fleet
	journal engine.Journal
	killAt  int // after so many events; 0 = never
	written atomic.Int64
	dead    atomic.Bool
	// active counts the steps that are being executed; the engine's loop alone
	// asks and tells.
	active int
	ran    atomic.Int64
	// asks, if set, is how somebody asks something of the run.
	asks *asking
}

func (p *process) Append(ctx context.Context, events []rollout.Event) error {
	if p.dead.Load() {
		return errDead
	}
	before := int(p.written.Load())
	if p.killAt > 0 && before+len(events) >= p.killAt {
		events = events[:p.killAt-before]
		p.dead.Store(true)
	}
	if err := p.journal.Append(ctx, events); err != nil {
		return err
	}
	p.written.Add(int64(len(events)))
	for _, e := range events {
		switch e.Type {
		case rollout.StepStarted:
			p.active++
		case rollout.StepEnded:
			p.active--
		}
	}
	if p.dead.Load() {
		return errDead
	}
	return nil
}

func (p *process) Requests(ctx context.Context) ([]rollout.Request, error) {
	if p.dead.Load() {
		return nil, errDead
	}
	return p.journal.Requests(ctx)
}

func (p *process) Run(ctx context.Context, host string, c sshexec.Command) (sshexec.Result, error) {
	if p.dead.Load() {
		return sshexec.Result{}, errDead
	}
	return p.fleet.Run(ctx, host, c)
}

func (p *process) Upload(ctx context.Context, host string, u sshexec.Upload) error {
	if p.dead.Load() {
		return errDead
	}
	return p.fleet.Upload(ctx, host, u)
}

func (p *process) Forget(host string) { p.fleet.Forget(host) }

func (p *process) modules() map[string]rollout.Module {
	out := kernel.Modules(p)
	for name, m := range bpf.Modules(bpf.Deps{Hosts: p}) {
		out[name] = m
	}
	return out
}

// The clock of a process jumps to the next waking when nothing is being executed,
// and stands still otherwise: a machine that is busy makes no step late.

func (*process) Now() time.Time { return time.Now() }

func (p *process) Since() time.Duration { return time.Duration(p.ran.Add(1)) }

func (p *process) After(d time.Duration) <-chan time.Time {
	if p.active > 0 {
		return nil // the end of what is being executed wakes the run
	}
	p.ran.Add(int64(d))
	ch := make(chan time.Time, 1)
	ch <- time.Time{}
	return ch
}

// crashHosts are eight nodes; of two of them nothing good comes. There are not more,
// since what the crash tests cost goes by the square of them.
func crashHosts() (*kerneltest.Fleet, []string, []string) {
	flavours := map[string]kerneltest.Flavour{}
	var workers, masters []string
	for i := range 5 {
		h := fmt.Sprintf("w%d", i+1)
		workers = append(workers, h)
		flavours[h] = []kerneltest.Flavour{kerneltest.EL7, kerneltest.EL8, kerneltest.EL9}[i%3]
	}
	for i := range 3 {
		h := fmt.Sprintf("m%d", i+1)
		masters = append(masters, h)
		flavours[h] = kerneltest.EL9
	}
	fleet := kerneltest.New(flavours)
	for h := range flavours {
		fleet.Node(h).Behave(func(b *kerneltest.Behaviour) { b.StopTakes, b.BootTakes, b.YumTakes = 1, 1, 1 })
	}
	fleet.Node("w4").Behave(func(b *kerneltest.Behaviour) {
		b.Kernels = map[string]kerneltest.Fate{kerneltest.NewRelease(flavours["w4"]): kerneltest.Panics}
	})
	fleet.Node("w5").Behave(func(b *kerneltest.Behaviour) {
		b.Kernels = map[string]kerneltest.Fate{kerneltest.NewRelease(flavours["w5"]): kerneltest.Dies}
	})
	return fleet, workers, masters
}

// crashPlan plans the kernel and a BPF object on all of them.
func crashPlan(t testing.TB, fleet *kerneltest.Fleet, workers, masters []string) rollout.Plan {
	t.Helper()
	p := &process{fleet: fleet}
	half := 50.0
	d := rollout.Desired{Plays: []rollout.Play{
		{Name: "workers", Strategy: rollout.Free, Batches: [][]string{workers[:1], workers[1:]}, MaxFailPercentage: &half},
		{Name: "masters", Strategy: rollout.Linear, Batches: [][]string{masters}, MaxFailPercentage: &half},
	}}
	for pi := range d.Plays {
		for _, name := range []string{"fleetd.kernel.preflight", "fleetd.kernel.package", "fleetd.kernel.trial_boot", "fleetd.kernel.default", "fleetd.bpf.object"} {
			task := rollout.Task{Name: name, Module: name, Become: true, Args: map[string]rollout.Args{}}
			for _, h := range slices.Concat(d.Plays[pi].Batches...) {
				task.Args[h] = rollout.Args{}
				if name == "fleetd.bpf.object" {
					task.Args[h] = rollout.Args{"name": "tcp_connect"}
				}
			}
			d.Plays[pi].Tasks = append(d.Plays[pi].Tasks, task)
		}
	}
	modules := p.modules()
	observed, err := engine.Observe(t.Context(), d, modules, []rollout.Observer{node.Observer{Remote: fleet, Forks: 12}})
	if err != nil {
		t.Fatal(err)
	}
	differs := map[string]rollout.Differ{}
	for name, m := range modules {
		differs[name] = m
	}
	plan, err := rollout.Compute(d, observed, differs, rollout.Basis{ControlPlane: rollout.ControlPlane{Hosts: masters}})
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Problems()) > 0 {
		t.Fatalf("problems in the plan: %+v", plan.Problems())
	}
	return plan
}

// stateFolder is in memory where there is such a file system: what is tested is
// what is written when, not the disk, and hundreds of runs sync thousands of times.
func stateFolder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "fleetd-crash-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// ended is how it all stands at the end.
type ended struct {
	Status rollout.RunStatus
	Lost   []string
	Worlds map[string]kerneltest.World
	Counts map[string]kerneltest.Counts
}

func endOf(r *rollout.Run, fleet *kerneltest.Fleet) ended {
	e := ended{Status: r.Status, Lost: r.LostHosts(), Worlds: map[string]kerneltest.World{}, Counts: map[string]kerneltest.Counts{}}
	for _, h := range r.Plan.Hosts() {
		e.Worlds[h], e.Counts[h] = fleet.Node(h).World(), fleet.Node(h).Counts()
	}
	return e
}

// carryOut executes the plan on a fresh fleet, in processes that are killed after
// so many events each; the last one is left alone.
func carryOut(t testing.TB, kills ...int) (*rollout.Run, *kerneltest.Fleet, int) {
	t.Helper()
	fleet, workers, masters := crashHosts()
	plan := crashPlan(t, fleet, workers, masters)
	dir := stateFolder(t)
	total := 0
	for life := 0; ; life++ {
		p := &process{fleet: fleet}
		if life < len(kills) {
			p.killAt = kills[life]
		}
		r, err := p.live(t, dir, plan)
		total += int(p.written.Load())
		if !p.dead.Load() {
			if err != nil {
				t.Fatal(err)
			}
			return r, fleet, total
		}
	}
}

// live is one process: it begins the run, or goes on with what the journal has.
func (p *process) live(t testing.TB, dir string, plan rollout.Plan) (*rollout.Run, error) {
	t.Helper()
	const id = "20261126-010203-abcd"
	ctx := t.Context()
	j, err := journal.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	e := &engine.Engine{Modules: p.modules(), Journal: p, Clock: p}
	if p.asks != nil {
		e.Journal = p.asks
	}
	r, err := j.Run(ctx, id)
	if err != nil { // no run, or one that was killed before its first event
		w, err := j.Begin(ctx, id, time.Now(), []byte("{}"))
		if err != nil {
			t.Fatal(err)
		}
		p.journal = w
		return e.Execute(ctx, plan, 4)
	}
	w, err := j.Continue(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	p.journal = w
	return e.Resume(ctx, r, 0, false)
}

// A kill after every single event, then a resume from the journal, ends where the
// undisturbed run ends: the same nodes are lost, every node is as it would be, no
// node was rebooted twice, no package installed twice, no file shipped twice.
func TestKilledAfterEveryEvent(t *testing.T) {
	calm, fleet, events := carryOut(t)
	want := endOf(calm, fleet)
	if want.Status != rollout.Done || fmt.Sprint(want.Lost) != "[w4 w5]" {
		t.Fatalf("undisturbed, the run ends %s without %v; this test wants two lost nodes and a reboot of the others", want.Status, want.Lost)
	}
	for h, c := range want.Counts {
		if c.Reboots != 1 || c.Transactions != 1 {
			t.Fatalf("undisturbed, %s has seen %+v", h, c)
		}
	}
	t.Logf("%d events", events)
	for at := 1; at <= events; at++ {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			t.Parallel()
			r, fleet, _ := carryOut(t, at)
			if d := cmp.Diff(want, endOf(r, fleet)); d != "" {
				t.Errorf("killed after event %d (-undisturbed +killed):\n%s", at, d)
			}
		})
	}
}

// Killed again and again, it still comes to the same end.
func TestKilledAgainAndAgain(t *testing.T) {
	calm, fleet, _ := carryOut(t)
	want := endOf(calm, fleet)
	for _, every := range []int{9, 31} {
		r, fleet, _ := carryOut(t, slices.Repeat([]int{every}, 2000)...)
		if d := cmp.Diff(want, endOf(r, fleet)); d != "" {
			t.Errorf("killed after every %d events (-undisturbed +killed):\n%s", every, d)
		}
	}
}

// An undo after the run puts every node back that the run did not lose, and the
// nodes that it lost as far as they answer.
func TestUndoRestores(t *testing.T) {
	fleet, workers, masters := crashHosts()
	plan := crashPlan(t, fleet, workers, masters)
	before := map[string]kerneltest.World{}
	for _, h := range plan.Hosts() {
		before[h] = fleet.Node(h).World()
	}
	p := &process{fleet: fleet, journal: nowhere{}}
	r, err := (&engine.Engine{Modules: p.modules(), Journal: p, Clock: p}).Execute(t.Context(), plan, 4)
	if err != nil {
		t.Fatal(err)
	}
	hosts := slices.DeleteFunc(plan.Hosts(), func(h string) bool { return h == "w5" }) // dead for good
	back, err := rollout.Reverse("r1", r, hosts, nil, rollout.Basis{ControlPlane: plan.ControlPlane})
	if err != nil {
		t.Fatal(err)
	}
	r, err = (&engine.Engine{Modules: p.modules(), Journal: p, Clock: p}).Execute(t.Context(), back, 4)
	if err != nil || r.Status != rollout.Done || len(r.LostHosts()) > 0 {
		for _, h := range r.LostHosts() {
			at, _ := r.Lost(h)
			t.Logf("%s: %+v", at, r.Step(at).Outcome)
		}
		t.Fatalf("the undo ended %s, %v, without %v", r.Status, err, r.LostHosts())
	}
	for _, h := range hosts {
		now := fleet.Node(h).World()
		now.Failed = nil // that a trial failed stays true
		if d := cmp.Diff(before[h], now); d != "" {
			t.Errorf("%s (-before +undone):\n%s", h, d)
		}
	}
}

// nowhere is a journal that keeps nothing.
type nowhere struct{}

func (nowhere) Append(context.Context, []rollout.Event) error { return nil }

func (nowhere) Requests(context.Context) ([]rollout.Request, error) { return nil, nil }
