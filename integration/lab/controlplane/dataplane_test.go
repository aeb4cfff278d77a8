//go:build lab

package controlplane_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fleetd/fleetd/integration/lab/controlplane"
)

func (s *suite) apiAddress(t *testing.T) {
	ctx := t.Context()
	before := s.generation(t)
	cm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "kubernetes-services-endpoint", Namespace: "tigera-operator"},
		Data:       map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.2.101", "KUBERNETES_SERVICE_PORT": "6443"},
	}
	if _, err := s.client.CoreV1().ConfigMaps("tigera-operator").Create(ctx, cm, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	s.eventually(t, "calico-node gets the address", func() (bool, string) {
		ds, err := s.client.AppsV1().DaemonSets("calico-system").Get(ctx, "calico-node", metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		for _, e := range ds.Spec.Template.Spec.Containers[0].Env {
			if e.Name == "KUBERNETES_SERVICE_HOST" && e.Value == "10.0.2.101" {
				return ds.Generation > before, "same generation"
			}
		}
		return false, "no such variable"
	})
	s.rolled(t, "calico-system", "calico-node", 3)
}

func (s *suite) dataPlaneBPF(t *testing.T) {
	before := s.generation(t)
	begin := time.Now()
	s.patch(t, controlplane.Installations, `{"spec":{"calicoNetwork":{"linuxDataplane":"BPF","hostPorts":null}}}`)
	// The operator puts hostPorts back.
	s.eventually(t, "hostPorts is back to Enabled", func() (bool, string) {
		v, _, _ := unstructured.NestedString(s.object(t, controlplane.Installations).Object, "spec", "calicoNetwork", "hostPorts")
		return v == "Enabled", fmt.Sprintf("hostPorts %q", v)
	})
	t.Logf("hostPorts back to Enabled after %s", time.Since(begin).Round(time.Millisecond))
	s.eventually(t, "calico-node mounts bpffs", func() (bool, string) {
		ds, err := s.client.AppsV1().DaemonSets("calico-system").Get(t.Context(), "calico-node", metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		var names []string
		for _, c := range ds.Spec.Template.Spec.InitContainers {
			names = append(names, c.Name)
		}
		all := strings.Join(names, " ")
		return strings.Contains(all, "mount-bpffs") && ds.Generation > before, all
	})
	s.rolled(t, "calico-system", "calico-node", 3)
	t.Logf("calico-node rolled after %s", time.Since(begin).Round(time.Millisecond))
	s.eventually(t, "bpfEnabled is true", func() (bool, string) {
		felix := s.object(t, controlplane.FelixConfigurations)
		on, _, _ := unstructured.NestedBool(felix.Object, "spec", "bpfEnabled")
		return on && felix.GetAnnotations()["operator.tigera.io/bpfEnabled"] == "true", fmt.Sprintf("bpfEnabled %v, annotations %v", on, felix.GetAnnotations())
	})
	t.Logf("bpfEnabled after %s", time.Since(begin).Round(time.Millisecond))
	s.available(t)
}

func (s *suite) kubeProxyOff(t *testing.T) {
	s.patchKubeProxy(t, `{"spec":{"template":{"spec":{"nodeSelector":{"non-calico":"true"}}}}}`)
	s.eventually(t, "DESIRED is 0", func() (bool, string) { return s.kubeProxyDesired(t, 0) })
	s.eventually(t, "its pods are gone", func() (bool, string) {
		pods, err := s.client.CoreV1().Pods("kube-system").List(t.Context(), metav1.ListOptions{LabelSelector: "k8s-app=kube-proxy"})
		if err != nil {
			return false, err.Error()
		}
		return len(pods.Items) == 0, fmt.Sprintf("%d pods", len(pods.Items))
	})
}

func (s *suite) kubeProxyOn(t *testing.T) {
	s.patchKubeProxy(t, `{"spec":{"template":{"spec":{"nodeSelector":{"non-calico":null}}}}}`)
	s.eventually(t, "DESIRED is 3", func() (bool, string) { return s.kubeProxyDesired(t, 3) })
	s.rolled(t, "kube-system", "kube-proxy", 3)
}

func (s *suite) patchKubeProxy(t *testing.T, patch string) {
	if _, err := s.client.AppsV1().DaemonSets("kube-system").Patch(t.Context(), "kube-proxy", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (s *suite) kubeProxyDesired(t *testing.T, want int32) (bool, string) {
	ds, err := s.client.AppsV1().DaemonSets("kube-system").Get(t.Context(), "kube-proxy", metav1.GetOptions{})
	if err != nil {
		return false, err.Error()
	}
	return ds.Status.ObservedGeneration >= ds.Generation && ds.Status.DesiredNumberScheduled == want, fmt.Sprintf("DESIRED %d", ds.Status.DesiredNumberScheduled)
}

func (s *suite) dsr(t *testing.T) {
	for _, mode := range []string{"DSR", "Tunnel"} {
		s.patch(t, controlplane.FelixConfigurations, `{"spec":{"bpfExternalServiceMode":"`+mode+`"}}`)
		got, _, _ := unstructured.NestedString(s.object(t, controlplane.FelixConfigurations).Object, "spec", "bpfExternalServiceMode")
		if got != mode {
			t.Errorf("bpfExternalServiceMode %q, want %q", got, mode)
		}
	}
}

func (s *suite) backToIptables(t *testing.T) {
	begin := time.Now()
	s.patch(t, controlplane.Installations, `{"spec":{"calicoNetwork":{"linuxDataplane":"Iptables"}}}`)
	s.eventually(t, "bpfEnabled is false", func() (bool, string) {
		on, _, _ := unstructured.NestedBool(s.object(t, controlplane.FelixConfigurations).Object, "spec", "bpfEnabled")
		return !on, "bpfEnabled is still true"
	})
	t.Logf("bpfEnabled false after %s", time.Since(begin).Round(time.Millisecond))
	// Reverting the data plane does not bring kube-proxy back.
	if ok, got := s.kubeProxyDesired(t, 0); !ok {
		t.Errorf("kube-proxy came back by itself: %s", got)
	}
	s.eventually(t, "calico-node no longer mounts bpffs", func() (bool, string) {
		ds, err := s.client.AppsV1().DaemonSets("calico-system").Get(t.Context(), "calico-node", metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		for _, c := range ds.Spec.Template.Spec.InitContainers {
			if c.Name == "mount-bpffs" {
				return false, "mount-bpffs is still there"
			}
		}
		return true, ""
	})
	s.rolled(t, "calico-system", "calico-node", 3)
	s.available(t)
}

func (s *suite) ipvs(t *testing.T) {
	if err := s.lab.SetKubeProxyMode(t.Context(), "ipvs"); err != nil {
		t.Fatal(err)
	}
	cm, err := s.client.CoreV1().ConfigMaps("kube-system").Get(t.Context(), "kube-proxy", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(cm.Data["config.conf"], "mode: ipvs") || !strings.Contains(cm.Data["config.conf"], "clusterCIDR: 10.244.0.0/16") {
		t.Errorf("config.conf:\n%s", cm.Data["config.conf"])
	}
}

// bootIDStays is the test of the node stage: what a guest wrote at the start
// of this walk is still there, and stays when kwok makes the node Ready again.
func (s *suite) bootIDStays(t *testing.T) {
	ctx := t.Context()
	check := func(when, kernel, bootID string) {
		t.Helper()
		n, err := s.client.CoreV1().Nodes().Get(ctx, "node2", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if n.Status.NodeInfo.BootID != bootID || n.Status.NodeInfo.KernelVersion != kernel {
			t.Errorf("%s: kernel %s, boot ID %s", when, n.Status.NodeInfo.KernelVersion, n.Status.NodeInfo.BootID)
		}
	}
	check("after the walk", "6.1.4-1.el7.elrepo.x86_64", "11111111-2222-4333-8444-555555555555")
	for i := range 5 {
		bootID := fmt.Sprintf("aaaaaaaa-bbbb-4ccc-8ddd-%012d", i)
		// In one patch: not Ready, so that kwok acts, and a new boot ID, so that
		// a kwok which rendered nodeInfo from what it knew would lose it.
		patch := `{"status":{"conditions":[{"type":"Ready","status":"Unknown","reason":"NodeStatusUnknown"}]}}`
		if _, err := s.client.CoreV1().Nodes().Patch(ctx, "node2", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
		info, _ := json.Marshal(map[string]any{"status": map[string]any{"nodeInfo": map[string]any{"bootID": bootID, "kernelVersion": "6.1.9"}}})
		if _, err := s.client.CoreV1().Nodes().Patch(ctx, "node2", types.MergePatchType, info, metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
		s.eventually(t, "node2 is Ready again", func() (bool, string) {
			n, err := s.client.CoreV1().Nodes().Get(ctx, "node2", metav1.GetOptions{})
			if err != nil {
				return false, err.Error()
			}
			for _, c := range n.Status.Conditions {
				if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
					return true, ""
				}
			}
			return false, "not Ready"
		})
		check("Ready again", "6.1.9", bootID)
	}
}
