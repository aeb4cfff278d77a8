package nodes

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// Flavour names the distribution that a node plays.
type Flavour string

// The flavours. EL7 has yum, menu entries in grub.cfg and one kernel-ml package registered by
// new-kernel-pkg. EL8 and EL9 have dnf, BLS entries and kernel-ml in three packages registered by
// kernel-install; on EL8 a newly installed kernel becomes the default by itself, on EL9 only one of
// the package that DEFAULTKERNEL names.
const (
	EL7 Flavour = "el7"
	EL8 Flavour = "el8"
	EL9 Flavour = "el9"
)

// Addresses as a node sees them.
const (
	MirrorURL    = "http://10.0.2.100"
	APIServerURL = "https://10.0.2.101:6443"
)

// OpsPassword is the login and sudo password of the user ops. The users centos (sudo without password)
// and root take only the key [Lab.IdentityFile].
const OpsPassword = "lab-password"

// Options say what to build and where to keep it.
type Options struct {
	Flavours []Flavour // nil: EL7
	CacheDir string    // "": DefaultCacheDir
	Log      io.Writer // progress, one line each; nil: none
	// Kubernetes, if set, makes images of nodes of Kubernetes.
	Kubernetes *Kubernetes
}

// Config describes a lab.
type Config struct {
	// Dir holds everything the lab writes: disks, consoles, keys, process IDs. It must be empty, or hold
	// a stopped lab, which is then overwritten. "": the folder "run" in the cache.
	Dir string
	// Netns is the network namespace (as in `ip netns`) that machines and mirror run in. It is created
	// if there is none, and only then removed by Stop. "": fleetd-nodes.
	Netns string
	// Nodes, first node first. Node i of the lab is Nodes[i-1].
	Nodes []NodeConfig
	// MemoryMB of each machine; 0: 384, and 768 with Kubernetes.
	MemoryMB int
	// APIServer is the address inside the namespace that a node's 10.0.2.101:6443 leads to.
	// "": 127.0.0.1:16443. Nothing needs to answer there until a node calls.
	APIServer string
	// Kubelet, if set, makes each node report its boot ID and kernel version to the API server.
	Kubelet *Kubelet
	// Kubernetes, if set, makes them real nodes: with containerd, a kubelet and a second interface, eth1, to
	// each other and to the namespace.
	Kubernetes *Kubernetes

	CacheDir string    // as in Options
	Log      io.Writer // as in Options
}

// NodeConfig describes one node. Its zero value is a healthy EL7 node.
type NodeConfig struct {
	Name    string // hostname and name of the Node object; "": node<i>
	Flavour Flavour

	// Patterns of `uname -r`, as in the shell (*elrepo*): kernels that match, installed from now on,
	// end in a panic at boot, hang in the initramfs, or boot without network.
	PanicOn, HangOn, NoNetworkOn string

	Lies       []Lie
	RealDracut bool            // make initramfs images with the real dracut: 25 s slower per install
	Files      map[string]File // more files, by absolute path
}

// File is a file that a node finds at its first boot.
type File struct {
	Content []byte
	Mode    fs.FileMode // 0: 0644
	UID     int
}

// Lie is a way in which a tool on the node reports success and does nothing, as the real ones do.
type Lie string

// The lies.
const (
	LieSetDefault    Lie = "lie.set-default"    // grubby --set-default and --set-default-index change nothing
	LieNewKernelPkg  Lie = "lie.new-kernel-pkg" // EL7: no boot entry for an installed kernel
	LieKernelInstall Lie = "lie.kernel-install" // EL8 and later: the same
	LieDracut        Lie = "lie.dracut"         // the initramfs is an empty file
)

// Kubelet is what a node needs to report to an API server.
type Kubelet struct {
	CA        []byte // PEM
	Cert, Key []byte // client certificate, PEM; or
	Token     string
	Interval  time.Duration // between reports, whole seconds; 0: 15 s. Until the first one got through: 1 s
}

func (k Kubelet) files(name string) map[string]File {
	secret := func(b []byte) File { return File{Content: b, Mode: 0o600} }
	files := map[string]File{
		"/etc/kubelet-standin/ca":     {Content: k.CA},
		"/etc/kubelet-standin/node":   {Content: []byte(name + "\n")},
		"/etc/kubelet-standin/server": {Content: []byte(APIServerURL + "\n")},
	}
	if len(k.Key) > 0 {
		files["/etc/kubelet-standin/cert"] = File{Content: k.Cert}
		files["/etc/kubelet-standin/key"] = secret(k.Key)
	} else {
		files["/etc/kubelet-standin/token"] = secret([]byte(k.Token + "\n"))
	}
	if k.Interval > 0 {
		files["/etc/kubelet-standin/interval"] = File{Content: fmt.Appendf(nil, "%d\n", int(k.Interval.Round(time.Second).Seconds()))}
	}
	return files
}

// Uniform is count nodes of one flavour, with their default names.
func Uniform(count int, flavour Flavour) []NodeConfig {
	nodes := make([]NodeConfig, count)
	for i := range nodes {
		nodes[i].Flavour = flavour
	}
	return nodes
}

// DefaultCacheDir is fleetd-lab/nodes under the user's cache folder.
func DefaultCacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cannot find the cache folder: %w", err)
	}
	return filepath.Join(base, "fleetd-lab", "nodes"), nil
}

var hostname = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)

// complete fills in the defaults and checks what is left.
func (c *Config) complete() error {
	if c.CacheDir == "" {
		dir, err := DefaultCacheDir()
		if err != nil {
			return err
		}
		c.CacheDir = dir
	}
	if c.Dir == "" {
		c.Dir = filepath.Join(c.CacheDir, "run")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return err
	}
	c.Dir = dir
	if c.Netns == "" {
		c.Netns = "fleetd-nodes"
	}
	if c.MemoryMB == 0 {
		c.MemoryMB = 384
		if c.Kubernetes != nil {
			c.MemoryMB = 768
		}
	}
	if c.Kubernetes != nil && len(c.Nodes) > maxKubernetes {
		return fmt.Errorf("a lab has up to %d nodes of Kubernetes, not %d", maxKubernetes, len(c.Nodes))
	}
	if c.APIServer == "" {
		c.APIServer = "127.0.0.1:16443"
	}
	if len(c.Nodes) == 0 || len(c.Nodes) > 200 {
		return fmt.Errorf("a lab has 1 to 200 nodes, not %d", len(c.Nodes))
	}
	c.Nodes = append([]NodeConfig(nil), c.Nodes...)
	seen := map[string]bool{}
	for i := range c.Nodes {
		n := &c.Nodes[i]
		if n.Name == "" {
			n.Name = fmt.Sprintf("node%d", i+1)
		}
		if n.Flavour == "" {
			n.Flavour = EL7
		}
		if !hostname.MatchString(n.Name) || seen[n.Name] {
			return fmt.Errorf("node %d: %q is not a host name, or is used twice", i+1, n.Name)
		}
		seen[n.Name] = true
	}
	return nil
}

func (c *Config) flavours() []Flavour {
	var list []Flavour
	seen := map[Flavour]bool{}
	for _, n := range c.Nodes {
		if !seen[n.Flavour] {
			seen[n.Flavour] = true
			list = append(list, n.Flavour)
		}
	}
	return list
}
