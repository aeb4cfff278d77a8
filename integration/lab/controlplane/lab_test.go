//go:build lab

package controlplane_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/httpstream/spdy"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/kubectl/pkg/drain"

	"github.com/fleetd/fleetd/integration/lab/controlplane"
	"github.com/fleetd/fleetd/integration/lab/controlplane/netns"
)

const testNetns = "fleetd-lab-test"

// TestLab walks through the article on a lab of three nodes: each subtest is a
// step and leaves the cluster to the next.
func TestLab(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("the control-plane lab needs root: it makes a network namespace")
	}
	ctx := t.Context()
	if err := controlplane.Build(ctx, "", testWriter{t}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	begin := time.Now()
	startCtx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	lab, err := controlplane.Start(startCtx, controlplane.Config{
		Dir: dir, Netns: testNetns, Calico: true, Workloads: true, Log: testWriter{t},
		Nodes: []controlplane.NodeSpec{
			{Name: "node1", ControlPlane: true}, {Name: "node2", Labels: map[string]string{"zone": "a"}}, {Name: "node3"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("up in %s", time.Since(begin).Round(100*time.Millisecond))
	var total int64
	for _, p := range lab.Processes() {
		t.Logf("%-24s pid %d, %d MiB", p.Name, p.PID, p.ResidentBytes()>>20)
		total += p.ResidentBytes()
	}
	t.Logf("%-24s %d MiB", "all together", total>>20)
	processes := lab.Processes()
	t.Cleanup(func() { checkStopped(t, dir, processes) })

	client, err := lab.Client()
	if err != nil {
		t.Fatal(err)
	}
	untyped, err := lab.Dynamic()
	if err != nil {
		t.Fatal(err)
	}
	s := &suite{lab: lab, client: client, dynamic: untyped}
	for _, step := range []struct {
		name string
		run  func(*suite, *testing.T)
	}{
		{"cluster", (*suite).cluster},
		{"a second lab in the same folder is refused", (*suite).secondLab},
		{"command runs inside", (*suite).command},
		{"node credentials patch one status and nothing else", (*suite).nodeCredentials},
		{"audit log tells who wrote", (*suite).audit},
		{"drain evicts under the budget", (*suite).drain},
		{"calico-node refuses -bpf before", (*suite).execRefused},
		{"API address rolls calico-node", (*suite).apiAddress},
		{"data plane BPF", (*suite).dataPlaneBPF},
		{"calico-node answers -bpf", (*suite).execAnswers},
		{"kube-proxy off", (*suite).kubeProxyOff},
		{"DSR", (*suite).dsr},
		{"back to iptables", (*suite).backToIptables},
		{"kube-proxy on", (*suite).kubeProxyOn},
		{"kube-proxy mode ipvs", (*suite).ipvs},
		{"patched boot ID stays", (*suite).bootIDStays},
	} {
		if !t.Run(step.name, func(t *testing.T) {
			begin := time.Now()
			step.run(s, t)
			t.Logf("took %s", time.Since(begin).Round(10*time.Millisecond))
		}) {
			break
		}
	}
}

// TestSlowRoll shows that ReadyDelay makes a roll visible: node by node.
func TestSlowRoll(t *testing.T) {
	ctx := t.Context()
	if err := controlplane.Build(ctx, "", testWriter{t}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	lab, err := controlplane.Start(ctx, controlplane.Config{
		Dir: dir, Netns: testNetns, ReadyDelay: 2 * time.Second, KubeProxyMode: "ipvs", Log: testWriter{t},
		Nodes: []controlplane.NodeSpec{{Name: "node1"}, {Name: "node2"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	processes := lab.Processes()
	t.Cleanup(func() { checkStopped(t, dir, processes) })
	client, err := lab.Client()
	if err != nil {
		t.Fatal(err)
	}
	cm, err := client.CoreV1().ConfigMaps("kube-system").Get(ctx, "kube-proxy", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(cm.Data["config.conf"], "mode: ipvs") {
		t.Errorf("kube-proxy's mode is not ipvs:\n%s", cm.Data["config.conf"])
	}
	s := &suite{lab: lab, client: client}
	patch := `{"spec":{"template":{"metadata":{"annotations":{"restarted":"1"}}}}}`
	if _, err := client.AppsV1().DaemonSets("kube-system").Patch(ctx, "kube-proxy", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	s.rolled(t, "kube-system", "kube-proxy", 2)
	if took := time.Since(begin); took < 4*time.Second {
		t.Errorf("two nodes rolled in %s; with pods ready after 2 s each it takes at least 4 s", took)
	}
}

// TestFailedStart leaves nothing behind and says which program failed.
func TestFailedStart(t *testing.T) {
	bin := t.TempDir()
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", "tigera-operator", "calico-node"} {
		if err := os.WriteFile(bin+"/"+name, []byte("#!/bin/sh\necho no disk today >&2\nexit 1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	_, err := controlplane.Start(t.Context(), controlplane.Config{
		Dir: dir, Netns: testNetns, BinDir: bin, Nodes: []controlplane.NodeSpec{{Name: "node1"}},
	})
	if err == nil || !strings.Contains(err.Error(), "no disk today") {
		t.Errorf("error %v does not show the program's own words", err)
	}
	if netns.Exists(testNetns) {
		t.Error("the namespace is left behind")
	}
	if _, err := controlplane.Load(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a lab is left behind: %v", err)
	}
}

// checkStopped stops the lab through Load, as a later process would, and looks
// for what is left.
func checkStopped(t *testing.T, dir string, processes []controlplane.Process) {
	begin := time.Now()
	lab, err := controlplane.Load(dir)
	if err != nil {
		t.Error(err)
		return
	}
	if err := lab.Stop(); err != nil {
		t.Error(err)
	}
	t.Logf("stopped in %s", time.Since(begin).Round(10*time.Millisecond))
	for _, p := range processes {
		if p.Alive() {
			t.Errorf("%s (pid %d) still runs", p.Name, p.PID)
		}
	}
	if netns.Exists(testNetns) {
		t.Errorf("namespace %s still exists", testNetns)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Error(err)
	}
	for _, e := range entries {
		if e.Name() != "log" {
			t.Errorf("%s is left in the lab's folder", e.Name())
		}
	}
	if err := lab.Stop(); err != nil {
		t.Errorf("stopping twice: %v", err)
	}
}

type suite struct {
	lab     *controlplane.Lab
	client  kubernetes.Interface
	dynamic dynamic.Interface
}

func (s *suite) cluster(t *testing.T) {
	nodes, err := s.client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(nodes.Items) != 3 {
		t.Fatalf("%d nodes, want 3", len(nodes.Items))
	}
	for _, n := range nodes.Items {
		if n.Status.NodeInfo.KernelVersion != "3.10.0-1160.el7.x86_64" || n.Status.NodeInfo.BootID == "" {
			t.Errorf("%s: nodeInfo %+v", n.Name, n.Status.NodeInfo)
		}
	}
	installation := s.object(t, controlplane.Installations)
	if v, _, _ := unstructured.NestedString(installation.Object, "status", "calicoVersion"); v != controlplane.CalicoVersion {
		t.Errorf("calicoVersion %q, want %q", v, controlplane.CalicoVersion)
	}
	etcd, err := s.client.CoreV1().Pods("kube-system").Get(t.Context(), "etcd-node1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if etcd.Annotations[corev1.MirrorPodAnnotationKey] == "" {
		t.Error("etcd-node1 is no mirror pod")
	}
}

func (s *suite) secondLab(t *testing.T) {
	_, err := controlplane.Start(t.Context(), controlplane.Config{
		Dir: s.lab.Dir(), Netns: testNetns, Nodes: []controlplane.NodeSpec{{Name: "other"}},
	})
	if err == nil || !strings.Contains(err.Error(), "already holds a lab") {
		t.Fatalf("error %v", err)
	}
	for _, p := range s.lab.Processes() {
		if !p.Alive() {
			t.Errorf("%s was ended by the refused lab", p.Name)
		}
	}
}

func (s *suite) command(t *testing.T) {
	out, err := s.lab.Command(t.Context(), "ip", "-br", "addr").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if lines := strings.Split(strings.TrimSpace(string(out)), "\n"); len(lines) != 1 || !strings.HasPrefix(lines[0], "lo ") {
		t.Errorf("inside there is more than loopback:\n%s", out)
	}
}

// nodeCredentials goes through the guest's own way: plain HTTPS with the
// client certificate and nothing of Kubernetes' libraries.
func (s *suite) nodeCredentials(t *testing.T) {
	credentials, err := s.lab.NodeCredentials("node2")
	if err != nil {
		t.Fatal(err)
	}
	if credentials.Server != "https://10.0.2.101:6443" {
		t.Errorf("server %s", credentials.Server)
	}
	config := &rest.Config{
		Host: "https://" + controlplane.APIAddress, Dial: netns.Dialer(s.lab.Netns),
		TLSClientConfig: rest.TLSClientConfig{
			CAData: credentials.CA, CertData: credentials.Cert, KeyData: credentials.Key,
			// The guest's way: it dials 10.0.2.101 and the certificate must fit.
			ServerName: "10.0.2.101",
		},
	}
	guest, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	send := func(method, path, contentType, body string) int {
		req, err := http.NewRequestWithContext(t.Context(), method, config.Host+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", contentType)
		resp, err := guest.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body) // the status is the answer
		return resp.StatusCode
	}
	const merge = "application/merge-patch+json"
	info := `{"status":{"nodeInfo":{"kernelVersion":"6.1.4-1.el7.elrepo.x86_64","bootID":"11111111-2222-4333-8444-555555555555"}}}`
	if code := send("PATCH", "/api/v1/nodes/node2/status", merge, info); code != http.StatusOK {
		t.Fatalf("patching its own status: %d", code)
	}
	for what, code := range map[string]int{
		"another node's status": send("PATCH", "/api/v1/nodes/node3/status", merge, info),
		"its own spec":          send("PATCH", "/api/v1/nodes/node2", merge, `{"spec":{"unschedulable":true}}`),
		"reading itself":        send("GET", "/api/v1/nodes/node2", "", ""),
		"reading secrets":       send("GET", "/api/v1/secrets", "", ""),
		"evicting":              send("POST", "/api/v1/namespaces/shop/pods/x/eviction", "application/json", `{}`),
	} {
		if code != http.StatusForbidden {
			t.Errorf("%s: %d, want 403", what, code)
		}
	}
	if _, err := s.lab.NodeCredentials("node9"); err == nil {
		t.Error("credentials for a node that is not there")
	}
}

func (s *suite) audit(t *testing.T) {
	if writes, err := s.lab.Writes(controlplane.AdminUser); err != nil || len(writes) != 0 {
		t.Errorf("before the administrator did anything: %v, %v", writes, err)
	}
	// A program under test: inside the namespace, as the administrator.
	admin := s.admin(t)
	if _, err := admin.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CoreV1().ConfigMaps("shop").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "audited"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	writes, err := s.lab.Writes(controlplane.AdminUser)
	if err != nil {
		t.Fatal(err)
	}
	if len(writes) != 1 || writes[0].Verb != "create" || writes[0].Resource != "configmaps" || writes[0].Namespace != "shop" || writes[0].DryRun {
		t.Errorf("writes %+v, want the one create", writes)
	}
	writes, err = s.lab.Writes("")
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range writes {
		if w.Verb == "get" || w.Verb == "list" || w.Verb == "watch" {
			t.Errorf("%+v is no write", w)
		}
	}
}

// admin is a client for the kubeconfig that the lab hands out.
func (s *suite) admin(t *testing.T) kubernetes.Interface {
	config, err := clientcmd.BuildConfigFromFlags("", s.lab.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.Dial = netns.Dialer(s.lab.Netns)
	return kubernetes.NewForConfigOrDie(config)
}

func (s *suite) drain(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var evicted, log bytes.Buffer
	helper := &drain.Helper{
		Ctx: ctx, Client: s.client, IgnoreAllDaemonSets: true, DeleteEmptyDirData: true, GracePeriodSeconds: -1, Timeout: 90 * time.Second,
		Out: &log, ErrOut: &log,
		OnPodDeletionOrEvictionFinished: func(pod *corev1.Pod, usingEviction bool, err error) {
			fmt.Fprintf(&evicted, "%s/%s eviction=%v err=%v\n", pod.Namespace, pod.Name, usingEviction, err)
		},
	}
	node, err := s.client.CoreV1().Nodes().Get(ctx, "node2", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := drain.RunCordonOrUncordon(helper, node, true); err != nil {
		t.Fatal(err)
	}
	if err := drain.RunNodeDrain(helper, "node2"); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	t.Logf("evicted:\n%s", evicted.String())
	if !strings.Contains(evicted.String(), "shop/web-") {
		t.Error("no pod of shop/web was evicted")
	}
	node, err = s.client.CoreV1().Nodes().Get(ctx, "node2", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := drain.RunCordonOrUncordon(helper, node, false); err != nil {
		t.Fatal(err)
	}
	s.eventually(t, "shop/web is whole again", func() (bool, string) {
		d, err := s.client.AppsV1().Deployments("shop").Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		return d.Status.AvailableReplicas == 4, fmt.Sprintf("%d available", d.Status.AvailableReplicas)
	})
}

func (s *suite) execRefused(t *testing.T) {
	out, err := s.exec(t, "calico-node", "-bpf", "counters", "dump", "--iface=eth0")
	if err == nil || !strings.Contains(out, "bpfEnabled is not true") {
		t.Errorf("error %v, output %q", err, out)
	}
}

func (s *suite) execAnswers(t *testing.T) {
	for question, want := range map[string]string{
		"calico-node -bpf counters dump --iface=eth0": "packets",
		"calico-node -bpf conntrack dump":             "TCP",
		"calico-node -bpf routes dump":                "10.0.0.5/32",
	} {
		out, err := s.exec(t, strings.Fields(question)...)
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%s: error %v, output %q", question, err, out)
		}
	}
	// What is not there is an error, as in a container without that program.
	if out, err := s.exec(t, "sh", "-c", "id"); err == nil {
		t.Errorf("a program of the host ran in a pod: %q", out)
	}
}

// exec is `kubectl exec -n calico-system ds/calico-node -- …`.
func (s *suite) exec(t *testing.T, command ...string) (string, error) {
	pods, err := s.client.CoreV1().Pods("calico-system").List(t.Context(), metav1.ListOptions{LabelSelector: "k8s-app=calico-node"})
	if err != nil || len(pods.Items) == 0 {
		t.Fatalf("no calico-node pods: %v", err)
	}
	config, err := s.lab.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	req := s.client.CoreV1().RESTClient().Post().Namespace("calico-system").Resource("pods").Name(pods.Items[0].Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: "calico-node", Command: command, Stdout: true, Stderr: true}, scheme.ParameterCodec)
	// client-go's own executors dial by themselves and ignore config.Dial.
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		t.Fatal(err)
	}
	upgrader, err := spdy.NewRoundTripperWithConfig(spdy.RoundTripperConfig{
		UpgradeTransport: &http.Transport{DialContext: config.Dial, TLSClientConfig: tlsConfig},
	})
	if err != nil {
		t.Fatal(err)
	}
	executor, err := remotecommand.NewSPDYExecutorForTransports(upgrader, upgrader, "POST", req.URL())
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer // two: they are filled at the same time
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &stdout, Stderr: &stderr})
	return stdout.String() + stderr.String(), err
}

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

func (s *suite) generation(t *testing.T) int64 {
	ds, err := s.client.AppsV1().DaemonSets("calico-system").Get(t.Context(), "calico-node", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return ds.Generation
}

func (s *suite) rolled(t *testing.T, namespace, name string, want int32) {
	t.Helper()
	s.eventually(t, name+" has rolled", func() (bool, string) {
		ds, err := s.client.AppsV1().DaemonSets(namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		st := ds.Status
		return st.ObservedGeneration >= ds.Generation && st.DesiredNumberScheduled == want && st.UpdatedNumberScheduled == want && st.NumberAvailable == want,
			fmt.Sprintf("generation %d: %+v", ds.Generation, st)
	})
}

func (s *suite) available(t *testing.T) {
	t.Helper()
	s.eventually(t, "TigeraStatus calico is Available and not Progressing", func() (bool, string) {
		o, err := s.dynamic.Resource(controlplane.TigeraStatuses).Get(t.Context(), "calico", metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
		got := map[any]any{}
		for _, c := range conditions {
			m := c.(map[string]any)
			got[m["type"]] = m["status"]
		}
		return got["Available"] == "True" && got["Progressing"] == "False" && got["Degraded"] == "False", fmt.Sprint(got)
	})
}

func (s *suite) patch(t *testing.T, kind schema.GroupVersionResource, patch string) {
	t.Helper()
	if _, err := s.dynamic.Resource(kind).Patch(t.Context(), "default", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (s *suite) object(t *testing.T, kind schema.GroupVersionResource) *unstructured.Unstructured {
	t.Helper()
	o, err := s.dynamic.Resource(kind).Get(t.Context(), "default", metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	return o
}

// eventually gives every state three minutes: a deadline for a broken lab, not
// a measure of a slow machine.
func (s *suite) eventually(t *testing.T, what string, check func() (bool, string)) {
	t.Helper()
	var last string
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var ok bool
		if ok, last = check(); ok {
			return
		}
	}
	t.Fatalf("%s: not after 3 minutes: %s", what, last)
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}
