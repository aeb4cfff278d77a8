package rollout

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// sim executes a plan on a world in memory, in virtual time, with the order in
// which running steps end chosen by pick. It is the engine's loop without its
// goroutines. The world counts every effect and forgives none: a step that
// disrupts reboots its host, and only the note of the boot that it left tells a
// second call that the reboot has been.
type sim struct {
	script map[StepID][]Outcome
	pick   func(n int) int
	// check is called before every decision with the run as it stands.
	check func(*Run)
	// asked, if set, is what somebody asks of the run before a decision.
	asked func(*Run) *Request

	events []Event
	now    time.Duration
	// reboots and writes count effects; boots is the boot that a host is in.
	reboots, writes map[StepID]int
	boots           map[string]int
	calls           map[StepID]int
}

func (s *sim) emit(r *Run, e Event) error {
	e.Seq, e.Clock = r.Seq+1, s.now
	e.At = time.Unix(1e9, 0).UTC().Add(s.now)
	// As the journal does: through JSON and back.
	raw, err := json.Marshal(e)
	if err != nil {
		return err
	}
	var back Event
	if err := json.Unmarshal(raw, &back); err != nil {
		return err
	}
	s.events = append(s.events, back)
	return r.Apply(back)
}

// errCrash ends a simulated process.
var errCrash = fmt.Errorf("crash")

// do is the module: one call, at most one effect.
func (s *sim) do(r *Run, id StepID) Outcome {
	st := r.Step(id)
	planned, _ := r.Plan.Step(id)
	last := s.script[id][len(s.script[id])-1]
	if planned.Change.Disruptive && !last.Bad() {
		boot := fmt.Sprint(s.boots[id.Host])
		switch left := st.SoFar["boot_id"]; {
		case left == "":
			return Intend("boot_id", boot)
		case left == boot:
			s.boots[id.Host]++
			s.reboots[id]++
		}
	}
	n := s.calls[id]
	o := s.script[id][min(n, len(s.script[id])-1)]
	s.calls[id]++
	if o.Kind == Changed && !planned.Change.Disruptive && s.writes[id] == 0 {
		s.writes[id]++ // the file is there: the next call sees it
	}
	return o
}

// drive goes on until the run ends or, if crashAt is not 0, until that many
// events were written.
func (s *sim) drive(r *Run, crashAt int) error {
	active := []StepID{}
	for {
		if s.check != nil {
			s.check(r)
		}
		if s.asked != nil {
			if q := s.asked(r); q != nil {
				if err := s.emit(r, Event{Type: RunRequested, Request: q}); err != nil {
					return err
				}
				if len(s.events) == crashAt {
					return errCrash
				}
			}
		}
		d := Next(r, s.now)
		for _, id := range d.Ready {
			attempt := 1
			if st := r.Step(id); st != nil {
				attempt = st.Attempts + 1
			}
			if err := s.emit(r, Event{Type: StepStarted, Step: &id, Attempt: attempt}); err != nil {
				return err
			}
			active = append(active, id)
			if len(s.events) == crashAt {
				return errCrash
			}
		}
		if len(active) == 0 {
			switch {
			case d.Verdict == Finish:
				return s.emit(r, Event{Type: RunDone})
			case d.Verdict == Stop:
				return s.emit(r, Event{Type: RunHalted, Halt: d.Halt})
			case d.Verdict == Leave:
				return s.emit(r, Event{Type: RunInterrupted})
			case d.Wake == 0:
				return fmt.Errorf("the run stands still")
			}
			s.now = d.Wake
			continue
		}
		i := s.pick(len(active))
		id := active[i]
		s.now += time.Second
		o := s.do(r, id)
		if len(s.events)+1 == crashAt {
			return errCrash // the effect is there, the process dies before it is written down
		}
		e := Event{Type: StepEnded, Step: &id, Attempt: r.Step(id).Attempts, Outcome: &o}
		if o.Kind == Intends {
			e.Type = StepIntended
		} else {
			active = append(active[:i], active[i+1:]...)
		}
		if err := s.emit(r, e); err != nil {
			return err
		}
	}
}

func newSim(script map[StepID][]Outcome, pick func(int) int) *sim {
	return &sim{script: script, pick: pick, reboots: map[StepID]int{}, writes: map[StepID]int{}, boots: map[string]int{}, calls: map[StepID]int{}}
}

// execute runs a plan to its end, crashing once after crashAt events if that
// is not 0.
func (s *sim) execute(plan Plan, forks, crashAt int) (*Run, error) {
	r := &Run{}
	if err := s.emit(r, Event{Type: RunStarted, Plan: &plan, Forks: forks}); err != nil {
		return r, err
	}
	if crashAt == 1 {
		crashAt = 2 // nothing is resumable before the run has begun
	}
	err := s.drive(r, crashAt)
	if !errors.Is(err, errCrash) {
		return r, err
	}
	r, err = Fold(s.events)
	if err != nil {
		return r, err
	}
	if err := s.emit(r, Event{Type: RunResumed}); err != nil {
		return r, err
	}
	return r, s.drive(r, 0)
}

