package calico

import (
	"context"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fleetd/fleetd/pkg/cluster/clustertest"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// refusal is what the first task that Diff refuses is refused for; "" if none is.
func refusal(t *testing.T, f Facts, module string, args rollout.Args) (message, hint string) {
	t.Helper()
	_, _, err := Modules(Deps{})[module].Diff(rollout.Localhost, clustertest.State(t, clustertest.With(Section, f), clustertest.With(reach, nil)), args)
	if err == nil {
		return "", ""
	}
	p := rollout.AsProblem(err)
	return p.Message, p.Hint
}

func TestAPIAddresses(t *testing.T) {
	f := factsOf(t, "iptables", "service_ips: [10.96.0.1, 'fd00:96::1']")
	for host, want := range map[string]string{
		"10.31.90.1": "", "fd00::1": "", "api.example.org": "", "API.example.org": "", "lb-1": "", "api.example.org.": "",
		"10.31.90.1:6443": "no host name", "[fd00::1]": "no host name", "[fd00::1]:6443": "no host name", "k8s;rm": "no host name",
		"https://k8s": "no host name", "$(id)": "no host name", "a b": "no host name", "k8s\nx": "no host name", "10.31.90": "no host name",
		"fe80::1%eth0": "no other machine", "127.0.0.1": "loopback", "::1": "loopback", "localhost": "loopback", "::ffff:127.0.0.1": "loopback",
		"0.0.0.0": "no other machine", "10.96.0.1": "ClusterIP", "::ffff:10.96.0.1": "ClusterIP", "FD00:96:0::1": "ClusterIP",
		"kubernetes": "name of the kubernetes service", "Kubernetes.Default.svc": "name of the kubernetes service",
	} {
		for module, arg := range map[string]string{"fleetd.calico.preflight": "api_host", "fleetd.calico.api_endpoint": "host"} {
			got, hint := refusal(t, f, module, rollout.Args{arg: host})
			if want == "" && got != "" || !strings.Contains(got, want) || want != "" && hint == "" || strings.Contains(got, "\n") {
				t.Errorf("%s %q: %q, want %q", module, host, got, want)
			}
		}
	}
	// One that is there already is looked at, too.
	if got, _ := refusal(t, factsOf(t, "iptables", "endpoint: {exists: true, host: '10.31.90.1:6443', port: '6443'}"), "fleetd.calico.preflight", nil); !strings.Contains(got, "no host name") {
		t.Errorf("%q", got)
	}
	if got, _ := refusal(t, factsOf(t, "iptables", "endpoint: {exists: true, host: 10.31.90.1, port: ''}"), "fleetd.calico.preflight", nil); !strings.Contains(got, "no TCP port") {
		t.Errorf("%q", got)
	}
}

// k3s runs kube-proxy inside of itself: there is nothing to see but what its
// servers were started with.
func TestK3s(t *testing.T) {
	server := func(name, args string) *corev1.Node {
		return &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"node-role.kubernetes.io/control-plane": "true"}, Annotations: map[string]string{k3sArgs: args}},
			Status:     corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{KubeletVersion: "v1.30.4+k3s1"}},
		}
	}
	for args, on := range map[string]bool{
		`["server"]`: true, ``: true, `{`: true, `["server","--disable-kube-proxy"]`: false, `["server","--disable-kube-proxy","true"]`: false,
		`["server","--disable-kube-proxy","false"]`: true, `["server","--disable-kube-proxy=true","--tls-san","x"]`: false,
	} {
		f, err := newFakes(t, server("s1", args)).Facts(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if off, why := f.KubeProxyOff(); off == on || on && why != "kube-proxy is part of k3s on s1" {
			t.Errorf("%s: off %t, %s", args, off, why)
		}
	}
	on := factsOf(t, "iptables", "kube_proxies: []\nembedded: {'on': [s1, s2]}")
	for module, args := range map[string]rollout.Args{"fleetd.calico.kube_proxy": {"state": "disabled"}, "fleetd.calico.preflight": {"api_host": "10.0.0.3"}} {
		if got, hint := refusal(t, on, module, args); !strings.Contains(got, "part of k3s on s1, s2") || !strings.Contains(hint, "disable-kube-proxy: true") {
			t.Errorf("%s: %q %q", module, got, hint)
		}
	}
	// The way back is open while k3s's own runs, and closed while it does not.
	if got, _ := refusal(t, factsOf(t, "bpf", "kube_proxies: []\nembedded: {'on': [s1]}"), "fleetd.calico.dataplane", rollout.Args{"linux_dataplane": "Iptables"}); got != "" {
		t.Error(got)
	}
	off := factsOf(t, "bpf", "kube_proxies: []\nembedded: {'off': [s1]}")
	if got, hint := refusal(t, off, "fleetd.calico.dataplane", rollout.Args{"linux_dataplane": "Iptables"}); !strings.Contains(got, "no kube-proxy") || !strings.Contains(hint, "config.yaml on s1") {
		t.Errorf("%q %q", got, hint)
	}
}

func TestUnknownProxyModeIsAStop(t *testing.T) {
	f := factsOf(t, "iptables", "")
	for mode, want := range map[string]bool{"iptables": false, "nftables": false, "": true, "userspace": true, "ipvs": true} {
		f.KubeProxies[0].Mode = mode
		for module, args := range map[string]rollout.Args{"fleetd.calico.kube_proxy": {"state": "disabled"}, "fleetd.calico.preflight": {"api_host": "10.0.0.3"}} {
			if got, hint := refusal(t, f, module, args); (got != "") != want || want && hint == "" || strings.Contains(got, "%!") {
				t.Errorf("%s %q: %q", module, mode, got)
			}
		}
	}
}

