package engine

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// onlyOnce is a condition that is true when it is asked first, and false ever after.
type onlyOnce struct{ asked int }

func (c *onlyOnce) Resolve(string, rollout.Open, rollout.Results) (rollout.Args, string, error) {
	if c.asked++; c.asked > 1 {
		return nil, "skipped, since it is asked again", nil
	}
	return nil, "", nil
}

func (*onlyOnce) Judge(_ rollout.Open, _ rollout.Results, o rollout.Outcome, _ int64) rollout.Outcome {
	return o
}

func (*onlyOnce) Items(rollout.Open, rollout.Results) ([]rollout.Results, error) { return nil, nil }

func (*onlyOnce) Together(rollout.Open, []rollout.Results, []rollout.Outcome) rollout.Outcome {
	return rollout.Outcome{}
}

// until is a journal whose process dies when it is to write so many events.
type until struct {
	events []rollout.Event
	dies   int
}

func (j *until) Append(_ context.Context, events []rollout.Event) error {
	j.events = append(j.events, events...)
	if j.dies > 0 && len(j.events) >= j.dies {
		j.events = j.events[:j.dies-1]
		return errors.New("dead")
	}
	return nil
}

func (*until) Requests(context.Context) ([]rollout.Request, error) { return nil, nil }

// steady is a level that is set once that was intended, however often.
type steady struct{ level }

func (l steady) Do(_ context.Context, s rollout.Step) rollout.Outcome {
	if s.SoFar["half"] == "" {
		return rollout.Intend("half", "yes")
	}
	l.world[s.Host] = 3
	return rollout.Did("raised")
}

// inParts is a level that is set in two parts, each of them steady.
type inParts struct{ steady }

func (l inParts) Diff(host string, st rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	c, after, err := l.steady.Diff(host, st, args)
	for _, to := range []string{"2", "3"} {
		c.Items = append(c.Items, rollout.Change{Action: rollout.Update, Summary: "raise to " + to, Data: []byte(to)})
	}
	return c, after, err
}

func (l inParts) Do(_ context.Context, s rollout.Step) rollout.Outcome {
	if s.SoFar["half"] == "" {
		return rollout.Intend("half", "yes")
	}
	l.world[s.Host], _ = strconv.ParseInt(string(s.Change.Data), 10, 64) // our own
	return rollout.Did("raised")
}

// That the condition of a reviewed change was true is decided once: wherever fleetd is
// killed after that, the change is made, whole and once; killed before, it is asked
// again, and nothing of the change was made.
func TestConditionKilledAtEveryEvent(t *testing.T) {
	for name, module := range map[string]func(world map[string]int64) rollout.Module{
		"whole":    func(w map[string]int64) rollout.Module { return steady{level{w}} },
		"in parts": func(w map[string]int64) rollout.Module { return inParts{steady{level{w}}} },
	} {
		t.Run(name, func(t *testing.T) { killedAtEveryEvent(t, module) })
	}
}

func killedAtEveryEvent(t *testing.T, module func(world map[string]int64) rollout.Module) {
	t.Helper()
	run := func(dies int) (events int, at int64, wanted bool, kind rollout.OutcomeKind) {
		world := map[string]int64{"a": 1}
		modules := map[string]rollout.Module{"level": module(world)}
		d := rollout.Desired{Plays: []rollout.Play{{Strategy: rollout.Linear, Batches: [][]string{{"a"}}, Tasks: []rollout.Task{{
			Name: "raise", Module: "level", Args: map[string]rollout.Args{"a": {"to": int64(3)}},
			Open: map[string]rollout.Open{"a": {Unknown: []string{"when: x"}, Data: []byte("{}")}},
		}}}}}
		observers := []rollout.Observer{levels{world}}
		observed, err := Observe(t.Context(), d, modules, observers)
		if err != nil {
			t.Fatal(err)
		}
		p, err := rollout.Compute(d, observed, map[string]rollout.Differ{"level": modules["level"]}, rollout.Basis{})
		if err != nil {
			t.Fatal(err)
		}
		if s, _ := p.Step(rollout.StepID{Host: "a"}); s.Change.Action != rollout.Update || !s.Open.Conditional() {
			t.Fatalf("the plan has %+v", s)
		}
		condition := &onlyOnce{}
		j := &until{dies: dies}
		r, err := (&Engine{Modules: modules, Observers: observers, Resolver: condition, Journal: j}).Execute(t.Context(), p, 1)
		if err != nil {
			j.dies = 0
			if r, err = rollout.Fold(j.events); err == nil {
				r, err = (&Engine{Modules: modules, Observers: observers, Resolver: condition, Journal: j}).Resume(t.Context(), r, 0, false)
			}
		}
		if err != nil {
			t.Fatalf("dead with event %d: %v", dies, err)
		}
		wanted = slices.ContainsFunc(j.events, func(e rollout.Event) bool { return e.Outcome != nil && e.Outcome.Notes[wantedNote] != "" })
		return len(j.events), world["a"], wanted, r.Step(rollout.StepID{Host: "a"}).Outcome.Kind
	}
	all, at, wanted, kind := run(0)
	if at != 3 || !wanted || kind != rollout.Changed {
		t.Fatalf("undisturbed: level %d, wanted %v, %s", at, wanted, kind)
	}
	skipped := false
	for dies := 2; dies <= all; dies++ {
		_, at, wanted, kind := run(dies)
		skipped = skipped || !wanted
		if wanted != (at == 3) || wanted != (kind == rollout.Changed) || !wanted && kind != rollout.Skipped {
			t.Errorf("dead with event %d: it was decided %v, and the level is %d, %s", dies, wanted, at, kind)
		}
	}
	if !skipped {
		t.Error("nowhere was it killed before the decision was durable")
	}
}
