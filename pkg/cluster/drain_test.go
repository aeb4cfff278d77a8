package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"

	"github.com/fleetd/fleetd/pkg/cluster/clustertest"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

const drained = "el-0002"

func aNode(change func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: drained, ResourceVersion: "7"},
		Status: corev1.NodeStatus{
			NodeInfo:   corev1.NodeSystemInfo{BootID: "boot-1", KernelVersion: "3.10.0"},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
	if change != nil {
		change(n)
	}
	return n
}

func aPod(name string, change func(*corev1.Pod)) *corev1.Pod {
	yes := true
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "web", Labels: map[string]string{"app": "web"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web", Controller: &yes}},
		},
		Spec: corev1.PodSpec{NodeName: drained},
	}
	if change != nil {
		change(p)
	}
	return p
}

// ofDaemonSet is a pod of a DaemonSet.
func ofDaemonSet(name, owner string) *corev1.Pod {
	return aPod(name, func(p *corev1.Pod) {
		p.OwnerReferences[0].Kind, p.OwnerReferences[0].Name = "DaemonSet", owner
	})
}

// drains plans drain and uncordon for the Node as it is.
func drains(t *testing.T, f fakes, ssh *bootIDs, args rollout.Args) (drain, uncordon rollout.Module, d, u rollout.Change) {
	t.Helper()
	n, err := f.kube.CoreV1().Nodes().Get(context.Background(), drained, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	mods := Modules(Deps{Client: f.Client, Hosts: ssh})
	drain, uncordon = mods["fleetd.cluster.drain"], mods["fleetd.cluster.uncordon"]
	facts := nodeFacts(n)
	facts.CordonedElsewhere = f.by.elsewhere(facts.CordonedBy)
	st := clustertest.State(t, clustertest.With(Kubernetes, facts))
	d, st, err = drain.Diff(drained, st, args)
	if err != nil {
		t.Fatal(err)
	}
	u, _, err = uncordon.Diff(drained, st, nil)
	if err != nil {
		t.Fatal(err)
	}
	return drain, uncordon, d, u
}

// evicting makes the fake delete evicted pods, or refuse as a budget does.
func (f fakes) evicting(refuse func(pod string) error) {
	f.kube.PrependReactor("create", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if a.GetSubresource() != "eviction" {
			return false, nil, nil
		}
		e := a.(clienttesting.CreateAction).GetObject().(*policyv1.Eviction)
		if err := refuse(e.Name); err != nil {
			return true, nil, err
		}
		return true, nil, f.kube.Tracker().Delete(corev1.SchemeGroupVersion.WithResource("pods"), e.Namespace, e.Name)
	})
}

func TestDrainAndUncordon(t *testing.T) {
	ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "agent", Namespace: "web"}}
	yes := true
	f := newFakes(t, aNode(nil), ds, aPod("a", nil), aPod("scratch", func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	}), aPod("agent-x", func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "DaemonSet", Name: "agent", Controller: &yes}}
	}), aPod("etcd-static", func(p *corev1.Pod) {
		p.OwnerReferences, p.Annotations = nil, map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	}), aPod("done", func(p *corev1.Pod) { p.OwnerReferences, p.Status.Phase = nil, corev1.PodSucceeded }))
	f.evicting(func(string) error { return nil })
	ssh := &bootIDs{ids: map[string]string{drained: "boot-2"}}
	drain, uncordon, d, u := drains(t, f, ssh, nil)
	m := &clustertest.Machine{}
	if o := m.Run(t, drain, drained, d); o.Kind != rollout.Changed {
		t.Fatalf("%+v", o)
	}
	if d := cmp.Diff([]string{"Node el-0002 is cordoned", "leaving: web/a, web/done, web/scratch", "Node el-0002 is drained"}, m.Messages); d != "" {
		t.Error(d)
	}
	patches := clustertest.Only(f.writes(), "nodes")
	if d := cmp.Diff([]string{`patch nodes el-0002 {"metadata":{"annotations":{"fleetd.io/before-drain":"{\"unready\":[\"web/agent\",\"web/etcd-static\"]}","fleetd.io/cordoned-by":"fleetd"},"resourceVersion":"7"},"spec":{"unschedulable":true}}`}, patches); d != "" {
		t.Error(d)
	}
	// After a crash: nothing is cordoned or evicted twice.
	if o := (&clustertest.Machine{}).Run(t, drain, drained, d); o.Kind != rollout.Changed || len(clustertest.Only(f.writes(), "nodes")) != 1 {
		t.Errorf("%+v %q", o, f.writes())
	}

	up := &clustertest.Machine{}
	up.Look = func(attempt int) {
		n, err := f.kube.CoreV1().Nodes().Get(context.Background(), drained, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		switch attempt {
		case 2: // the new kubelet reports, and is not Ready yet
			n.Status.NodeInfo.BootID = "boot-2"
			n.Status.Conditions[0].Status = corev1.ConditionFalse
		case 3:
			n.Status.Conditions[0].Status = corev1.ConditionTrue
		}
		if err := f.kube.Tracker().Update(corev1.SchemeGroupVersion.WithResource("nodes"), n, ""); err != nil {
			t.Fatal(err)
		}
	}
	if o := up.Run(t, uncordon, drained, u); o.Kind != rollout.Changed {
		t.Fatalf("%+v", o)
	}
	if d := cmp.Diff([]string{
		"Node el-0002 still shows boot ID boot-1, its machine is in boot boot-2: the kubelet has not reported since",
		"Node el-0002 is not Ready", "Node el-0002 is Ready on 3.10.0 and takes work again",
	}, up.Messages); d != "" {
		t.Error(d)
	}
	// Again, after a crash.
	if o := (&clustertest.Machine{}).Run(t, uncordon, drained, u); o.Kind != rollout.Unchanged || len(clustertest.Only(f.writes(), "nodes")) != 2 {
		t.Errorf("%+v %q", o, f.writes())
	}
	// On the way back the node is drained before it reboots again, and takes
	// work after.
	if o := (&clustertest.Machine{Undo: true}).Run(t, uncordon, drained, u); o.Kind != rollout.Changed || !strings.Contains(o.Message, "drained") {
		t.Errorf("%+v", o)
	}
	if o := (&clustertest.Machine{Undo: true}).Run(t, drain, drained, d); o.Kind != rollout.Changed || !strings.Contains(o.Message, "takes work again") {
		t.Errorf("%+v", o)
	}
}