// From Calico 3.32 on FelixConfiguration may be projectcalico.org/v3's. After a
// migration the old one is still there, and nobody reads it.
func TestFelixConfigurationOfV3(t *testing.T) {
	for name, keepOld := range map[string]bool{"new cluster": false, "migrated": true} {
		t.Run(name, func(t *testing.T) {
			f := recorded(t, "bpf")
			old := f.get(t, "FelixConfiguration", "default")
			v3 := &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "projectcalico.org/v3", "kind": "FelixConfiguration",
				"metadata": map[string]any{"name": "default", "annotations": map[string]any{bpfAnnotation: "true"}},
				"spec":     map[string]any{"bpfEnabled": true},
			}}
			if err := f.dyn.Tracker().Create(felixconfigsV3, v3, ""); err != nil {
				t.Fatal(err)
			}
			if keepOld {
				f.custom(t, set(t, old, false, "spec", "bpfEnabled"))
				f.mutate(t, "calico-system", "calico-node", func(ds *appsv1.DaemonSet) {
					c := &ds.Spec.Template.Spec.Containers[0]
					c.Env = append(c.Env, corev1.EnvVar{Name: envAPIGroup, Value: "projectcalico.org/v3"})
				})
			} else if err := f.dyn.Tracker().Delete(felixconfigs, "", "default"); err != nil {
				t.Fatal(err)
			}
			facts, err := f.Facts(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if on, why := facts.BPFOn(); !on || !facts.Felix.V3 {
				t.Errorf("%s %+v", why, facts.Felix)
			}
			mod, c := planned(t, f, "fleetd.calico.external_service_mode", rollout.Args{"mode": "DSR"})
			if o := (&clustertest.Machine{}).Once(mod, rollout.Localhost, c); o.Kind != rollout.Changed {
				t.Fatalf("%+v", o)
			}
			u, err := f.dyn.Resource(felixconfigsV3).Get(context.Background(), "default", metav1.GetOptions{})
			if err != nil || str(u, "spec", "bpfExternalServiceMode") != "DSR" {
				t.Errorf("%v %v", u, err)
			}
		})
	}
}

// An operator without the ConfigMap hands its own pod's address of the service
// on to calico-node: there is nothing to make it forget.
func TestAbsentEndpointIsIdempotent(t *testing.T) {
	f := recorded(t, "iptables")
	f.tell(t, "10.96.0.1", "443")
	_, c := planned(t, f, "fleetd.calico.api_endpoint", rollout.Args{"state": "absent"})
	if c.Action != rollout.NoOp {
		t.Errorf("%+v", c)
	}
	// One that has been restarted since on the way back is no reason to wait.
	endpointDone(t, f)
	mod, c := planned(t, f, "fleetd.calico.api_endpoint", rollout.Args{"state": "absent"})
	m := &clustertest.Machine{Look: func(int) { f.tell(t, "10.96.0.1", "443") }}
	if o := m.Run(t, mod, rollout.Localhost, c); o.Kind != rollout.Changed {
		t.Errorf("%+v", o)
	}
}

// hostPorts is what it was before, whatever the operator made of it meanwhile:
// 1.28 to 1.30 turn it off, later ones turn it on.
func TestHostPortsComeBack(t *testing.T) {
	for _, was := range []string{"", "Enabled", "Disabled"} {
		for _, meanwhile := range []string{"Disabled", "Enabled"} {
			for _, undo := range []bool{true, false} {
				f := recorded(t, "iptables")
				endpointDone(t, f)
				in := f.get(t, "Installation", "default")
				if was == "" {
					unstructured.RemoveNestedField(in.Object, "spec", "calicoNetwork", "hostPorts")
				} else {
					set(t, in, was, "spec", "calicoNetwork", "hostPorts")
				}
				f.custom(t, in)
				// The operator gives the field a value where it has none.
				operate := func(int) {
					f.operate(t)
					in := f.get(t, "Installation", "default")
					if on := installationFacts(in); on.HostPorts == "" && on.DataPlane() == BPF {
						f.custom(t, set(t, in, meanwhile, "spec", "calicoNetwork", "hostPorts"))
					}
				}
				mod, c := planned(t, f, "fleetd.calico.dataplane", rollout.Args{"linux_dataplane": "BPF"})
				if o := (&clustertest.Machine{Look: operate}).Run(t, mod, rollout.Localhost, c); o.Bad() {
					t.Fatalf("%+v", o)
				}
				if got := installationFacts(f.get(t, "Installation", "default")).HostPorts; was == "Disabled" && got != was {
					t.Errorf("what the user had turned off is %s on BPF", got)
				}
				m := &clustertest.Machine{Look: operate, Undo: undo}
				if !undo {
					_, c = planned(t, f, "fleetd.calico.dataplane", rollout.Args{"linux_dataplane": "Iptables"})
				}
				if o := m.Run(t, mod, rollout.Localhost, c); o.Bad() {
					t.Fatalf("%+v", o)
				}
				got := installationFacts(f.get(t, "Installation", "default"))
				if got.HostPorts != was || got.HostPortsNoted != "" {
					t.Errorf("was %q, the operator made it %q, undo %t: it is %q, noted %q", was, meanwhile, undo, got.HostPorts, got.HostPortsNoted)
				}
			}
		}
	}
}
