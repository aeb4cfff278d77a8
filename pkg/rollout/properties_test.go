package rollout

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// Every step of a run without failures is executed, and its change made once.
func TestPropertyEveryStepOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, script := genPlan(t, false)
		s := newSim(script, draws(t))
		r, err := s.execute(p, rapid.IntRange(1, 5).Draw(t, "forks"), 0)
		if err != nil {
			t.Fatal(err)
		}
		if r.Status != Done {
			t.Fatalf("run ended %s: %+v", r.Status, r.Halt)
		}
		for id := range script {
			if s.writes[id]+s.reboots[id] != 1 {
				t.Fatalf("step %s was done %d times", id, s.writes[id]+s.reboots[id])
			}
		}
	})
}

// Whatever fails: a run ends, and every host that it did not lose is through or
// named by the halt.
func TestPropertyLiveness(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, script := genPlan(t, true)
		if rapid.Bool().Draw(t, "with a control plane") {
			genControlPlane(t, &p)
		}
		s := newSim(script, draws(t))
		r, err := s.execute(p, rapid.IntRange(0, 5).Draw(t, "forks"), 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range p.Hosts() {
			if _, lost := r.Lost(h); lost || (r.Halt != nil && slices.Contains(r.Halt.Left, h)) {
				continue
			}
			for id := range script {
				if st := r.Step(id); id.Host == h && (st == nil || !st.Over()) {
					t.Fatalf("run ended %s (%+v), %s is not lost, step %s is open and the halt does not name it", r.Status, r.Halt, h, id)
				}
			}
		}
		if r.Halt != nil && len(r.Halt.Hosts) == 0 {
			t.Fatalf("a halt that names nobody: %+v", r.Halt)
		}
	})
}

