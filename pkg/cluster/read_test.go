package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
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
	"sigs.k8s.io/yaml"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

func TestFactsOfRecordings(t *testing.T) {
	files, err := filepath.Glob("testdata/read/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			a, text := readTxtar(t, file)
			c := newFakes(t, objects(t, text("objects.yaml"))...)
			f, err := c.Facts(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			got, err := yaml.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, file, a, "facts.yaml", string(got))
			if w := c.writes(); len(w) > 0 {
				t.Errorf("reading wrote: %q", w)
			}
		})
	}
}

func TestReadingNeedsRights(t *testing.T) {
	c := recorded(t, "iptables")
	c.kube.PrependReactor("list", "nodes", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "nodes"}, "",
			errors.New(`User "deployer" cannot list resource "nodes" in API group "" at the cluster scope`))
	})
	_, err := c.Facts(context.Background())
	p := rollout.AsProblem(err)
	if !strings.Contains(p.Message, "cannot list nodes: ") || !strings.Contains(p.Hint, "kubectl auth can-i list nodes --all-namespaces") {
		t.Errorf("%+v", p)
	}
}

func TestManifestInstallAndNone(t *testing.T) {
	c := newFakes(t, objects(t, "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: calico-node, namespace: kube-system}\nspec: {template: {spec: {containers: [{name: calico-node, image: 'reg:5000/calico/node:v3.25.0@sha256:0'}]}}}\n")...)
	f, err := c.Facts(context.Background())
	if err != nil || f.Install != Manifest || f.CalicoVersion != "v3.25.0" {
		t.Errorf("%v %+v", err, f)
	}
	f, err = newFakes(t).Facts(context.Background())
	if err != nil || f.Install != NoCalico {
		t.Errorf("%v %+v", err, f)
	}
	if on, why := f.BPFOn(); on || why != "Calico is not installed" {
		t.Error(on, why)
	}
}

func TestImageVersion(t *testing.T) {
	for image, want := range map[string]string{
		"docker.io/calico/node:v3.29.2": "v3.29.2", "reg:5000/calico/node": "", "node": "", "": "",
		"reg:5000/node:v1@sha256:abc": "v1", "quay.io/x@sha256:abc": "",
	} {
		if got := imageVersion(image); got != want {
			t.Errorf("imageVersion(%q) = %q, want %q", image, got, want)
		}
	}
}

func TestProxyMode(t *testing.T) {
	for name, c := range map[string]struct{ container, config, want string }{
		"config": {"{name: kube-proxy, command: [kube-proxy, --config=/var/lib/kube-proxy/config.conf], volumeMounts: [{name: c, mountPath: /var/lib/kube-proxy}]}",
			"config.conf: 'mode: \"ipvs\"'", "ipvs"},
		"renamed key": {"{name: kube-proxy, args: [--config, /etc/kp/config.yaml], volumeMounts: [{name: i, mountPath: /etc/kp/}]}",
			"other: 'mode: IPVS'", "ipvs"},
		"default":           {"{name: kube-proxy, command: [kube-proxy, --config=/c/config.conf], volumeMounts: [{name: c, mountPath: /c}]}", "config.conf: '{}'", "iptables"},
		"flag":              {"{name: kube-proxy, command: [kube-proxy, --proxy-mode=ipvs]}", "x: z", "ipvs"},
		"no flag":           {"{name: kube-proxy, command: [kube-proxy]}", "x: z", "iptables"},
		"config beats flag": {"{name: kube-proxy, command: [kube-proxy, --proxy-mode=ipvs, --config=/c/config.conf], volumeMounts: [{name: c, mountPath: /c}]}", "config.conf: 'mode: nftables'", "nftables"},
		"file on the node":  {"{name: kube-proxy, command: [kube-proxy, --config=/etc/host/config.conf]}", "x: z", ""},
		"no YAML":           {"{name: kube-proxy, command: [kube-proxy, --config=/c/config.conf], volumeMounts: [{name: c, mountPath: /c}]}", "config.conf: '{'", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakes(t, objects(t, "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: kube-proxy, namespace: kube-system}\nspec: {template: {spec: {containers: ["+
				c.container+"], volumes: [{name: c, configMap: {name: conf}}, {name: i, configMap: {name: conf, items: [{key: other, path: config.yaml}]}}]}}}\n---\n"+
				"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: conf, namespace: kube-system}\ndata: {"+c.config+"}\n")...)
			got, err := f.Facts(context.Background())
			if err != nil || len(got.KubeProxies) != 1 || got.KubeProxies[0].Mode != c.want {
				t.Errorf("%v %+v", err, got.KubeProxies)
			}
		})
	}
}

