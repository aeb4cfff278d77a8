package nodes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Kubernetes makes machines real nodes: their image has containerd, a kubelet and container images, and the
// machines see each other. What runs in the pods is the lab's stand-in, but for kube-proxy.
type Kubernetes struct {
	// Programs is the folder with kubelet, kube-proxy, pod and calico-node, linked statically.
	Programs string
	// Images are the container images by reference, each with the program that it starts. A node knows no
	// others and pulls none.
	Images map[string][]string
	// PodCIDR is where the pods of node i, from 1, have their addresses.
	PodCIDR func(i int) string
	// Kubelets are the credentials of the nodes by name, as `kubeadm join` leaves them, and where the API server is.
	Kubelets map[string]KubeletConfig
}

// KubeletConfig is what a kubelet needs to join a cluster.
type KubeletConfig struct {
	Kubeconfig []byte
	CA         []byte // PEM; signs the clients that may ask the kubelet
	Cert, Key  []byte // PEM; its server certificate
}

var (
	kubernetesPrograms = []string{"kubelet", "kube-proxy", "pod", "calico-node"}
	kubernetesPackages = []string{"containerd", "runc", "containernetworking-plugins", "iptables", "conntrack"}
)

// The network of the machines' second interfaces, a bridge in the namespace.
const (
	ClusterGateway = "172.31.7.1" // the namespace itself
	clusterNetwork = "172.31.7."
	bridge         = "cluster"
	maxKubernetes  = 200
)

// ClusterAddress is node i's address, from 1, among the nodes of the cluster.
func ClusterAddress(i int) string { return fmt.Sprint(clusterNetwork, 10+i) }

func tap(i int) string { return fmt.Sprintf("tap%d", i) }
func mac(i int) string { return fmt.Sprintf("52:54:00:1f:07:%02x", i) }

// addBridge gives the namespace the network of the second interfaces.
func addBridge(ctx context.Context, netns string, count int) error {
	commands := [][]string{
		{"link", "add", bridge, "type", "bridge"},
		{"addr", "add", ClusterGateway + "/24", "dev", bridge},
		{"link", "set", bridge, "up"},
	}
	for i := range count {
		commands = append(commands,
			[]string{"tuntap", "add", tap(i + 1), "mode", "tap"},
			[]string{"link", "set", tap(i + 1), "master", bridge, "up"})
	}
	for _, c := range commands {
		if err := run(ctx, "ip", append([]string{"-n", netns}, c...)...); err != nil {
			return fmt.Errorf("cannot make the network of the cluster: %w", err)
		}
	}
	return nil
}

// digest tells two sets of programs and images apart.
func (k *Kubernetes) digest() (string, error) {
	h := sha256.New()
	_, _ = io.WriteString(h, k.list())
	for _, name := range kubernetesPrograms {
		f, err := os.Open(filepath.Join(k.Programs, name))
		if err != nil {
			return "", fmt.Errorf("%w\nbuild the programs of the nodes first", err)
		}
		_, err = io.Copy(h, f)
		f.Close()
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:12], nil
}

// list is the file "images" that mkkubernetes.sh reads.
func (k *Kubernetes) list() string {
	var s strings.Builder
	for _, ref := range slices.Sorted(maps.Keys(k.Images)) {
		fmt.Fprintln(&s, ref, strings.Join(k.Images[ref], " "))
	}
	return s.String()
}

// collect makes the folder that mkkubernetes.sh takes everything from.
func (k *Kubernetes) collect(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, name := range kubernetesPrograms {
		program, err := filepath.Abs(filepath.Join(k.Programs, name))
		if err != nil {
			return err
		}
		if err := os.Symlink(program, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "images"), []byte(k.list()), 0o644)
}

// addFiles gives node i of count what makes it a node of the cluster.
func (k *Kubernetes) addFiles(n *NodeConfig, i, count int) {
	files := maps.Clone(n.Files)
	if files == nil {
		files = map[string]File{}
	}
	var routes []string
	for j := 1; j <= count; j++ {
		if j != i {
			routes = append(routes, k.PodCIDR(j)+"="+ClusterAddress(j))
		}
	}
	files["/etc/fleetd-lab/cluster-network"] = File{Content: fmt.Appendf(nil, "ADDRESS=%s\nGATEWAY=%s\nROUTES=\"%s\"\n", ClusterAddress(i), ClusterGateway, strings.Join(routes, " "))}
	// isGateway alone: with isDefaultGateway, too, the routes given here are refused. No host ports: a plugin
	// for them would cost each pod a second.
	files["/etc/cni/net.d/10-lab.conflist"] = File{Content: fmt.Appendf(nil, `{"cniVersion": "0.4.0", "name": "lab", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": %q}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
`, k.PodCIDR(i))}
	c := k.Kubelets[n.Name]
	files["/etc/kubernetes/kubelet.conf"] = File{Content: c.Kubeconfig, Mode: 0o600}
	files["/etc/kubernetes/ca.crt"] = File{Content: c.CA}
	files["/etc/kubernetes/kubelet.crt"] = File{Content: c.Cert}
	files["/etc/kubernetes/kubelet.key"] = File{Content: c.Key, Mode: 0o600}
	n.Files = files
}
