package calico

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/fleetd/fleetd/pkg/cluster/clustertest"
	"github.com/fleetd/fleetd/pkg/rollout"
)

func TestFlip(t *testing.T) {
	f := recorded(t, "iptables")
	endpointDone(t, f)
	mod, c := planned(t, f, "fleetd.calico.dataplane", rollout.Args{"linux_dataplane": "BPF"})
	m := &clustertest.Machine{}
	m.Look = func(attempt int) {
		switch attempt {
		case 3: // the operator has acted; hostPorts is back, the roll begins
			u := f.get(t, "Installation", "default")
			set(t, u, "Enabled", "spec", "calicoNetwork", "hostPorts")
			f.custom(t, u)
			f.mutate(t, "calico-system", "calico-node", func(ds *appsv1.DaemonSet) { ds.Generation++ })
		case 4:
			f.mutate(t, "calico-system", "calico-node", func(ds *appsv1.DaemonSet) {
				ds.Status.ObservedGeneration = ds.Generation
				ds.Status.UpdatedNumberScheduled, ds.Status.NumberReady, ds.Status.NumberAvailable = 3, 5, 5
			})
		case 5: // with many nodes operator 1.36 tells Felix before the roll ends
			u := f.get(t, "FelixConfiguration", "default")
			u.SetAnnotations(map[string]string{bpfAnnotation: "true"})
			f.custom(t, set(t, u, true, "spec", "bpfEnabled"))
		case 6: // on real kubelets the operator says only now that it has computed it
			f.custom(t, set(t, f.get(t, "Installation", "default"), "BPF", "status", "computed", "calicoNetwork", "linuxDataplane"))
			f.mutate(t, "calico-system", "calico-node", func(ds *appsv1.DaemonSet) {
				ds.Status.UpdatedNumberScheduled, ds.Status.NumberReady, ds.Status.NumberAvailable = 6, 6, 6
			})
			f.custom(t, conditionsOf(t, f.get(t, "TigeraStatus", "calico"), "Available", "False", ""))
		case 7: // TigeraStatus comes last
			f.custom(t, conditionsOf(t, f.get(t, "TigeraStatus", "calico"), "Available", "True", ""))
		}
	}
	o := m.Run(t, mod, rollout.Localhost, c)
	want := []string{
		"the operator is to act on linuxDataplane BPF",
		"the operator has not acted on the Installation yet",
		"calico-node is about to roll",
		"calico-node 3/6 updated, 5 ready",
		"calico-node has rolled; TigeraStatus calico is not Available yet",
		"2 nodes are proven to run the data plane BPF; they are watched for 20s",
		"the data plane is BPF, proven on 2 nodes",
	}
	if d := cmp.Diff(want, m.Messages); d != "" || o.Kind != rollout.Changed {
		t.Errorf("%s %s", o.Kind, d)
	}
	if d := cmp.Diff([]string{`patch installations default {"metadata":{"annotations":{"fleetd.io/host-ports-before-bpf":"Enabled"}},"spec":{"calicoNetwork":{"hostPorts":null,"linuxDataplane":"BPF"}}}`}, clustertest.Only(f.writes(), "installations")); d != "" {
		t.Error(d)
	}

	// Called again after a crash that forgot it all: nothing is written twice.
	o = (&clustertest.Machine{Attempt: 1}).Run(t, mod, rollout.Localhost, c)
	if n := len(clustertest.Only(f.writes(), "installations")); o.Kind != rollout.Changed || n != 1 {
		t.Errorf("again: %+v, %d patches", o, n)
	}

	// The way back puts hostPorts where it was.
	u := &clustertest.Machine{Undo: true}
	u.Once(mod, rollout.Localhost, c)
	got := clustertest.Only(f.writes(), "installations")
	if want := `patch installations default {"metadata":{"annotations":{"fleetd.io/host-ports-before-bpf":null}},"spec":{"calicoNetwork":{"hostPorts":"Enabled","linuxDataplane":"Iptables"}}}`; got[len(got)-1] != want {
		t.Errorf("undo wrote %s", got[len(got)-1])
	}
}

