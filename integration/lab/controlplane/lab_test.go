//go:build lab

package controlplane_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

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
