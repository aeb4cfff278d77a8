package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

func TestObservers(t *testing.T) {
	n := func(name, ip string) *corev1.Node {
		return &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip}}},
		}
	}
	c := newFakes(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: kubeNamespace, UID: "11-22"}}, n("el-0001", "10.0.0.3"), n("el-0002", "10.0.0.4"))
	obs := Observer(c.Client, map[string]HostRef{"w1": {Addresses: []string{"10.0.0.4"}}})
	got := obs.Observe(context.Background(), map[string][]string{"el-0001": {""}, "w1": {""}, "bastion": {""}})
	names := map[string]string{}
	for h, o := range got {
		var n Node
		if o.Err != nil || json.Unmarshal(o.Value, &n) != nil {
			t.Fatal(h, o.Err)
		}
		names[h] = n.Name
	}
	if d := cmp.Diff(map[string]string{"el-0001": "el-0001", "w1": "el-0002", "bastion": ""}, names); d != "" {
		t.Error(d)
	}
	var asked []string
	for _, a := range c.kube.Actions() {
		asked = append(asked, a.GetVerb()+" "+a.GetResource().Resource)
	}
	// Each right of a drain is a question of its own.
	if d := cmp.Diff([]string{"list nodes", "get namespaces", "create selfsubjectaccessreviews", "list poddisruptionbudgets"}, slices.Compact(asked)); d != "" {
		t.Errorf("what a fleet costs: %s", d)
	}

	without := Observer(nil, map[string]HostRef{"el-0002": {NoNode: true}})
	got = without.Observe(context.Background(), map[string][]string{"el-0001": {""}, "el-0002": {""}})
	for host, unknown := range map[string]bool{"el-0001": true, "el-0002": false} {
		if n := nodeOf(t, got[host]); n.Name != "" || n.Unknown != unknown {
			t.Errorf("%s without a cluster: %+v", host, n)
		}
	}
	// A machine of which the inventory says that it is no node is none, whether
	// the cluster answers or not; but it must not be wrong about it.
	nodes := Observer(c.Client, map[string]HostRef{"bastion": {NoNode: true}, "el-0001": {NoNode: true}})
	got = nodes.Observe(context.Background(), map[string][]string{"bastion": {""}, "el-0001": {""}})
	if n := nodeOf(t, got["bastion"]); n.Name != "" || n.Unknown {
		t.Errorf("a machine that is no node: %+v", n)
	}
	if err := got["el-0001"].Err; err == nil || !strings.Contains(err.Error(), "its variable kubernetes is false, and the cluster has Node el-0001") {
		t.Errorf("a node that is said to be none: %v", err)
	}
	c.kube.PrependReactor("list", "nodes", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("connection refused")
	})
	got = nodes.Observe(context.Background(), map[string][]string{"bastion": {""}, "el-0003": {""}})
	if got["bastion"].Err != nil || got["el-0003"].Err == nil {
		t.Errorf("a cluster that does not answer: %+v", got)
	}
}

func nodeOf(t *testing.T, so rollout.SectionObservation) Node {
	t.Helper()
	n, err := Kubernetes.Get(rollout.State{Kubernetes.Name(): rollout.Encoded(so.Value)})
	if so.Err != nil || err != nil {
		t.Fatal(so.Err, err)
	}
	return n
}

// TestWithoutACluster: the steps about a Node are left out, but not where there
// is a kubelet that somebody's pods may run on.
func TestWithoutACluster(t *testing.T) {
	modules := Modules(Deps{})
	diff := func(name string, n Node, f node.Facts) (rollout.Change, error) {
		t.Helper()
		state := node.Section.With(Kubernetes.With(nil, n), f)
		change, _, err := modules["fleetd.cluster."+name].Diff("n7", state, rollout.Args{})
		return change, err
	}
	for _, name := range []string{"drain", "ready", "uncordon"} {
		c, err := diff(name, Node{Unknown: true}, node.Facts{})
		if err != nil || c.Action != rollout.NoOp || !strings.Contains(c.Summary, "no cluster is configured") {
			t.Errorf("%s: %s %q, %v", name, c.Action, c.Summary, err)
		}
	}
	_, err := diff("drain", Node{Unknown: true}, node.Facts{Kubelet: "1.34.4"})
	if p := rollout.AsProblem(errors.Join(err)); err == nil || !strings.Contains(p.Message, "n7 out of service: it has a kubelet (1.34.4)") || !strings.Contains(p.Hint, "kubernetes: false") {
		t.Errorf("a machine with a kubelet: %v", err)
	}
	if c, err := diff("drain", Node{}, node.Facts{Kubelet: "1.34.4"}); err != nil || c.Action != rollout.NoOp {
		t.Errorf("one that the inventory says is no node: %v", err)
	}
}

// What the core has to know of a host besides its section: which cluster it is
// in, whether it serves, whether it carries the control plane.
func TestObserversTellTheCore(t *testing.T) {
	n := func(name string, ready corev1.ConditionStatus, roles ...string) *corev1.Node {
		out := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}},
			Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}},
		}
		for _, r := range roles {
			out.Labels["node-role.kubernetes.io/"+r] = ""
		}
		return out
	}
	c := newFakes(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: "11-22"}},
		n("m1", corev1.ConditionTrue, "control-plane"), n("m2", corev1.ConditionUnknown, "master"), n("e1", corev1.ConditionTrue, "etcd"), n("w1", corev1.ConditionFalse, "worker"))
	type told struct {
		uid, down string
		control   bool
	}
	obs := Observer(c.Client, map[string]HostRef{})
	keys := map[string][]string{"m1": {""}, "m2": {""}, "e1": {""}, "w1": {""}, "bastion": {""}}
	got := map[string]told{}
	for h, o := range obs.Observe(context.Background(), keys) {
		got[h] = told{o.Identity["cluster_uid"], o.Down, o.ControlPlane}
	}
	if d := cmp.Diff(map[string]told{
		"m1": {"11-22", "", true}, "m2": {"11-22", "Node m2 is NotReady", true}, "e1": {"11-22", "", true},
		"w1": {"11-22", "Node w1 is NotReady", false}, "bastion": {},
	}, got, cmp.AllowUnexported(told{})); d != "" {
		t.Error(d)
	}

	// Without the right to tell which cluster it is, nothing can be bound.
	c.kube.PrependReactor("get", "namespaces", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "namespaces"}, "kube-system",
			errors.New(`User "deployer" cannot get resource "namespaces" in API group "" in the namespace "kube-system"`))
	})
	so := Observer(c.Client, nil).Observe(context.Background(), map[string][]string{"m1": {""}})["m1"]
	p := rollout.AsProblem(errors.Join(so.Err))
	if so.Err == nil || !strings.Contains(p.Message, "cannot tell which cluster this is") || !strings.Contains(p.Hint, "kubectl auth can-i get namespaces -n kube-system") {
		t.Errorf("%+v", p)
	}
}