// A DaemonSet read before the operator touched it beside a Felix read after:
// the flip must not be called done.
func TestFlipIsNotDoneOnTornReads(t *testing.T) {
	f := recorded(t, "bpf")
	mod, c := planned(t, f, "fleetd.calico.dataplane", rollout.Args{"linux_dataplane": "Iptables"})
	m := &clustertest.Machine{}
	m.Once(mod, rollout.Localhost, c)
	old, err := f.kube.AppsV1().DaemonSets("calico-system").Get(context.Background(), "calico-node", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f.custom(t, set(t, f.get(t, "Installation", "default"), "Iptables", "status", "computed", "calicoNetwork", "linuxDataplane"))
	f.custom(t, set(t, f.get(t, "FelixConfiguration", "default"), false, "spec", "bpfEnabled"))
	f.mutate(t, "calico-system", "calico-node", func(ds *appsv1.DaemonSet) { ds.Generation++ })
	first := true
	f.kube.PrependReactor("get", "daemonsets", func(clienttesting.Action) (bool, runtime.Object, error) {
		if !first {
			return false, nil, nil
		}
		first = false
		return true, old, nil
	})
	if o := m.Once(mod, rollout.Localhost, c); o.Kind != rollout.Waiting || o.Message != "calico-node is about to roll" {
		t.Errorf("%+v", o)
	}
}

// A pod that crashes again and again in BPF mode makes the operator call itself
// degraded: that takes the flip back, unless that is not wanted.
func TestDegradedOperatorEndsTheFlip(t *testing.T) {
	for _, onFailure := range []string{"revert", "wait"} {
		f := recorded(t, "iptables")
		endpointDone(t, f)
		mod, c := planned(t, f, "fleetd.calico.dataplane", rollout.Args{"linux_dataplane": "BPF", "on_failure": onFailure})
		m := &clustertest.Machine{}
		m.Once(mod, rollout.Localhost, c)
		f.custom(t, set(t, f.get(t, "Installation", "default"), "BPF", "status", "computed", "calicoNetwork", "linuxDataplane"))
		degraded := func(why string) {
			f.custom(t, conditionsOf(t, f.get(t, "TigeraStatus", "calico"), "Degraded", map[bool]string{true: "True", false: "False"}[why != ""], why))
		}
		const crashes = "Pod calico-system/calico-node-abcde has crash looping container: calico-node"
		degraded(crashes)
		o := m.Once(mod, rollout.Localhost, c)
		if o.Kind != rollout.Waiting || !strings.Contains(o.Message, "the operator is degraded: ") {
			t.Fatalf("at once: %+v", o)
		}
		// It was a moment's trouble: the clock starts anew.
		m.Now += degradedPatience - time.Second
		degraded("")
		m.Once(mod, rollout.Localhost, c)
		degraded(crashes)
		if o = m.Once(mod, rollout.Localhost, c); o.Kind != rollout.Waiting {
			t.Errorf("%+v", o)
		}
		m.Now += degradedPatience
		o = m.Once(mod, rollout.Localhost, c)
		if onFailure == "wait" {
			if o.Kind != rollout.Failed || !strings.Contains(o.Message, crashes) || planeOf(t, f) != BPF {
				t.Errorf("after a while: %s, %+v", planeOf(t, f), o)
			}
			continue
		}
		// On the way back it goes on being so, for as long as that pod is not replaced.
		for range 5 {
			m.Now += degradedPatience
			o = m.Once(mod, rollout.Localhost, c)
		}
		if o.Kind != rollout.Waiting || !strings.HasPrefix(o.Message, "taking the data plane back: ") || planeOf(t, f) != Iptables {
			t.Fatalf("on the way back: %s, %+v", planeOf(t, f), o)
		}
		m.Now += defaultStall
		if o = m.Once(mod, rollout.Localhost, c); o.Kind != rollout.Failed || !strings.Contains(o.Message, "the data plane could not be taken back") || strings.Count(o.Message, crashes) != 2 {
			t.Errorf("a way back that stands still: %+v", o)
		}
	}
}

func TestRollThatStandsStillNamesThePod(t *testing.T) {
	f := recorded(t, "iptables")
	endpointDone(t, f)
	mod, c := planned(t, f, "fleetd.calico.dataplane", rollout.Args{"linux_dataplane": "BPF", "timeout": "5m", "on_failure": "wait"})
	m := &clustertest.Machine{}
	m.Once(mod, rollout.Localhost, c)
	f.custom(t, set(t, f.get(t, "Installation", "default"), "BPF", "status", "computed", "calicoNetwork", "linuxDataplane"))
	ready := int32(5)
	roll := func(updated int32) {
		ready = 11 - ready // a pod that crashes again and again is ready in between
		f.mutate(t, "calico-system", "calico-node", func(ds *appsv1.DaemonSet) {
			ds.Status.UpdatedNumberScheduled, ds.Status.NumberReady, ds.Status.NumberAvailable = updated, ready, ready
		})
	}
	_, err := f.kube.CoreV1().Pods("calico-system").Create(context.Background(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "calico-node-abcde", Namespace: "calico-system", Labels: map[string]string{"k8s-app": "calico-node"}},
		Spec:       corev1.PodSpec{NodeName: "el-0004"},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
		}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	roll(2)
	m.Once(mod, rollout.Localhost, c)
	m.Now += 4 * time.Minute
	roll(3) // progress: the clock starts anew
	m.Once(mod, rollout.Localhost, c)
	m.Now += 4 * time.Minute
	roll(3)
	if o := m.Once(mod, rollout.Localhost, c); o.Kind != rollout.Waiting {
		t.Fatalf("%+v", o)
	}
	m.Now += time.Minute
	roll(3)
	o := m.Once(mod, rollout.Localhost, c)
	if o.Kind != rollout.Failed || !strings.Contains(o.Message, "calico-node 3/6 updated") || !strings.Contains(o.Message, "calico-node-abcde on el-0004: CrashLoopBackOff") {
		t.Errorf("%+v", o)
	}
}

func TestHandSetBPFIsNotOverridden(t *testing.T) {
	f := recorded(t, "iptables")
	endpointDone(t, f)
	mod, c := planned(t, f, "fleetd.calico.dataplane", rollout.Args{"linux_dataplane": "BPF"})
	f.custom(t, set(t, f.get(t, "FelixConfiguration", "default"), true, "spec", "bpfEnabled")) // after the plan
	o := (&clustertest.Machine{}).Once(mod, rollout.Localhost, c)
	if o.Kind != rollout.Failed || !strings.Contains(o.Message, "by hand") || len(clustertest.Only(f.writes(), "installations")) > 0 {
		t.Errorf("%+v %q", o, f.writes())
	}
}

// planeOf is the data plane that is asked for.
func planeOf(t *testing.T, f fakes) DataPlane {
	t.Helper()
	facts, err := f.Facts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return facts.Installation.DataPlane()
}
