package compliance

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// want is a module that wants the running kernel to be what its argument says.
type want struct{}

func (want) Reads(rollout.Args) []rollout.Read { return nil }
func (want) Diff(host string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	f, err := node.Section.Get(before)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	v := args["version"].(string)
	if v == "none" {
		return rollout.Change{}, nil, &rollout.Problem{Message: "no such version"}
	}
	if f.Running == v {
		return rollout.Change{Action: rollout.NoOp, Summary: "runs " + v}, before, nil
	}
	c := rollout.Change{Action: rollout.Update, Summary: "boot " + v, Fields: []rollout.Field{{Name: "running", Before: f.Running, After: v}}}
	f.Running = v
	after, err := node.Section.With(before, f)
	return c, after, err
}

func fleet(t *testing.T, wanted string, running map[string]string, hosts ...string) (rollout.Desired, map[string]rollout.Observation) {
	t.Helper()
	obs := map[string]rollout.Observation{}
	args := map[string]rollout.Args{}
	for _, h := range hosts {
		args[h] = rollout.Args{"version": wanted}
		if running[h] == "" {
			obs[h] = rollout.Observation{Problem: &rollout.Problem{Message: "down", Unreachable: true}}
			continue
		}
		st, err := node.Section.With(nil, node.Facts{Running: running[h]})
		if err != nil {
			t.Fatal(err)
		}
		obs[h] = rollout.Observation{State: st}
	}
	return rollout.Desired{Plays: []rollout.Play{{Batches: [][]string{hosts}, Tasks: []rollout.Task{
		{Module: "fleetd.cluster.drain", Args: args}, // no state: its Diff must not be asked
		{Module: "fleetd.kernel.trial_boot", Args: args},
		{Module: "fleetd.kernel.default", Args: args},
	}}}}, obs
}

var modules = map[string]rollout.Differ{"fleetd.kernel.trial_boot": want{}, "fleetd.kernel.default": want{}}

func TestCheck(t *testing.T) {
	d, obs := fleet(t, "6.1.0-1", map[string]string{"good": "6.1.0-1", "old": "5.10.0-1", "ancient": "3.10.0-1160"}, "good", "old", "ancient", "down")
	r := Check(d, obs, modules, func(string) string { return "5.3" })
	got := map[string]string{}
	for _, h := range r.Hosts {
		s := string(h.Status) + ":"
		for _, f := range h.Findings {
			s += fmt.Sprintf(" %s=%s", f.Rule, f.Status)
		}
		got[h.Name] = s
	}
	want := map[string]string{
		"good":    "compliant: kernel-minimum=compliant kernel-running=compliant kernel-default=compliant",
		"old":     "drift: kernel-minimum=compliant kernel-running=drift kernel-default=compliant",
		"ancient": "drift: kernel-minimum=drift kernel-running=drift kernel-default=compliant",
		"down":    "unknown:",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if r.Status != Drift {
		t.Errorf("the fleet is %s", r.Status)
	}
	if d := cmp.Diff([]Difference{{"running", "5.10.0-1", "6.1.0-1"}}, r.Hosts[1].Findings[1].Fields); d != "" {
		t.Error(d)
	}
}

func TestCheckStatus(t *testing.T) {
	none := func(string) string { return "" }
	d, obs := fleet(t, "6.1.0-1", map[string]string{"a": "6.1.0-1"}, "a")
	if r := Check(d, obs, modules, none); r.Status != Compliant || len(r.Hosts[0].Findings) != 2 {
		t.Errorf("%+v", r)
	}
	d, obs = fleet(t, "6.1.0-1", map[string]string{"a": "6.1.0-1"}, "a", "down")
	if r := Check(d, obs, modules, none); r.Status != Unknown {
		t.Errorf("one host is down: %s", r.Status)
	}
	d, obs = fleet(t, "none", map[string]string{"a": "6.1.0-1"}, "a")
	if r := Check(d, obs, modules, none); r.Hosts[0].Problem == nil || r.Status != Unknown {
		t.Errorf("no such version: %+v", r)
	}
	if r := Check(d, obs, modules, func(string) string { return "what?" }); r.Hosts[0].Problem == nil {
		t.Error("a minimum that is no version passed")
	}
}

func TestHasPolicy(t *testing.T) {
	d, _ := fleet(t, "x", nil, "a")
	if !HasPolicy(d) || HasPolicy(rollout.Desired{Plays: []rollout.Play{{Tasks: []rollout.Task{{Module: "fleetd.cluster.drain"}}}}}) {
		t.Error("HasPolicy")
	}
}
