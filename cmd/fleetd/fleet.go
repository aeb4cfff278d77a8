package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/bpf"
	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/pkg/calico"
	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/engine"
	"github.com/fleetd/fleetd/pkg/kernel"
	"github.com/fleetd/fleetd/pkg/module"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/playbook"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/view"
)

// fleet is what is wired together to look at hosts and a cluster and to change
// them.
type fleet struct {
	reach     reach
	client    *cluster.Client
	modules   map[string]rollout.Module
	observers []rollout.Observer
	pool      *sshexec.Pool
	looking   *view.Waiting
}

// wire connects the modules and the observers with the hosts. It talks to nobody.
func wire(c *cobra.Command, f *fleetFlags, r reach) (*fleet, error) {
	fl := &fleet{reach: r}
	var err error
	fl.looking = view.NewWaiting(c.ErrOrStderr(), view.StyleFor(c.ErrOrStderr()), "looking at the fleet", "read", r.worked(), time.Now)
	fl.pool = newPool(c, f, fl.looking.Hold)
	if r.Kubeconfig != "" {
		o := cluster.Options{UserAgent: "fleetd/" + version, Holder: whoami().String()}
		if via := r.KubeVia; via != nil {
			o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				return fl.pool.DialContext(ctx, *via, network, address)
			}
		}
		if fl.client, err = cluster.Connect(r.Kubeconfig, o); err != nil {
			fl.close()
			return nil, err
		}
	}
	hosts := node.NewFleet(fl.pool, r.Targets)
	fl.modules = modules(fl.client, hosts, r.Nodes)
	// The first problem of a host is the one that is shown: its own come before
	// those that it shares with all others.
	fl.observers = append(calico.Observers(calico.Deps{Client: fl.client, Hosts: hosts, Nodes: r.Nodes}),
		node.Observer{Remote: hosts, Forks: f.forks, Read: fl.looking.Done}, cluster.Observer(fl.client, r.Nodes))
	return fl, nil
}

func (fl *fleet) close() { _ = fl.pool.Close() } // connections only: nothing is lost

// modules are all modules that a task can name.
func modules(client *cluster.Client, hosts *node.Fleet, nodes map[string]cluster.HostRef) map[string]rollout.Module {
	out := map[string]rollout.Module{}
	for _, set := range []map[string]rollout.Module{
		kernel.Modules(hosts),
		cluster.Modules(cluster.Deps{Client: client, Hosts: hosts}),
		calico.Modules(calico.Deps{Client: client, Hosts: hosts, Nodes: nodes}),
		bpf.Modules(bpf.Deps{Hosts: hosts}),
		module.Modules(hosts),
	} {
		maps.Copy(out, set)
	}
	return out
}

// params are the parameters of all modules: they need neither cluster nor hosts.
func params() map[string]rollout.Params {
	out := map[string]rollout.Params{}
	for name, m := range modules(nil, nil, nil) {
		out[name] = m.About().Params
	}
	return out
}

func (fl *fleet) differs() map[string]rollout.Differ {
	out := map[string]rollout.Differ{}
	for name, m := range fl.modules {
		out[name] = m
	}
	return out
}

// look reads the fleet, until it is interrupted.
func (fl *fleet) look(c *cobra.Command, read func(context.Context) (map[string]rollout.Observation, error)) (map[string]rollout.Observation, error) {
	ctx, stop := cancelOnInterrupt(c)
	defer stop()
	fl.looking.Show()
	observed, err := read(ctx)
	fl.looking.Close()
	if ctx.Err() != nil {
		fmt.Fprintln(c.ErrOrStderr(), "Interrupted while looking at the fleet; nothing was changed.")
		return nil, exitCode(exitInterrupted)
	}
	return observed, err
}

// controlPlane is what must not lose its quorum, as the inventory and the
// cluster have it.
func (fl *fleet) controlPlane(ctx context.Context) (rollout.ControlPlane, error) {
	out := rollout.ControlPlane{Hosts: fl.reach.ControlPlane}
	if fl.client == nil {
		return out, nil
	}
	var err error
	out.Members, err = fl.client.Members(ctx, fl.reach.Nodes)
	return out, err
}

// planned is a fleet with the playbook that is to be carried out on it.
type planned struct {
	*fleet
	source  rollout.Source
	desired rollout.Desired
}

// openFleet reads the inventory and the playbook and checks all of it. It
// talks to nobody.
func openFleet(c *cobra.Command, f *fleetFlags, sources []string) (*planned, error) {
	return openFleetFor(c, f, sources, func(*inventory.Inventory, []string) ([]string, error) { return nil, nil })
}

