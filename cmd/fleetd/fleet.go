package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/bpf"
	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/engine"
	"github.com/fleetd/fleetd/pkg/kernel"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/playbook"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/view"
)

// controlPlaneGroup holds the hosts of which only one may be out of service.
const controlPlaneGroup = "kube_control_plane"

// fleet is everything wired together for one inventory and one playbook.
type fleet struct {
	source       rollout.Source
	controlPlane []string
	inv          *inventory.Inventory
	desired      rollout.Desired
	modules      map[string]rollout.Module
	observers    []rollout.Observer
	pool         *sshexec.Pool
	looking      *view.Waiting
}

// openFleet reads the inventory and the playbook and checks all of it. It
// talks to nobody.
func openFleet(c *cobra.Command, f *fleetFlags, sources []string) (*fleet, error) {
	if err := errors.Join(f.check(), f.keepable()); err != nil {
		return nil, err
	}
	inv, cfg, err := readInventory(c, f, sources, besidePlaybook(f.playbook))
	if err != nil {
		return nil, err
	}
	sources = used(sources, cfg)
	if err := needHosts(inv, sources); err != nil {
		return nil, err
	}
	fl := &fleet{inv: inv}
	if fl.desired, err = compile(c, f, inv); err != nil {
		return nil, err
	}
	if fl.controlPlane, err = controlPlaneOf(inv, fl.desired); err != nil {
		return nil, err
	}
	vars, err := playbook.NewResolver(inv, inv.ExtraVars())
	if err != nil {
		return nil, err
	}
	targets, err := targetsOf(c, f, inv, vars, cfg.Connection, hostsOf(fl.desired))
	if err != nil {
		return nil, err
	}
	client, err := connectCluster(f, vars)
	if err != nil {
		return nil, err
	}
	fl.looking = view.NewWaiting(c.ErrOrStderr(), view.StyleFor(c.ErrOrStderr()), "looking at the fleet", "read", slices.Collect(maps.Keys(targets)), time.Now)
	fl.pool = newPool(c, f, fl.looking.Hold)
	hosts := node.NewFleet(fl.pool, targets)
	fl.modules = modules(client, hosts)
	// A host's Node is found by its name or address.
	refs := map[string]cluster.HostRef{}
	for h, t := range targets {
		name, err := textVariable(vars, h, "kubernetes_node_name")
		if err != nil {
			return nil, err
		}
		refs[h] = cluster.HostRef{NodeName: name, Addresses: []string{t.Address}}
	}
	fl.observers = append(cluster.Observers(client, refs), node.Observer{Remote: hosts, Forks: f.forks, Read: fl.looking.Done})
	fl.source = rollout.Source{
		CreatedAt: time.Now().UTC(), Fleetd: version, Inventories: sources, Playbook: f.playbook,
		Limit: f.limit, ExtraVars: f.extraVars, Kubeconfig: f.kubeconfig,
	}
	return fl, nil
}

func (fl *fleet) close() { _ = fl.pool.Close() } // connections only: nothing is lost

// modules are all modules that a task can name.
func modules(client *cluster.Client, hosts *node.Fleet) map[string]rollout.Module {
	out := map[string]rollout.Module{}
	for _, set := range []map[string]rollout.Module{
		kernel.Modules(hosts),
		cluster.Modules(cluster.Deps{Client: client, Hosts: hosts}),
		bpf.Modules(bpf.Deps{Hosts: hosts}),
	} {
		for name, m := range set {
			out[name] = m
		}
	}
	return out
}

// compile reads the playbook and resolves it for every host.
func compile(c *cobra.Command, f *fleetFlags, inv *inventory.Inventory) (rollout.Desired, error) {
	params := map[string]rollout.Params{}
	for name, m := range modules(nil, nil) { // parameters need neither cluster nor hosts
		params[name] = m.Params()
	}
	pb, err := readPlaybook(f.playbook, params)
	if err != nil {
		return rollout.Desired{}, err
	}
	told := len(inv.Warnings())
	d, warnings, err := pb.Compile(inv, params, playbook.CompileOptions{Limit: f.limit, ExtraVars: inv.ExtraVars()})
	for _, w := range warnings {
		fmt.Fprintln(c.ErrOrStderr(), "warning: "+w.String())
	}
	for _, w := range inv.Warnings()[told:] { // patterns that match nothing
		fmt.Fprintln(c.ErrOrStderr(), "warning: "+w.String())
	}
	return d, err
}

// hostsOf are the machines of the playbook: all its hosts but the cluster.
func hostsOf(d rollout.Desired) []string {
	var out []string
	for _, p := range d.Plays {
		for _, b := range p.Batches {
			for _, h := range b {
				if h != rollout.Localhost && !slices.Contains(out, h) {
					out = append(out, h)
				}
			}
		}
	}
	return out
}

func controlPlaneOf(inv *inventory.Inventory, d rollout.Desired) ([]string, error) {
	if _, ok := inv.Group(controlPlaneGroup); !ok {
		return nil, nil
	}
	all, err := inv.Match(controlPlaneGroup)
	if err != nil {
		return nil, err
	}
	here := hostsOf(d)
	return slices.DeleteFunc(all, func(h string) bool { return !slices.Contains(here, h) }), nil
}

// connectCluster connects with the kubeconfig of the flag, else of the
// inventory's variable, else KUBECONFIG. It returns nil without one: a playbook
// about nodes only needs none, and one that does says so where it matters.
func connectCluster(f *fleetFlags, vars *playbook.Resolver) (*cluster.Client, error) {
	kubeconfig := f.kubeconfig
	if kubeconfig == "" {
		var err error
		if kubeconfig, err = textVariable(vars, rollout.Localhost, "kubeconfig"); err != nil {
			return nil, err
		}
	}
	if kubeconfig == "" {
		kubeconfig = os.Getenv("KUBECONFIG")
	}
	if kubeconfig == "" {
		return nil, nil
	}
	return cluster.Connect(kubeconfig, cluster.Options{UserAgent: "fleetd/" + version})
}

// observe looks at the fleet, until it is interrupted.
func (fl *fleet) observe(c *cobra.Command) (map[string]rollout.Observation, error) {
	ctx, stop := cancelOnInterrupt(c)
	defer stop()
	fl.looking.Show()
	observed, err := engine.Observe(ctx, fl.desired, fl.modules, fl.observers)
	fl.looking.Close()
	if ctx.Err() != nil {
		fmt.Fprintln(c.ErrOrStderr(), "Interrupted while looking at the fleet; nothing was changed.")
		return nil, exitCode(exitInterrupted)
	}
	return observed, err
}

// plan looks at the fleet and computes what would change.
func (fl *fleet) plan(c *cobra.Command) (rollout.Plan, error) {
	observed, err := fl.observe(c)
	if err != nil {
		return rollout.Plan{}, err
	}
	p, err := rollout.Compute(fl.desired, observed, fl.differs(), fl.controlPlane)
	p.Source = fl.source
	return p, err
}

func (fl *fleet) differs() map[string]rollout.Differ {
	out := map[string]rollout.Differ{}
	for name, m := range fl.modules {
		out[name] = m
	}
	return out
}
