// Package fleet is both labs as one: virtual machines whose names are those of
// the cluster's Node objects, the control plane with the Calico operator, and
// the inventory that a user of that fleet would have written.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fleetd/fleetd/integration/lab/controlplane"
	"github.com/fleetd/fleetd/integration/lab/nodes"
)

// Config says which fleet to start.
type Config struct {
	// Dir holds all state of the fleet.
	Dir string
	// Netns is the network namespace that everything runs in.
	Netns string
	// Nodes are the machines; the first is the control plane.
	Nodes []nodes.NodeConfig
	// ReadyDelay is how long a pod takes to become Ready.
	ReadyDelay time.Duration
	// Kubernetes makes the machines real nodes, all of them workers: with a
	// kubelet, pods that run, and kube-proxy's rules. controlplane.BuildNodes has to
	// have built what runs on them.
	Kubernetes bool
	// Log is told what happens. nil: nothing.
	Log io.Writer
}

// Fleet is a running lab fleet.
type Fleet struct {
	Dir          string
	Nodes        *nodes.Lab
	ControlPlane *controlplane.Lab
	// Inventory is the path of the inventory file.
	Inventory string
}

// Start brings the fleet up and returns when its nodes answer and Calico is
// available. On an error nothing is left running.
func Start(ctx context.Context, c Config) (f *Fleet, err error) {
	f = &Fleet{Dir: c.Dir, Inventory: filepath.Join(c.Dir, "inventory.yaml")}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Stop())
		}
	}()
	if c.Kubernetes {
		if err := f.startKubernetes(ctx, c); err != nil {
			return f, err
		}
		return f, f.writeInventory(0)
	}
	var specs []controlplane.NodeSpec
	for i := range c.Nodes {
		if c.Nodes[i].Name == "" {
			c.Nodes[i].Name = fmt.Sprintf("node%d", i+1)
		}
		specs = append(specs, controlplane.NodeSpec{
			Name: c.Nodes[i].Name, ControlPlane: i == 0,
			// The pods of the only worker need somewhere to go: their disruption
			// budget would rightly hold its drain up for ever.
			Untainted: len(c.Nodes) == 2,
		})
	}
	felix, err := felixFiles()
	if err != nil {
		return f, err
	}
	for i := range c.Nodes {
		files := maps.Clone(felix)
		maps.Copy(files, c.Nodes[i].Files)
		c.Nodes[i].Files = files
	}
	f.ControlPlane, err = controlplane.Start(ctx, controlplane.Config{
		Dir: filepath.Join(c.Dir, "controlplane"), Netns: c.Netns, Nodes: specs,
		Calico: true, Workloads: true, ReadyDelay: c.ReadyDelay, Log: c.Log,
	})
	if err != nil {
		return f, fmt.Errorf("cannot start the control plane: %w", err)
	}
	f.Nodes, err = nodes.Start(ctx, nodes.Config{
		Dir: filepath.Join(c.Dir, "nodes"), Netns: c.Netns, Nodes: c.Nodes, APIServer: controlplane.APIAddress, Log: c.Log,
	})
	if err != nil {
		return f, fmt.Errorf("cannot start the machines: %w", err)
	}
	if err := f.Nodes.WaitReady(ctx); err != nil {
		return f, fmt.Errorf("the machines do not come up: %w", err)
	}
	for i, n := range f.Nodes.Nodes() {
		cred, err := f.ControlPlane.NodeCredentials(n.Name)
		if err != nil {
			return f, err
		}
		// It reports at once after a boot. In between seldom: a TLS session takes
		// a third of a second of an emulated machine.
		if err := f.Nodes.SetKubelet(ctx, i+1, nodes.Kubelet{CA: cred.CA, Cert: cred.Cert, Key: cred.Key}); err != nil {
			return f, err
		}
		if _, err := f.Nodes.Run(ctx, i+1, "systemctl daemon-reload && systemctl -q enable --now felix-standin"); err != nil {
			return f, fmt.Errorf("cannot start the stand-in for Felix on %s: %w", n.Name, err)
		}
	}
	if err := f.waitReported(ctx); err != nil {
		return f, err
	}
	return f, f.writeInventory(1)
}

