package calico

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"pgregory.net/rapid"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/cluster/clustertest"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// operate is one look of the Tigera operator and of the DaemonSet controller, as
// far as the modules wait for them: everything that was asked for is there at
// the next look. It shows no roll, no conflict and no degraded operator.
func (f fakes) operate(t *testing.T) {
	t.Helper()
	in := f.get(t, "Installation", "default")
	want := string(installationFacts(in).DataPlane())
	f.custom(t, set(t, in, want, "status", "computed", "calicoNetwork", "linuxDataplane"))
	felix := f.get(t, "FelixConfiguration", "default")
	felix.SetAnnotations(map[string]string{bpfAnnotation: map[bool]string{true: "true", false: "false"}[want == string(BPF)]})
	f.custom(t, set(t, felix, want == string(BPF), "spec", "bpfEnabled"))
	cm, err := f.kube.CoreV1().ConfigMaps(operatorNamespace).Get(context.Background(), endpointName, metav1.GetOptions{})
	if err == nil {
		f.tell(t, cm.Data[envHost], cm.Data[envPort])
	} else if !apierrors.IsNotFound(err) { // operators before 1.40 keep the address of a ConfigMap that is gone
		t.Fatal(err)
	}
	sets, err := f.kube.AppsV1().DaemonSets(metav1.NamespaceSystem).List(context.Background(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, ds := range sets.Items {
		f.mutate(t, metav1.NamespaceSystem, ds.Name, func(ds *appsv1.DaemonSet) {
			n := int32(6)
			if ds.Spec.Template.Spec.NodeSelector[cluster.NonCalicoLabel] != "" {
				n = 0
			}
			ds.Status = appsv1.DaemonSetStatus{
				ObservedGeneration: ds.Generation, DesiredNumberScheduled: n, CurrentNumberScheduled: n,
				UpdatedNumberScheduled: n, NumberReady: n, NumberAvailable: n,
			}
		})
	}
}

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

// Whatever the cluster is and whatever a play does to it, Undo of all steps, the
// last one first, leaves it as it was observed.
func TestUndoRestoresTheCluster(t *testing.T) {
	tasks := []did{
		{module: "fleetd.calico.api_endpoint"}, {module: "fleetd.calico.api_endpoint"}, {module: "fleetd.calico.api_endpoint"},
		{module: "fleetd.calico.kube_proxy"}, {module: "fleetd.calico.kube_proxy"},
		{module: "fleetd.calico.dataplane"}, {module: "fleetd.calico.dataplane"},
		{module: "fleetd.calico.external_service_mode"}, {module: "fleetd.calico.external_service_mode"},
	}
	args := []rollout.Args{
		{"host": "10.0.0.3"}, {"host": "10.0.0.4", "port": int64(8443)}, {"state": "absent"},
		{"state": "disabled"}, {"state": "enabled"},
		{"linux_dataplane": "BPF"}, {"linux_dataplane": "Iptables"},
		{"mode": "DSR"}, {"mode": "Tunnel"},
	}
	changed := 0
	rapid.Check(t, func(rt *rapid.T) {
		recording := rapid.SampledFrom([]string{"iptables", "bpf"}).Draw(rt, "recording")
		f := recorded(t, recording)
		if rapid.Bool().Draw(rt, "endpoint") && recording == "iptables" {
			endpointDone(t, f)
		}
		in := f.get(t, "Installation", "default")
		if rapid.Bool().Draw(rt, "data plane not set") && installationFacts(in).DataPlane() == Iptables {
			unstructured.RemoveNestedField(in.Object, "spec", "calicoNetwork", "linuxDataplane")
		}
		if ports := rapid.SampledFrom([]string{"", "Enabled", "Disabled"}).Draw(rt, "hostPorts"); ports == "" {
			unstructured.RemoveNestedField(in.Object, "spec", "calicoNetwork", "hostPorts")
		} else {
			set(t, in, ports, "spec", "calicoNetwork", "hostPorts")
		}
		f.custom(t, in)
		felix := f.get(t, "FelixConfiguration", "default")
		unstructured.RemoveNestedField(felix.Object, "spec", "bpfExternalServiceMode")
		if mode := rapid.SampledFrom([]string{"", dsr, tunnel}).Draw(rt, "mode"); mode != "" {
			set(t, felix, mode, "spec", "bpfExternalServiceMode")
		}
		f.custom(t, felix)
		if own := rapid.SampledFrom([]string{"none", "", "true", "false"}).Draw(rt, "second kube-proxy"); own != "none" {
			second := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "kube-proxy-arm", Namespace: metav1.NamespaceSystem}}
			if own != "" {
				second.Spec.Template.Spec.NodeSelector = map[string]string{cluster.NonCalicoLabel: own}
			}
			if err := f.kube.Tracker().Add(second); err != nil {
				t.Fatal(err)
			}
		}
		f.operate(t)
		before, err := f.Facts(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		mods := Modules(f.deps())
		var some []did
		var theirs []rollout.Args
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, len(tasks)-1), 1, 6).Draw(rt, "tasks") {
			some, theirs = append(some, tasks[i]), append(theirs, args[i])
		}
		operate := func() { f.operate(t) }
		steps := apply(t, mods, rollout.Localhost, clustertest.State(t, clustertest.With(Section, before), clustertest.With(reach, nil)), some, theirs, operate)
		changed += len(steps)
		takeBack(t, mods, steps, operate)
		f.operate(t)
		after, err := f.Facts(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(before, after, cmpopts.EquateEmpty()); d != "" {
			for _, s := range steps {
				rt.Logf("%s: %s; back: %s", s.module, s.change.Summary, s.change.Back)
			}
			rt.Fatalf("not as before (-before +after):\n%s", d)
		}
	})
	if changed == 0 {
		t.Error("nothing was ever changed")
	}
}

