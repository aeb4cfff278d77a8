package cluster

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fleetd/fleetd/pkg/cluster/clustertest"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// did is a step that was executed.
type did struct {
	host   string
	module string
	change rollout.Change
}

// apply plans tasks, each on the state that the one before leaves, and does
// them. It returns what an undo has to take back. A task that Diff refuses is
// left out.
func apply(t *testing.T, mods map[string]rollout.Module, host string, st rollout.State, tasks []did, args []rollout.Args, look func()) []did {
	t.Helper()
	var plan, out []did
	for i, task := range tasks {
		c, after, err := mods[task.module].Diff(host, st, args[i])
		var problem *rollout.Problem
		if errors.As(err, &problem) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		st = after
		plan = append(plan, did{host, task.module, c})
	}
	for _, step := range plan {
		if step.change.Action == rollout.NoOp {
			continue
		}
		m := &clustertest.Machine{Look: func(int) { look() }}
		o := m.Run(t, mods[step.module], host, step.change)
		if o.Bad() {
			t.Fatalf("%s: %+v", step.module, o)
		}
		// As rollout.Reverse has it.
		if step.change.Action.Writes() && (o.Kind != rollout.Unchanged || m.Attempt > 1) {
			out = append(out, step)
		}
	}
	return out
}

// takeBack undoes steps, the last one first.
func takeBack(t *testing.T, mods map[string]rollout.Module, steps []did, look func()) {
	t.Helper()
	for _, step := range slices.Backward(steps) {
		m := &clustertest.Machine{Undo: true, Look: func(int) { look() }}
		if o := m.Run(t, mods[step.module], step.host, step.change); o.Bad() {
			t.Fatalf("undo of %s (%s): %+v", step.module, step.change.Summary, o)
		}
	}
}

// Drain, reboot and uncordon, then the way back with a reboot of its own: the
// Node is as it was before, whoever had cordoned it.
func TestUndoRestoresTheNode(t *testing.T) {
	for name, before := range map[string]func(*corev1.Node){
		"takes work":           nil,
		"cordoned by somebody": func(n *corev1.Node) { n.Spec.Unschedulable = true },
		"left over by fleetd": func(n *corev1.Node) {
			n.Spec.Unschedulable = true
			n.Annotations = map[string]string{CordonedByAnnotation: "fleetd"}
		},
		"a mark without a cordon": func(n *corev1.Node) { n.Annotations = map[string]string{CordonedByAnnotation: "fleetd"} },
	} {
		for _, drains := range []bool{true, false} {
			t.Run(name+map[bool]string{true: ", drained", false: ", drain dropped"}[drains], func(t *testing.T) {
				f := newFakes(t, aNode(before), aPod("a", nil))
				f.evicting(func(string) error { return nil })
				ssh := &bootIDs{ids: map[string]string{drained: "boot-1"}}
				boot := func(id string) {
					n := f.node(t)
					n.Status.NodeInfo.BootID, ssh.ids[drained] = id, id
					f.replace(t, n)
				}
				was := nodeFacts(f.node(t))
				tasks, args := []did{{module: "fleetd.cluster.drain"}, {module: "fleetd.cluster.ready"}, {module: "fleetd.cluster.uncordon"}}, make([]rollout.Args, 3)
				if !drains {
					tasks, args = tasks[1:], args[1:]
				}
				mods := Modules(Deps{Client: f.Client, Hosts: ssh})
				none := func() {}
				steps := apply(t, mods, drained, clustertest.State(t, clustertest.With(Kubernetes, was)), tasks, args, none)
				pods, err := f.kube.CoreV1().Pods("web").List(context.Background(), metav1.ListOptions{})
				if err != nil || (len(pods.Items) == 0) != drains {
					t.Fatalf("%d pods are left, %v", len(pods.Items), err)
				}
				boot("boot-2")
				for _, s := range slices.Backward(steps) {
					if s.module == "fleetd.cluster.drain" {
						boot("boot-1") // the way back rebooted it
					}
					takeBack(t, mods, []did{s}, none)
				}
				boot("boot-1")
				if d := cmp.Diff(was, nodeFacts(f.node(t))); d != "" {
					t.Error(d)
				}
			})
		}
	}
}

func (f fakes) node(t *testing.T) *corev1.Node {
	t.Helper()
	n, err := f.kube.CoreV1().Nodes().Get(context.Background(), drained, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Undo of a drain gives no work to a node whose kubelet has not reported since
// the way back rebooted it.
func TestUndoOfDrainWaitsForTheKubelet(t *testing.T) {
	f := newFakes(t, aNode(nil))
	ssh := &bootIDs{ids: map[string]string{drained: "boot-1"}}
	drain, _, d, _ := drains(t, f, ssh, nil)
	if o := (&clustertest.Machine{}).Run(t, drain, drained, d); o.Kind != rollout.Changed {
		t.Fatalf("%+v", o)
	}
	ssh.ids[drained] = "boot-2"
	m := &clustertest.Machine{Undo: true}
	if o := m.Once(drain, drained, d); o.Kind != rollout.Waiting || !nodeFacts(f.node(t)).Cordon().Ours() {
		t.Errorf("%+v", o)
	}
	n := f.node(t)
	n.Status.NodeInfo.BootID = "boot-2"
	f.replace(t, n)
	if o := m.Once(drain, drained, d); o.Kind != rollout.Changed || f.node(t).Spec.Unschedulable {
		t.Errorf("%+v", o)
	}
}
