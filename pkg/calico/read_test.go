package calico

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"
	"sigs.k8s.io/yaml"

	"github.com/fleetd/fleetd/pkg/cluster/clustertest"
	"github.com/fleetd/fleetd/pkg/rollout"
)

func TestFactsOfRecordings(t *testing.T) {
	files, err := filepath.Glob("testdata/read/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			a, text := clustertest.ReadTxtar(t, file)
			c := newFakes(t, objects(t, text("objects.yaml"))...)
			f, err := c.Facts(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			got, err := yaml.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			clustertest.Golden(t, file, a, "facts.yaml", string(got))
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
		"{name: kube-proxy, namespace: kube-system, labels: {app.kubernetes.io/managed-by: Helm}}":                            "Helm",
		"{name: kube-proxy, namespace: kube-system, labels: {app.kubernetes.io/managed-by: ansible}}":                         "",
		"{name: kube-proxy, namespace: kube-system, annotations: {argocd.argoproj.io/tracking-id: 'x:apps/DaemonSet'}}":       "Argo CD",
		"{name: kube-proxy, namespace: kube-system, ownerReferences: [{kind: Addon, name: proxy, apiVersion: x/v1, uid: u}]}": "Addon proxy",
	} {
		f, err := newFakes(t, objects(t, "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: "+meta+"\n")...).Facts(context.Background())
		if err != nil || len(f.KubeProxies) != 1 || f.KubeProxies[0].ManagedBy != want {
			t.Errorf("%s: %v %+v", meta, err, f.KubeProxies)
		}
	}
}

func TestObserver(t *testing.T) {
	c := recorded(t, "iptables")
	both := map[string][]string{rollout.Localhost: {""}, "el-0001": {""}}
	got := Observers(c.deps())[0].Observe(context.Background(), both)
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
	local := map[string][]string{rollout.Localhost: {""}}
	so := Observers(Deps{})[0].Observe(context.Background(), local)[rollout.Localhost]
	if p := rollout.AsProblem(errors.Join(so.Err)); so.Err == nil || !strings.Contains(p.Message, "no cluster is configured") || !strings.Contains(p.Hint, "--kubeconfig") {
		t.Errorf("without a cluster: %+v", so)
	}
	// Without the right to tell which cluster it is, nothing can be bound.
	c.kube.PrependReactor("get", "namespaces", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "namespaces"}, "kube-system",
			errors.New(`User "deployer" cannot get resource "namespaces" in API group "" in the namespace "kube-system"`))
	})
	so = Observers(c.deps())[0].Observe(context.Background(), local)[rollout.Localhost]
	if p := rollout.AsProblem(errors.Join(so.Err)); so.Err == nil || !strings.Contains(p.Message, "cannot tell which cluster this is") {
		t.Errorf("%+v", p)
	}
}