func TestKubeProxyOnNonCalicoNodesStays(t *testing.T) {
	node := func(name string, labels map[string]string) runtime.Object {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	}
	pod := func(name, on string) runtime.Object {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "kube-system", Labels: map[string]string{"k8s-app": "kube-proxy"}}, Spec: corev1.PodSpec{NodeName: on}}
	}
	ds := "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: kube-proxy, namespace: kube-system}\n" +
		"spec: {selector: {matchLabels: {k8s-app: kube-proxy}}, template: {spec: {nodeSelector: {non-calico: 'true'}}}}\nstatus: {desiredNumberScheduled: 1}\n"
	objs := append(objects(t, ds), node("a", nil), node("b", map[string]string{"non-calico": "true"}), pod("p1", "b"))
	f, err := newFakes(t, objs...).Facts(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if off, why := f.KubeProxyOff(); !off {
		t.Errorf("not off: %s", why)
	}
	f, err = newFakes(t, append(objs, pod("p2", "a"))...).Facts(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if off, why := f.KubeProxyOff(); off || why != "pods of DaemonSet kube-system/kube-proxy that are not gone yet: 1" {
		t.Errorf("%t %s", off, why)
	}
}

func TestManagedBy(t *testing.T) {
	for meta, want := range map[string]string{
		"{name: kube-proxy, namespace: kube-system}":                                                                          "",
		"{name: kube-proxy, namespace: kube-system, labels: {addonmanager.kubernetes.io/mode: Reconcile}}":                    "the addon manager",
		"{name: kube-proxy, namespace: kube-system, labels: {addonmanager.kubernetes.io/mode: EnsureExists}}":                 "",
		"{name: kube-proxy, namespace: kube-system, annotations: {argocd.argoproj.io/tracking-id: 'x:apps/DaemonSet'}}":       "Argo CD",
		"{name: kube-proxy, namespace: kube-system, ownerReferences: [{kind: Addon, name: proxy, apiVersion: x/v1, uid: u}]}": "Addon proxy",
	} {
		f, err := newFakes(t, objects(t, "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: "+meta+"\n")...).Facts(context.Background())
		if err != nil || len(f.KubeProxies) != 1 || f.KubeProxies[0].ManagedBy != want {
			t.Errorf("%s: %v %+v", meta, err, f.KubeProxies)
		}
	}
}

func TestObservers(t *testing.T) {
	c := recorded(t, "iptables")
	obs := Observers(c.Client, map[string]HostRef{"w1": {Addresses: []string{"10.0.0.4"}}})
	got := obs[0].Observe(context.Background(), map[string][]string{"el-0001": {""}, "w1": {""}, "bastion": {""}})
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

	c.kube.ClearActions()
	got = obs[1].Observe(context.Background(), map[string][]string{rollout.Localhost: {""}, "el-0001": {""}})
	if got[rollout.Localhost].Err != nil || got["el-0001"].Err == nil || got[rollout.Localhost].Identity["cluster_uid"] != "11-22" {
		t.Errorf("%+v", got)
	}
	uids := 0
	for _, a := range c.kube.Actions() {
		if a.GetResource().Resource == "namespaces" {
			uids++
		}
	}
	if uids != 1 {
		t.Errorf("the cluster's UID was read %d times", uids)
	}
	without := Observers(nil, map[string]HostRef{"el-0002": {NoNode: true}})
	so := without[1].Observe(context.Background(), map[string][]string{rollout.Localhost: {""}})[rollout.Localhost]
	if p := rollout.AsProblem(errors.Join(so.Err)); so.Err == nil || !strings.Contains(p.Message, "no cluster is configured") || !strings.Contains(p.Hint, "--kubeconfig") {
		t.Errorf("without a cluster: %+v", so)
	}
	got = without[0].Observe(context.Background(), map[string][]string{"el-0001": {""}, "el-0002": {""}})
	for host, unknown := range map[string]bool{"el-0001": true, "el-0002": false} {
		if n := nodeOf(t, got[host]); n.Name != "" || n.Unknown != unknown {
			t.Errorf("%s without a cluster: %+v", host, n)
		}
	}
	// A machine of which the inventory says that it is no node is none, whether
	// the cluster answers or not; but it must not be wrong about it.
	nodes := Observers(c.Client, map[string]HostRef{"bastion": {NoNode: true}, "el-0001": {NoNode: true}})[0]
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
	n, err := Kubernetes.Get(rollout.State{Kubernetes.Name(): so.Value})
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
		state, err := Kubernetes.With(nil, n)
		if err != nil {
			t.Fatal(err)
		}
		if state, err = node.Section.With(state, f); err != nil {
			t.Fatal(err)
		}
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
	obs := Observers(c.Client, map[string]HostRef{})[0]
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
	for _, o := range Observers(c.Client, nil) {
		host := map[string]string{"kubernetes": "m1", "calico": rollout.Localhost}[o.Section()]
		so := o.Observe(context.Background(), map[string][]string{host: {""}})[host]
		p := rollout.AsProblem(errors.Join(so.Err))
		if so.Err == nil || !strings.Contains(p.Message, "cannot tell which cluster this is") || !strings.Contains(p.Hint, "kubectl auth can-i get namespaces -n kube-system") {
			t.Errorf("%s: %+v", o.Section(), p)
		}
	}
}
