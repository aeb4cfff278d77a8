package calico

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/probe"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// probeModule is fleetd.calico.probe: every node, and the bastion, begin to ask for
// Services. Whoever changes the data plane behind it, and fleetd.calico.verify, look
// what came of it.
type probeModule struct{ d Deps }

type probeData struct {
	Paths []probe.Path `json:"paths"`
	probing
}

// probing is what has to be known to look at probes that run.
type probing struct {
	// DNS selects the pods whose addresses are asked.
	DNS string `json:"dns,omitempty"`
}

// probed is the section that says, of the state behind a fleetd.calico.probe, that
// probes run. Nobody observes it.
var probed = rollout.NewSection[probing]("calico_probed")

const (
	// baseline is how long the paths are asked before anything is changed, and
	// baselineRounds how often at least.
	baseline       = 10 * time.Second
	baselineRounds = 4
	// lostPatience is how long a path that answered before may not answer once the
	// data plane is proven: up to 12 s were seen on the way.
	lostPatience = 90 * time.Second
	// dnsPodsAsked bounds the pods that are asked, outsideNodes the nodes whose
	// NodePorts the bastion asks for.
	dnsPodsAsked = 2
	outsideNodes = 3
	// bastion names this machine in what is said of probes.
	bastion = "bastion"
)

func (probeModule) About() rollout.About {
	return rollout.About{
		Params: rollout.Params{
			"paths": {Type: rollout.Strings, Help: "what else to ask for: http://HOST[:PORT]/PATH, https://…, tcp://HOST:PORT, dns://ADDRESS[:PORT]; #client behind an http URL whose answer holds the client's address"},
		},
		Guards: rollout.Changes,
	}
}

func (probeModule) Reads(rollout.Args) []rollout.Read {
	return []rollout.Read{{Section: services.Name()}}
}

func (m probeModule) Diff(_ string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	texts, err := cluster.ArgStrings(args, "paths")
	if err != nil {
		return rollout.Change{}, nil, err
	}
	given, err := probe.OfGiven(texts)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	f, err := services.Get(before)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	data := probeData{Paths: slices.Concat(f.Paths, given), probing: probing{DNS: f.DNS}}
	c := rollout.Change{
		Action:  rollout.ReadOnly,
		Summary: fmt.Sprintf("ask for Services from every node and from here, on %d paths, before, during and after the change", len(data.Paths)),
		Risks:   []string{"every node runs bash and curl for it, in /run/fleetd-probe; what is left when fleetd does not come back ends by itself after an hour and a minute for each node"},
		Reasons: []string{"what answers now has to answer afterwards: " + probe.Names(data.Paths)},
		Data:    cluster.Pack(data),
	}
	return c, probed.With(before, data.probing), nil
}

// probesOf says whether probes run by then; nil if none do.
func probesOf(st rollout.State) (*probing, error) {
	if _, run := st[probed.Name()]; !run {
		return nil, nil
	}
	p, err := probed.Get(st)
	return &p, err
}

func (m probeModule) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	return cluster.Act(s, func(c *cluster.Call, d probeData) rollout.Outcome { return m.d.startProbes(ctx, c, d) })
}

// Undo has nothing to take back: the probes end by themselves.
func (m probeModule) Undo(context.Context, rollout.Step) rollout.Outcome {
	return rollout.AlreadyDone("a check changes nothing")
}

// startProbes starts them, gives them a while, and says what answers now.
func (d Deps) startProbes(ctx context.Context, c *cluster.Call, data probeData) rollout.Outcome {
	nodes, err := d.Client.Nodes(ctx)
	if err != nil {
		return c.Failed(err)
	}
	machines := len(nodes) + 1
	takes := max(baseline, baselineRounds*probe.Interval(machines))
	if c.SoFar["probing"] == "" {
		pods, err := dnsPods(ctx, d.Client, data.DNS)
		if err != nil {
			return c.Failed(err)
		}
		d.probeAll(ctx, nodes, func(n *cluster.Node) probe.Script {
			return probe.Start(n == nil, pathsFor(n, nodes, data.Paths, pods), machines)
		})
		c.Steady("probing", "started")
		return rollout.WaitFor(takes, "Services are asked for from %d nodes and from here; %s to see what answers now", len(nodes), takes)
	}
	if left := takes - c.Steady("probing", "started"); left > 0 {
		return rollout.WaitFor(left, "Services are asked for from %d nodes and from here", len(nodes))
	}
	e := probe.Judge(d.probeAll(ctx, nodes, func(n *cluster.Node) probe.Script { return probe.Look(n == nil, true, machines) }), bastion, nil, true)
	text := fmt.Sprintf("%d of %d paths to Services answer, asked from %d nodes every %s", e.Answering(), len(e.Paths), len(nodes), e.Interval)
	if mute := e.Mute(); len(mute) > 0 {
		text += "; no evidence, because they do not answer now: " + cluster.Few(mute)
	}
	if len(e.Silent) > 0 {
		text += "; nothing is known of " + cluster.Few(e.Silent)
	}
	return noted(rollout.AlreadyDone("%s", text), e)
}