// openFleetFor is openFleet, and hosts that are looked at beside those of the playbook.
func openFleetFor(c *cobra.Command, f *fleetFlags, sources []string, more func(inv *inventory.Inventory, sources []string) ([]string, error)) (*planned, error) {
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
	desired, files, err := compile(c, f, inv)
	if err != nil {
		return nil, err
	}
	vars, err := newResolver(inv)
	if err != nil {
		return nil, err
	}
	others, err := more(inv, sources)
	if err != nil {
		return nil, err
	}
	hosts := hostsOf(desired, others)
	var beside []string
	if asksNodes(desired) {
		beside = slices.DeleteFunc(slices.Clone(inv.Hosts()), func(h string) bool { return h == rollout.Localhost || slices.Contains(hosts, h) })
	}
	r, err := reachOf(c, f, inv, vars, cfg.Connection, hosts, beside)
	if err != nil {
		return nil, err
	}
	maps.Copy(files, inv.Files())
	p := &planned{desired: desired, source: rollout.Source{
		Inventories: sources, Playbook: f.playbook, Limit: f.limit, Tags: f.tags, SkipTags: f.skipTags, StartAtTask: f.startAtTask, ExtraVars: f.extraVars, Kubeconfig: f.kubeconfig, KubeVia: f.kubeVia, Files: files,
	}}
	if p.fleet, err = wire(c, f, r); err != nil {
		return nil, err
	}
	if p.client == nil && p.wantsNodes() {
		fmt.Fprintln(c.ErrOrStderr(), "warning: "+cluster.NoCluster)
	}
	return p, nil
}

// asksNodes tells whether a task about Calico asks every node of the cluster
// over SSH, whichever hosts the playbook works on.
func asksNodes(d rollout.Desired) bool {
	return slices.ContainsFunc(d.Plays, func(p rollout.Play) bool {
		return slices.ContainsFunc(p.Tasks, func(t rollout.Task) bool { return strings.HasPrefix(t.Module, "fleetd.calico.") })
	})
}

// wantsNodes tells whether a task is about a host's Node, and the host may have
// one.
func (p *planned) wantsNodes() bool {
	for _, play := range p.desired.Plays {
		for _, t := range play.Tasks {
			for host, args := range t.Args {
				m, ok := p.modules[t.Module]
				if ok && !p.reach.Nodes[host].NoNode && slices.ContainsFunc(m.Reads(args), func(r rollout.Read) bool { return r.Section == cluster.Kubernetes.Name() }) {
					return true
				}
			}
		}
	}
	return false
}

func newResolver(inv *inventory.Inventory) (*playbook.Resolver, error) {
	return playbook.NewResolver(inv, inv.ExtraVars())
}

// reachOf says how the hosts and the cluster are reached, from the inventory and
// the flags.
func reachOf(c *cobra.Command, f *fleetFlags, inv *inventory.Inventory, vars *playbook.Resolver, defaults map[string]any, hosts, beside []string) (reach, error) {
	r := reach{Nodes: map[string]cluster.HostRef{}, Beside: beside}
	var err error
	if r.ControlPlane, err = controlPlaneOf(inv); err != nil {
		return r, err
	}
	asked := hosts
	if f.kubeVia != "" {
		if err := checkKubeVia(f.kubeVia, inv, hosts); err != nil {
			return r, err
		}
		asked = append(slices.Clone(hosts), f.kubeVia)
	}
	others := slices.DeleteFunc(slices.Clone(beside), func(h string) bool { return h == f.kubeVia })
	if r.Targets, err = targetsOf(c, f, inv, vars, defaults, asked, others); err != nil {
		return r, err
	}
	if f.kubeVia != "" {
		via := r.Targets[f.kubeVia]
		r.KubeVia = &via
		if !slices.Contains(beside, f.kubeVia) {
			delete(r.Targets, f.kubeVia)
		}
	}
	// A host's Node is found by its name or address.
	for h, t := range r.Targets {
		name, err := textVariable(vars, h, "kubernetes_node_name")
		if err != nil {
			return r, err
		}
		// Anything but a plain no is somebody else's variable of this name.
		is, _, err := vars.Variable(h, "kubernetes")
		if err != nil {
			return r, fmt.Errorf("cannot tell kubernetes of %s: %w", h, err)
		}
		r.Nodes[h] = cluster.HostRef{NodeName: name, Addresses: []string{t.Address}, NoNode: isNo(is)}
	}
	r.Kubeconfig, err = kubeconfigOf(f, vars)
	return r, err
}

