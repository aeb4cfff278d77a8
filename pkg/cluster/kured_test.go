package cluster

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fleetd/fleetd/pkg/cluster/clustertest"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// Pods that must not be interrupted hold up their node, before it is cordoned.
func TestBlockingPods(t *testing.T) {
	f := newFakes(t, aNode(nil), aPod("job", func(p *corev1.Pod) { p.Labels = map[string]string{"long": "yes"} }), aPod("a", nil))
	f.evicting(func(string) error { return nil })
	drain, _, d, _ := drains(t, f, nil, rollout.Args{"blocking_pod_selectors": []any{"app=none", "long=yes"}, "timeout": "3m"})
	m := &clustertest.Machine{}
	if o := m.Once(drain, drained, d); o.Kind != rollout.Waiting || o.Message != "Node el-0002 is not drained yet: it runs web/job (long=yes)" {
		t.Errorf("%+v", o)
	}
	late := &clustertest.Machine{Now: 3 * time.Minute}
	if o := late.Once(drain, drained, d); o.Kind != rollout.Failed || !strings.Contains(o.Hint, "was not touched") || len(f.writes()) > 0 {
		t.Errorf("%+v %q", o, f.writes())
	}
	p, err := f.kube.CoreV1().Pods("web").Get(context.Background(), "job", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.Status.Phase = corev1.PodSucceeded
	f.replace(t, p)
	if o := m.Run(t, drain, drained, d); o.Kind != rollout.Changed {
		t.Errorf("%+v", o)
	}
}

func TestOnlyThePodsOfTheSelectorAreMoved(t *testing.T) {
	f := newFakes(t, aNode(nil), aPod("a", nil), aPod("stays", func(p *corev1.Pod) { p.Labels, p.OwnerReferences = nil, nil }))
	f.evicting(func(string) error { return nil })
	drain, _, d, _ := drains(t, f, nil, rollout.Args{"pod_selector": "app in (web)"})
	if o := (&clustertest.Machine{}).Run(t, drain, drained, d); o.Kind != rollout.Changed {
		t.Fatalf("%+v", o)
	}
	l, err := f.kube.CoreV1().Pods("web").List(context.Background(), metav1.ListOptions{})
	if err != nil || len(l.Items) != 1 || l.Items[0].Name != "stays" {
		t.Errorf("%v %v", l.Items, err)
	}
}

// A pod that hangs in its deletion does not hold up the node for ever, where the
// task says so.
func TestSkipWaitForDelete(t *testing.T) {
	deleted := metav1.Now()
	f := newFakes(t, aNode(nil), aPod("hangs", func(p *corev1.Pod) { p.DeletionTimestamp, p.Finalizers = &deleted, []string{"example.org/x"} }))
	drain, _, d, _ := drains(t, f, nil, rollout.Args{"skip_wait_for_delete_timeout": "1m"})
	m := &clustertest.Machine{}
	if o := m.Run(t, drain, drained, d); o.Kind != rollout.Changed || o.Message != "Node el-0002 is drained but for pods that have been terminating for 1m0s: web/hangs" {
		t.Errorf("%+v", o)
	}
	if m.Now < time.Minute || m.Now > time.Minute+2*PollEvery {
		t.Errorf("after %s", m.Now)
	}
	if _, holds := drain.(rollout.Keeper).Keeps(context.Background(), rollout.Step{Host: drained, Change: d, SoFar: m.SoFar}, false); !holds {
		t.Error("what is skipped must not keep the node from its reboot")
	}
}

// A drain that fails gives the node back where the task says so, and only its own
// cordon.
func TestUncordonOnFailure(t *testing.T) {
	for name, c := range map[string]struct{ cordoned, keeps bool }{"ours": {false, false}, "somebody else's": {true, true}} {
		t.Run(name, func(t *testing.T) {
			f := newFakes(t, aNode(func(n *corev1.Node) { n.Spec.Unschedulable = c.cordoned }), budget(), aPod("a", ready))
			drain, _, d, _ := drains(t, f, nil, rollout.Args{"uncordon_on_failure": true, "timeout": "1m"})
			o := (&clustertest.Machine{}).Run(t, drain, drained, d)
			if o.Kind != rollout.Failed || strings.Contains(o.Message, "takes work again") == c.keeps || strings.Contains(o.Hint, "stays cordoned") != c.keeps {
				t.Errorf("%+v", o)
			}
			n, err := f.kube.CoreV1().Nodes().Get(context.Background(), drained, metav1.GetOptions{})
			if err != nil || n.Spec.Unschedulable != c.keeps || (n.Annotations[BeforeAnnotation] != "") != c.keeps {
				t.Errorf("%+v %v", n, err)
			}
		})
	}
}

func TestSelectorsAreChecked(t *testing.T) {
	f := newFakes(t, aNode(nil))
	drain := Modules(Deps{Client: f.Client})["fleetd.cluster.drain"]
	for _, args := range []rollout.Args{{"pod_selector": "=="}, {"blocking_pod_selectors": []any{"a=b", "=="}}, {"skip_wait_for_delete_timeout": "soon"}} {
		if _, _, err := drain.Diff(drained, clustertest.State(t, clustertest.With(Kubernetes, Node{Name: drained})), args); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}
