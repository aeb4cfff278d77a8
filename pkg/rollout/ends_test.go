package rollout

import (
	"testing"

	"pgregory.net/rapid"
)

// Where something ends, nothing behind it is done there and all before it is, for
// those that are not lost; nobody else is kept from anything; a snapshot decides the
// same, and a crash changes nothing.
func TestPropertyEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, script := genPlan(t, true)
		all := 100.0
		for pi := range p.Plays {
			play := &p.Plays[pi]
			play.MaxUnavailable, play.MaxFailPercentage, play.AnyErrorsFatal = 0, &all, false
			for ti := range play.Tasks {
				task := &play.Tasks[ti]
				kinds := []Ends{"", "", EndsHost}
				if play.Strategy == Linear {
					kinds = append(kinds, EndsBatch, EndsPlay)
				}
				task.Ends = rapid.SampledFrom(kinds).Draw(t, "ends")
				task.Once = task.Ends == EndsBatch || task.Ends == EndsPlay
				for h, s := range task.Steps {
					if task.Ends != "" && s.Problem == nil {
						task.Steps[h] = PlannedStep{Change: Change{Action: ReadOnly}}
						script[StepID{pi, ti, h}] = []Outcome{{Kind: rapid.SampledFrom([]OutcomeKind{Unchanged, Skipped}).Draw(t, "ended")}}
					}
				}
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
		for pi, play := range p.Plays {
			over := false
			for _, batch := range play.Batches {
				last := len(play.Tasks) // the first task that is not reached, for all of the batch
				if over {
					last = 0
				}
				for ti, task := range play.Tasks[:last] {
					for _, h := range batch {
						if st := r.Step(StepID{pi, ti, h}); task.Once && last > ti && st != nil && st.Outcome.Kind == Unchanged {
							last, over = ti+1, over || task.Ends == EndsPlay
						}
					}
				}
				for _, h := range batch {
					mine := last
					for ti, task := range play.Tasks {
						id := StepID{pi, ti, h}
						st := r.Step(id)
						planned, ok := task.Steps[h]
						counts := ok && planned.Counts()
						_, lost := r.Lost(h)
						switch {
						case ti >= mine && st != nil:
							t.Fatalf("%v was done though the play had ended there before task %d", id, mine)
						case ti < mine && !task.Once && !lost && counts && (st == nil || !st.Over()):
							t.Fatalf("%v was not done though nothing had ended before task %d", id, mine)
						}
						if st != nil && task.Ends == EndsHost && st.Outcome.Kind == Unchanged {
							mine = min(mine, ti+1)
						}
						if passes := ti >= mine && st == nil; passes && counts && !r.Passes(id) {
							t.Fatalf("the run does not say that it passes %v", id)
						}
					}
				}
			}
		}
	})
}

// A play that may end is planned on with care: what is behind that is looked at again,
// and nothing that took the host out of service may be before it.
func TestComputeOfAnEnd(t *testing.T) {
	modules := map[string]Differ{"install": install{}, "use": install{use: true}, "end": check{}, "reboot": disruption{}}
	all := map[string]Args{"a": {"version": "2"}, "b": {"version": "2"}}
	open := Task{Name: "end", Module: "end", Manner: Manner{Ends: EndsHost}, Args: map[string]Args{"a": {}}, Open: map[string]Open{"a": {Unknown: []string{"when: x"}}}}
	hosts := [][]string{{"a", "b"}}
	compute := func(tasks ...Task) Plan {
		t.Helper()
		p, err := Compute(Desired{Plays: []Play{{Name: "one", Batches: hosts, Tasks: tasks}}}, observed(t, map[string]string{"a": "1", "b": "1"}), modules, Basis{})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	install := Task{Name: "install", Module: "install", Args: all}
	p := compute(open, install)
	if steps := p.Plays[0].Tasks[1].Steps; steps["a"].Recheck == nil || steps["b"].Recheck != nil {
		t.Errorf("behind an open end of a alone: %+v", steps)
	}
	once := open
	once.Manner = Manner{Ends: EndsPlay, Once: true}
	p = compute(once, install)
	for _, h := range hosts[0] {
		if p.Plays[0].Tasks[1].Steps[h].Recheck == nil {
			t.Errorf("behind an open end for all nothing is looked at again on %s", h)
		}
	}
	p = compute(Task{Name: "down", Module: "reboot", Args: all}, open, install)
	problems := p.Problems()
	if len(problems) != 1 || len(p.Plays[0].Tasks[2].Steps) != 1 {
		t.Fatalf("an end behind a reboot: %+v", problems)
	}
	if s := p.Plays[0].Tasks[0].Steps["a"]; s.Problem == nil || s.Problem.Message != `cannot end the play for a at : "down" before it takes the host out of service, and nothing would put it back` {
		t.Errorf("it says %+v", s.Problem)
	}
}

// disruption takes its host out of service.
type disruption struct{ check }

func (disruption) About() About { return About{} }

func (disruption) Diff(_ string, before State, _ Args) (Change, State, error) {
	return Change{Action: Update, Summary: "reboot", Disruptive: true}, before, nil
}
