package compliance

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// kernel is all that the modules of these tests know of a host.
type kernel struct {
	Running, Default int
}

var section = rollout.NewSection[kernel]("kernel")

// running wants the kernel that runs, and with it the default, to be the version
// of its argument.
type running struct{ rule string }

func (m running) About() rollout.About            { return rollout.About{Rule: m.rule} }
func (running) Reads(rollout.Args) []rollout.Read { return nil }
func (running) Diff(_ string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	k, err := section.Get(before)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	v := args["version"].(int)
	if v == 0 {
		return rollout.Change{}, nil, &rollout.Problem{Message: "no such version"}
	}
	if k.Running == v {
		return rollout.Change{Action: rollout.NoOp, Summary: fmt.Sprintf("runs %d", v)}, before, nil
	}
	c := rollout.Change{Action: rollout.Update, Summary: fmt.Sprintf("boot %d", v),
		Fields: []rollout.Field{{Name: "running", Before: fmt.Sprint(k.Running), After: fmt.Sprint(v)}}}
	return c, section.With(before, kernel{v, v}), nil
}

// byDefault wants the default to be the kernel that runs.
type byDefault struct{}

func (byDefault) About() rollout.About              { return rollout.About{Rule: "default"} }
func (byDefault) Reads(rollout.Args) []rollout.Read { return nil }
func (byDefault) Diff(_ string, before rollout.State, _ rollout.Args) (rollout.Change, rollout.State, error) {
	k, err := section.Get(before)
	if err != nil || k.Running == k.Default {
		return rollout.Change{Action: rollout.NoOp, Summary: "is the default"}, before, err
	}
	return rollout.Change{Action: rollout.Update, Summary: "set the default"}, section.With(before, kernel{k.Running, k.Running}), nil
}

// atLeast judges for itself: a newer kernel than the one that Diff would boot is
// no drift, an older one than the minimum is.
type atLeast struct{ running }

func (atLeast) Judge(_ string, st rollout.State, args rollout.Args) ([]rollout.Finding, error) {
	k, err := section.Get(st)
	if err != nil {
		return nil, err
	}
	m, ok := args["minimum"].(int)
	if !ok {
		return nil, errors.New("the minimum is no version")
	}
	f := rollout.Finding{Rule: "minimum", Text: fmt.Sprintf("%d is at least %d", k.Running, m)}
	if k.Running < m {
		f = rollout.Finding{Rule: "minimum", Drift: true, Text: fmt.Sprintf("runs a kernel older than %d", m),
			Fields: []rollout.Field{{Name: "running", Before: fmt.Sprint(k.Running), After: fmt.Sprintf(">= %d", m)}}}
	}
	return []rollout.Finding{f}, nil
}

// way is a module that declares no state: its Diff must not be asked.
type way struct{}

func (way) About() rollout.About              { return rollout.About{} }
func (way) Reads(rollout.Args) []rollout.Read { return nil }
func (way) Diff(string, rollout.State, rollout.Args) (rollout.Change, rollout.State, error) {
	panic("asked a step on the way for its compliance")
}

var modules = map[string]rollout.Differ{"drain": way{}, "boot": running{"running"}, "default": byDefault{}, "judge": atLeast{running{"unused"}}}

func fleet(t *testing.T, args rollout.Args, kernels map[string]kernel, tasks []string, hosts ...string) (rollout.Desired, map[string]rollout.Observation) {
	t.Helper()
	obs := map[string]rollout.Observation{}
	all := map[string]rollout.Args{}
	for _, h := range hosts {
		all[h] = args
		k, ok := kernels[h]
		if !ok {
			obs[h] = rollout.Observation{Problem: &rollout.Problem{Message: "down", Unreachable: true}}
			continue
		}
		st := section.With(nil, k)
		obs[h] = rollout.Observation{State: st}
	}
	play := rollout.Play{Batches: [][]string{hosts}}
	for _, m := range tasks {
		play.Tasks = append(play.Tasks, rollout.Task{Module: m, Args: all})
	}
	return rollout.Desired{Plays: []rollout.Play{play, play}}, obs // every host stands in two plays, and once in the report
}

