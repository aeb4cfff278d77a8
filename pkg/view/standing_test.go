package view

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// TestStanding shows a run as it stands on its way, halted, and cut off.
func TestStanding(t *testing.T) {
	rec := record(t, fleet(), nil)
	rec.play(40, losing)
	for name, s := range map[string]Standing{
		"standing-running.json": StandingOf(runID, rec.run, true, 90*time.Second, nil, next),
		"standing-cut-off.json": StandingOf(runID, rec.run, false, 90*time.Second, nil, next),
		"standing-halted.json":  StandingOf(runID, halted(t, nil).run, true, 0, nil, next),
	} {
		raw, err := json.MarshalIndent(s, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, append(raw, '\n'))
	}
}

// TestStandingUsual: how long a step takes is held against how long it took before.
func TestStandingUsual(t *testing.T) {
	before := record(t, fleet(), nil).play(1<<30, losing)
	rec := record(t, fleet(), nil).play(40, losing)
	s := StandingOf(runID, rec.run, true, 90*time.Second, rollout.UsualOf([]*rollout.Run{before.run}), next)
	var out strings.Builder
	s.write(&out, Style{})
	if len(s.AtWork) == 0 || s.AtWork[0].Usual == 0 || !strings.Contains(out.String(), ", usually ") {
		t.Errorf("%+v\n%s", s.AtWork, &out)
	}
	for usual, want := range map[float64]string{0: "1m30s", 0.4: "1m30s", 200: "1m30s, usually 3m20s"} {
		if got := (Activity{Seconds: 90, Usual: usual}).Took(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestStandingAtEveryEvent: at every event of every run each host stands somewhere,
// the sums are right, and a run that is over has nobody at work.
func TestStandingAtEveryEvent(t *testing.T) {
	undo, err := rollout.Reverse(runID, record(t, fleet(), nil).play(1<<30, losing).run, nil, nil, rollout.Basis{Source: fleet().Source})
	if err != nil {
		t.Fatal(err)
	}
	for _, events := range [][]rollout.Event{
		halted(t, nil).events, record(t, fleet(), nil).play(1<<30, losing).events, record(t, undo, nil).play(1<<30, well).events, record(t, example(), nil).play(1<<30, well).events,
	} {
		r := &rollout.Run{}
		for _, e := range events {
			if err := r.Apply(e); err != nil {
				t.Fatal(err)
			}
			for _, held := range []bool{true, false} {
				s := StandingOf(runID, r, held, time.Second, nil, next)
				sum := 0
				for _, n := range s.Hosts {
					sum += n
				}
				var names []string
				for _, h := range s.Each {
					names = append(names, h.Host)
					if h.Over > h.Steps || (h.State == HostThrough || h.State == HostIdle) && h.Over != h.Steps {
						t.Errorf("event %d: %+v", e.Seq, h)
					}
				}
				if d := cmp.Diff(r.Plan.Hosts(), names); d != "" || sum != len(names) || s.StepsOver > s.Steps {
					t.Fatalf("event %d: %d hosts are counted, %d of %d steps: %s", e.Seq, sum, s.StepsOver, s.Steps, d)
				}
				lost := r.LostHosts()
				if s.Hosts[HostLost] != len(lost) {
					t.Errorf("event %d: %d lost, want %v", e.Seq, s.Hosts[HostLost], lost)
				}
				working := s.Hosts[HostWorking] + s.Hosts[HostWaiting]
				if live := s.Status == rollout.Running; !live && (working > 0 || len(s.AtWork) > 0) || live && len(s.Next) > 0 {
					t.Errorf("event %d: %s, %d at work, next %v", e.Seq, s.Status, working, s.Next)
				}
				if r.Status == rollout.Running && !held && !slices.ContainsFunc(s.Next, func(c Command) bool { return c.Command == next.Resume }) {
					t.Errorf("event %d: cut off, and no way on: %v", e.Seq, s.Next)
				}
				if s.Verdict == "" {
					t.Errorf("event %d: no verdict", e.Seq)
				}
			}
		}
		if s := StandingOf(runID, r, false, 0, nil, next); r.Status == rollout.Done && s.Hosts[HostAhead]+s.Hosts[HostBetween] > 0 {
			t.Errorf("done, and %v", s.Hosts)
		}
	}
}

// TestJoin comes to a run in its middle, and goes on with it.
func TestJoin(t *testing.T) {
	var screen bytes.Buffer
	out := NewOutput(&screen)
	rec := record(t, fleet(), nil).play(40, losing)
	waits := rollout.WaitFor(time.Hour, "3 pods are being evicted")
	for _, a := range StandingOf(runID, rec.run, true, 0, nil, next).Each {
		if a.State == HostWorking {
			id := rollout.StepID{Host: a.Host, Task: slices.IndexFunc(rec.run.Plan.Plays[0].Tasks, func(t rollout.PlannedTask) bool { return t.Name == a.Task })}
			rec.add(time.Second, rollout.Event{Type: rollout.StepEnded, Step: &id, Outcome: &waits})
			break
		}
	}
	p := NewProgress(out, Style{}, runID, func() time.Time { return rec.at })
	s := StandingOf(runID, rec.run, true, time.Second, nil, next)
	p.Join(rec.run, &s, rec.at.Add(-time.Second))
	rec.watch = p.Watch
	if got, want := p.status(), "40/151 steps, 2 hosts at work, longest"; !strings.HasPrefix(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	rec.play(3, well)
	p.Close()
	if err := out.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	golden(t, "join.txt", screen.Bytes())
}
