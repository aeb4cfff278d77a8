package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// level is a module that sets the level of a host, and knows it by section "host".
type level struct{ world map[string]int64 }

var hostSection = rollout.NewSection[int64]("host")

func (level) About() rollout.About {
	return rollout.About{Params: rollout.Params{"to": {Type: rollout.Int}}}
}
func (level) Reads(rollout.Args) []rollout.Read {
	return []rollout.Read{{Section: "host", Key: "level"}}
}
func (level) Diff(_ string, st rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	is, err := hostSection.Get(st)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	to := args["to"].(int64)
	if is == to {
		return rollout.Change{Action: rollout.NoOp, Summary: fmt.Sprint("is ", to)}, st, nil
	}
	if is > to {
		return rollout.Change{}, nil, &rollout.Problem{Message: "it cannot go down"}
	}
	return rollout.Change{Action: rollout.Update, Summary: fmt.Sprint("raise to ", to), Fields: []rollout.Field{{Name: "level", Before: fmt.Sprint(is), After: fmt.Sprint(to)}}}, hostSection.With(st, to), nil
}
func (l level) Do(_ context.Context, s rollout.Step) rollout.Outcome {
	if s.SoFar["half"] == "" {
		l.world[s.Host]++
		return rollout.Intend("half", "yes") // it is no longer what was reviewed
	}
	l.world[s.Host]++
	return rollout.Did("raised")
}
func (level) Undo(context.Context, rollout.Step) rollout.Outcome { return rollout.Outcome{} }

// order is a command: nobody knows what it does.
type order struct {
	level
	does func(world map[string]int64)
}

func (order) About() rollout.About { return rollout.About{Open: rollout.Exec} }
func (order) Diff(_ string, st rollout.State, _ rollout.Args) (rollout.Change, rollout.State, error) {
	return rollout.Change{Action: rollout.Exec, Summary: "order"}, st, nil
}
func (o order) Do(context.Context, rollout.Step) rollout.Outcome {
	o.does(o.world)
	return rollout.Did("ordered")
}

type levels struct{ world map[string]int64 }

func (levels) Section() string { return "host" }
func (l levels) Observe(_ context.Context, keys map[string][]string) map[string]rollout.SectionObservation {
	out := map[string]rollout.SectionObservation{}
	for h := range keys {
		if l.world[h] < 0 {
			out[h] = rollout.SectionObservation{Err: &rollout.Problem{Message: "gone", Unreachable: true}}
			continue
		}
		raw, _ := json.Marshal(l.world[h])
		out[h] = rollout.SectionObservation{Value: raw}
	}
	return out
}

// Behind a command a step is done if it still is what was reviewed, left alone if it
// is not needed any more, and refused if it would be another one.
func TestRecheck(t *testing.T) {
	for name, c := range map[string]struct {
		does    func(world map[string]int64)
		level   int64
		outcome rollout.OutcomeKind
		says    string
	}{
		"the same":       {func(map[string]int64) {}, 3, rollout.Changed, "raised"},
		"done already":   {func(w map[string]int64) { w["a"] = 3 }, 3, rollout.Unchanged, "is 3"},
		"another change": {func(w map[string]int64) { w["a"] = 2 }, 2, rollout.Failed, "not what was reviewed any more, since a task before it has changed the host: now it would be: raise to 3; level: 2 → 3"},
		"not fit":        {func(w map[string]int64) { w["a"] = 9 }, 9, rollout.Failed, "it cannot go down"},
		"not there":      {func(w map[string]int64) { w["a"] = -1 }, -1, rollout.Unreachable, "gone"},
	} {
		t.Run(name, func(t *testing.T) {
			world := map[string]int64{"a": 1}
			modules := map[string]rollout.Module{"level": level{world}, "order": order{level{world}, c.does}}
			d := rollout.Desired{Plays: []rollout.Play{{Strategy: rollout.Linear, Batches: [][]string{{"a"}}, Tasks: []rollout.Task{
				{Name: "order", Module: "order", Args: map[string]rollout.Args{"a": {}}},
				{Name: "raise", Module: "level", Args: map[string]rollout.Args{"a": {"to": int64(3)}}},
			}}}}
			observers := []rollout.Observer{levels{world}}
			observed, err := Observe(t.Context(), d, modules, observers)
			if err != nil {
				t.Fatal(err)
			}
			p, err := rollout.Compute(d, observed, map[string]rollout.Differ{"level": modules["level"], "order": modules["order"]}, rollout.Basis{})
			if err != nil {
				t.Fatal(err)
			}
			var kept rollout.Plan // as apply reads it
			raw, err := json.Marshal(p)
			if err == nil {
				err = json.Unmarshal(raw, &kept)
			}
			if err != nil {
				t.Fatal(err)
			}
			r, err := (&Engine{Modules: modules, Observers: observers, Journal: &memory{}}).Execute(t.Context(), kept, 1)
			if err != nil {
				t.Fatal(err)
			}
			o := r.Step(rollout.StepID{Task: 1, Host: "a"}).Outcome
			if o.Kind != c.outcome || !strings.Contains(o.Message, c.says) {
				t.Errorf("it ended %s: %s", o.Kind, o.Message)
			}
			if world["a"] != c.level {
				t.Errorf("the level is %d, wanted %d", world["a"], c.level)
			}
		})
	}
}

// Without a command before it a step is done as it was reviewed.
func TestNoRecheck(t *testing.T) {
	world := map[string]int64{"a": 1}
	modules := map[string]rollout.Differ{"level": level{world}, "order": order{}}
	d := rollout.Desired{Plays: []rollout.Play{{Strategy: rollout.Linear, Batches: [][]string{{"a", "b"}}, Tasks: []rollout.Task{
		{Name: "raise", Module: "level", Args: map[string]rollout.Args{"a": {"to": int64(3)}, "b": {"to": int64(3)}}},
		{Name: "order", Module: "order", Args: map[string]rollout.Args{"b": {}}},
		{Name: "again", Module: "level", Args: map[string]rollout.Args{"a": {"to": int64(4)}, "b": {"to": int64(4)}}},
	}}}}
	one := rollout.Observation{State: rollout.State{"host": rollout.Encoded([]byte("1"))}}
	p, err := rollout.Compute(d, map[string]rollout.Observation{"a": one, "b": one}, modules, rollout.Basis{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		task int
		host string
		want bool
	}{{0, "a", false}, {0, "b", false}, {2, "a", false}, {2, "b", true}} {
		if s := p.Plays[0].Tasks[c.task].Steps[c.host]; (s.Recheck != nil) != c.want {
			t.Errorf("task %d on %s is planned anew: %v, wanted %v", c.task, c.host, s.Recheck != nil, c.want)
		}
	}
}
