package cluster

import (
	"context"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fleetd/fleetd/pkg/cluster/clustertest"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// calicoNode is the pod of the node's calico-node: ready if there is no reason why
// it is not.
func calicoNode(container, why string) *corev1.Pod {
	p := ofDaemonSet("calico-node-x", "calico-node")
	p.Namespace = "calico-system"
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "calico-node", ContainerID: container}}
	if why == "" {
		ready(p)
	} else {
		p.Status.ContainerStatuses[0].State.Waiting = &corev1.ContainerStateWaiting{Reason: why}
	}
	return p
}

func daemonSet(namespace, name string) *appsv1.DaemonSet {
	return &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
}

// reboot drains a node with these pods, boots it, and has other pods on it then.
func reboot(t *testing.T, args rollout.Args, before, after []*corev1.Pod) (fakes, rollout.Module, rollout.Change) {
	t.Helper()
	f := newFakes(t, aNode(nil), daemonSet("calico-system", "calico-node"), daemonSet("web", "agent"))
	for _, p := range before {
		if err := f.kube.Tracker().Add(p); err != nil {
			t.Fatal(err)
		}
	}
	ssh := &bootIDs{ids: map[string]string{drained: "boot-1"}}
	drain, _, d, _ := drains(t, f, ssh, nil)
	if o := (&clustertest.Machine{}).Run(t, drain, drained, d); o.Kind != rollout.Changed {
		t.Fatalf("%+v", o)
	}
	pods := corev1.SchemeGroupVersion.WithResource("pods")
	for _, p := range before {
		if err := f.kube.Tracker().Delete(pods, p.Namespace, p.Name); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range after {
		if err := f.kube.Tracker().Add(p); err != nil {
			t.Fatal(err)
		}
	}
	mod := Modules(Deps{Client: f.Client, Hosts: ssh})["fleetd.cluster.ready"]
	c, _, err := mod.Diff(drained, clustertest.State(t, clustertest.With(Kubernetes, Node{Name: drained, Drained: &DrainOptions{}})), args)
	if err != nil {
		t.Fatal(err)
	}
	return f, mod, c
}

// TestHealthAfterABoot: a kernel on which the node's own pods do not run as before
// does not become the default.
func TestHealthAfterABoot(t *testing.T) {
	well, agent := calicoNode("c-1", ""), ofDaemonSet("agent-x", "agent")
	ready(agent)
	broken := ofDaemonSet("agent-x", "agent")
	crashing := ofDaemonSet("agent-x", "agent")
	crashing.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}}}
	static := aPod("etcd-el-0002", func(p *corev1.Pod) {
		p.OwnerReferences, p.Annotations = nil, map[string]string{corev1.MirrorPodAnnotationKey: "x"}
		p.Status = crashing.Status
	})
	for name, c := range map[string]struct {
		before, after []*corev1.Pod
		args          rollout.Args
		want          string // "" = it is healthy
	}{
		"as before":                        {before: []*corev1.Pod{well, agent}, after: []*corev1.Pod{calicoNode("c-2", ""), agent}},
		"calico-node crashes":              {before: []*corev1.Pod{well}, after: []*corev1.Pod{calicoNode("c-2", "CrashLoopBackOff")}, want: "pod calico-system/calico-node-x is in CrashLoopBackOff, and was not before"},
		"calico-node first":                {before: []*corev1.Pod{agent, well}, after: []*corev1.Pod{broken, calicoNode("c-2", "Init:0/2")}, want: "pod calico-system/calico-node-x is not ready: Init:0/2"},
		"the status of the boot before":    {before: []*corev1.Pod{well}, after: []*corev1.Pod{well}, want: "pod calico-system/calico-node-x still shows the containers of the boot before"},
		"no pod":                           {before: []*corev1.Pod{well, agent}, after: []*corev1.Pod{calicoNode("c-2", "")}, want: "DaemonSet web/agent has no pod on it"},
		"another is not ready":             {before: []*corev1.Pod{well, agent}, after: []*corev1.Pod{calicoNode("c-2", ""), broken}, want: "pod web/agent-x is not ready"},
		"not asked for":                    {before: []*corev1.Pod{well, agent}, after: []*corev1.Pod{calicoNode("c-2", ""), broken}, args: rollout.Args{"daemonsets": "calico"}},
		"only the Node":                    {before: []*corev1.Pod{well}, after: []*corev1.Pod{calicoNode("c-2", "CrashLoopBackOff")}, args: rollout.Args{"daemonsets": "none"}},
		"was not ready before":             {before: []*corev1.Pod{well, broken}, after: []*corev1.Pod{calicoNode("c-2", ""), crashing}},
		"a new crash loop of a static pod": {before: []*corev1.Pod{well}, after: []*corev1.Pod{calicoNode("c-2", ""), static}, want: "pod web/etcd-el-0002 is in CrashLoopBackOff, and was not before"},
		"an old one":                       {before: []*corev1.Pod{well, static}, after: []*corev1.Pod{calicoNode("c-2", ""), static}},
		"of no DaemonSet any more":         {before: []*corev1.Pod{well, ofDaemonSet("gone-x", "agent")}, after: []*corev1.Pod{calicoNode("c-2", "")}},
	} {
		t.Run(name, func(t *testing.T) {
			_, mod, change := reboot(t, c.args, c.before, c.after)
			m := &clustertest.Machine{}
			if c.want == "" {
				if o := m.Run(t, mod, drained, change); o.Kind != rollout.Unchanged {
					t.Errorf("%+v", o)
				}
				return
			}
			if o := m.Once(mod, drained, change); o.Kind != rollout.Waiting || o.Message != "Node el-0002: "+c.want {
				t.Errorf("%+v", o)
			}
			m.Now = defaultReadyTimeout
			if o := m.Once(mod, drained, change); o.Kind != rollout.Failed || o.Message != "cannot call Node el-0002 healthy: "+c.want+" after 10m0s" ||
				!strings.Contains(o.Hint, "a reboot of el-0002 goes back to it") || !strings.Contains(o.Hint, "kubectl describe") {
				t.Errorf("%+v", o)
			}
		})
	}
}

