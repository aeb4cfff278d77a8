package cluster

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fleetd/fleetd/pkg/cluster/clustertest"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// controlPlane are control-plane Nodes and their etcd pods, as kubeadm makes
// them. What is down is "node m2" or "etcd m2".
func controlPlane(names []string, etcd bool, down ...string) []runtime.Object {
	status := func(what string) corev1.ConditionStatus {
		for _, d := range down {
			if d == what {
				return corev1.ConditionFalse
			}
		}
		return corev1.ConditionTrue
	}
	var out []runtime.Object
	for i, name := range names {
		out = append(out, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"node-role.kubernetes.io/control-plane": ""}},
			Status: corev1.NodeStatus{
				Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.0.0.%d", i+1)}},
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status("node " + name)}},
			},
		})
		if etcd {
			out = append(out, etcdPod(name, status("etcd "+name)))
		}
	}
	return out
}

func etcdPod(node string, ready corev1.ConditionStatus) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "etcd-" + node, Namespace: "kube-system", Labels: map[string]string{"component": "etcd", "tier": "control-plane"},
			Annotations: map[string]string{corev1.MirrorPodAnnotationKey: "x"},
		},
		Spec:   corev1.PodSpec{NodeName: node},
		Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}},
	}
}

// replace puts objects in the place of those of the same name.
func (f fakes) replace(t *testing.T, objects ...runtime.Object) {
	t.Helper()
	for _, o := range objects {
		resource, ns := "nodes", ""
		if p, ok := o.(*corev1.Pod); ok {
			resource, ns = "pods", p.Namespace
		}
		if err := f.kube.Tracker().Update(corev1.SchemeGroupVersion.WithResource(resource), o, ns); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMembers(t *testing.T) {
	masters := []string{"m1", "m2", "m3"}
	lonely := etcdPod("m9", corev1.ConditionTrue)
	events := etcdPod("m1", corev1.ConditionFalse)
	events.Name = "etcd-events-m1"
	other := etcdPod("m1", corev1.ConditionTrue)
	other.Name = "etcd-events-m1"
	deployed := etcdPod("m1", corev1.ConditionFalse)
	deployed.Name, deployed.Annotations = "backup", nil
	for name, c := range map[string]struct {
		objects []runtime.Object
		want    []rollout.Member
	}{
		"all vote":         {controlPlane(masters, true), []rollout.Member{{Name: "alpha"}, {Name: "m1"}, {Name: "m3"}}},
		"pod not Ready":    {controlPlane(masters, true, "etcd m2"), []rollout.Member{{Name: "alpha", Down: "etcd-m2 is not Ready"}, {Name: "m1"}, {Name: "m3"}}},
		"Node NotReady":    {controlPlane(masters, true, "node m3", "etcd m3"), []rollout.Member{{Name: "alpha"}, {Name: "m1"}, {Name: "m3", Down: "Node m3 is NotReady"}}},
		"no pods":          {controlPlane(masters, false), nil},
		"pod without Node": {append(controlPlane(masters[:1], true), lonely), []rollout.Member{{Name: "m1"}, {Name: "m9", Down: "Node m9 is gone"}}},
		"two of a node":    {append(controlPlane(masters[:1], true), events), []rollout.Member{{Name: "m1", Down: "etcd-events-m1 is not Ready"}}},
		"the other one":    {append(controlPlane(masters[:1], true, "etcd m1"), other), []rollout.Member{{Name: "m1", Down: "etcd-m1 is not Ready"}}},
		"no static pod":    {append(controlPlane(masters[:1], true), deployed), []rollout.Member{{Name: "m1"}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := newFakes(t, c.objects...).Members(context.Background(), map[string]HostRef{"alpha": {Addresses: []string{"10.0.0.2"}}, "m1": {}, "bastion": {}})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// The API server's own word on etcd outranks what the pods look like.
func TestMembersAskTheAPIServer(t *testing.T) {
	body, status := "[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed\n", http.StatusInternalServerError
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.WriteHeader(status)
			_, _ = fmt.Fprint(w, body)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, `{"kind":"List","apiVersion":"v1","items":[]}`)
	})
	_, err := c.Members(context.Background(), nil)
	p := rollout.AsProblem(err)
	if err == nil || p.Message != "cannot count etcd's members: the API server's own check of etcd fails: [-]etcd failed: reason withheld" || !strings.Contains(p.Hint, "/readyz?verbose") || !passing(err) {
		t.Errorf("%+v", p)
	}
	// Another check that fails, or a path that may not be read, says nothing of etcd.
	for _, answer := range []struct {
		body   string
		status int
	}{
		{"[+]etcd ok\n[-]informer-sync failed: reason withheld\n", http.StatusInternalServerError},
		{`{"kind":"Status","status":"Failure","reason":"Forbidden","code":403}`, http.StatusForbidden},
		{"[+]ping ok\n[+]etcd ok\n", http.StatusOK},
	} {
		body, status = answer.body, answer.status
		if m, err := c.Members(context.Background(), nil); err != nil || m != nil {
			t.Errorf("%d: %v, %v", status, m, err)
		}
	}
}

func TestLossOf(t *testing.T) {
	up := func(n int, down ...int) []rollout.Member {
		out := make([]rollout.Member, n)
		for i := range out {
			out[i].Name = fmt.Sprintf("m%d", i+1)
		}
		for _, i := range down {
			out[i-1].Down = fmt.Sprintf("etcd-m%d is not Ready", i)
		}
		return out
	}
	for name, c := range map[string]struct {
		members []rollout.Member
		want    string
	}{
		"one":                     {up(1), ""},
		"one, itself down":        {up(1, 1), ""},
		"two":                     {up(2), ""},
		"two, the other down":     {up(2, 2), "without it 0 of 2 control-plane members would serve, and etcd-m2 is not Ready"},
		"three":                   {up(3), ""},
		"three, itself down":      {up(3, 1), ""},
		"three, another down":     {up(3, 3), "without it 1 of 3 control-plane members would serve, and etcd-m3 is not Ready"},
		"five, one other down":    {up(5, 2), ""},
		"five, two others down":   {up(5, 2, 3), "without it 2 of 5 control-plane members would serve, and etcd-m2 is not Ready, etcd-m3 is not Ready"},
		"four, one other down":    {up(4, 2), "without it 2 of 4 control-plane members would serve, and etcd-m2 is not Ready"},
		"no members at all":       {nil, ""},
		"not one of the members":  {up(4)[1:], ""},
		"not one, and one is out": {up(4, 4)[1:], ""},
	} {
		if got := lossOf("m1", c.members); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// A control-plane node is not cordoned while the others could not carry the
// cluster without it, and waits for them until the drain's timeout.
func TestDrainAsksForTheQuorum(t *testing.T) {
	for name, c := range map[string]struct {
		etcd bool
		down string
		want string
	}{
		"etcd":     {true, "etcd m3", "Node m1 is not drained yet: without it 1 of 3 control-plane members would serve, and etcd-m3 is not Ready"},
		"the node": {false, "node m3", "Node m1 is not drained yet: without it 1 of 3 control-plane members would serve, and Node m3 is NotReady"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakes(t, append(controlPlane([]string{"m1", "m2", "m3"}, c.etcd, c.down), aPod("a", func(p *corev1.Pod) { p.Spec.NodeName = "m1" }))...)
			refused := error(overBudget())
			f.evicting(func(string) error {
				if refused != nil {
					return refused
				}
				return nil
			})
			drain := Modules(Deps{Client: f.Client})["fleetd.cluster.drain"]
			d, _, err := drain.Diff("m1", clustertest.State(t, clustertest.With(Kubernetes, Node{Name: "m1"})), rollout.Args{"timeout": "5m"})
			if err != nil {
				t.Fatal(err)
			}
			m := &clustertest.Machine{}
			if o := m.Once(drain, "m1", d); o.Kind != rollout.Waiting || o.Message != c.want {
				t.Fatalf("%+v", o)
			}
			m.Now += 5 * time.Minute
			if o := m.Once(drain, "m1", d); o.Kind != rollout.Failed || !strings.Contains(o.Message, "cannot drain Node m1: without it 1 of 3") || !strings.Contains(o.Hint, "was not touched") {
				t.Errorf("%+v", o)
			}
			if w := f.writes(); len(w) > 0 {
				t.Errorf("wrote %q", w)
			}
			// It is back: the node goes, and has the whole of its own time.
			m.Now -= time.Second
			f.replace(t, controlPlane([]string{"m3"}, c.etcd)...)
			for _, want := range []string{"Node m1 is cordoned", "held back: web/a (PodDisruptionBudget: web-budget needs 2)", "held back: web/a (PodDisruptionBudget: web-budget needs 2)"} {
				if o := m.Once(drain, "m1", d); o.Kind != rollout.Waiting || o.Message != want {
					t.Errorf("%+v", o)
				}
				m.Now += time.Minute
			}
			refused = nil
			if o := m.Run(t, drain, "m1", d); o.Kind != rollout.Changed {
				t.Errorf("%+v", o)
			}
			// Once it has begun, a member that fails does not stop it half-way.
			f.replace(t, controlPlane([]string{"m2"}, c.etcd, "node m2", "etcd m2")...)
			if o := m.Once(drain, "m1", d); o.Kind != rollout.Changed {
				t.Errorf("%+v", o)
			}
		})
	}
}
