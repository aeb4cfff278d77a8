package cluster

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/pkg/cluster/clustertest"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// reboots stands in for the module that takes the host out of service.
type reboots struct{ rollout.Module }

func (reboots) About() rollout.About              { return rollout.About{} }
func (reboots) Reads(rollout.Args) []rollout.Read { return nil }
func (reboots) Diff(_ string, before rollout.State, a rollout.Args) (rollout.Change, rollout.State, error) {
	if a["into"] == nil {
		return NoOp("runs the wanted kernel already"), before, nil
	}
	return rollout.Change{Action: rollout.Update, Summary: fmt.Sprint("boot ", a["into"]), Disruptive: true}, before, nil
}

// TestGuards plans a kernel play the way the core does: what guards nothing is
// dropped, and what an earlier run left behind is still put right.
func TestGuards(t *testing.T) {
	mods := map[string]rollout.Differ{"reboot": reboots{}}
	for name, m := range Modules(Deps{}) {
		mods[name] = m
	}
	for name, c := range map[string]struct {
		node   Node
		reboot bool
		want   []string
	}{
		"reboots": {Node{Name: "n1"}, true, []string{
			"cordon and drain Node n1 (at most 10m0s) [a later step is to boot 6.1.4]", "boot 6.1.4",
			"wait until Node n1 is Ready in its present boot, and its DaemonSets' pods as before (at most 10m0s)", "uncordon Node n1 once it is Ready in its present boot",
		}},
		"stays up": {Node{Name: "n1"}, false, []string{
			"not needed: this play does not take the host out of service", "runs the wanted kernel already",
			"nothing to check: this play changes nothing here", "Node n1 takes work already",
		}},
		"left over, reboots": {Node{Name: "n1", Unschedulable: true, CordonedBy: "fleetd"}, true, []string{
			"drain Node n1 (at most 10m0s) [the node is still cordoned by an earlier run of fleetd; a later step is to boot 6.1.4]", "boot 6.1.4",
			"wait until Node n1 is Ready in its present boot, and its DaemonSets' pods as before (at most 10m0s)", "uncordon Node n1 once it is Ready in its present boot",
		}},
		"left over, stays up": {Node{Name: "n1", Unschedulable: true, CordonedBy: "fleetd"}, false, []string{
			"not needed: this play does not take the host out of service", "runs the wanted kernel already",
			"Node n1 was not drained: it is not waited for", "uncordon Node n1 once it is Ready in its present boot [the node is still cordoned by an earlier run of fleetd]",
		}},
		"somebody's cordon, reboots": {Node{Name: "n1", Unschedulable: true}, true, []string{
			"drain Node n1 (at most 10m0s) [somebody else cordoned the node: it stays cordoned afterwards; a later step is to boot 6.1.4]", "boot 6.1.4",
			"wait until Node n1 is Ready in its present boot, and its DaemonSets' pods as before (at most 10m0s)", "wait until Node n1 is Ready in its present boot; it stays cordoned, as somebody else left it",
		}},
		"somebody's cordon, stays up": {Node{Name: "n1", Unschedulable: true}, false, []string{
			"not needed: this play does not take the host out of service", "runs the wanted kernel already",
			"nothing to check: this play changes nothing here", "Node n1 stays cordoned: it was somebody else that cordoned it",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			into := rollout.Args{}
			if c.reboot {
				into["into"] = "6.1.4"
			}
			play := rollout.Play{Batches: [][]string{{"n1"}}}
			for _, module := range []string{"fleetd.cluster.drain", "reboot", "fleetd.cluster.ready", "fleetd.cluster.uncordon"} {
				play.Tasks = append(play.Tasks, rollout.Task{Module: module, Args: map[string]rollout.Args{"n1": into}})
			}
			observed := map[string]rollout.Observation{"n1": {State: clustertest.State(t, clustertest.With(Kubernetes, c.node))}}
			p, err := rollout.Compute(rollout.Desired{Plays: []rollout.Play{play}}, observed, mods, rollout.Basis{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, task := range p.Plays[0].Tasks {
				change := task.Steps["n1"].Change
				line := change.Summary
				if len(change.Reasons) > 0 {
					line += " [" + strings.Join(change.Reasons, "; ") + "]"
				}
				got = append(got, line)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// What each module says of itself, in one view.
func TestAbout(t *testing.T) {
	guards, rules := map[string]rollout.Guards{}, map[string]string{}
	for name, m := range Modules(Deps{}) {
		a := m.About()
		if a.Guards != "" {
			guards[name] = a.Guards
		}
		if a.Rule != "" {
			rules[name] = a.Rule
		}
		for param, p := range a.Params {
			if p.Help == "" || p.Type == "" {
				t.Errorf("%s: parameter %s says too little", name, param)
			}
		}
	}
	if d := cmp.Diff(map[string]rollout.Guards{
		"fleetd.cluster.drain": rollout.Disruptions, "fleetd.cluster.ready": rollout.Changes,
	}, guards); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]string{}, rules); d != "" {
		t.Error(d)
	}
}