func budget() *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "web-budget", Namespace: "web", Generation: 1},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
		Status:     policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 1, DesiredHealthy: 2, CurrentHealthy: 2, ExpectedPods: 2},
	}
}

// overBudget is what the API server says where a budget holds a pod back.
func overBudget() *apierrors.StatusError {
	e := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 0)
	e.ErrStatus.Details.Causes = append(e.ErrStatus.Details.Causes, metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: "web-budget needs 2"})
	return e
}

func ready(p *corev1.Pod) {
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
}

func TestBudgetHoldsADrainBackUntilTheTimeout(t *testing.T) {
	f := newFakes(t, aNode(nil), budget(), aPod("a", ready), aPod("b", func(p *corev1.Pod) { p.Labels = nil }))
	f.evicting(func(pod string) error {
		if pod == "a" {
			return errors.New("must not be asked: it is known what its budget says")
		}
		return nil
	})
	drain, _, d, _ := drains(t, f, nil, rollout.Args{"timeout": "3m"})
	const held = "held back: web/a (PodDisruptionBudget web-budget needs 2 healthy pods and has 2)"
	m := &clustertest.Machine{}
	if o := m.Once(drain, drained, d); o.Kind != rollout.Waiting || o.Message != "Node el-0002 is cordoned" {
		t.Errorf("%+v", o)
	}
	if o := m.Once(drain, drained, d); o.Kind != rollout.Waiting || o.Message != held+"; leaving: web/b" || o.After != PollEvery {
		t.Errorf("%+v", o)
	}
	if o := m.Once(drain, drained, d); o.Kind != rollout.Waiting || o.Message != held || o.After != askAgain {
		t.Errorf("%+v", o)
	}
	m.Now += 3 * time.Minute
	o := m.Once(drain, drained, d)
	if o.Kind != rollout.Failed || o.Message != "cannot drain Node el-0002 within 3m0s: "+held || !strings.Contains(o.Hint, "kubectl uncordon el-0002") {
		t.Errorf("%+v", o)
	}
	if n, _ := f.kube.CoreV1().Nodes().Get(context.Background(), drained, metav1.GetOptions{}); !nodeFacts(n).Cordon().Ours() {
		t.Error("the cordon must stay")
	}
}

// A budget that has room may be used up by the drain next door.
func TestBudgetThatRefusesAllTheSame(t *testing.T) {
	roomy := budget()
	roomy.Status.DisruptionsAllowed = 1
	f := newFakes(t, aNode(nil), roomy, aPod("a", ready))
	refused := error(overBudget())
	f.evicting(func(string) error { return refused })
	drain, _, d, _ := drains(t, f, nil, nil)
	m := &clustertest.Machine{}
	m.Once(drain, drained, d)
	if o := m.Once(drain, drained, d); o.Message != "held back: web/a (PodDisruptionBudget: web-budget needs 2)" || o.After != askAgain {
		t.Errorf("%+v", o)
	}
	refused = nil
	if o := m.Run(t, drain, drained, d); o.Kind != rollout.Changed {
		t.Errorf("%+v", o)
	}
}