// felixFiles are the stand-in for each machine's Felix and its service.
func felixFiles() (map[string]nodes.File, error) {
	cache, err := controlplane.CacheDir()
	if err != nil {
		return nil, err
	}
	binary, err := os.ReadFile(filepath.Join(cache, "bin", "calico-node"))
	if err != nil {
		return nil, fmt.Errorf("cannot read the stand-in for calico-node (controlplane.Build makes it): %w", err)
	}
	return map[string]nodes.File{
		"/usr/libexec/fleetd-lab/calico-node": {Content: binary, Mode: 0o755},
		"/etc/systemd/system/felix-standin.service": {Content: []byte(`[Unit]
Description=A stand-in for Felix
After=ssh.service
StartLimitIntervalSec=0
[Service]
ExecStart=/usr/libexec/fleetd-lab/calico-node -felix
Restart=always
RestartSec=1
[Install]
WantedBy=multi-user.target
`)},
	}, nil
}

// waitReported waits until every Node object tells the boot ID of its machine.
// Until then the cluster's nodes would change under the first plan.
func (f *Fleet) waitReported(ctx context.Context) error {
	kube, err := f.ControlPlane.Client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for i, n := range f.Nodes.Nodes() {
		boot, err := f.Nodes.Run(ctx, i+1, "cat /proc/sys/kernel/random/boot_id")
		if err != nil {
			return err
		}
		for {
			node, err := kube.CoreV1().Nodes().Get(ctx, n.Name, metav1.GetOptions{})
			if err != nil {
				return fmt.Errorf("cannot read Node %s: %w", n.Name, err)
			}
			if node.Status.NodeInfo.BootID == boot {
				break
			}
			time.Sleep(200 * time.Millisecond)
		}
	}
	return nil
}

// Load finds a fleet again that another process started.
func Load(dir string) (*Fleet, error) {
	f := &Fleet{Dir: dir, Inventory: filepath.Join(dir, "inventory.yaml")}
	var err error
	if f.ControlPlane, err = controlplane.Load(filepath.Join(dir, "controlplane")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if f.Nodes, err = nodes.Load(filepath.Join(dir, "nodes")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if f.ControlPlane == nil && f.Nodes == nil {
		return nil, fmt.Errorf("no lab in %s: %w", dir, fs.ErrNotExist)
	}
	return f, nil
}

// Stop ends everything that Start started.
func (f *Fleet) Stop() error {
	var errs []error
	if f.Nodes != nil {
		errs = append(errs, f.Nodes.Stop())
	}
	if f.ControlPlane != nil {
		errs = append(errs, f.ControlPlane.Stop())
	}
	return errors.Join(errs...)
}

// Command is a program to run on the fleet's bastion: inside the namespace,
// with a state folder of its own.
func (f *Fleet) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	c := f.ControlPlane.Command(ctx, name, args...)
	env := c.Env
	if env == nil {
		env = os.Environ()
	}
	for i := len(env) - 1; i >= 0; i-- {
		if strings.HasPrefix(env[i], "KUBECONFIG=") { // the inventory names it
			env = append(env[:i], env[i+1:]...)
		}
	}
	c.Env = append(env, "XDG_STATE_HOME="+filepath.Dir(f.StateDir()))
	return c
}

// StateDir is where the journal of Command's fleetd is.
func (f *Fleet) StateDir() string { return filepath.Join(f.Dir, "state", "fleetd") }

// writeInventory writes what a user of this fleet would have: a group for the
// control plane, the first machines, one for the workers, and variables for all.
func (f *Fleet) writeInventory(controlPlane int) error {
	type m = map[string]any
	host := func(i int) m {
		n := f.Nodes.Node(i)
		return m{"ansible_host": n.Address, "ansible_port": n.Port}
	}
	servers, workers := m{}, m{}
	for i, n := range f.Nodes.Nodes() {
		if i < controlPlane {
			servers[n.Name] = host(i + 1)
		} else {
			workers[n.Name] = host(i + 1)
		}
	}
	inv := m{"all": m{
		"vars": m{
			"ansible_user":                 "centos",
			"ansible_ssh_private_key_file": f.Nodes.IdentityFile,
			"ansible_ssh_common_args":      "-o UserKnownHostsFile=" + f.Nodes.KnownHosts,
			"kubeconfig":                   f.ControlPlane.Kubeconfig,
			"calico_api_host":              strings.Split(controlplane.GuestAPIAddress, ":")[0],
			"calico_api_port":              6443,
			"calico_external_service_mode": "DSR",
			"bpf_objects":                  []string{"tcp_connect"},
		},
		"children": m{
			"kube_control_plane": m{"hosts": servers},
			"kube_node":          m{"hosts": workers},
		},
	}}
	raw, err := yaml.Marshal(inv)
	if err != nil {
		return fmt.Errorf("cannot write the inventory: %w", err)
	}
	if err := os.WriteFile(f.Inventory, raw, 0o600); err != nil {
		return fmt.Errorf("cannot write the inventory: %w", err)
	}
	return nil
}