// No step starts before what it waits for: earlier plays and batches, the
// host's own earlier tasks and, under linear, everybody's.
func TestPropertyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, script := genPlan(t, true)
		s := newSim(script, draws(t))
		if _, err := s.execute(p, rapid.IntRange(1, 5).Draw(t, "forks"), 0); err != nil {
			t.Fatal(err)
		}
		r := &Run{}
		for _, e := range s.events {
			if e.Type == StepStarted {
				for other := range script {
					if before(p, other, *e.Step) && !r.isBehind(other) {
						t.Fatalf("step %s started while %s was open", e.Step, other)
					}
				}
			}
			if err := r.Apply(e); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// before is the specification of the order, written independently of Next.
func before(p Plan, a, b StepID) bool {
	batch := func(id StepID) int {
		return slices.IndexFunc(p.Plays[id.Play].Batches, func(hosts []string) bool { return slices.Contains(hosts, id.Host) })
	}
	switch {
	case a.Play != b.Play:
		return a.Play < b.Play
	case batch(a) != batch(b):
		return batch(a) < batch(b)
	case a.Host == b.Host || p.Plays[a.Play].Strategy == Linear:
		return a.Task < b.Task
	}
	return false
}

// isBehind reports whether nothing will happen to the step any more.
func (r *Run) isBehind(id StepID) bool {
	if _, lost := r.Lost(id.Host); lost {
		return true
	}
	st := r.Step(id)
	return st != nil && st.Over()
}

// world is who is out of service, worked out from the events alone.
type world struct {
	p         Plan
	begun     map[string]bool // has begun the play and is not through with it
	disrupted map[string]bool
	down      map[string]bool
	play      int
}

func newWorld(p Plan) *world {
	w := &world{p: p, begun: map[string]bool{}, disrupted: map[string]bool{}, down: map[string]bool{}}
	for h, why := range p.Down {
		w.down[h] = why != ""
	}
	for _, m := range p.ControlPlane.Members {
		w.down[m.Name] = w.down[m.Name] || m.Down != ""
	}
	return w
}

// take follows one event. r is the run without it.
func (w *world) take(r *Run, e Event) {
	if e.Step == nil {
		return
	}
	h := e.Step.Host
	planned, _ := w.p.Step(*e.Step)
	switch e.Type {
	case StepStarted:
		w.play = e.Step.Play
		w.begun[h] = true
		w.disrupted[h] = w.disrupted[h] || planned.Change.Disruptive
	case StepEnded:
		switch {
		case e.Outcome.Bad():
			w.down[h] = w.down[h] || w.disrupted[h] || e.Outcome.Kind == Unreachable
			w.begun[h], w.disrupted[h] = false, false
		case e.Outcome.Final() && w.last(*e.Step):
			if w.disrupted[h] {
				w.down[h] = false
			}
			w.begun[h], w.disrupted[h] = false, false
		}
	}
}

func (w *world) last(id StepID) bool {
	for ti := id.Task + 1; ti < len(w.p.Plays[id.Play].Tasks); ti++ {
		if s, ok := w.p.Plays[id.Play].Tasks[ti].Steps[id.Host]; ok && s.Counts() {
			return false
		}
	}
	return true
}

// A host begins only while the budget has room for it; running steps never
// outnumber the forks; only one batch is worked on.
func TestPropertyBudget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, script := genPlan(t, true)
		forks := rapid.IntRange(1, 4).Draw(t, "forks")
		s := newSim(script, draws(t))
		if _, err := s.execute(p, forks, 0); err != nil {
			t.Fatal(err)
		}
		w := newWorld(p)
		r := &Run{}
		active := map[StepID]bool{}
		for _, e := range s.events {
			if e.Type == StepStarted {
				play := p.Plays[e.Step.Play]
				h := e.Step.Host
				if play.Strategy == Free && !w.begun[h] && !w.down[h] {
					out := 0
					for _, o := range slices.Concat(play.Batches...) {
						if o != h && (w.begun[o] || w.down[o]) {
							out++
						}
					}
					budget := play.MaxUnavailable
					if budget == 0 {
						for _, b := range play.Batches {
							if slices.Contains(b, h) {
								budget = len(b)
							}
						}
					}
					alone := !slices.ContainsFunc(slices.Collect(maps.Keys(w.begun)), func(o string) bool { return w.begun[o] })
					if out+1 > budget && (play.MaxUnavailable > 0 || !alone) {
						t.Fatalf("%s begins while %d hosts are out of service, of %d allowed", h, out, budget)
					}
				}
				active[*e.Step] = true
			}
			w.take(r, e)
			if e.Type == StepEnded {
				delete(active, *e.Step)
			}
			if len(active) > forks {
				t.Fatalf("%d steps at once with %d forks", len(active), forks)
			}
			hosts := map[string]bool{}
			for id := range active {
				hosts[id.Host] = true
			}
			for _, b := range p.Plays[w.play].Batches {
				n := 0
				for _, h := range b {
					if hosts[h] {
						n++
					}
				}
				if n > 0 && n != len(hosts) {
					t.Fatalf("hosts of two batches at once: %v", slices.Collect(maps.Keys(hosts)))
				}
			}
			if err := r.Apply(e); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Of the control plane at most one host is taken out of service at a time,
// whatever serial and strategy say, and none that etcd cannot spare: what was
// out of service before counts, and so does what the run lost.
func TestPropertyControlPlane(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, script := genPlan(t, true)
		genControlPlane(t, &p)
		s := newSim(script, draws(t))
		if _, err := s.execute(p, 5, 0); err != nil {
			t.Fatal(err)
		}
		members := p.ControlPlane.Members
		if len(members) == 0 {
			for _, h := range p.ControlPlane.Hosts {
				members = append(members, Member{Name: h})
			}
		}
		w := newWorld(p)
		r := &Run{}
		for _, e := range s.events {
			fresh := e.Type == StepStarted && p.ControlPlane.Has(e.Step.Host) && r.disrupts(*e.Step) && !w.disrupted[e.Step.Host]
			w.take(r, e)
			if fresh {
				serving, down := 0, 0
				for _, m := range members {
					switch {
					case w.disrupted[m.Name]:
					case w.down[m.Name]:
						down++
					default:
						serving++
					}
				}
				if len(members) > 2 && serving < Quorum(len(members)) && down > 0 || len(members) <= 2 && down > 0 {
					t.Fatalf("%s is taken out of service: %d of %d members serve", e.Step.Host, serving, len(members))
				}
			}
			var out []string
			for _, h := range p.ControlPlane.Hosts {
				if w.disrupted[h] {
					out = append(out, h)
				}
			}
			if len(out) > 1 {
				t.Fatalf("out of service at once: %v", out)
			}
			if err := r.Apply(e); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A run goes past a batch only if its failures are within the limit, and a
// host that failed is not asked again.
func TestPropertyGate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, script := genPlan(t, true)
		s := newSim(script, draws(t))
		r, err := s.execute(p, 3, 0)
		if err != nil {
			t.Fatal(err)
		}
		lost := map[string]StepID{}
		for _, e := range s.events {
			if e.Step == nil {
				continue
			}
			if at, ok := lost[e.Step.Host]; ok {
				t.Fatalf("%s of %s after its host was lost at %s", e.Type, e.Step, at)
			}
			if e.Type == StepEnded && e.Outcome.Bad() {
				lost[e.Step.Host] = *e.Step
			}
			if e.Type != StepStarted {
				continue
			}
			for pi, play := range p.Plays {
				for _, b := range play.Batches {
					past := e.Step.Play > pi || (e.Step.Play == pi && !slices.Contains(b, e.Step.Host) && before(p, StepID{pi, 0, b[0]}, StepID{pi, 0, e.Step.Host}))
					if past && overLimit(play, pi, b, lost) {
						t.Fatalf("%s started although too many of %v had failed", e.Step, b)
					}
				}
			}
		}
		if len(lost) != len(r.LostHosts()) {
			t.Fatalf("lost %v, run says %v", lost, r.LostHosts())
		}
	})
}

// overLimit is the specification of a batch's gate.
func overLimit(play PlannedPlay, pi int, batch []string, lost map[string]StepID) bool {
	failed, size := 0, 0
	for _, h := range batch {
		at, ok := lost[h]
		if ok && at.Play < pi {
			continue
		}
		size++
		if ok && at.Play == pi {
			failed++
		}
	}
	if failed == 0 {
		return false
	}
	limit := 99.9999
	if play.MaxFailPercentage != nil {
		limit = *play.MaxFailPercentage
	}
	return play.AnyErrorsFatal || 100*float64(failed)/float64(size) > limit
}

// A crash after any event, then resume, ends where the undisturbed run ends: no
// reboot twice, no change twice.
func TestPropertyCrash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, script := genPlan(t, true)
		for pi := range p.Plays {
			p.Plays[pi].AnyErrorsFatal = false // who else was stopped by it is chance
			p.Plays[pi].MaxUnavailable = 0     // so is who a spent budget leaves behind
		}
		forks := rapid.IntRange(1, 4).Draw(t, "forks")
		calm := newSim(script, func(int) int { return 0 })
		want, err := calm.execute(p, forks, 0)
		if err != nil {
			t.Fatal(err)
		}
		crashed := newSim(script, draws(t))
		got, err := crashed.execute(p, forks, rapid.IntRange(1, len(calm.events)).Draw(t, "crash after"))
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != want.Status {
			t.Fatalf("ended %s, undisturbed %s", got.Status, want.Status)
		}
		if d := cmp.Diff(calm.reboots, crashed.reboots); d != "" {
			t.Fatalf("other reboots after the crash (-undisturbed +crashed):\n%s", d)
		}
		if d := cmp.Diff(calm.writes, crashed.writes); d != "" {
			t.Fatalf("another world after the crash (-undisturbed +crashed):\n%s", d)
		}
		if d := cmp.Diff(want.LostHosts(), got.LostHosts()); d != "" {
			t.Fatal(d)
		}
	})
}