// noted keeps the evidence with the end of a step.
func noted(o rollout.Outcome, e probe.Evidence) rollout.Outcome {
	return o.Note(probe.Note, string(cluster.Pack(e)))
}

// pathsFor are the paths that a node asks, or the bastion (nil): a NodePort at the
// node itself and at another one, and the pods by their addresses of now.
func pathsFor(n *cluster.Node, nodes []cluster.Node, paths []probe.Path, pods []string) []probe.Path {
	var out []probe.Path
	for _, p := range paths {
		var at []string
		switch {
		case p.Kind == probe.Pod && n != nil:
			at = pods[:min(len(pods), dnsPodsAsked)]
		case p.Kind == probe.NodePort && n != nil:
			at = n.InternalIPs[:min(len(n.InternalIPs), 1)]
		case p.Kind == probe.Via:
			at = others(n, nodes)
		case p.Kind == probe.Given, p.Kind == probe.LoadBalancer, p.Kind == probe.ClusterIP && n != nil:
			out = append(out, p)
		}
		for _, address := range at {
			out = append(out, p.At(address))
		}
	}
	return out
}

// others are the addresses of the node behind n in the list, or of the first few for
// the bastion.
func others(n *cluster.Node, nodes []cluster.Node) []string {
	var out []string
	for i := range nodes {
		other := nodes[i]
		if n != nil {
			other = nodes[(i+1)%len(nodes)]
			if nodes[i].Name != n.Name || other.Name == n.Name {
				continue
			}
		}
		if len(other.InternalIPs) > 0 && len(out) < outsideNodes {
			out = append(out, other.InternalIPs[0])
		}
	}
	return out
}

// probeAll runs a script on every node and on this machine (nil), and reads what
// each says.
func (d Deps) probeAll(ctx context.Context, nodes []cluster.Node, script func(*cluster.Node) probe.Script) []probe.Report {
	command := func(n *cluster.Node) sshexec.Command {
		s := script(n)
		return sshexec.Command{Script: s.Text, Env: s.Env, Become: s.Root, Timeout: s.Takes}
	}
	var mu sync.Mutex
	var out []probe.Report
	add := func(from, said, why string) {
		r := probe.Report{From: from, Silent: why}
		if why == "" {
			r = probe.Parse(from, said)
		}
		mu.Lock()
		defer mu.Unlock()
		out = append(out, r)
	}
	var here sync.WaitGroup
	here.Go(func() {
		res, err := d.Hosts.Run(ctx, rollout.Localhost, command(nil))
		said, why := answerOf(res, err)
		add(bastion, said, why)
	})
	d.ask(ctx, nodes, func(n cluster.Node) sshexec.Command { return command(&n) }, func(n cluster.Node, said, why string) { add(n.Name, said, why) })
	here.Wait()
	return out
}

// lookAtProbes says what came of the probes until now. With stop they end.
func (d Deps) lookAtProbes(ctx context.Context, p probing, stop bool) (probe.Evidence, error) {
	nodes, err := d.Client.Nodes(ctx)
	if err != nil {
		return probe.Evidence{}, err
	}
	pods, err := dnsPods(ctx, d.Client, p.DNS)
	if err != nil {
		return probe.Evidence{}, err
	}
	reports := d.probeAll(ctx, nodes, func(n *cluster.Node) probe.Script {
		if stop {
			return probe.Stop(n == nil)
		}
		return probe.Look(n == nil, false, len(nodes)+1)
	})
	gone := map[string]bool{}
	for _, r := range reports {
		for _, s := range r.Seen {
			if s.Kind == probe.Pod && !slices.Contains(pods, s.Address) {
				gone[s.Address] = true
			}
		}
	}
	return probe.Judge(reports, bastion, gone, false), nil
}

// withEvidence ends a step that went wrong: what came of the probes is kept, and
// they end.
func (d Deps) withEvidence(ctx context.Context, o rollout.Outcome, p *probing) rollout.Outcome {
	if p == nil || !o.Final() || !o.Bad() {
		return o
	}
	e, err := d.lookAtProbes(ctx, *p, true)
	if err != nil {
		return o // what went wrong is said; this would hide it
	}
	if lost := e.Lost(); len(lost) > 0 {
		o.Message += "; what answered before and does not now: " + cluster.Few(lost)
	}
	return noted(o, e)
}
