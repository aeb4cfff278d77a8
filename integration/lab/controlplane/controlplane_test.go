package controlplane

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// fakeBin is a folder in which every program of the lab seems to be built.
func fakeBin(t *testing.T) string {
	bin := t.TempDir()
	for _, tool := range tools {
		if err := os.WriteFile(filepath.Join(bin, tool.name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return bin
}

func TestConfigComplete(t *testing.T) {
	bin := fakeBin(t)
	realNode := func(c *Config) {
		c.Machines = func(context.Context, *Lab) error { return nil }
		c.Nodes[1].Real, c.Nodes[1].InternalIP = true, "172.31.7.11"
	}
	for name, c := range map[string]struct {
		change func(*Config)
		want   string // in the error, "" for none
	}{
		"as it is":         {func(*Config) {}, ""},
		"no folder":        {func(c *Config) { c.Dir = "" }, "Config.Dir is empty"},
		"no nodes":         {func(c *Config) { c.Nodes = nil }, "Config.Nodes is empty"},
		"not built":        {func(c *Config) { c.BinDir = t.TempDir() }, "build the lab's programs first"},
		"bad name":         {func(c *Config) { c.Nodes[0].Name = "Node_1" }, `node "Node_1"`},
		"name twice":       {func(c *Config) { c.Nodes[1].Name = "node1" }, "there twice"},
		"address twice":    {func(c *Config) { c.Nodes[1].InternalIP = "10.0.0.3" }, "there twice"},
		"foreign address":  {func(c *Config) { c.Nodes[1].InternalIP = "192.168.1.1" }, "not in 10.0.0.0/8"},
		"negative delay":   {func(c *Config) { c.ReadyDelay = -time.Second }, "negative"},
		"real, no machine": {func(c *Config) { c.Nodes[1].Real, c.Nodes[1].InternalIP = true, "172.31.7.11" }, "Config.Machines"},
		"real":             {realNode, ""},
		"real, nowhere":    {func(c *Config) { realNode(c); c.Nodes[1].InternalIP = "" }, "a worker with an address"},
		"real, no worker":  {func(c *Config) { realNode(c); c.Nodes[1].ControlPlane = true }, "a worker with an address"},
		"real, twice":      {func(c *Config) { realNode(c); c.Nodes = append(c.Nodes, c.Nodes[1]) }, "there twice"},
		"IPv6 is not ours": {func(c *Config) { c.Nodes[1].InternalIP = "fd00::1" }, "not in 10.0.0.0/8"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Dir: t.TempDir(), BinDir: bin, Nodes: []NodeSpec{{Name: "node1"}, {Name: "node2"}}}
			c.change(&cfg)
			err := cfg.complete()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestConfigCompleteLeavesTheCallersNodesAlone(t *testing.T) {
	nodes := []NodeSpec{{Name: "node1"}, {Name: "node2"}}
	cfg := Config{Dir: t.TempDir(), BinDir: fakeBin(t), Nodes: nodes}
	if err := cfg.complete(); err != nil {
		t.Fatal(err)
	}
	if nodes[0].InternalIP != "" {
		t.Error("the caller's slice was written to")
	}
	if cfg.Nodes[1].InternalIP != "10.0.0.4" || cfg.Netns != DefaultNetns {
		t.Errorf("%+v", cfg)
	}
}

func TestNodeAddressesDiffer(t *testing.T) {
	seen := map[string]bool{}
	for i := range 2000 {
		a := nodeAddress(i)
		if seen[a] || strings.HasSuffix(a, ".0") || strings.HasSuffix(a, ".255") {
			t.Fatalf("node %d gets %s", i, a)
		}
		seen[a] = true
	}
}

func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "pki"), 0o700); err != nil {
		t.Fatal(err)
	}
	nodes := []NodeSpec{{Name: "node1", InternalIP: "10.0.0.3", ControlPlane: true}, {Name: "node2", InternalIP: "10.0.0.4"}}
	if err := writeCredentials(dir, Config{Nodes: nodes, AdvertiseAddress: advertisedAPI}); err != nil {
		t.Fatal(err)
	}
	ca, err := loadAuthority(filepath.Join(dir, "pki"), "ca")
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	server, err := tls.LoadX509KeyPair(filepath.Join(dir, "pki", "apiserver.crt"), filepath.Join(dir, "pki", "apiserver.key"))
	if err != nil {
		t.Fatal(err)
	}
	// Where a guest, a pod and a program in the namespace find it.
	for _, name := range []string{"10.0.2.101", "127.0.0.1", "10.96.0.1", "kubernetes.default.svc", "node1"} {
		if _, err := server.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); err != nil {
			t.Errorf("the server's certificate is not for %s: %v", name, err)
		}
	}
	if _, err := server.Leaf.Verify(x509.VerifyOptions{DNSName: "node2", Roots: roots}); err == nil {
		t.Error("the server's certificate is for a worker")
	}

	lab := &Lab{dir: dir, state: state{Nodes: nodes}}
	node, err := lab.NodeCredentials("node2")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(node.Cert, node.Key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	// A group would open more doors than the role of its own.
	if s := pair.Leaf.Subject; s.CommonName != "fleetd-lab:node:node2" || len(s.Organization) != 0 {
		t.Errorf("subject %s", s)
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err == nil {
		t.Error("a node could play the API server")
	}
	if _, err := lab.NodeCredentials("node9"); err == nil {
		t.Error("credentials for a node that is not there")
	}
}

func TestManifestsDecode(t *testing.T) {
	entries, err := manifests.ReadDir("manifests")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		objects, err := manifest(e.Name())
		if err != nil {
			t.Error(err)
		}
		for _, o := range objects {
			if o.GetKind() == "" || o.GetName() == "" {
				t.Errorf("%s holds an object without kind or name: %v", e.Name(), o.Object)
			}
		}
	}
}

// The node stage must not speak of nodeInfo, or a guest's kernel and boot ID
// would be overwritten; the slow roll's delay must be on pods, not on nodes.
func TestKwokConfig(t *testing.T) {
	for delay, want := range map[time.Duration]int64{0: 0, 2500 * time.Millisecond: 2500} {
		b, err := kwokConfig(Config{ReadyDelay: delay})
		if err != nil {
			t.Fatal(err)
		}
		objects, err := decodeYAML(b)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, o := range objects {
			names = append(names, o.GetName())
			got, _, err := unstructured.NestedFieldNoCopy(o.Object, "spec", "delay", "durationMilliseconds")
			if err != nil {
				t.Fatal(err)
			}
			switch o.GetName() {
			case "pod-ready":
				if want == 0 && got != nil || want != 0 && got != want && got != float64(want) {
					t.Errorf("delay %s: %v ms", delay, got)
				}
			default:
				if got != nil {
					t.Errorf("%s is delayed by %v ms", o.GetName(), got)
				}
			}
			if o.GetName() == "node-ready" {
				patches, _, _ := unstructured.NestedSlice(o.Object, "spec", "next", "patches")
				if len(patches) != 1 || strings.Contains(patches[0].(map[string]any)["template"].(string), "nodeInfo") {
					t.Errorf("the node stage: %v", patches)
				}
			}
		}
		if want := []string{"node-ready", "pod-ready", "pod-gone", "calico"}; !slices.Equal(names, want) {
			t.Errorf("stages %v, want %v", names, want)
		}
	}
}

func TestBuildIsCurrentWhenDigestsMatch(t *testing.T) {
	cache := t.TempDir()
	bin := filepath.Join(cache, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	src, err := sourceDir()
	if err != nil {
		t.Fatal(err)
	}
	stamps := map[string]string{}
	for _, tool := range tools {
		if stamps[tool.name], err = tool.digest(src); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(bin, tool.name), []byte("current"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeStamps(bin, stamps); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	if err := Build(t.Context(), cache, &log); err != nil || log.Len() != 0 {
		t.Errorf("a current build said %q, error %v", log.String(), err)
	}

	// A stale program is built, and only that one.
	stamps["calico-node"] = "old"
	if err := writeStamps(bin, stamps); err != nil {
		t.Fatal(err)
	}
	if err := Build(t.Context(), cache, &log); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "[1/1] calico-node") {
		t.Errorf("log %q", log.String())
	}
	if b, _ := os.ReadFile(filepath.Join(bin, "calico-node")); string(b) == "current" {
		t.Error("calico-node was not built")
	}
	if b, _ := os.ReadFile(filepath.Join(bin, "etcd")); string(b) != "current" {
		t.Error("etcd was built though it was current")
	}
}

func TestDigestFollowsWhatItIsBuiltFrom(t *testing.T) {
	src, err := sourceDir()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, tool := range tools {
		d, err := tool.digest(src)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[d]; ok {
			t.Errorf("%s and %s have the same digest", tool.name, other)
		}
		seen[d] = tool.name
		tool.ldflags += " -X main.version=2"
		if changed, _ := tool.digest(src); changed == d {
			t.Errorf("%s: other linker flags, same digest", tool.name)
		}
	}
}

// A pid that somebody else has by now is left alone.
func TestStopSparesAReusedPID(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill() // gone already if the test failed
		_ = cmd.Wait()
	}()
	started, _, err := processStat(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	other := Process{Name: "etcd", PID: cmd.Process.Pid, StartTime: started - 1}
	if other.Alive() {
		t.Error("another process's pid counts as ours")
	}
	if err := other.stop(time.Second); err != nil {
		t.Error(err)
	}
	ours := Process{Name: "etcd", PID: cmd.Process.Pid, StartTime: started}
	if !ours.Alive() {
		t.Fatal("the process was ended, or is not known as ours")
	}
	if ours.ResidentBytes() == 0 {
		t.Error("no memory")
	}
	// Nobody waits for it here: a zombie is as good as gone.
	if err := ours.stop(10 * time.Second); err != nil {
		t.Error(err)
	}
}

func TestLoadWithoutALab(t *testing.T) {
	if _, err := Load(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestWritesIgnoresTheLineBeingWritten(t *testing.T) {
	lab := &Lab{dir: t.TempDir()}
	if err := os.Mkdir(filepath.Join(lab.dir, "log"), 0o755); err != nil {
		t.Fatal(err)
	}
	const log = `{"auditID":"1","stage":"RequestReceived","verb":"patch","requestURI":"/api/v1/nodes/a?dryRun=All","user":{"username":"admin"},"objectRef":{"resource":"nodes","name":"a"}}
{"auditID":"2","stage":"RequestReceived","verb":"list","requestURI":"/api/v1/nodes","user":{"username":"admin"},"objectRef":{"resource":"nodes"}}
{"auditID":"1","stage":"ResponseComplete","verb":"patch","requestURI":"/api/v1/nodes/a?dryRun=All","user":{"username":"admin"},"objectRef":{"resource":"nodes","name":"a"},"requestObject":{"spec":{}}}
{"auditID":"3","stage":"RequestReceived","verb":"update","user":{"username":"admin"},"objectRef":{"apiGroup":"coordination.k8s.io","resource":"leases","name":"fleetd"}}
{"auditID":"4","stage":"RequestReceived","verb":"create","requestURI":"/api/v1/nodes","user":{"username":"kwok"},"objectRef":{"resource":"nodes"}}
{"stage":"RequestRec`
	if err := os.WriteFile(lab.AuditLog(), []byte(log), 0o644); err != nil {
		t.Fatal(err)
	}
	all, err := lab.Writes("")
	if err != nil || len(all) != 2 {
		t.Fatalf("%v, %v", all, err)
	}
	mine, err := lab.Writes("admin")
	if err != nil || len(mine) != 1 || !mine[0].DryRun || mine[0].Name != "a" || string(mine[0].Body) != `{"spec":{}}` {
		t.Errorf("%+v, %v", mine, err)
	}
	if asked, err := lab.Requests("admin"); err != nil || len(asked) != 3 {
		t.Errorf("%+v, %v", asked, err)
	}
}

// A kubelet must be let in as its node, asked only by the API server, and found
// at its machine's address.
func TestKubeletCredentials(t *testing.T) {
	l := &Lab{dir: t.TempDir(), state: state{Nodes: []NodeSpec{{Name: "node1", Real: true, InternalIP: "172.31.7.11"}, {Name: "kwok1", InternalIP: "10.0.0.4"}}}}
	if err := os.Mkdir(filepath.Join(l.dir, "pki"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := writeCredentials(l.dir, Config{Nodes: l.state.Nodes, AdvertiseAddress: "172.31.7.1"}); err != nil {
		t.Fatal(err)
	}
	cred, err := l.KubeletCredentials("node1")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cred.Cert, cred.Key)
	if err != nil {
		t.Fatal(err)
	}
	if s := pair.Leaf.Subject; s.CommonName != "system:node:node1" || len(s.Organization) != 1 || s.Organization[0] != "system:nodes" {
		t.Errorf("the certificate is for %s", s)
	}
	if err := pair.Leaf.VerifyHostname("172.31.7.11"); err != nil {
		t.Error(err)
	}
	config, err := cred.KubeletConfig("node1")
	if err != nil || !strings.Contains(string(config), "server: https://"+GuestAPIAddress) {
		t.Errorf("kubeconfig %s, %v", config, err)
	}
	if _, err := l.KubeletCredentials("kwok1"); err == nil {
		t.Error("a node of kwok's got a kubelet's credentials")
	}
}
