package cluster

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/fleetd/fleetd/pkg/cluster/clustertest"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// The tests of this file run against a real API server with the real operator.
// They are asked for by naming its kubeconfig:
//
//	FLEETD_TEST_KUBECONFIG=… go test ./pkg/cluster -run Lab -v
//
// The cluster is left as it was found: Iptables, with kube-proxy.
const labKubeconfig = "FLEETD_TEST_KUBECONFIG"

func labClient(t *testing.T) *Client {
	t.Helper()
	file := os.Getenv(labKubeconfig)
	if file == "" {
		t.Skipf("needs a control plane with Calico's operator: set %s to a kubeconfig that may be written to", labKubeconfig)
	}
	c, err := Connect(file, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// labUser is a client with the rights of deploy/rbac.yaml and no others.
func labUser(t *testing.T) *Client {
	t.Helper()
	admin, ctx := labClient(t), context.Background()
	rbac := admin.Kube.RbacV1()
	for _, o := range manifest(t) {
		var err error
		switch o := o.(type) {
		case *rbacv1.ClusterRole:
			_, err = rbac.ClusterRoles().Create(ctx, o, metav1.CreateOptions{})
		case *rbacv1.ClusterRoleBinding:
			_, err = rbac.ClusterRoleBindings().Create(ctx, o, metav1.CreateOptions{})
		case *rbacv1.Role:
			_, err = rbac.Roles(o.Namespace).Create(ctx, o, metav1.CreateOptions{})
		case *rbacv1.RoleBinding:
			_, err = rbac.RoleBindings(o.Namespace).Create(ctx, o, metav1.CreateOptions{})
		}
		if err != nil && !apierrors.IsAlreadyExists(err) && !apierrors.IsNotFound(err) { // a cluster without the operator
			t.Fatal(err)
		}
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", os.Getenv(labKubeconfig))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Impersonate.UserName = "fleetd"
	c, err := connect(cfg, Options{Holder: "alice@bastion1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stopWatching)
	return c
}

// TestLabRights: with the manifest's rights nothing is missing, without them all is.
func TestLabRights(t *testing.T) {
	c, ctx := labUser(t), context.Background()
	eventually(t, func() bool { // the authorizer hears of a role a moment later
		c.rights.asked = false
		lacks, err := c.lacks(ctx)
		return err == nil && len(lacks) == 0
	})
	if _, err := c.AcquireLease(ctx, "lab-rights", "alice@bastion1"); err != nil {
		t.Error(err)
	} else if err := c.Unlock(ctx, "lab-rights"); err != nil {
		t.Error(err)
	}
	if _, err := c.Members(ctx, nil); err != nil {
		t.Error(err)
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", os.Getenv(labKubeconfig))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Impersonate.UserName = "nobody-at-all"
	weak, err := connect(cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if lacks, err := weak.lacks(ctx); err != nil || len(lacks) != len(drainRights()) {
		t.Errorf("%q %v", lacks, err)
	}
}

// TestLabDrain drains a node for real, with the manifest's rights: a budget holds a
// pod back, then lets go.
func TestLabDrain(t *testing.T) {
	admin, user := labClient(t), labUser(t)
	c := admin
	ctx := context.Background()
	const name = "el-0002"
	ns := "drain-" + time.Now().Format("150405")
	if _, err := c.Kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Kube.CoreV1().Namespaces().Delete(ctx, ns, metav1.DeleteOptions{}) }()
	labels := map[string]string{"app": "web"}
	two := int32(2)
	rs := replicaSet(ns, name, labels, two)
	if _, err := c.Kube.AppsV1().ReplicaSets(ns).Create(ctx, rs, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	allowed := intstr.FromInt32(0)
	pdb, err := c.Kube.PolicyV1().PodDisruptionBudgets(ns).Create(ctx, &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "web-budget", Namespace: ns},
		Spec:       policyv1.PodDisruptionBudgetSpec{MaxUnavailable: &allowed, Selector: &metav1.LabelSelector{MatchLabels: labels}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		l, err := c.Kube.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
		ready := 0
		for _, p := range l.Items {
			if NotReady(&p) == "" {
				ready++
			}
		}
		p, perr := c.Kube.PolicyV1().PodDisruptionBudgets(ns).Get(ctx, "web-budget", metav1.GetOptions{})
		return err == nil && perr == nil && ready == 2 && p.Status.ObservedGeneration >= p.Generation && p.Status.CurrentHealthy == 2
	})
	nodes, err := c.Nodes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	m := matchNodes([]string{name}, nil, nodes)[name]
	ssh := &bootIDs{ids: map[string]string{name: m.node.BootID}}
	mods := Modules(Deps{Client: user, Hosts: ssh})
	drain, after, err := mods["fleetd.cluster.drain"].Diff(name, clustertest.State(t, clustertest.With(Kubernetes, m.node)), rollout.Args{"timeout": "60s"})
	if err != nil {
		t.Fatal(err)
	}
	uncordon, _, err := mods["fleetd.cluster.uncordon"].Diff(name, after, nil)
	if err != nil {
		t.Fatal(err)
	}

	dr := &clustertest.Machine{Pause: 200 * time.Millisecond}
	dr.Look = func(attempt int) {
		if attempt == 4 { // the budget is widened in the middle
			if _, err := c.Kube.PolicyV1().PodDisruptionBudgets(ns).Patch(ctx, pdb.Name, types.MergePatchType, []byte(`{"spec":{"maxUnavailable":2}}`), metav1.PatchOptions{}); err != nil {
				t.Error(err)
			}
			// kwok starts the pods again on the same node; that is not what is tested.
			_, _ = c.Kube.AppsV1().ReplicaSets(ns).Patch(ctx, rs.Name, types.MergePatchType, []byte(`{"spec":{"template":{"spec":{"nodeSelector":{"kubernetes.io/hostname":"nowhere"}}}}}`), metav1.PatchOptions{})
		}
	}
	o := dr.Run(t, mods["fleetd.cluster.drain"], name, drain)
	t.Logf("%s: %s\n\twrote %s\n\tsaid %s", o.Kind, o.Message, strings.Join(dr.Wrote(), "\n\t      "), strings.Join(dr.Messages, "\n\t     "))
	if o.Kind != rollout.Changed {
		t.Fatalf("%+v", o)
	}
	if said := strings.Join(dr.Messages, "\n"); !strings.Contains(said, "PodDisruptionBudget web-budget needs 2 healthy pods and has 2") {
		t.Errorf("the budget is not named: %s", said)
	}
	nodes, _ = c.Nodes(ctx)
	if n := matchNodes([]string{name}, nil, nodes)[name].node; !n.Cordon().Ours() {
		t.Errorf("not cordoned as ours: %+v", n)
	}

	// The machine is in another boot than the Node shows: Ready proves nothing.
	boot := "boot-of-" + ns
	ssh.ids[name] = boot
	up := &clustertest.Machine{Pause: 200 * time.Millisecond}
	up.Look = func(attempt int) {
		if attempt == 3 {
			patch := []byte(`{"status":{"nodeInfo":{"bootID":"` + boot + `"}}}`)
			if _, err := c.Kube.CoreV1().Nodes().Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
				t.Error(err)
			}
		}
	}
	o = up.Run(t, mods["fleetd.cluster.uncordon"], name, uncordon)
	t.Logf("%s: %s\n\twrote %s\n\tsaid %s", o.Kind, o.Message, strings.Join(up.Wrote(), "\n\t      "), strings.Join(up.Messages, "\n\t     "))
	if o.Kind != rollout.Changed || !strings.Contains(up.Messages[0], "the kubelet has not reported since") {
		t.Fatalf("%+v %q", o, up.Messages)
	}
	nodes, _ = c.Nodes(ctx)
	if n := matchNodes([]string{name}, nil, nodes)[name].node; n.Unschedulable || n.CordonedBy != "" {
		t.Errorf("still cordoned: %+v", n)
	}
}

func eventually(t *testing.T, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("did not come about within a minute")
		}
	}
}