// A 429 without the cause is no budget: the API server has too much to do.
func TestBusyServerIsNoBudget(t *testing.T) {
	f := newFakes(t, aNode(nil), aPod("a", nil), aPod("b", nil))
	asked := 0
	f.evicting(func(string) error {
		asked++
		return apierrors.NewTooManyRequests("too many requests, please try again later", 0)
	})
	drain, _, d, _ := drains(t, f, nil, nil)
	m := &clustertest.Machine{}
	m.Once(drain, drained, d)
	if o := m.Once(drain, drained, d); o.Message != "held back: web/a, web/b ("+serverBusy+")" || o.After != time.Second || asked != 1 {
		t.Errorf("%+v, asked %d times", o, asked)
	}
}

func TestTwoBudgetsOnOnePod(t *testing.T) {
	second := budget()
	second.Name = "second"
	f := newFakes(t, aNode(nil), budget(), second, aPod("a", ready))
	f.evicting(func(string) error { return errors.New("must not be asked") })
	drain, _, d, _ := drains(t, f, nil, nil)
	if o := (&clustertest.Machine{}).Run(t, drain, drained, d); o.Kind != rollout.Failed || !strings.Contains(o.Message, "more than one PodDisruptionBudget, and it has second, web-budget") {
		t.Errorf("%+v", o)
	}
}

// What cannot be moved is said before the node is touched.
func TestPodsThatCannotBeMoved(t *testing.T) {
	bare := aPod("bare", func(p *corev1.Pod) { p.OwnerReferences = nil })
	scratch := aPod("scratch", func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	})
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		args rollout.Args
		want string
		hint string
	}{
		"bare":     {bare, nil, "web/bare", "task's force"},
		"orphan":   {ofDaemonSet("agent-x", "agent"), nil, "web/agent-x (their DaemonSet is gone)", "task's force"},
		"emptyDir": {scratch, rollout.Args{"delete_emptydir_data": false}, "web/scratch", "task's delete_emptydir_data"},
		"an orphan's emptyDir": {aPod("agent-x", func(p *corev1.Pod) {
			p.OwnerReferences = ofDaemonSet("", "agent").OwnerReferences
			p.Spec.Volumes = scratch.Spec.Volumes
		}), rollout.Args{"delete_emptydir_data": false, "force": true}, "web/agent-x", "task's delete_emptydir_data"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakes(t, aNode(nil), c.pod)
			drain, _, d, _ := drains(t, f, nil, c.args)
			o := (&clustertest.Machine{}).Once(drain, drained, d)
			if o.Kind != rollout.Failed || !strings.Contains(o.Message, c.want) || !strings.Contains(o.Hint, c.hint) || len(f.writes()) > 0 {
				t.Errorf("%+v %q", o, f.writes())
			}
		})
	}
	f := newFakes(t, aNode(nil), bare)
	f.evicting(func(string) error { return nil })
	drain, _, d, _ := drains(t, f, nil, rollout.Args{"force": true})
	if o := (&clustertest.Machine{}).Run(t, drain, drained, d); o.Kind != rollout.Changed {
		t.Errorf("%+v", o)
	}
}

func TestDisableEvictionDeletes(t *testing.T) {
	f := newFakes(t, aNode(nil), budget(), aPod("a", nil))
	f.evicting(func(string) error { return errors.New("must not be asked") })
	drain, _, d, _ := drains(t, f, nil, rollout.Args{"disable_eviction": true, "grace_period": int64(5)})
	if o := (&clustertest.Machine{}).Run(t, drain, drained, d); o.Kind != rollout.Changed {
		t.Errorf("%+v", o)
	}
	if w := clustertest.Only(f.writes(), "pods"); len(w) != 1 || w[0] != "delete pods a" {
		t.Errorf("%q", w)
	}
}

