package rollout

import (
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
		s := newSim(script, picker(t))
		r, err := s.execute(p, rapid.IntRange(1, 5).Draw(t, "forks"), 0)
		if err != nil {
			t.Fatal(err)
		}
		if r.Status != Done {
			t.Fatalf("run ended %s: %+v", r.Status, r.Halt)
		}
		for id := range script {
			if s.world[id] != 1 {
				t.Fatalf("step %s was done %d times", id, s.world[id])
			}
		}
	})
}

// No step starts before what it waits for: earlier plays and batches, the
// host's own earlier tasks and, under linear, everybody's.
func TestPropertyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, script := genPlan(t, true)
		s := newSim(script, picker(t))
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
	if _, lost := r.lost[id.Host]; lost {
		return true
	}
	st := r.steps[id]
	return st != nil && st.Over()
}

// The hosts that are being worked on never outnumber the batch, and running
// steps never the forks.
func TestPropertyBudget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, script := genPlan(t, true)
		forks := rapid.IntRange(1, 4).Draw(t, "forks")
		s := newSim(script, picker(t))
		if _, err := s.execute(p, forks, 0); err != nil {
			t.Fatal(err)
		}
		active := map[StepID]bool{}
		begun := map[string]bool{}
		for _, e := range s.events {
			switch e.Type {
			case StepStarted:
				active[*e.Step], begun[e.Step.Host] = true, true
			case StepEnded:
				delete(active, *e.Step)
			}
			if len(active) > forks {
				t.Fatalf("%d steps at once with %d forks", len(active), forks)
			}
			play := 0
			hosts := map[string]bool{}
			for id := range active {
				hosts[id.Host], play = true, id.Play
			}
			for _, b := range p.Plays[play].Batches {
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
		}
	})
}

// A run goes past a batch only if its failures are within the limit, and a
// host that failed is not asked again.
func TestPropertyGate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, script := genPlan(t, true)
		s := newSim(script, picker(t))
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
					failed, size := 0, 0
					for _, h := range b {
						at, ok := lost[h]
						if ok && at.Play < pi {
							continue
						}
						size++
						if ok && at.Play == pi {
							failed++
						}
					}
					past := e.Step.Play > pi || (e.Step.Play == pi && !slices.Contains(b, e.Step.Host) && before(p, StepID{pi, 0, b[0]}, StepID{pi, 0, e.Step.Host}))
					limit := 99.9999
					if play.MaxFailPercentage != nil {
						limit = *play.MaxFailPercentage
					}
					if past && failed > 0 && 100*float64(failed)/float64(size) > limit {
						t.Fatalf("%s started although %d of %d hosts of %v had failed", e.Step, failed, size, b)
					}
				}
			}
		}
		if len(lost) != len(r.LostHosts()) {
			t.Fatalf("lost %v, run says %v", lost, r.LostHosts())
		}
	})
}

// A crash after any event, then resume, ends where the undisturbed run ends.
func TestPropertyCrash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, script := genPlan(t, true)
		forks := rapid.IntRange(1, 4).Draw(t, "forks")
		calm := newSim(script, func(int) int { return 0 })
		want, err := calm.execute(p, forks, 0)
		if err != nil {
			t.Fatal(err)
		}
		crashed := newSim(script, picker(t))
		got, err := crashed.execute(p, forks, rapid.IntRange(1, len(calm.events)).Draw(t, "crash after"))
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != want.Status {
			t.Fatalf("ended %s, undisturbed %s", got.Status, want.Status)
		}
		if d := cmp.Diff(calm.world, crashed.world); d != "" {
			t.Fatalf("another world after the crash (-undisturbed +crashed):\n%s", d)
		}
		if d := cmp.Diff(want.LostHosts(), got.LostHosts()); d != "" {
			t.Fatal(d)
		}
	})
}

// Of the control plane at most one host is out of service at a time, whatever
// serial says, and none goes after one was lost while out of service.
func TestPropertyControlPlane(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, script := genPlan(t, true)
		p.ControlPlane = p.Hosts()
		if len(p.ControlPlane) > 3 {
			p.ControlPlane = p.ControlPlane[:3]
		}
		s := newSim(script, picker(t))
		s.check = func(r *Run) {
			var out []string
			for _, h := range p.ControlPlane {
				for pi := range p.Plays {
					at, lost := r.lost[h]
					if r.begunDisruption(pi, h) && ((lost && at.Play == pi) || (!lost && !r.through(pi, h))) {
						out = append(out, h)
						break
					}
				}
			}
			if len(out) > 1 {
				t.Fatalf("out of service at once: %v", out)
			}
		}
		if _, err := s.execute(p, 5, 0); err != nil {
			t.Fatal(err)
		}
	})
}

// What is saved is read back as the same plan, and a changed plan is refused.
func TestPropertyPlanFile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, _ := genPlan(t, true)
		if err := p.seal(); err != nil {
			t.Fatal(err)
		}
		raw := mustJSON(t, p)
		back, err := ReadPlan(raw)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(p, back); d != "" {
			t.Fatal(d)
		}
		i := rapid.IntRange(0, len(p.Plays)-1).Draw(t, "edit")
		p.Plays[i].Name += "!"
		if _, err := ReadPlan(mustJSON(t, p)); err == nil {
			t.Fatal("an edited plan was read")
		}
	})
}