// What a run keeps up event by event is what it works out anew, and a snapshot
// with the events after it is the run.
func TestPropertySnapshot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, script := genPlan(t, true)
		if rapid.Bool().Draw(t, "with a control plane") {
			genControlPlane(t, &p)
		}
		if err := p.Seal(); err != nil {
			t.Fatal(err)
		}
		s := newSim(script, draws(t))
		s.check = func(r *Run) { sameAfterSnapshot(t, p, r, s.now) }
		r, err := s.execute(p, rapid.IntRange(1, 4).Draw(t, "forks"), 0)
		if err != nil {
			t.Fatal(err)
		}
		cut := rapid.IntRange(1, len(s.events)).Draw(t, "snapshot after")
		early, err := Fold(s.events[:cut])
		if err != nil {
			t.Fatal(err)
		}
		late, err := Restore(p, early.Snapshot())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range s.events[cut:] {
			if err := late.Apply(e); err != nil {
				t.Fatal(err)
			}
		}
		if d := cmp.Diff(r.Snapshot(), late.Snapshot()); d != "" {
			t.Fatal(d)
		}
	})
}

// An undo has every change of the run once, in the reverse order, and the undo
// of an undo has the changes themselves.
func TestPropertyReverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, script := genPlan(t, true)
		s := newSim(script, draws(t))
		r, err := s.execute(p, 3, 0)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Reverse("r1", r, nil, nil, Basis{})
		if err != nil {
			t.Fatal(err)
		}
		perHost := func(p Plan) map[string][]string {
			out := map[string][]string{}
			p.Each(func(id StepID, s PlannedStep) bool {
				out[id.Host] = append(out[id.Host], p.Plays[id.Play].Name+" "+p.Task(id).Name)
				return true
			})
			return out
		}
		done := map[string][]string{}
		p.Each(func(id StepID, planned PlannedStep) bool {
			if st := r.Step(id); st != nil && planned.Change.Action.Writes() {
				done[id.Host] = append(done[id.Host], p.Plays[id.Play].Name+" "+p.Task(id).Name)
			}
			return true
		})
		for h := range done {
			slices.Reverse(done[h])
		}
		if d := cmp.Diff(done, perHost(back)); d != "" {
			t.Fatalf("(-done +undone):\n%s", d)
		}
		if len(back.Plays) == 0 {
			return
		}
		again := newSim(nil, func(int) int { return 0 })
		again.script = map[StepID][]Outcome{}
		back.Each(func(id StepID, _ PlannedStep) bool { again.script[id] = []Outcome{{Kind: Changed}}; return true })
		for i := range back.Plays {
			back.Plays[i].MaxUnavailable = 0
		}
		br, err := again.execute(back, 0, 0)
		if err != nil || br.Status != Done {
			t.Fatalf("the undo ended %s: %v", br.Status, err)
		}
		forth, err := Reverse("r2", br, nil, nil, Basis{})
		if err != nil {
			t.Fatal(err)
		}
		for h := range done {
			slices.Reverse(done[h])
		}
		if d := cmp.Diff(done, perHost(forth)); d != "" {
			t.Fatalf("undo of the undo (-done +planned):\n%s", d)
		}
		forth.Each(func(id StepID, s PlannedStep) bool {
			if forth.Task(id).Undo {
				t.Fatalf("the undo of an undo undoes %s", id)
			}
			return true
		})
	})
}

