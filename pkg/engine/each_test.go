package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fleetd/fleetd/pkg/engine"
	"github.com/fleetd/fleetd/pkg/module"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// looping answers for a step that echoes each of its items. now is what it would
// decide today: what the journal has counts.
type looping struct {
	items []string
	now   string
}

func (l looping) Items(rollout.Open, rollout.Results) (out []rollout.Results, _ error) {
	for _, x := range l.items {
		out = append(out, rollout.Results{"item": json.RawMessage(x)})
	}
	return out, nil
}

func (l looping) Resolve(_ string, _ rollout.Open, r rollout.Results) (rollout.Args, string, error) {
	return rollout.Args{"cmd": "echo " + l.now + string(r["item"])}, "", nil
}

func (looping) Judge(_ rollout.Open, _ rollout.Results, o rollout.Outcome, _ int64) rollout.Outcome {
	return o
}

func (looping) Together(_ rollout.Open, _ []rollout.Results, ends []rollout.Outcome) rollout.Outcome {
	out := rollout.Outcome{Kind: rollout.Changed}
	for _, e := range ends {
		if e.Kind == rollout.Failed {
			out.Kind = rollout.Failed
		}
		out.Message += string(e.Kind) + " "
	}
	return out
}

// oneLife is a fleetd that ends at an event: nothing is written and
// nothing is run after it.
type oneLife struct {
	events []rollout.Event
	killAt int
	dead   bool
	ran    *[]string
}

func (m *oneLife) Append(_ context.Context, events []rollout.Event) error {
	if m.dead {
		return errDead
	}
	if have := len(m.events); m.killAt > 0 && have+len(events) >= m.killAt {
		events, m.dead = events[:m.killAt-have], true
	}
	m.events = append(m.events, events...)
	if m.dead {
		return errDead
	}
	return nil
}

func (*oneLife) Requests(context.Context) ([]rollout.Request, error) { return nil, nil }
func (*oneLife) Forget(string)                                       {}

func (m *oneLife) Run(_ context.Context, _ string, c sshexec.Command) (sshexec.Result, error) {
	if m.dead {
		return sshexec.Result{}, errDead
	}
	*m.ran = append(*m.ran, strings.TrimPrefix(c.Script, "exec echo "))
	return sshexec.Result{Stdout: []byte("done\n")}, nil
}

// TestLoopKilledAfterEveryEvent: no item is done twice, all get their turn, and a
// resume does what was decided before.
func TestLoopKilledAfterEveryEvent(t *testing.T) {
	p := rollout.Plan{Plays: []rollout.PlannedPlay{{
		Name: "p", Strategy: rollout.Linear, Batches: [][]string{{"a"}},
		Tasks: []rollout.PlannedTask{{Name: "t", Module: "ansible.builtin.command", Register: "r", Steps: map[string]rollout.PlannedStep{
			"a": {Change: rollout.Change{Action: rollout.Exec}, Open: &rollout.Open{Late: true, Loop: []string{"1", "2", "3"}, Data: json.RawMessage("{}")}},
		}}},
	}}}
	if err := p.Seal(); err != nil {
		t.Fatal(err)
	}
	life := func(m *oneLife, now string, do func(*engine.Engine) (*rollout.Run, error)) (*rollout.Run, error) {
		return do(&engine.Engine{Modules: module.Modules(m), Journal: m, Resolver: looping{[]string{"1", "2", "3"}, now}})
	}
	var ran []string
	whole := &oneLife{ran: &ran}
	r, err := life(whole, "", func(e *engine.Engine) (*rollout.Run, error) { return e.Execute(t.Context(), p, 0) })
	id := rollout.StepID{Host: "a"}
	if err != nil || r.Step(id).Outcome.Message != "changed changed changed " || !slices.Equal(ran, []string{"1", "2", "3"}) {
		t.Fatalf("undisturbed: %v, ran %q, %+v", err, ran, r.Step(id))
	}
	if raw := r.Results(rollout.StepID{Task: 1, Host: "a"}, nil)["r"]; raw != nil {
		t.Errorf("Together gave no result, and there is %s", raw)
	}
	for killAt := 1; killAt < len(whole.events); killAt++ {
		ran = nil
		first := &oneLife{killAt: killAt, ran: &ran}
		if _, err := life(first, "", func(e *engine.Engine) (*rollout.Run, error) { return e.Execute(t.Context(), p, 0) }); err == nil {
			t.Fatalf("killed at %d: it did not notice", killAt)
		}
		back, err := rollout.Fold(first.events)
		if err != nil {
			t.Fatalf("killed at %d: %v", killAt, err)
		}
		decided := 0 // items of which the journal says what they do
		for _, e := range first.events {
			if e.Type == rollout.StepIntended && e.Outcome.Notes["fleetd.resolved"] != "" {
				decided++
			}
		}
		second := &oneLife{events: first.events, ran: &ran}
		r, err := life(second, "other", func(e *engine.Engine) (*rollout.Run, error) { return e.Resume(t.Context(), back, 0, false) })
		if err != nil {
			t.Fatalf("killed at %d: %v", killAt, err)
		}
		if s := r.Step(id); s == nil || !s.Over() || len(strings.Fields(s.Outcome.Message)) != 3 {
			t.Fatalf("killed at %d: %+v", killAt, s)
		}
		seen := map[string]int{}
		for _, x := range ran {
			n := x[len(x)-1:]
			seen[n]++
			if other := strings.HasPrefix(x, "other"); other != (n > fmt.Sprint(decided)) {
				t.Errorf("killed at %d, %d items decided: item %s was %q", killAt, decided, n, x)
			}
		}
		cutOff := strings.Count(r.Step(id).Outcome.Message, "failed")
		if len(seen)+cutOff != 3 && !(len(seen) == 3 && cutOff == 1) || len(seen) != len(ran) || cutOff > 1 {
			t.Errorf("killed at %d: ran %q, ended %q", killAt, ran, r.Step(id).Outcome.Message)
		}
	}
}