func TestSomebodyElsesCordonStays(t *testing.T) {
	for name, by := range map[string]string{"a person's": "", "another bastion's": "bob@bastion2 r7"} {
		t.Run(name, func(t *testing.T) {
			f := newFakes(t, aNode(func(n *corev1.Node) {
				n.Spec.Unschedulable = true
				if by != "" {
					n.Annotations = map[string]string{CordonedByAnnotation: by}
				}
			}), aPod("a", nil))
			f.by = signature{"alice@bastion1", "r1"}
			f.evicting(func(string) error { return nil })
			ssh := &bootIDs{ids: map[string]string{drained: "boot-1"}}
			drain, uncordon, d, u := drains(t, f, ssh, nil)
			if o := (&clustertest.Machine{}).Run(t, drain, drained, d); o.Kind != rollout.Changed {
				t.Fatalf("%+v", o)
			}
			if o := (&clustertest.Machine{}).Run(t, uncordon, drained, u); o.Bad() || !strings.Contains(o.Message, "stays cordoned") {
				t.Errorf("%+v", o)
			}
			n, err := f.kube.CoreV1().Nodes().Get(context.Background(), drained, metav1.GetOptions{})
			if err != nil || !n.Spec.Unschedulable || n.Annotations[CordonedByAnnotation] != by || (n.Annotations[BeforeAnnotation] != "") != (by != "") {
				t.Errorf("%+v %v", n, err)
			}
		})
	}
}

// Who cordoned a node for one run does not matter to the next one on the same
// machine, and does to one on another.
func TestMarksCarryRunAndHolder(t *testing.T) {
	f := newFakes(t, aNode(nil))
	f.by = signature{"alice@bastion1", "r1"}
	ssh := &bootIDs{ids: map[string]string{drained: "boot-1"}}
	drain, uncordon, d, u := drains(t, f, ssh, nil)
	if o := (&clustertest.Machine{}).Run(t, drain, drained, d); o.Kind != rollout.Changed {
		t.Fatalf("%+v", o)
	}
	n, err := f.kube.CoreV1().Nodes().Get(context.Background(), drained, metav1.GetOptions{})
	if err != nil || n.Annotations[CordonedByAnnotation] != "alice@bastion1 r1" {
		t.Fatalf("%v %v", n.Annotations, err)
	}
	f.by = signature{"bob@bastion2", "r2"}
	if o := (&clustertest.Machine{}).Run(t, uncordon, drained, u); o.Kind != rollout.Unchanged || !strings.Contains(o.Message, "stays cordoned, as fleetd elsewhere (alice@bastion1 r1) cordoned it meanwhile") {
		t.Errorf("%+v", o)
	}
	f.by = signature{"bob@bastion1", "r3"}
	if o := (&clustertest.Machine{}).Run(t, uncordon, drained, u); o.Kind != rollout.Changed {
		t.Errorf("%+v", o)
	}
}

// A person took the node over while it was away: the mark is gone, the cordon
// is theirs.
func TestCordonTakenOverMeanwhile(t *testing.T) {
	f := newFakes(t, aNode(nil))
	ssh := &bootIDs{ids: map[string]string{drained: "boot-1"}}
	drain, uncordon, d, u := drains(t, f, ssh, nil)
	if o := (&clustertest.Machine{}).Run(t, drain, drained, d); o.Kind != rollout.Changed {
		t.Fatalf("%+v", o)
	}
	n := aNode(func(n *corev1.Node) { n.Spec.Unschedulable = true })
	if err := f.kube.Tracker().Update(corev1.SchemeGroupVersion.WithResource("nodes"), n, ""); err != nil {
		t.Fatal(err)
	}
	if o := (&clustertest.Machine{}).Run(t, uncordon, drained, u); o.Kind != rollout.Unchanged || !strings.Contains(o.Message, "somebody else cordoned it meanwhile") {
		t.Errorf("%+v", o)
	}
}

// A write that collides with another is decided anew on what is there then.
func TestConflictIsLookedAtAgain(t *testing.T) {
	f := newFakes(t, aNode(nil))
	collide := true
	f.kube.PrependReactor("patch", "nodes", func(clienttesting.Action) (bool, runtime.Object, error) {
		if !collide {
			return false, nil, nil
		}
		collide = false
		return true, nil, apierrors.NewConflict(schema.GroupResource{Resource: "nodes"}, drained, errors.New("the object has been modified"))
	})
	drain, _, d, _ := drains(t, f, nil, nil)
	m := &clustertest.Machine{}
	if o := m.Once(drain, drained, d); o.Kind != rollout.Retrying {
		t.Errorf("%+v", o)
	}
	if o := m.Run(t, drain, drained, d); o.Kind != rollout.Changed {
		t.Errorf("%+v", o)
	}
}