// kube-proxy's selector is given back only where fleetd set it, and not where
// somebody has set another since.
func TestUndoOfKubeProxyLeavesOthersAlone(t *testing.T) {
	f := recorded(t, "iptables")
	theirs := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "kube-proxy-arm", Namespace: metav1.NamespaceSystem}}
	theirs.Spec.Template.Spec.NodeSelector = map[string]string{cluster.NonCalicoLabel: "true"}
	if err := f.kube.Tracker().Add(theirs); err != nil {
		t.Fatal(err)
	}
	f.operate(t)
	mod, c := planned(t, f, "fleetd.calico.kube_proxy", rollout.Args{"state": "disabled"})
	look := func(int) { f.operate(t) }
	if o := (&clustertest.Machine{Look: look}).Run(t, mod, rollout.Localhost, c); o.Kind != rollout.Changed {
		t.Fatalf("%+v", o)
	}
	f.mutate(t, metav1.NamespaceSystem, "kube-proxy", func(ds *appsv1.DaemonSet) {
		ds.Spec.Template.Spec.NodeSelector[cluster.NonCalicoLabel] = "maybe"
	})
	if o := (&clustertest.Machine{Look: look, Undo: true}).Run(t, mod, rollout.Localhost, c); o.Kind != rollout.Failed || o.Hint == "" {
		t.Errorf("%+v", o)
	}
	f.mutate(t, metav1.NamespaceSystem, "kube-proxy", func(ds *appsv1.DaemonSet) {
		ds.Spec.Template.Spec.NodeSelector[cluster.NonCalicoLabel] = "true"
	})
	if o := (&clustertest.Machine{Look: look, Undo: true}).Run(t, mod, rollout.Localhost, c); o.Kind != rollout.Changed {
		t.Errorf("%+v", o)
	}
	if d := cmp.Diff([]string{
		`patch daemonsets kube-proxy {"spec":{"template":{"spec":{"nodeSelector":{"non-calico":"true"}}}}}`,
		`patch daemonsets kube-proxy {"spec":{"template":{"spec":{"nodeSelector":{"non-calico":null}}}}}`,
	}, clustertest.Only(f.writes(), "daemonsets")); d != "" {
		t.Error(d)
	}
}

// A step that found everything as it should be leaves nothing to take back.
func TestNothingDoneIsNothingToTakeBack(t *testing.T) {
	f := recorded(t, "iptables")
	f.operate(t)
	mod, c := planned(t, f, "fleetd.calico.kube_proxy", rollout.Args{"state": "disabled"})
	f.mutate(t, metav1.NamespaceSystem, "kube-proxy", func(ds *appsv1.DaemonSet) {
		ds.Spec.Template.Spec.NodeSelector[cluster.NonCalicoLabel] = "true" // somebody was faster
	})
	f.operate(t)
	if o := (&clustertest.Machine{}).Once(mod, rollout.Localhost, c); o.Kind != rollout.Unchanged {
		t.Errorf("%+v", o)
	}
}