// What is saved is read back as the same plan, however it is laid out, and a
// changed plan is refused.
func TestPropertyPlanFile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, _ := genPlan(t, true)
		genControlPlane(t, &p)
		p.Source = Source{Inventories: []string{"inv"}, Files: map[string]string{"inv": "12"}}
		p.Bound = map[string]map[string]string{"n0": {"machine_id": "1"}}
		if err := p.Seal(); err != nil {
			t.Fatal(err)
		}
		raw := mustJSON(t, p)
		indented, err := json.MarshalIndent(p, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range [][]byte{raw, indented} {
			if !IsPlan(form) {
				t.Fatal("not recognised as a plan")
			}
			back, err := ReadPlan(form)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(p, back); d != "" {
				t.Fatal(d)
			}
		}
		switch i := rapid.IntRange(0, len(p.Plays)-1).Draw(t, "play"); rapid.IntRange(0, 7).Draw(t, "edit") {
		case 0:
			p.Plays[i].Name += "!"
		case 1:
			p.Source.Files["inv"] = "13"
		case 2:
			p.Bound["n0"]["machine_id"] = "2"
		case 3:
			p.ControlPlane.Hosts = append(p.ControlPlane.Hosts, "x")
		case 4:
			p.Plays[i].MaxUnavailable++
		case 5:
			p.Undoes = "r"
		case 6:
			p.Plays[i].Tasks[0].Steps["nobody's"] = PlannedStep{}
		case 7:
			p.Plays[i].Tasks[0].Steps["n0"] = PlannedStep{Change: Change{Action: Delete}}
		}
		if _, err := ReadPlan(mustJSON(t, p)); err == nil {
			t.Fatal("an edited plan was read")
		}
	})
}
