package kernel

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/kernel/kerneltest"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

var wholePlay = []string{"fleetd.kernel.preflight", "fleetd.kernel.package", "fleetd.kernel.trial_boot", "fleetd.kernel.default"}

const host = "node2"

// planned is one module with its change.
type planned struct {
	name   string
	change rollout.Change
}

// tester is what a test, a fuzz target and a property have in common.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// observe reads the facts as the plan does, with what the repository has.
func observe(t tester, f *kerneltest.Fleet, keys ...string) rollout.State {
	t.Helper()
	keys = append(keys, node.PackageKey("kernel-ml", "elrepo-kernel"), node.InstallKey("kernel-ml", "elrepo-kernel"))
	so := node.Observer{Remote: f}.Observe(context.Background(), map[string][]string{host: keys})[host]
	if so.Err != nil {
		t.Fatal(so.Err)
	}
	return rollout.State{node.Section.Name(): rollout.Encoded(so.Value)}
}

func plan(t tester, f *kerneltest.Fleet, play ...string) []planned {
	t.Helper()
	return planWith(t, f, rollout.Args{}, play...)
}

func planWith(t tester, f *kerneltest.Fleet, args rollout.Args, play ...string) []planned {
	t.Helper()
	state := observe(t, f)
	var out []planned
	for _, name := range play {
		c, after, err := Modules(f)[name].Diff(host, state, args)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out, state = append(out, planned{name, c}), after
	}
	return out
}

// reversed are the steps of an undo, as rollout.Reverse makes them.
func reversed(steps []planned) []planned {
	var out []planned
	for _, p := range slices.Backward(steps) {
		if p.change.Action.Writes() {
			out = append(out, planned{p.name, p.change.Reversed()})
		}
	}
	return out
}

var errKilled = errors.New("fleetd was killed")

// mortal is a way to the nodes that is cut off by crashes: the operation during
// which one comes takes effect, its answer is lost, and so is all that the same
// call does after it.
type mortal struct {
	*kerneltest.Fleet
	ops    int
	killAt []int // numbers of operations, in order
	dead   bool
	way    node.Remote // instead of the fleet, if set
}

func (m *mortal) Run(ctx context.Context, host string, c sshexec.Command) (sshexec.Result, error) {
	if m.dead {
		return sshexec.Result{}, errKilled
	}
	m.ops++
	var way node.Remote = m.Fleet
	if m.way != nil {
		way = m.way
	}
	res, err := way.Run(ctx, host, c)
	if len(m.killAt) > 0 && m.ops >= m.killAt[0] {
		m.killAt, m.dead = m.killAt[1:], true
		return sshexec.Result{}, errKilled
	}
	return res, err
}

// driver does steps as the engine does: it keeps their notes, and goes on with
// the run's clock as they ask, without waiting. What a call of a fleetd that was
// killed has answered is lost.
type driver struct {
	remote *mortal
	undo   bool
	// loseAt are the numbers of calls whose outcome is lost.
	loseAt []int
	// kept answers whether what came before still holds; nil: it does.
	kept  func(context.Context) (rollout.Outcome, bool)
	calls int
	now   time.Duration
	said  []rollout.Outcome
}

func (d *driver) do(steps ...planned) (last rollout.Outcome) {
	for _, p := range steps {
		if p.change.Action == rollout.NoOp {
			continue
		}
		if last = d.step(p); last.Bad() {
			return last
		}
	}
	return last
}

func (d *driver) step(p planned) rollout.Outcome {
	o, _ := d.until(p, false)
	return o
}

// once does a step until it ends, or fleetd is killed for good.
func (d *driver) once(p planned) (o rollout.Outcome, killed bool) {
	o, killed = d.until(p, true)
	d.remote.dead = false
	return o, killed
}

func (d *driver) until(p planned, mortal bool) (o rollout.Outcome, killed bool) {
	m := Modules(d.remote)[p.name]
	act := m.Do
	if d.undo {
		act = m.Undo
	}
	first, attempt, soFar := d.now, 1, map[string]string{}
	for {
		d.calls++
		if d.calls > 5000 {
			panic("the step does not end")
		}
		ctx := context.Background()
		if d.kept != nil {
			ctx = rollout.WithKeepers(ctx, d.kept)
		}
		o = act(ctx, rollout.Step{
			Host: host, Change: p.change, Become: true, Attempt: attempt, Now: d.now, Elapsed: d.now - first, SoFar: maps.Clone(soFar),
		})
		if d.remote.dead && mortal {
			return o, true
		}
		if d.remote.dead || slices.Contains(d.loseAt, d.calls) {
			d.remote.dead = false
			attempt++
			continue
		}
		d.said = append(d.said, o)
		for k, v := range o.Notes {
			if soFar[k] = v; v == "" {
				delete(soFar, k)
			}
		}
		if o.Final() {
			return o, false
		}
		if o.Kind != rollout.Intends {
			attempt++
			d.now += o.After
		}
	}
}

// bench is one node, with its plan.
type bench struct {
	*driver
	*kerneltest.Node
	fleet *kerneltest.Fleet
	steps []planned
	old   string
	new   string
}

func newBench(t testing.TB, flavour kerneltest.Flavour) *bench {
	t.Helper()
	fleet := kerneltest.New(map[string]kerneltest.Flavour{host: flavour})
	return &bench{
		driver: &driver{remote: &mortal{Fleet: fleet}}, Node: fleet.Node(host), fleet: fleet,
		steps: plan(t, fleet, wholePlay...), old: kerneltest.OldRelease(flavour), new: kerneltest.NewRelease(flavour),
	}
}

// before does all steps before the one of this module, and returns that one.
func (b *bench) before(t testing.TB, name string) planned {
	t.Helper()
	i := slices.IndexFunc(b.steps, func(p planned) bool { return p.name == name })
	if out := b.do(b.steps[:i]...); out.Bad() {
		t.Fatalf("before %s: %s", name, out.Message)
	}
	return b.steps[i]
}

// args are those of a kernel's boot entry.
func (b *bench) args(release string) string {
	e, _ := node.Boot{Entries: b.World().Entries}.Entry(release)
	return e.Args
}

// defaultRelease is what GRUB boots by itself.
func (b *bench) defaultRelease() string {
	w := b.World()
	for _, e := range w.Entries {
		if cmp.Or(e.ID, e.Title) == w.Saved {
			return e.Release()
		}
	}
	return ""
}

func (b *bench) ran(text string) bool {
	return slices.ContainsFunc(b.Log(), func(l string) bool { return strings.Contains(l, text) })
}
