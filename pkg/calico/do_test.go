package calico

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/cluster/clustertest"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// The tests of this file drive Do and Undo against client-go's fakes. What the
// controllers and the operator do in a cluster, the tests do by hand between
// two calls, as recorded from the real ones.

func planned(t *testing.T, f fakes, module string, args rollout.Args) (rollout.Module, rollout.Change) {
	t.Helper()
	m := Modules(f.deps())[module]
	facts, err := f.Facts(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := m.Diff(rollout.Localhost, clustertest.State(t, clustertest.With(Section, facts), clustertest.With(reach, nil)), args)
	if err != nil {
		t.Fatal(err)
	}
	return m, c
}

// mutate changes a typed DaemonSet as its controller would.
func (f fakes) mutate(t *testing.T, ns, name string, change func(*appsv1.DaemonSet)) {
	t.Helper()
	ds, err := f.kube.AppsV1().DaemonSets(ns).Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	change(ds)
	if err := f.kube.Tracker().Update(appsv1.SchemeGroupVersion.WithResource("daemonsets"), ds, ns); err != nil {
		t.Fatal(err)
	}
}

var resourceOf = map[string]schema.GroupVersionResource{"Installation": installations, "FelixConfiguration": felixconfigs, "TigeraStatus": tigeraStatuses}

// custom stores a custom object, as the operator would.
func (f fakes) custom(t *testing.T, o *unstructured.Unstructured) {
	t.Helper()
	if err := f.dyn.Tracker().Update(resourceOf[o.GetKind()], o, ""); err != nil {
		t.Fatal(err)
	}
}

func (f fakes) get(t *testing.T, kind, name string) *unstructured.Unstructured {
	t.Helper()
	u, err := f.dyn.Resource(resourceOf[kind]).Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func set(t *testing.T, u *unstructured.Unstructured, v any, path ...string) *unstructured.Unstructured {
	t.Helper()
	if err := unstructured.SetNestedField(u.Object, v, path...); err != nil {
		t.Fatal(err)
	}
	return u
}

func TestKubeProxyWaitsForBPF(t *testing.T) {
	f := recorded(t, "bpf")
	f.mutate(t, "kube-system", "kube-proxy", func(ds *appsv1.DaemonSet) {
		delete(ds.Spec.Template.Spec.NodeSelector, "non-calico")
		ds.Status.DesiredNumberScheduled, ds.Status.CurrentNumberScheduled, ds.Status.NumberReady = 6, 6, 6
	})
	mod, c := planned(t, f, "fleetd.calico.kube_proxy", rollout.Args{"state": "disabled"})
	f.custom(t, set(t, f.get(t, "FelixConfiguration", "default"), false, "spec", "bpfEnabled"))
	m := &clustertest.Machine{}
	o := m.Once(mod, rollout.Localhost, c)
	if o.Kind != rollout.Waiting || !strings.Contains(o.Message, "kube-proxy is untouched: FelixConfiguration bpfEnabled is false") || len(clustertest.Only(f.writes(), "daemonsets")) > 0 {
		t.Fatalf("%+v %q", o, f.writes())
	}
	f.custom(t, set(t, f.get(t, "FelixConfiguration", "default"), true, "spec", "bpfEnabled"))
	m.Look = func(attempt int) {
		if attempt == 3 {
			f.mutate(t, "kube-system", "kube-proxy", func(ds *appsv1.DaemonSet) {
				ds.Generation++
			})
		}
		if attempt == 4 {
			f.mutate(t, "kube-system", "kube-proxy", func(ds *appsv1.DaemonSet) {
				ds.Status = appsv1.DaemonSetStatus{ObservedGeneration: ds.Generation}
			})
		}
	}
	o = m.Run(t, mod, rollout.Localhost, c)
	if o.Kind != rollout.Changed {
		t.Errorf("%+v", o)
	}
	want := []string{`patch daemonsets kube-proxy {"spec":{"template":{"spec":{"nodeSelector":{"non-calico":"true"}}}}}`}
	if d := cmp.Diff(want, clustertest.Only(f.writes(), "daemonsets")); d != "" {
		t.Error(d)
	}

	// Back: ready on every node counts, not the patch.
	u := &clustertest.Machine{Undo: true}
	u.Look = func(attempt int) {
		if attempt == 2 {
			f.mutate(t, "kube-system", "kube-proxy", func(ds *appsv1.DaemonSet) {
				ds.Status.DesiredNumberScheduled, ds.Status.CurrentNumberScheduled, ds.Status.UpdatedNumberScheduled, ds.Status.NumberReady, ds.Status.NumberAvailable = 6, 6, 6, 4, 4
			})
		}
		if attempt == 3 {
			f.mutate(t, "kube-system", "kube-proxy", func(ds *appsv1.DaemonSet) { ds.Status.NumberReady, ds.Status.NumberAvailable = 6, 6 })
		}
	}
	o = u.Run(t, mod, rollout.Localhost, c)
	if d := cmp.Diff([]string{"DaemonSet kube-proxy is to follow", "kube-proxy 6/6 updated, 4 ready", "kube-proxy runs on every node"}, u.Messages); d != "" {
		t.Errorf("%+v %s", o, d)
	}
}

// endpointDone makes the recording one in which Calico has its endpoint.
func endpointDone(t *testing.T, f fakes) {
	t.Helper()
	_, err := f.kube.CoreV1().ConfigMaps(operatorNamespace).Create(context.Background(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: endpointName, Namespace: operatorNamespace}, Data: map[string]string{envHost: "10.0.0.3", envPort: "6443"},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f.tell(t, "10.0.0.3", "6443")
}

// tell puts the address into the pod templates, as the operator does.
func (f fakes) tell(t *testing.T, host, port string) {
	t.Helper()
	env := func(p *corev1.PodSpec) {
		p.Containers[0].Env = nil
		if host != "" {
			p.Containers[0].Env = []corev1.EnvVar{{Name: envHost, Value: host}, {Name: envPort, Value: port}}
		}
	}
	f.mutate(t, "calico-system", "calico-node", func(ds *appsv1.DaemonSet) { env(&ds.Spec.Template.Spec) })
	for _, name := range companionsOfNode {
		d, err := f.kube.AppsV1().Deployments(calicoNamespace).Get(context.Background(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		env(&d.Spec.Template.Spec)
		if err := f.kube.Tracker().Update(appsv1.SchemeGroupVersion.WithResource("deployments"), d, calicoNamespace); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEndpointThereAndBack(t *testing.T) {
	f := recorded(t, "iptables")
	mod, c := planned(t, f, "fleetd.calico.api_endpoint", rollout.Args{"host": "10.0.0.3"})
	m := &clustertest.Machine{}
	m.Look = func(attempt int) {
		if attempt == 3 {
			f.tell(t, "10.0.0.3", "6443")
			f.mutate(t, "calico-system", "calico-node", func(ds *appsv1.DaemonSet) { ds.Status.NumberReady = 4 })
		}
		if attempt == 4 {
			f.mutate(t, "calico-system", "calico-node", func(ds *appsv1.DaemonSet) { ds.Status.NumberReady = 6 })
		}
	}
	o := m.Run(t, mod, rollout.Localhost, c)
	want := []string{
		"the operator is to take over the API server's address", "the operator has not taken over the API server's address yet",
		"calico-node 6/6 updated, 4 ready", "Calico reaches the API server at 10.0.0.3:6443",
	}
	if d := cmp.Diff(want, m.Messages); d != "" {
		t.Errorf("%+v %s", o, d)
	}

	// Back: operator 1.36 does not see a ConfigMap go, so it is emptied first.
	u := &clustertest.Machine{Undo: true}
	u.Look = func(attempt int) {
		if attempt == 3 {
			f.tell(t, "", "")
		}
	}
	if o := u.Run(t, mod, rollout.Localhost, c); o.Kind != rollout.Changed {
		t.Errorf("%+v", o)
	}
	got := clustertest.Only(f.writes(), "configmaps")
	if d := cmp.Diff([]string{
		"create configmaps",
		`patch configmaps kubernetes-services-endpoint {"data":{"KUBERNETES_SERVICE_HOST":"","KUBERNETES_SERVICE_PORT":""}}`,
		"delete configmaps kubernetes-services-endpoint",
	}, got); d != "" {
		t.Error(d)
	}
}

func TestServiceModeThereAndBack(t *testing.T) {
	f := recorded(t, "bpf")
	u := f.get(t, "FelixConfiguration", "default")
	unstructured.RemoveNestedField(u.Object, "spec", "bpfExternalServiceMode")
	f.custom(t, u)
	mod, c := planned(t, f, "fleetd.calico.external_service_mode", rollout.Args{"mode": "DSR"})
	for i, want := range []rollout.OutcomeKind{rollout.Changed, rollout.Unchanged} {
		if o := (&clustertest.Machine{}).Once(mod, rollout.Localhost, c); o.Kind != want {
			t.Errorf("call %d: %+v", i, o)
		}
	}
	if o := (&clustertest.Machine{Undo: true}).Once(mod, rollout.Localhost, c); o.Kind != rollout.Changed {
		t.Errorf("%+v", o)
	}
	if d := cmp.Diff([]string{
		`patch felixconfigurations default {"spec":{"bpfExternalServiceMode":"DSR"}}`,
		`patch felixconfigurations default {"spec":{"bpfExternalServiceMode":null}}`,
	}, clustertest.Only(f.writes(), "felixconfigurations")); d != "" {
		t.Error(d)
	}
}

func TestPreflightJudgesKernelsWhenItRuns(t *testing.T) {
	f := recorded(t, "iptables")
	patch := func(kernel string) {
		n, err := f.kube.CoreV1().Nodes().Get(context.Background(), "el-0002", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		n.Status.NodeInfo.KernelVersion = kernel
		if err := f.kube.Tracker().Update(corev1.SchemeGroupVersion.WithResource("nodes"), n, ""); err != nil {
			t.Fatal(err)
		}
	}
	patch("3.10.0-1160.el7.x86_64")
	mod, c := planned(t, f, "fleetd.calico.preflight", rollout.Args{"api_host": "10.0.0.3"})
	if o := (&clustertest.Machine{}).Once(mod, rollout.Localhost, c); o.Kind != rollout.Failed || !strings.Contains(o.Message, "1 of 2 nodes") || !strings.Contains(o.Message, "el-0002 (3.10.0-1160.el7.x86_64: too old)") {
		t.Errorf("%+v", o)
	}
	patch("6.1.4-1.el7.elrepo.x86_64")
	if o := (&clustertest.Machine{}).Once(mod, rollout.Localhost, c); o.Kind != rollout.Unchanged {
		t.Errorf("%+v", o)
	}
	f.mutate(t, "calico-system", "calico-node", func(ds *appsv1.DaemonSet) { ds.Status.NumberReady = 5 })
	if o := (&clustertest.Machine{}).Once(mod, rollout.Localhost, c); o.Kind != rollout.Waiting || o.Message != "calico-node 6/6 updated, 5 ready" {
		t.Errorf("%+v", o)
	}
	if w := f.writes(); len(w) > 0 {
		t.Errorf("a check wrote %q", w)
	}
}

func TestVerify(t *testing.T) {
	f := recorded(t, "bpf")
	mod, c := planned(t, f, "fleetd.calico.verify", rollout.Args{"linux_dataplane": "BPF", "timeout": "1m"})
	if o := (&clustertest.Machine{}).Once(mod, rollout.Localhost, c); o.Kind != rollout.Unchanged || o.Message != "verified: data plane BPF, kube-proxy off, TigeraStatus calico, nodes Ready, Felix on 2 nodes" {
		t.Errorf("%+v", o)
	}
	f.mutate(t, "kube-system", "kube-proxy", func(ds *appsv1.DaemonSet) {
		delete(ds.Spec.Template.Spec.NodeSelector, "non-calico")
		ds.Status.DesiredNumberScheduled = 6
	})
	m := &clustertest.Machine{}
	if o := m.Once(mod, rollout.Localhost, c); o.Kind != rollout.Waiting {
		t.Errorf("%+v", o)
	}
	m.Now += 2 * time.Minute
	if o := m.Once(mod, rollout.Localhost, c); o.Kind != rollout.Failed || !strings.Contains(o.Message, "kube-proxy off: DaemonSet kube-system/kube-proxy runs on 6 nodes") {
		t.Errorf("%+v", o)
	}
	if w := f.writes(); len(w) > 0 {
		t.Errorf("verify wrote %q", w)
	}
}

// An API server that is away for a moment is waited for; one that refuses is not.
func TestOutage(t *testing.T) {
	for _, module := range []struct {
		name string
		args rollout.Args
	}{
		{"fleetd.calico.preflight", rollout.Args{"api_host": "10.0.0.3"}},
		{"fleetd.calico.api_endpoint", rollout.Args{"host": "10.0.0.3"}},
		{"fleetd.calico.kube_proxy", rollout.Args{"state": "disabled"}},
		{"fleetd.calico.external_service_mode", rollout.Args{"mode": "DSR"}},
		{"fleetd.calico.verify", rollout.Args{"linux_dataplane": "BPF"}},
	} {
		t.Run(module.name, func(t *testing.T) {
			f := recorded(t, "iptables")
			mod, c := planned(t, f, module.name, module.args)
			answer := error(apierrors.NewServiceUnavailable("etcd has no leader"))
			fail := func(clienttesting.Action) (bool, runtime.Object, error) { return answer != nil, nil, answer }
			f.kube.PrependReactor("*", "*", fail)
			f.dyn.PrependReactor("*", "*", fail)
			m := &clustertest.Machine{}
			if o := m.Once(mod, rollout.Localhost, c); o.Kind != rollout.Retrying {
				t.Fatalf("%+v", o)
			}
			m.Now += cluster.OutagePatience + time.Second
			if o := m.Once(mod, rollout.Localhost, c); o.Kind != rollout.Failed {
				t.Errorf("%+v", o)
			}
			answer = errors.New("no")
			if o := (&clustertest.Machine{}).Once(mod, rollout.Localhost, c); o.Kind != rollout.Failed {
				t.Errorf("%+v", o)
			}
		})
	}
}

func conditionsOf(t *testing.T, u *unstructured.Unstructured, kind, status, message string) *unstructured.Unstructured {
	t.Helper()
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, c := range list {
		if m := c.(map[string]any); m["type"] == kind {
			m["status"], m["reason"], m["message"] = status, "Reason", message
		}
	}
	return set(t, u, list, "status", "conditions")
}