// checkKubeVia refuses a host that may be rebooted while the cluster is asked about
// it.
func checkKubeVia(via string, inv *inventory.Inventory, hosts []string) error {
	if !slices.Contains(inv.Hosts(), via) {
		return &rollout.Problem{Message: fmt.Sprintf("--kube-via %s: the inventory has no such host", via), Hint: "add it, outside of the groups that the playbook is for"}
	}
	if slices.Contains(hosts, via) {
		return &rollout.Problem{Message: fmt.Sprintf("--kube-via %s: the playbook works on this host, and may reboot it", via), Hint: "take a jump host, or leave the host out with --limit"}
	}
	return nil
}

// isNo tells false, or the text that an INI file has for it.
func isNo(v any) bool {
	text, _ := v.(string)
	return v == false || slices.Contains([]string{"false", "no"}, strings.ToLower(text))
}

// compile reads the playbook and resolves it for every host. It also returns the
// digests of the files that it is made of.
func compile(c *cobra.Command, f *fleetFlags, inv *inventory.Inventory) (rollout.Desired, map[string]string, error) {
	params := params()
	pb, err := readPlaybook(f.playbook, params)
	if err != nil {
		return rollout.Desired{}, nil, err
	}
	if err := pb.KnowsTags(slices.Concat(f.tags, f.skipTags)); err != nil {
		return rollout.Desired{}, nil, err
	}
	if err := pb.KnowsTask(f.startAtTask); err != nil {
		return rollout.Desired{}, nil, err
	}
	told := len(inv.Warnings())
	d, warnings, err := pb.Compile(inv, params, playbook.CompileOptions{Limit: f.limit, Tags: f.tags, SkipTags: f.skipTags, StartAtTask: f.startAtTask, ExtraVars: inv.ExtraVars()})
	for _, w := range warnings {
		fmt.Fprintln(c.ErrOrStderr(), "warning: "+w.String())
	}
	for _, w := range inv.Warnings()[told:] { // patterns that match nothing
		fmt.Fprintln(c.ErrOrStderr(), "warning: "+w.String())
	}
	return d, pb.Files(), err
}

// hostsOf are the machines of the playbook, also those that tasks are delegated to, and
// others: all but this one.
func hostsOf(d rollout.Desired, others []string) []string {
	var out []string
	seen := map[string]bool{rollout.Localhost: true}
	add := func(h string) {
		if !seen[h] {
			seen[h] = true
			out = append(out, h)
		}
	}
	for _, p := range d.Plays {
		for _, b := range p.Batches {
			for _, h := range b {
				add(h)
			}
		}
		for _, t := range p.Tasks {
			for _, on := range slices.Sorted(maps.Values(t.On)) {
				add(on)
			}
		}
	}
	for _, h := range others {
		add(h)
	}
	return out
}

// controlPlaneGroup holds the hosts of which only one may be out of service.
const controlPlaneGroup = "kube_control_plane"

// controlPlaneOf is the group, also with the hosts that no play concerns: they
// count for the quorum.
func controlPlaneOf(inv *inventory.Inventory) ([]string, error) {
	if _, ok := inv.Group(controlPlaneGroup); !ok {
		return nil, nil
	}
	return inv.Match(controlPlaneGroup)
}

// kubeconfigOf is the kubeconfig of the flag, else of the inventory's variable,
// else KUBECONFIG; "" without one: a playbook about nodes only needs none, and
// one that does says so where it matters.
func kubeconfigOf(f *fleetFlags, vars *playbook.Resolver) (string, error) {
	if f.kubeconfig != "" {
		return f.kubeconfig, nil
	}
	named, err := textVariable(vars, rollout.Localhost, "kubeconfig")
	if err != nil || named != "" {
		return named, err
	}
	return os.Getenv("KUBECONFIG"), nil
}

// observe looks at what the playbook's modules have to know.
func (p *planned) observe(c *cobra.Command) (map[string]rollout.Observation, error) {
	return p.look(c, func(ctx context.Context) (map[string]rollout.Observation, error) {
		return engine.Observe(ctx, p.desired, p.modules, p.observers)
	})
}

// plan looks at the fleet and computes what would change.
func (p *planned) plan(c *cobra.Command) (rollout.Plan, error) {
	observed, err := p.observe(c)
	if err != nil {
		return rollout.Plan{}, err
	}
	cp, err := p.controlPlane(c.Context())
	// Where no host can be touched, the plan is there to say why of each.
	if err != nil && slices.ContainsFunc(slices.Collect(maps.Values(observed)), func(o rollout.Observation) bool { return o.Problem == nil }) {
		return rollout.Plan{}, err
	}
	return rollout.Compute(p.desired, observed, p.differs(), basis(p.source, cp))
}

func basis(s rollout.Source, cp rollout.ControlPlane) rollout.Basis {
	return rollout.Basis{CreatedAt: time.Now().UTC(), Fleetd: version, Source: s, ControlPlane: cp}
}
