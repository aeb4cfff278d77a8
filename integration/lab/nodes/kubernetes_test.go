package nodes

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func testKubernetes(t *testing.T) *Kubernetes {
	t.Helper()
	k := &Kubernetes{
		Programs: t.TempDir(),
		Images:   map[string][]string{"registry.example/b:1": {"/usr/bin/pod", "web"}, "registry.example/a:1": {"/usr/bin/pod"}},
		PodCIDR:  func(i int) string { return fmt.Sprintf("10.244.%d.0/24", i-1) },
		Kubelets: map[string]KubeletConfig{"node2": {Kubeconfig: []byte("config"), CA: []byte("ca"), Cert: []byte("cert"), Key: []byte("key")}},
	}
	for _, name := range kubernetesPrograms {
		if err := os.WriteFile(filepath.Join(k.Programs, name), []byte(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

func TestKubernetesFiles(t *testing.T) {
	given := map[string]File{"/etc/motd": {Content: []byte("hello")}}
	n := NodeConfig{Name: "node2", Files: given}
	testKubernetes(t).addFiles(&n, 2, 3)
	// Its own pods are not another node's to carry, and the management network stays what it is.
	want := "ADDRESS=172.31.7.12\nGATEWAY=172.31.7.1\nROUTES=\"10.244.0.0/24=172.31.7.11 10.244.2.0/24=172.31.7.13\"\n"
	if got := string(n.Files["/etc/fleetd-lab/cluster-network"].Content); got != want {
		t.Errorf("network:\n%s\nwant:\n%s", got, want)
	}
	if cni := string(n.Files["/etc/cni/net.d/10-lab.conflist"].Content); !strings.Contains(cni, `"subnet": "10.244.1.0/24"`) {
		t.Errorf("CNI: %s", cni)
	}
	for name, secret := range map[string]bool{"/etc/kubernetes/kubelet.conf": true, "/etc/kubernetes/kubelet.key": true, "/etc/kubernetes/kubelet.crt": false, "/etc/kubernetes/ca.crt": false, "/etc/motd": false} {
		f, ok := n.Files[name]
		if !ok || len(f.Content) == 0 || (f.Mode == 0o600) != secret {
			t.Errorf("%s: there %t, %d bytes, mode %o", name, ok, len(f.Content), f.Mode)
		}
	}
	if len(given) != 1 {
		t.Errorf("the caller's files were changed: %v", given)
	}
}

func TestKubernetesDigest(t *testing.T) {
	k := testKubernetes(t)
	digest := func() string {
		t.Helper()
		d, err := k.digest()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	first := digest()
	if digest() != first {
		t.Error("two digests of one set differ")
	}
	if got, want := k.list(), "registry.example/a:1 /usr/bin/pod\nregistry.example/b:1 /usr/bin/pod web\n"; got != want {
		t.Errorf("images %q, want %q", got, want)
	}
	k.Images["registry.example/c:1"] = []string{"/usr/bin/pod"}
	second := digest()
	if second == first {
		t.Error("another image, the same digest: the old disk would be taken")
	}
	if err := os.WriteFile(filepath.Join(k.Programs, "kubelet"), []byte("newer"), 0o755); err != nil {
		t.Fatal(err)
	}
	if digest() == second {
		t.Error("another kubelet, the same digest: the old disk would be taken")
	}
	if err := os.Remove(filepath.Join(k.Programs, "pod")); err != nil {
		t.Fatal(err)
	}
	if _, err := k.digest(); err == nil || !strings.Contains(err.Error(), "build the programs") {
		t.Errorf("without a program: %v", err)
	}
}
