package cluster

import (
	"context"
	"errors"
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

// labStep plans a task on the cluster as it is and executes it.
func labStep(t *testing.T, c *Client, module string, args rollout.Args) (rollout.Change, rollout.Outcome, *machine) {
	t.Helper()
	mod := Modules(Deps{Client: c})[module]
	f, err := c.Facts(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	change, after, err := mod.Diff(rollout.Localhost, state(t, with(Calico, f)), args)
	if err != nil {
		t.Fatalf("%s: %v", module, err)
	}
	m := &machine{pause: 300 * time.Millisecond, limit: 3 * time.Minute}
	if change.Action == rollout.NoOp {
		return change, rollout.AlreadyDone("%s", change.Summary), m
	}
	started := time.Now()
	o := m.run(t, mod, rollout.Localhost, change)
	t.Logf("%s %v: %s: %s (%.1f s, %d calls)\n\twrote %s\n\tsaid %s", module, args, o.Kind, o.Message, time.Since(started).Seconds(), m.attempt,
		strings.Join(m.wrote(), "\n\t      "), strings.Join(m.messages, "\n\t     "))
	if o.Bad() {
		t.Fatalf("%s: %s\n%s", module, o.Message, o.Hint)
	}
	// What Diff said the cluster would be is what it is: a second look finds
	// nothing to do.
	again, err := c.Facts(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := mod.Diff(rollout.Localhost, state(t, with(Calico, again)), args)
	if err != nil || second.Action.Writes() {
		t.Fatalf("%s: a second look still finds %+v, %v", module, second, err)
	}
	projected, err := Calico.Get(after)
	if err != nil {
		t.Fatal(err)
	}
	if projected.Endpoint != again.Endpoint || projected.Felix != again.Felix || projected.Installation.DataPlane() != again.Installation.DataPlane() {
		t.Errorf("%s: projected %+v %+v %s, found %+v %+v %s", module, projected.Endpoint, projected.Felix, projected.Installation.DataPlane(),
			again.Endpoint, again.Felix, again.Installation.DataPlane())
	}
	return change, o, m
}

func labKernels(t *testing.T, c *Client, kernel string) {
	t.Helper()
	nodes, err := c.Nodes(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		patch := []byte(`{"status":{"nodeInfo":{"kernelVersion":"` + kernel + `"}}}`)
		if _, err := c.Kube.CoreV1().Nodes().Patch(context.Background(), n.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLabThereAndBack(t *testing.T) {
	c := labClient(t)
	const host = "10.0.0.3"
	pre := rollout.Args{"api_host": host, "api_port": int64(6443)}

	labKernels(t, c, "3.10.0-1160.el7.x86_64")
	mod := Modules(Deps{Client: c})["fleetd.calico.preflight"]
	f, err := c.Facts(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	change, _, err := mod.Diff(rollout.Localhost, state(t, with(Calico, f)), pre)
	if err != nil {
		t.Fatal(err)
	}
	o := (&machine{pause: time.Second}).run(t, mod, rollout.Localhost, change)
	if o.Kind != rollout.Failed || !strings.Contains(o.Message, "el-0003 (3.10.0-1160.el7.x86_64: too old)") {
		t.Fatalf("old kernels: %+v", o)
	}
	labKernels(t, c, "6.1.4-1.el7.elrepo.x86_64")

	labStep(t, c, "fleetd.calico.preflight", pre)
	labStep(t, c, "fleetd.calico.api_endpoint", rollout.Args{"host": host, "port": int64(6443)})
	labStep(t, c, "fleetd.calico.dataplane", rollout.Args{"linux_dataplane": "BPF"})
	labStep(t, c, "fleetd.calico.kube_proxy", rollout.Args{"state": "disabled"})
	labStep(t, c, "fleetd.calico.external_service_mode", rollout.Args{"mode": "DSR"})
	labStep(t, c, "fleetd.calico.verify", rollout.Args{"linux_dataplane": "BPF"})

	labStep(t, c, "fleetd.calico.external_service_mode", rollout.Args{"mode": "Tunnel"})
	labStep(t, c, "fleetd.calico.preflight", rollout.Args{"linux_dataplane": "Iptables"})
	labStep(t, c, "fleetd.calico.kube_proxy", rollout.Args{"state": "enabled"})
	labStep(t, c, "fleetd.calico.dataplane", rollout.Args{"linux_dataplane": "Iptables"})
	labStep(t, c, "fleetd.calico.api_endpoint", rollout.Args{"state": "absent"})
	labStep(t, c, "fleetd.calico.verify", rollout.Args{"linux_dataplane": "Iptables"})
}

// TestLabUndo does the flip by each module's Do and takes it back by its Undo,
// in reverse.
func TestLabUndo(t *testing.T) {
	c := labClient(t)
	labKernels(t, c, "6.1.4-1.el7.elrepo.x86_64")
	before, err := c.Facts(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	mods := Modules(Deps{Client: c})
	type done struct {
		module string
		change rollout.Change
	}
	var did []done
	for _, s := range []struct {
		module string
		args   rollout.Args
	}{
		{"fleetd.calico.api_endpoint", rollout.Args{"host": "10.0.0.3"}},
		{"fleetd.calico.kube_proxy", rollout.Args{"state": "disabled"}}, // the article's order
		{"fleetd.calico.dataplane", rollout.Args{"linux_dataplane": "BPF"}},
		{"fleetd.calico.external_service_mode", rollout.Args{"mode": "DSR"}},
	} {
		change, _, _ := labStep(t, c, s.module, s.args)
		did = append(did, done{s.module, change})
	}
	for i := len(did) - 1; i >= 0; i-- {
		m := &machine{pause: 300 * time.Millisecond, limit: 3 * time.Minute, undo: true}
		if o := m.run(t, mods[did[i].module], rollout.Localhost, did[i].change); o.Bad() {
			t.Fatalf("undo %s: %s\n%s", did[i].module, o.Message, o.Hint)
		}
	}
	after, err := c.Facts(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if after.Endpoint != before.Endpoint || after.Felix.ExternalServiceMode != before.Felix.ExternalServiceMode ||
		after.Installation.DataPlane() != before.Installation.DataPlane() || after.bpfEnabled() || after.KubeProxies[0].Disabled() {
		t.Errorf("not as before:\n%+v\n%+v", before, after)
	}
}

// TestLabByHand: with bpfEnabled set by hand the operator would end degraded;
// fleetd says so before it touches anything.
func TestLabByHand(t *testing.T) {
	c := labClient(t)
	ctx := context.Background()
	patch := func(v string) {
		if _, err := c.Dynamic.Resource(felixconfigs).Patch(ctx, "default", types.MergePatchType, []byte(`{"spec":{"bpfEnabled":`+v+`}}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	was, err := c.Facts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	patch("true")
	defer patch(orWord(was.Felix.BPFEnabled, "null"))
	f, err := c.Facts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = Modules(Deps{})["fleetd.calico.dataplane"].Diff(rollout.Localhost, state(t, with(Calico, f)), rollout.Args{"linux_dataplane": "BPF"})
	if err == nil || !strings.Contains(err.Error(), "by hand") {
		t.Errorf("got %v", err)
	}
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
			if notReady(&p) == "" {
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
	drain, after, err := mods["fleetd.cluster.drain"].Diff(name, state(t, with(Kubernetes, m.node)), rollout.Args{"timeout": "60s"})
	if err != nil {
		t.Fatal(err)
	}
	uncordon, _, err := mods["fleetd.cluster.uncordon"].Diff(name, after, nil)
	if err != nil {
		t.Fatal(err)
	}

	dr := &machine{pause: 200 * time.Millisecond}
	dr.look = func(attempt int) {
		if attempt == 4 { // the budget is widened in the middle
			if _, err := c.Kube.PolicyV1().PodDisruptionBudgets(ns).Patch(ctx, pdb.Name, types.MergePatchType, []byte(`{"spec":{"maxUnavailable":2}}`), metav1.PatchOptions{}); err != nil {
				t.Error(err)
			}
			// kwok starts the pods again on the same node; that is not what is tested.
			_, _ = c.Kube.AppsV1().ReplicaSets(ns).Patch(ctx, rs.Name, types.MergePatchType, []byte(`{"spec":{"template":{"spec":{"nodeSelector":{"kubernetes.io/hostname":"nowhere"}}}}}`), metav1.PatchOptions{})
		}
	}
	o := dr.run(t, mods["fleetd.cluster.drain"], name, drain)
	t.Logf("%s: %s\n\twrote %s\n\tsaid %s", o.Kind, o.Message, strings.Join(dr.wrote(), "\n\t      "), strings.Join(dr.messages, "\n\t     "))
	if o.Kind != rollout.Changed {
		t.Fatalf("%+v", o)
	}
	if said := strings.Join(dr.messages, "\n"); !strings.Contains(said, "PodDisruptionBudget web-budget needs 2 healthy pods and has 2") {
		t.Errorf("the budget is not named: %s", said)
	}
	nodes, _ = c.Nodes(ctx)
	if n := matchNodes([]string{name}, nil, nodes)[name].node; !n.Cordon().Ours() {
		t.Errorf("not cordoned as ours: %+v", n)
	}

	// The machine is in another boot than the Node shows: Ready proves nothing.
	boot := "boot-of-" + ns
	ssh.ids[name] = boot
	up := &machine{pause: 200 * time.Millisecond}
	up.look = func(attempt int) {
		if attempt == 3 {
			patch := []byte(`{"status":{"nodeInfo":{"bootID":"` + boot + `"}}}`)
			if _, err := c.Kube.CoreV1().Nodes().Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
				t.Error(err)
			}
		}
	}
	o = up.run(t, mods["fleetd.cluster.uncordon"], name, uncordon)
	t.Logf("%s: %s\n\twrote %s\n\tsaid %s", o.Kind, o.Message, strings.Join(up.wrote(), "\n\t      "), strings.Join(up.messages, "\n\t     "))
	if o.Kind != rollout.Changed || !strings.Contains(up.messages[0], "the kubelet has not reported since") {
		t.Fatalf("%+v %q", o, up.messages)
	}
	nodes, _ = c.Nodes(ctx)
	if n := matchNodes([]string{name}, nil, nodes)[name].node; n.Unschedulable || n.CordonedBy != "" {
		t.Errorf("still cordoned: %+v", n)
	}
}

// TestLabDegraded brings the operator into trouble in the middle of a flip: its
// own note on FelixConfiguration says something else than the field.
func TestLabDegraded(t *testing.T) {
	c := labClient(t)
	ctx := context.Background()
	labKernels(t, c, "6.1.4-1.el7.elrepo.x86_64")
	labStep(t, c, "fleetd.calico.api_endpoint", rollout.Args{"host": "10.0.0.3"})
	felix := func(annotation, value string) {
		body := `{"metadata":{"annotations":{"` + bpfAnnotation + `":"` + annotation + `"}},"spec":{"bpfEnabled":` + value + `}}`
		if _, err := c.Dynamic.Resource(felixconfigs).Patch(ctx, "default", types.MergePatchType, []byte(body), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	mod := Modules(Deps{Client: c})["fleetd.calico.dataplane"]
	f, err := c.Facts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	change, _, err := mod.Diff(rollout.Localhost, state(t, with(Calico, f)), rollout.Args{"linux_dataplane": "BPF"})
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{pause: 300 * time.Millisecond}
	m.look = func(attempt int) {
		if attempt == 2 {
			felix("true", "false")
		}
	}
	o := m.run(t, mod, rollout.Localhost, change)
	t.Logf("%s: %s\n%s\n\tsaid %s", o.Kind, o.Message, o.Hint, strings.Join(m.messages, "\n\t     "))
	if o.Kind != rollout.Failed || !strings.Contains(o.Message, "modified by someone else") {
		t.Errorf("%+v", o)
	}
	felix("false", "false")
	u := &machine{pause: 300 * time.Millisecond, undo: true}
	if o := u.run(t, mod, rollout.Localhost, change); o.Bad() {
		t.Errorf("undo: %+v", o)
	}
	labStep(t, c, "fleetd.calico.api_endpoint", rollout.Args{"state": "absent"})
}

// TestLabRefusals: what the real API server says no to, and how it is told.
func TestLabRefusals(t *testing.T) {
	c := labClient(t)
	ctx := context.Background()
	err := c.patchInstallation(ctx, map[string]any{"linuxDataplan": "BPF"})
	if err == nil || !strings.Contains(err.Error(), "linuxDataplan") {
		t.Errorf("a field that does not exist was taken: %v", err)
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", os.Getenv(labKubeconfig))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Impersonate.UserName = "deployer"
	weak, err := connect(cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []struct {
		do   func() error
		hint string
	}{
		{func() error { _, err := weak.Nodes(ctx); return err }, "kubectl auth can-i list nodes --all-namespaces"},
		{func() error { return weak.patchInstallation(ctx, map[string]any{"linuxDataplane": "BPF"}) }, "kubectl auth can-i patch installations.operator.tigera.io --all-namespaces"},
		{func() error {
			return weak.selectNonCalico(ctx, KubeProxy{DaemonSet: DaemonSet{Namespace: "kube-system", Name: "kube-proxy"}}, "true")
		}, "kubectl auth can-i patch daemonsets.apps -n kube-system"},
	} {
		err := w.do()
		if p := rollout.AsProblem(errors.Join(err)); err == nil || !strings.Contains(p.Hint, w.hint) {
			t.Errorf("want %q, got %+v", w.hint, p)
		}
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
