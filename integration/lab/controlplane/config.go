package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

// A NodeSpec is one node of the cluster.
type NodeSpec struct {
	Name string `json:"name"`
	// InternalIP lies in 10.0.0.0/8. Empty: 10.0.0.3 for the first node,
	// 10.0.0.4 for the second, and so on. A Real node has its machine's.
	InternalIP string `json:"internalIP"`
	// ControlPlane gives the role label, the NoSchedule taint, and mirror pods
	// of etcd and the control plane's programs, as kubeadm does.
	ControlPlane bool `json:"controlPlane,omitempty"`
	// Untainted lets a control-plane node take work too, as small clusters do.
	Untainted bool              `json:"untainted,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"` // besides the usual ones
	// Real nodes are not made by the lab but register themselves: Config.Machines
	// starts the machines that their kubelets run on. They have no mirror pods.
	Real bool `json:"real,omitempty"`
	// KernelVersion is what status.nodeInfo says until somebody patches it.
	// Empty: a CentOS 7 kernel.
	KernelVersion string `json:"kernelVersion,omitempty"`
}

// A Config says what lab to start.
type Config struct {
	// Dir holds certificates, data, logs and the lab's state. It is created;
	// it must not hold a running lab.
	Dir string
	// Netns is the network namespace, created if it is not there. Ports inside
	// are fixed, so it holds one lab. Empty: DefaultNetns.
	Netns string
	// BinDir holds what Build made. Empty: CacheDir/bin.
	BinDir string
	Nodes  []NodeSpec
	// Calico installs the CRDs, starts the operator, creates the Installation
	// and waits until the operator calls Calico available.
	Calico bool
	// Workloads creates namespace shop with Deployments for a drain to move:
	// web (4 replicas, a PodDisruptionBudget of maxUnavailable 1) and worker.
	Workloads bool
	// KubeProxyMode is the mode in kube-proxy's ConfigMap: "" (iptables) or "ipvs".
	KubeProxyMode string
	// ReadyDelay is how long a pod takes from being scheduled to Ready. 0 is
	// at once; 3 s makes a roll of calico-node take about 4 s a node.
	ReadyDelay time.Duration
	// Machines starts what the Real nodes run on. It is called when the API server
	// answers; Start then waits for them as for all others.
	Machines func(context.Context, *Lab) error
	// AdvertiseAddress is the endpoint of the Service "kubernetes". Empty: an
	// address that only answers inside the namespace, of no use to Real nodes.
	AdvertiseAddress string
	// Log is told what happens and when. nil: nothing.
	Log io.Writer
}

// complete fills in what cfg leaves open and refuses what cannot work.
func (cfg *Config) complete() error {
	if cfg.Dir == "" {
		return errors.New("Config.Dir is empty")
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return err
	}
	cfg.Dir = dir
	if cfg.Netns == "" {
		cfg.Netns = DefaultNetns
	}
	if cfg.Log == nil {
		cfg.Log = io.Discard
	}
	if cfg.BinDir == "" {
		cache, err := CacheDir()
		if err != nil {
			return err
		}
		cfg.BinDir = filepath.Join(cache, "bin")
	}
	for _, t := range tools {
		if _, err := os.Stat(filepath.Join(cfg.BinDir, t.name)); err != nil {
			return fmt.Errorf("%w\nbuild the lab's programs first", err)
		}
	}
	if cfg.AdvertiseAddress == "" {
		cfg.AdvertiseAddress = advertisedAPI
	}
	if len(cfg.Nodes) == 0 {
		return errors.New("Config.Nodes is empty")
	}
	// Labels and addresses are filled in on a copy: the caller's slice is not ours.
	cfg.Nodes = slices.Clone(cfg.Nodes)
	names, addresses := map[string]bool{}, map[string]bool{}
	for i := range cfg.Nodes {
		n := &cfg.Nodes[i]
		n.Labels = maps.Clone(n.Labels)
		if msgs := validation.IsDNS1123Subdomain(n.Name); len(msgs) > 0 {
			return fmt.Errorf("node %q: %s", n.Name, msgs[0])
		}
		if n.InternalIP == "" && !n.Real {
			n.InternalIP = nodeAddress(i)
		}
		switch ip := net.ParseIP(n.InternalIP).To4(); {
		case n.Real && (cfg.Machines == nil || ip == nil || n.ControlPlane):
			return fmt.Errorf("node %s: a real node is a worker with an address, and Config.Machines starts it", n.Name)
		case !n.Real && (ip == nil || ip[0] != 10):
			return fmt.Errorf("node %s: address %q is not in 10.0.0.0/8", n.Name, n.InternalIP)
		}
		if n.KernelVersion == "" {
			n.KernelVersion = "3.10.0-1160.el7.x86_64"
		}
		if names[n.Name] || addresses[n.InternalIP] {
			return fmt.Errorf("node %s (%s) is there twice", n.Name, n.InternalIP)
		}
		names[n.Name], addresses[n.InternalIP] = true, true
	}
	if cfg.ReadyDelay < 0 {
		return fmt.Errorf("ReadyDelay %s is negative", cfg.ReadyDelay)
	}
	return nil
}

// nodeAddress is the i-th node's own: 10.0.0.3, …, never .0 or .255.
func nodeAddress(i int) string { return fmt.Sprintf("10.0.%d.%d", i/250, i%250+3) }
