package calico

import (
	"context"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// operator140 is a STAND-IN for operator 1.40 and the DaemonSet controller, after
// what a real one did in automatic mode: the operator acts on the Installation a look
// after it changed; calico-node rolls; bpfEnabled is set once it has, and in the same
// moment kube-proxy gets the operator's selector, if kubeProxyManagement is Enabled;
// on the way back both happen before a pod has rolled; Iptables with bootstrap, and
// bootstrap beside the ConfigMap, are Degraded, and then nothing is done. What is
// Enabled is what status.computed says, which lags behind the spec. Not shown: its
// pace, conflicts, typha.
type operator140 struct {
	fakes
	t *testing.T
	// seen is the calicoNetwork of the look before.
	seen map[string]any
	// slow is how many looks each Felix lags behind bpfEnabled, by host; never: for
	// good.
	slow map[string]int
	// at is the look, since the one at which bpfEnabled became what it is.
	at, since int
	on        bool
	// wrong is what must never be: kube-proxy away while a node is not proven, or
	// nobody to serve.
	wrong []string
}

const (
	nodesOfDaemonSets = 6
	never             = 1 << 30
)

func newOperator140(t *testing.T, recording string) *operator140 {
	f := recorded(t, recording)
	in := f.get(t, "Installation", "default")
	set(t, in, "v3.31.1", "status", "calicoVersion")
	f.custom(t, in)
	o := &operator140{fakes: f, t: t}
	o.ssh.says = func(host string) string {
		switch {
		case o.on && o.at-o.since >= o.slow[host]:
			return felixOn
		case o.slow[host] == never:
			return felixRefused
		}
		return felixOff
	}
	return o
}

// look is one moment of the operator and of the DaemonSet controller.
func (o *operator140) look() {
	o.at++
	in := o.get(o.t, "Installation", "default")
	spec, _, _ := unstructured.NestedMap(in.Object, "spec", "calicoNetwork")
	acts := o.seen != nil && fmt.Sprint(o.seen) == fmt.Sprint(spec)
	o.seen = spec
	if complaint := o.complaint(spec); complaint != "" {
		o.custom(o.t, conditionsOf(o.t, o.get(o.t, "TigeraStatus", "calico"), "Degraded", "True", complaint))
	} else {
		o.custom(o.t, conditionsOf(o.t, o.get(o.t, "TigeraStatus", "calico"), "Degraded", "False", ""))
		o.keepProxy() // that DaemonSet's own events reach it before the Installation's
		if acts {
			o.act(spec)
		}
		o.keepProxy()
	}
	o.daemonSets()
	o.judge()
}

func (o *operator140) complaint(spec map[string]any) string {
	if spec[bootstrapField] != enabledSpec {
		return ""
	}
	if spec["linuxDataplane"] != string(BPF) {
		return "bpfNetworkBootstrap is Enabled but the requirements are not met: bpfNetworkBootstrap is enabled but linuxDataplane is not set to BPF"
	}
	if _, err := o.kube.CoreV1().ConfigMaps(operatorNamespace).Get(context.Background(), endpointName, metav1.GetOptions{}); err == nil {
		return "bpfNetworkBootstrap is Enabled but the requirements are not met: kubernetes service endpoint is defined by the kubernetes-service-endpoints ConfigMap."
	}
	return ""
}

// act is the core controller's.
func (o *operator140) act(spec map[string]any) {
	in := o.get(o.t, "Installation", "default")
	computed, _, _ := unstructured.NestedMap(in.Object, "status", "computed", "calicoNetwork")
	want := fmt.Sprint(spec["linuxDataplane"])
	node, err := o.kube.AppsV1().DaemonSets(calicoNamespace).Get(context.Background(), "calico-node", metav1.GetOptions{})
	if err != nil {
		o.t.Fatal(err)
	}
	if fmt.Sprint(computed["linuxDataplane"]) != want {
		o.mutate(o.t, calicoNamespace, "calico-node", func(ds *appsv1.DaemonSet) {
			ds.Generation++
			ds.Status.UpdatedNumberScheduled = 0
		})
		if want != string(BPF) {
			o.enable(false)
			o.keepProxy() // by what it has computed still
		}
	} else if want == string(BPF) && node.Status.UpdatedNumberScheduled == nodesOfDaemonSets {
		o.enable(true)
	}
	o.custom(o.t, set(o.t, o.get(o.t, "Installation", "default"), spec, "status", "computed", "calicoNetwork"))
}

func (o *operator140) enable(on bool) {
	felix := o.get(o.t, "FelixConfiguration", "default")
	felix.SetAnnotations(map[string]string{bpfAnnotation: fmt.Sprint(on)})
	o.custom(o.t, set(o.t, felix, on, "spec", "bpfEnabled"))
	if o.on != on {
		o.on, o.since = on, o.at
	}
}

// keepProxy is the kube-proxy controller's.
func (o *operator140) keepProxy() {
	if installationFacts(o.get(o.t, "Installation", "default")).ComputedKubeProxy != enabledSpec {
		return
	}
	o.mutate(o.t, metav1.NamespaceSystem, managedProxy, func(ds *appsv1.DaemonSet) {
		if o.on {
			ds.Spec.Template.Spec.NodeSelector[operatorProxyLabel] = "true"
		} else {
			delete(ds.Spec.Template.Spec.NodeSelector, operatorProxyLabel)
		}
	})
}

// daemonSets has two more pods of calico-node updated, and those of kube-proxy come in
// two looks and go in one.
func (o *operator140) daemonSets() {
	o.mutate(o.t, calicoNamespace, "calico-node", func(ds *appsv1.DaemonSet) {
		ds.Status.ObservedGeneration = ds.Generation
		ds.Status.UpdatedNumberScheduled = min(ds.Status.UpdatedNumberScheduled+2, nodesOfDaemonSets)
	})
	o.mutate(o.t, metav1.NamespaceSystem, managedProxy, func(ds *appsv1.DaemonSet) {
		selector, st := ds.Spec.Template.Spec.NodeSelector, appsv1.DaemonSetStatus{ObservedGeneration: ds.Generation}
		if selector[operatorProxyLabel] == "" && selector["non-calico"] == "" {
			st.DesiredNumberScheduled, st.CurrentNumberScheduled, st.UpdatedNumberScheduled = nodesOfDaemonSets, nodesOfDaemonSets, nodesOfDaemonSets
			if ds.Status.DesiredNumberScheduled > 0 {
				st.NumberReady, st.NumberAvailable = nodesOfDaemonSets, nodesOfDaemonSets
			}
		}
		ds.Status = st
	})
}

// judge says what must never be.
func (o *operator140) judge() {
	ds, err := o.kube.AppsV1().DaemonSets(metav1.NamespaceSystem).Get(context.Background(), managedProxy, metav1.GetOptions{})
	if err != nil {
		o.t.Fatal(err)
	}
	if ds.Status.NumberReady == nodesOfDaemonSets {
		return
	}
	nodes, err := o.kube.CoreV1().Nodes().List(context.Background(), metav1.ListOptions{})
	if err != nil {
		o.t.Fatal(err)
	}
	for _, n := range nodes.Items {
		if o.ssh.says("host-of-"+n.Name) != felixOn {
			o.wrong = append(o.wrong, fmt.Sprintf("look %d: kube-proxy is away, and %s does not run BPF", o.at, n.Name))
		}
	}
}

// settled has the looks pass that a change needs that nobody waits for.
func (o *operator140) settled() {
	for range 8 {
		o.look()
	}
}

func (o *operator140) says() {
	o.t.Helper()
	if len(o.wrong) > 0 {
		o.t.Errorf("%s", strings.Join(o.wrong, "\n"))
	}
}

// endpoint is the ConfigMap, with which the operator's automatic mode does not go.
func (o *operator140) endpoint() {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: endpointName, Namespace: operatorNamespace}, Data: map[string]string{envHost: "10.0.0.3", envPort: "6443"}}
	if err := o.kube.Tracker().Add(cm); err != nil {
		o.t.Fatal(err)
	}
}