// What restarts again and again is ready in between.
func TestHealthHasToStay(t *testing.T) {
	f, mod, change := reboot(t, nil, []*corev1.Pod{calicoNode("c-1", "")}, []*corev1.Pod{calicoNode("c-2", "")})
	m := &clustertest.Machine{}
	m.Look = func(attempt int) {
		if attempt%5 == 0 {
			p := calicoNode("c-2", "")
			p.Status.ContainerStatuses[0].RestartCount = int32(attempt)
			if err := f.kube.Tracker().Update(corev1.SchemeGroupVersion.WithResource("pods"), p, p.Namespace); err != nil {
				t.Fatal(err)
			}
		}
	}
	o := m.Run(t, mod, drained, change)
	if o.Kind != rollout.Failed || !strings.Contains(o.Message, "have to stay so for 15s") || m.Now < defaultReadyTimeout+defaultSettle-PollEvery {
		t.Errorf("%+v after %s", o, m.Now)
	}
}

func TestNodeWithoutNetworkIsNotBack(t *testing.T) {
	f, mod, change := reboot(t, nil, nil, nil)
	n, err := f.kube.CoreV1().Nodes().Get(context.Background(), drained, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionTrue, Message: "Calico is shutting down on this node"})
	if err := f.kube.Tracker().Update(corev1.SchemeGroupVersion.WithResource("nodes"), n, ""); err != nil {
		t.Fatal(err)
	}
	if o := (&clustertest.Machine{}).Once(mod, drained, change); o.Kind != rollout.Waiting || o.Message != "Node el-0002 has no network: NetworkUnavailable, Calico is shutting down on this node" {
		t.Errorf("%+v", o)
	}
}

// An earlier run's boot may have broken the pods: what was before it counts, not
// what the second drain finds.
func TestBeforeIsBeforeTheFirstDrain(t *testing.T) {
	f, mod, change := reboot(t, nil, []*corev1.Pod{calicoNode("c-1", "")}, []*corev1.Pod{calicoNode("c-2", "CrashLoopBackOff")})
	drain, _, d, _ := drains(t, f, nil, nil)
	if o := (&clustertest.Machine{}).Run(t, drain, drained, d); o.Kind != rollout.Changed {
		t.Fatalf("%+v", o)
	}
	if o := (&clustertest.Machine{Now: time.Hour}).Once(mod, drained, change); o.Kind != rollout.Failed || !strings.Contains(o.Message, "CrashLoopBackOff") {
		t.Errorf("%+v", o)
	}
}