// genPlan draws a plan and an outcome script for it.
func genPlan(t *rapid.T, failures bool) (Plan, map[StepID][]Outcome) {
	hosts := make([]string, rapid.IntRange(1, 9).Draw(t, "hosts"))
	for i := range hosts {
		hosts[i] = fmt.Sprintf("n%d", i)
	}
	p := Plan{Schema: PlanSchema}
	if failures && rapid.Bool().Draw(t, "some down") {
		for _, h := range hosts {
			if rapid.IntRange(0, 5).Draw(t, "down") == 0 {
				if p.Down == nil {
					p.Down = map[string]string{}
				}
				p.Down[h] = "Node is NotReady"
			}
		}
	}
	script := map[StepID][]Outcome{}
	for pi := range rapid.IntRange(1, 3).Draw(t, "plays") {
		play := PlannedPlay{Name: fmt.Sprint("play", pi), Strategy: rapid.SampledFrom([]Strategy{Linear, Free}).Draw(t, "strategy")}
		for rest := hosts; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "serial")
			play.Batches = append(play.Batches, rest[:n])
			rest = rest[n:]
		}
		if rapid.Bool().Draw(t, "max_fail") {
			m := rapid.Float64Range(0, 100).Draw(t, "max_fail_percentage")
			play.MaxFailPercentage = &m
		}
		if play.Strategy == Free && rapid.Bool().Draw(t, "window") {
			play.MaxUnavailable = rapid.IntRange(1, 4).Draw(t, "max_unavailable")
			if !failures {
				p.Down = nil
			}
		}
		play.AnyErrorsFatal = failures && rapid.IntRange(0, 9).Draw(t, "fatal") == 0
		for ti := range rapid.IntRange(1, 4).Draw(t, "tasks") {
			task := PlannedTask{Name: fmt.Sprint("task", ti), Module: "test", Steps: map[string]PlannedStep{}}
			for _, h := range hosts {
				id := StepID{pi, ti, h}
				switch rapid.IntRange(0, 9).Draw(t, "step") {
				case 0: // skipped by when
				case 1:
					task.Steps[h] = PlannedStep{Change: Change{Action: NoOp}}
				case 2:
					if failures {
						task.Steps[h] = PlannedStep{Problem: &Problem{Message: "not fit"}}
						script[id] = []Outcome{{Kind: Failed}}
					}
				default:
					task.Steps[h] = PlannedStep{Change: Change{Action: Update, Disruptive: rapid.Bool().Draw(t, "disruptive")}}
					script[id] = genOutcomes(t, failures)
				}
			}
			play.Tasks = append(play.Tasks, task)
		}
		p.Plays = append(p.Plays, play)
	}
	return p, script
}

func genOutcomes(t *rapid.T, failures bool) []Outcome {
	var out []Outcome
	for range rapid.IntRange(0, 2).Draw(t, "waits") {
		out = append(out, Outcome{Kind: rapid.SampledFrom([]OutcomeKind{Waiting, Retrying}).Draw(t, "kind"), After: time.Duration(rapid.IntRange(0, 30).Draw(t, "after")) * time.Second})
	}
	last := Outcome{Kind: Changed}
	if failures && rapid.IntRange(0, 7).Draw(t, "fails") == 0 {
		last.Kind = rapid.SampledFrom([]OutcomeKind{Failed, Unreachable}).Draw(t, "how")
	}
	return append(out, last)
}

// genControlPlane makes some hosts the control plane, and members of etcd of
// them and perhaps of others.
func genControlPlane(t *rapid.T, p *Plan) {
	hosts := p.Hosts()
	p.ControlPlane.Hosts = hosts[:min(len(hosts), rapid.IntRange(1, 5).Draw(t, "control plane"))]
	if !rapid.Bool().Draw(t, "members known") {
		return
	}
	for _, h := range p.ControlPlane.Hosts {
		m := Member{Name: h, Down: p.Down[h]}
		if rapid.IntRange(0, 5).Draw(t, "member down") == 0 {
			m.Down = "etcd is not Ready"
		}
		p.ControlPlane.Members = append(p.ControlPlane.Members, m)
	}
	if rapid.Bool().Draw(t, "a member elsewhere") {
		p.ControlPlane.Members = append(p.ControlPlane.Members, Member{Name: "elsewhere"})
	}
}

func draws(t *rapid.T) func(int) int {
	return func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "ends") }
}

func mustSeal(t testing.TB, p Plan) Plan {
	t.Helper()
	if err := p.Seal(); err != nil {
		t.Fatal(err)
	}
	return p
}

// sameAfterSnapshot holds a run against the one that its snapshot makes.
func sameAfterSnapshot(t *rapid.T, p Plan, r *Run, now time.Duration) {
	t.Helper()
	raw := mustJSON(t, r.Snapshot())
	var back Snapshot
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	again, err := Restore(p, back)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Next(r, now), Next(again, now)); d != "" {
		t.Fatalf("another decision after a snapshot (-kept +restored):\n%s\nplan %s\nsnapshot %s", d, mustJSON(t, p), raw)
	}
	if d := cmp.Diff(r.LostHosts(), again.LostHosts()); d != "" {
		t.Fatalf("others are lost after a snapshot (-kept +restored):\n%s", d)
	}
}