func TestUncordonTimesOut(t *testing.T) {
	f := newFakes(t, aNode(nil))
	ssh := &bootIDs{ids: map[string]string{drained: "boot-2"}}
	drain, uncordon, d, u := drains(t, f, ssh, nil)
	if o := (&clustertest.Machine{}).Run(t, drain, drained, d); o.Kind != rollout.Changed {
		t.Fatalf("%+v", o)
	}
	m := &clustertest.Machine{Now: 11 * time.Minute}
	o := m.Once(uncordon, drained, u)
	if o.Kind != rollout.Failed || !strings.Contains(o.Message, "the kubelet has not reported since after 10m0s") || !strings.Contains(o.Hint, "journalctl -u kubelet") || !strings.Contains(o.Hint, "kubectl uncordon") {
		t.Errorf("%+v", o)
	}
}

// TestReady: the new kernel becomes the default only after the kubelet runs on it.
func TestReady(t *testing.T) {
	f := newFakes(t, aNode(nil))
	ssh := &bootIDs{ids: map[string]string{drained: "boot-2"}}
	ready := Modules(Deps{Client: f.Client, Hosts: ssh})["fleetd.cluster.ready"]
	n := Node{Name: drained, Drained: &DrainOptions{}}
	c, _, err := ready.Diff(drained, clustertest.State(t, clustertest.With(Kubernetes, n)), nil)
	if err != nil || c.Action != rollout.ReadOnly {
		t.Fatalf("%+v, %v", c, err)
	}
	// Ready, but in the boot before.
	if o := (&clustertest.Machine{}).Once(ready, drained, c); o.Kind != rollout.Waiting || !strings.Contains(o.Message, "the kubelet has not reported since") {
		t.Errorf("%+v", o)
	}
	late := &clustertest.Machine{Now: 11 * time.Minute}
	if o := late.Once(ready, drained, c); o.Kind != rollout.Failed || !strings.Contains(o.Hint, "a reboot of el-0002 goes back to it") {
		t.Errorf("%+v", o)
	}
	ssh.ids[drained] = "boot-1"
	if o := (&clustertest.Machine{}).Run(t, ready, drained, c); o.Kind != rollout.Unchanged {
		t.Errorf("%+v", o)
	}
	if w := f.writes(); len(w) != 0 {
		t.Errorf("wrote %v", w)
	}
}

func TestUncordonNeedsTheMachine(t *testing.T) {
	f := newFakes(t, aNode(nil))
	ssh := &bootIDs{err: &sshexec.Error{Host: drained, Op: "connect", Kind: sshexec.KindUnreachable, Err: errors.New("refused")}}
	_, uncordon, _, u := drains(t, f, ssh, nil)
	if o := (&clustertest.Machine{}).Once(uncordon, drained, u); o.Kind != rollout.Retrying {
		t.Errorf("%+v", o)
	}
	ssh.err = &sshexec.Error{Host: drained, Op: "connect", Kind: sshexec.KindAuth, Err: errors.New("no key")}
	if o := (&clustertest.Machine{}).Once(uncordon, drained, u); o.Kind == rollout.Retrying || !o.Bad() {
		t.Errorf("%+v", o)
	}
}

// A pod that tolerates the cordon starts on the node again; the drain moves it
// once and does not chase its replacements.
func TestDrainDoesNotChasePodsThatTolerateTheCordon(t *testing.T) {
	operator := func(uid string) *corev1.Pod {
		return aPod("operator-"+uid, func(p *corev1.Pod) {
			p.UID = types.UID(uid)
			p.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
		})
	}
	f := newFakes(t, aNode(nil), operator("1"), aPod("a", nil))
	evicted := 0
	f.kube.PrependReactor("create", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if a.GetSubresource() != "eviction" {
			return false, nil, nil
		}
		e := a.(clienttesting.CreateAction).GetObject().(*policyv1.Eviction)
		if strings.HasPrefix(e.Name, "operator-") {
			evicted++
			if err := f.kube.Tracker().Add(operator(fmt.Sprint(evicted + 1))); err != nil {
				return true, nil, err
			}
		}
		return true, nil, f.kube.Tracker().Delete(corev1.SchemeGroupVersion.WithResource("pods"), e.Namespace, e.Name)
	})
	drain, _, d, _ := drains(t, f, &bootIDs{}, nil)
	m := &clustertest.Machine{}
	if o := m.Run(t, drain, drained, d); o.Kind != rollout.Changed {
		t.Fatalf("%+v", o)
	}
	if evicted != 1 {
		t.Errorf("the operator's pod was evicted %d times, want once", evicted)
	}
	// A fleetd that crashed in the middle remembers who was there.
	again := &clustertest.Machine{SoFar: map[string]string{beginningKey: m.SoFar[beginningKey]}}
	if o := again.Run(t, drain, drained, d); o.Kind != rollout.Changed || evicted != 1 {
		t.Errorf("%+v, evicted %d times", o, evicted)
	}
}
