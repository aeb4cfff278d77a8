// Command lab starts and stops fleetd's lab: virtual machines that really
// reboot, and a real control plane with the Calico operator.
//
//	go run ./integration/lab build    make what the lab needs, once, in the cache
//	go run ./integration/lab up       start it; says how to use it
//	go run ./integration/lab real     start two machines with real kubelets; says how to use them
//	go run ./integration/lab demo     start a small one, plan and apply on it
//	go run ./integration/lab down     stop it
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fleetd/fleetd/integration/lab/controlplane"
	"github.com/fleetd/fleetd/integration/lab/fleet"
	"github.com/fleetd/fleetd/integration/lab/nodes"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	verbs := map[string]func(context.Context) error{"build": build, "up": up, "real": realNodes, "demo": demo, "down": down}
	if len(os.Args) != 2 || verbs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: lab build|up|real|demo|down")
		os.Exit(1)
	}
	if err := verbs[os.Args[1]](ctx); err != nil {
		fmt.Fprintln(os.Stderr, "lab: "+err.Error())
		os.Exit(1)
	}
}

// netns is where the lab of `make lab-up` and `make demo` runs; tests have
// their own.
const netns = "fleetd-lab"

func dir() (string, error) {
	cache, err := controlplane.CacheDir()
	return filepath.Join(cache, "lab"), err
}

func build(ctx context.Context) error {
	// One waits for the compiler, the other mostly for the network.
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return controlplane.Build(ctx, "", os.Stderr) })
	g.Go(func() error {
		return nodes.Build(ctx, nodes.Options{Flavours: []nodes.Flavour{nodes.EL7, nodes.EL8}, Log: os.Stderr})
	})
	return g.Wait()
}

func start(ctx context.Context, machines int) (*fleet.Fleet, error) {
	d, err := stopped()
	if err != nil {
		return nil, err
	}
	if err := build(ctx); err != nil {
		return nil, err
	}
	c := fleet.Config{Dir: d, Netns: netns, ReadyDelay: time.Second, Log: os.Stderr}
	for i := range machines {
		flavour := nodes.EL7
		if i == machines-1 {
			flavour = nodes.EL8
		}
		c.Nodes = append(c.Nodes, nodes.NodeConfig{Flavour: flavour})
	}
	return fleet.Start(ctx, c)
}

// stopped stops the lab that is there, and returns the folder for the next.
func stopped() (string, error) {
	d, err := dir()
	if err != nil {
		return "", err
	}
	if f, err := fleet.Load(d); err == nil {
		fmt.Fprintln(os.Stderr, "stopping the lab that is there")
		if err := f.Stop(); err != nil {
			return "", err
		}
	}
	return d, nil
}

func realNodes(ctx context.Context) error {
	d, err := stopped()
	if err != nil {
		return err
	}
	if err := controlplane.Build(ctx, "", os.Stderr); err != nil {
		return err
	}
	if err := controlplane.BuildNodes(ctx, "", os.Stderr); err != nil {
		return err
	}
	f, err := fleet.Start(ctx, fleet.Config{Dir: d, Netns: netns, Kubernetes: true, Nodes: nodes.Uniform(2, nodes.EL8), Log: os.Stderr})
	if err != nil {
		return err
	}
	usage(f)
	return nil
}

func up(ctx context.Context) error {
	f, err := start(ctx, 3)
	if err != nil {
		return err
	}
	usage(f)
	return nil
}

func down(context.Context) error {
	d, err := dir()
	if err != nil {
		return err
	}
	f, err := fleet.Load(d)
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintln(os.Stderr, "no lab is up")
		return nil
	}
	if err != nil {
		return err
	}
	return f.Stop()
}

func usage(f *fleet.Fleet) {
	fmt.Printf(`
The lab is up. Its inventory: %[1]s

  sudo ip netns exec %[2]s bin/fleetd plan %[1]s
  sudo bin/fleetd runs show --state %[6]s
  sudo ip netns exec %[2]s ssh -F none -i %[3]s -o UserKnownHostsFile=%[4]s centos@%[5]s
  make lab-down
`, f.Inventory, netns, f.Nodes.IdentityFile, f.Nodes.KnownHosts, f.Nodes.Node(1).Address, f.StateDir())
}