// check holds a fleet against what the playbook wants alone.
func check(d rollout.Desired, obs map[string]rollout.Observation) Report {
	return Evaluate(&Policies{playbook: true}, Fleet{Desired: d, Modules: modules, Observed: obs, Kernel: func(rollout.State) string { return "5.14.0-427" }}, time.Date(2026, 11, 27, 6, 0, 0, 0, time.UTC))
}

func TestDeclared(t *testing.T) {
	d, obs := fleet(t, rollout.Args{"version": 6, "minimum": 5},
		map[string]kernel{"good": {6, 6}, "old": {5, 5}, "ancient": {3, 3}, "split": {6, 5}},
		[]string{"drain", "judge", "boot", "default"}, "good", "old", "ancient", "split", "down")
	d.Plays = d.Plays[:1]
	r := check(d, obs)
	got := map[string]string{}
	for _, h := range r.Hosts {
		s := string(h.Status) + ":"
		for _, f := range h.Findings {
			s += fmt.Sprintf(" %s=%s", f.Rule, f.Status)
		}
		got[h.Name] = s
	}
	// What judges for itself still leaves the state that its Diff says: "boot"
	// behind it finds nothing to do.
	want := map[string]string{
		"good":    "compliant: minimum=compliant running=compliant default=compliant",
		"old":     "compliant: minimum=compliant running=compliant default=compliant",
		"ancient": "drift: minimum=drift running=compliant default=compliant",
		"split":   "drift: minimum=compliant running=compliant default=drift",
		"down":    "unknown:",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if r.Status != Drift {
		t.Errorf("the fleet is %s", r.Status)
	}
}

// TestReport holds the form of the report that other programs read.
func TestReport(t *testing.T) {
	d, obs := fleet(t, rollout.Args{"version": 6, "minimum": 5}, map[string]kernel{"a": {3, 3}}, []string{"boot"}, "a")
	r := check(d, obs)
	raw, err := json.Marshal(r.Hosts)
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"name":"a","status":"drift","findings":[` +
		`{"policy":"playbook","rule":"running","status":"drift","text":"would boot 6","fields":[{"name":"running","is":"3","want":"6"}]},` +
		`{"policy":"playbook","rule":"running","status":"compliant","text":"runs 6"}]}]`
	if d := cmp.Diff(want, string(raw)); d != "" {
		t.Error(d)
	}
}

func TestDeclaredStatus(t *testing.T) {
	args := rollout.Args{"version": 6, "minimum": 5}
	runs6 := map[string]kernel{"a": {6, 6}}
	with := func(args rollout.Args, kernels map[string]kernel, hosts ...string) Report {
		d, obs := fleet(t, args, kernels, []string{"judge", "boot"}, hosts...)
		return check(d, obs)
	}
	if r := with(args, runs6, "a"); r.Status != Compliant || len(r.Hosts) != 1 || len(r.Hosts[0].Findings) != 4 {
		t.Errorf("%+v", r)
	}
	if r := with(args, runs6, "a", "down"); r.Status != Unknown {
		t.Errorf("one host is down: %s", r.Status)
	}
	// Diff cannot say how to mend it; what was found stands.
	r := with(rollout.Args{"version": 0, "minimum": 7}, runs6, "a")
	if h := r.Hosts[0]; h.Problem == nil || r.Status != Drift || len(h.Findings) != 1 {
		t.Errorf("no such version: %+v", r)
	}
	if r := with(rollout.Args{"version": 6, "minimum": "what?"}, runs6, "a"); r.Hosts[0].Problem == nil || len(r.Hosts[0].Findings) != 0 {
		t.Error("a minimum that is no version passed")
	}
}
