package rollout

import (
	"testing"

	"pgregory.net/rapid"
)

// Whatever fails, a task with run_once is done by one host of a batch, and by one as
// long as any is left that has it; where it fails the batch fails; nobody starts a
// later task before; a snapshot decides the same; and a crash changes nothing of
// who was lost.
func TestPropertyOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, script := genPlan(t, true)
		all := 100.0
		for pi := range p.Plays {
			play := &p.Plays[pi]
			play.Strategy, play.MaxUnavailable, play.MaxFailPercentage, play.AnyErrorsFatal = Linear, 0, &all, false
			for ti := range play.Tasks {
				play.Tasks[ti].Once = rapid.IntRange(0, 2).Draw(t, "once") == 0
			}
			if n := len(play.Tasks); rapid.IntRange(0, 2).Draw(t, "block") == 0 {
				end := rapid.IntRange(1, n).Draw(t, "end")
				b := Block{End: end}
				b.Rescue = rapid.IntRange(0, end).Draw(t, "rescue")
				b.Always = rapid.IntRange(b.Rescue, end).Draw(t, "always")
				play.Blocks = Blocks{b}
			}
		}
		p.Down = nil
		if err := p.Seal(); err != nil {
			t.Fatal(err)
		}
		s := newSim(script, draws(t))
		s.check = func(r *Run) { sameAfterSnapshot(t, p, r, s.now) }
		r, err := s.execute(p, rapid.IntRange(1, 4).Draw(t, "forks"), rapid.IntRange(0, 30).Draw(t, "crash after"))
		if err != nil {
			t.Fatal(err)
		}
		if r.Status != Done {
			t.Fatalf("the run ended %s", r.Status)
		}
		for _, h := range r.LostHosts() {
			if at, _ := r.Lost(h); at.Host != h && r.Step(at).Outcome.Kind != Failed {
				t.Fatalf("%s is lost at a step of %s, which ended %s", h, at.Host, r.Step(at).Outcome.Kind)
			}
		}
		for pi, play := range p.Plays {
			for ti, task := range play.Tasks {
				for _, batch := range play.Batches {
					did, able := 0, 0
					failed := false
					for _, h := range batch {
						id := StepID{pi, ti, h}
						if st := r.Step(id); st != nil {
							did++
							failed = failed || st.Outcome.Kind == Failed && task.Steps[h].Problem == nil
						}
						at, lost := r.Lost(h)
						if planned, ok := task.Steps[h]; ok && planned.Counts() && (!lost || before(p, StepID{pi, ti, h}, StepID{at.Play, at.Task, h})) {
							able++
						}
					}
					switch {
					case !task.Once:
					case did > 1:
						t.Fatalf("%d hosts of %v did task %d of play %d", did, batch, ti, pi)
					case did == 0 && able > 0 && play.Blocks == nil:
						t.Fatalf("nobody of %v did task %d of play %d, and %d could", batch, ti, pi, able)
					case failed && play.Blocks == nil:
						for _, h := range batch {
							if _, lost := r.Lost(h); !lost {
								t.Fatalf("task %d of play %d failed for %v, and %s is not lost", ti, pi, batch, h)
							}
						}
					}
				}
			}
		}
	})
}

// Steps of a task with a throttle are never more at once, and all are done.
func TestPropertyThrottle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, script := genPlan(t, false)
		for pi := range p.Plays {
			for ti := range p.Plays[pi].Tasks {
				p.Plays[pi].Tasks[ti].Throttle = rapid.IntRange(0, 3).Draw(t, "throttle")
			}
		}
		s := newSim(script, draws(t))
		s.check = func(r *Run) {
			for pi, play := range p.Plays {
				for ti, task := range play.Tasks {
					n := 0
					for h := range task.Steps {
						if st := r.Step(StepID{pi, ti, h}); st != nil && !st.Over() {
							n++
						}
					}
					if task.Throttle > 0 && n > task.Throttle {
						t.Fatalf("%d hosts are in task %d of play %d with throttle %d", n, ti, pi, task.Throttle)
					}
				}
			}
		}
		r, err := s.execute(p, rapid.IntRange(1, 5).Draw(t, "forks"), rapid.IntRange(0, 30).Draw(t, "crash after"))
		if err != nil {
			t.Fatal(err)
		}
		if r.Status != Done {
			t.Fatalf("the run ended %s: %+v", r.Status, r.Halt)
		}
		for id := range script {
			if st := r.Step(id); st == nil || !st.Over() {
				t.Fatalf("%s was not done", id)
			}
		}
	})
}
