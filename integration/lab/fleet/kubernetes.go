package fleet

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/fleetd/fleetd/integration/lab/controlplane"
	"github.com/fleetd/fleetd/integration/lab/nodes"
)

// Kubernetes is what makes machines the real nodes of a fleet, but for the
// credentials that each fleet has of its own.
func Kubernetes() (*nodes.Kubernetes, error) {
	cache, err := controlplane.CacheDir()
	if err != nil {
		return nil, err
	}
	return &nodes.Kubernetes{
		Programs: filepath.Join(cache, "bin"),
		Images:   controlplane.Images(),
		PodCIDR:  func(i int) string { return controlplane.PodCIDR(i - 1) },
	}, nil
}

// startKubernetes starts a fleet of real nodes: the control plane first, and the
// machines when it answers.
func (f *Fleet) startKubernetes(ctx context.Context, c Config) error {
	kubernetes, err := Kubernetes()
	if err != nil {
		return err
	}
	var specs []controlplane.NodeSpec
	for i := range c.Nodes {
		if c.Nodes[i].Name == "" {
			c.Nodes[i].Name = fmt.Sprintf("node%d", i+1)
		}
		specs = append(specs, controlplane.NodeSpec{Name: c.Nodes[i].Name, Real: true, InternalIP: nodes.ClusterAddress(i + 1)})
	}
	machines := func(ctx context.Context, l *controlplane.Lab) error {
		kubernetes.Kubelets = map[string]nodes.KubeletConfig{}
		for _, n := range c.Nodes {
			cred, err := l.KubeletCredentials(n.Name)
			if err != nil {
				return err
			}
			config, err := cred.KubeletConfig(n.Name)
			if err != nil {
				return err
			}
			kubernetes.Kubelets[n.Name] = nodes.KubeletConfig{Kubeconfig: config, CA: cred.CA, Cert: cred.Cert, Key: cred.Key}
		}
		f.Nodes, err = nodes.Start(ctx, nodes.Config{
			Dir: filepath.Join(c.Dir, "nodes"), Netns: c.Netns, Nodes: c.Nodes,
			APIServer: controlplane.APIAddress, Kubernetes: kubernetes, Log: c.Log,
		})
		return err
	}
	f.ControlPlane, err = controlplane.Start(ctx, controlplane.Config{
		Dir: filepath.Join(c.Dir, "controlplane"), Netns: c.Netns, Nodes: specs, Machines: machines, AdvertiseAddress: nodes.ClusterGateway,
		Calico: true, Workloads: true, ReadyDelay: c.ReadyDelay, Log: c.Log,
	})
	if err != nil {
		return fmt.Errorf("cannot start the control plane: %w", err)
	}
	if err := f.Nodes.WaitReady(ctx); err != nil {
		return fmt.Errorf("the machines do not come up: %w", err)
	}
	return f.waitReported(ctx)
}
