package calico

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// preflightModule is fleetd.calico.preflight: the traps on the way, looked for
// when the plan is made and again right before anything is changed. The kernels
// count only then: the same plan may be about to change them.
type preflightModule struct{ d Deps }

type preflightData struct {
	Want     DataPlane `json:"want"`
	Endpoint Endpoint  `json:"endpoint"`
	// Automatic is set where the way is the operator's automatic mode.
	Automatic bool `json:"automatic,omitempty"`
}

// settle is how long a roll that is under way before the change may take to end.
const settle = 2 * time.Minute

func (preflightModule) About() rollout.About {
	return rollout.About{
		Params: rollout.Params{
			"linux_dataplane": {Type: rollout.String, Choices: []string{string(BPF), string(Iptables)}, Help: "where the play goes (BPF)"},
			"api_host":        {Type: rollout.String, Help: "what fleetd.calico.api_endpoint will be told; empty when the ConfigMap exists already or the operator is in automatic mode"},
			"api_port":        {Type: rollout.Int, Help: "its TCP port (6443)"},
			"automatic":       {Type: rollout.Bool, Help: "what fleetd.calico.dataplane will be told (no)"},
		},
		Guards: rollout.Changes,
	}
}

func (preflightModule) Reads(args rollout.Args) []rollout.Read {
	out := readsCalico()
	if d, err := preflightOf(args); err == nil && d.Want == BPF {
		key := ""
		if d.Endpoint.Exists {
			key = d.Endpoint.Host + " " + d.Endpoint.Port
		}
		out = append(out, rollout.Read{Section: reach.Name(), Key: key})
	}
	return out
}

// preflightOf reads the arguments.
func preflightOf(args rollout.Args) (preflightData, error) {
	text, err := cluster.ArgChoice(args, "linux_dataplane", string(BPF), string(BPF), string(Iptables))
	if err != nil {
		return preflightData{}, err
	}
	d := preflightData{Want: DataPlane(text)}
	if d.Automatic, err = cluster.ArgBool(args, "automatic", false); err != nil {
		return d, err
	}
	if host := cluster.ArgString(args, "api_host", ""); host != "" {
		port, err := argPort(args, "api_port", defaultAPIPort)
		if err != nil {
			return d, err
		}
		d.Endpoint = Endpoint{Exists: true, Host: host, Port: port}
	}
	return d, nil
}

func (m preflightModule) Diff(_ string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	d, err := preflightOf(args)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	f, err := Section.Get(before)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	if err := join(f.Stops(d.Want, d.Endpoint, d.Automatic)); err != nil {
		return rollout.Change{}, nil, err
	}
	if f.flips(d.Want) && d.Want == BPF {
		deaf, err := reach.Get(before)
		if err != nil {
			return rollout.Change{}, nil, err
		}
		e := f.wayTo(d.Endpoint)
		if p := f.unreachedProblem(e, deaf[e.String()]); p != nil {
			return rollout.Change{}, nil, p
		}
	}
	c := rollout.Change{
		Action:  rollout.ReadOnly,
		Summary: fmt.Sprintf("check that the cluster is fit for the data plane %s", d.Want),
		Data:    cluster.Pack(d),
	}
	if _, known := RequirementFor(f.CalicoVersion); !known {
		c.Risks = append(c.Risks, "the version of Calico is not known: the strictest kernel requirement is used")
	}
	if d.Want == BPF {
		if t := f.kernelText(); t != "" {
			c.Risks = append(c.Risks, t+"; each must be on a newer one when this step runs, or the run ends here")
		}
	} else if p := f.degradedProblem(); p != nil {
		c.Risks = append(c.Risks, strings.TrimPrefix(p.Message, "cannot start: ")+" (no reason not to go back)")
	}
	if f.Installation.DataPlane() != d.Want {
		c.Risks = append(c.Risks, flipCosts(d.Want)...)
	}
	return c, before, nil
}

// Stops lists what forbids moving the cluster to a data plane, whatever the
// nodes' kernels are. The endpoint is what the play will set; the zero value
// means that it sets none. Automatic is the way by the operator's automatic mode.
func (f Facts) Stops(want DataPlane, e Endpoint, automatic bool) []*rollout.Problem {
	if p := f.notOurs(); p != nil {
		return []*rollout.Problem{p}
	}
	var out []*rollout.Problem
	add := func(p *rollout.Problem) {
		if p != nil {
			out = append(out, p)
		}
	}
	if want == BPF && !f.awaitsBPF() {
		// On the way back a degraded operator is a reason to go, not to stay.
		add(f.degradedProblem())
	}
	if !f.flips(want) {
		return out
	}
	out = append(out, f.flipBlocked(want)...)
	if want != BPF {
		return out
	}
	add(f.foreignKubeProxy())
	automatic = automatic || f.Installation.Automatic()
	if automatic {
		out = append(out, f.automaticBlocked()...)
	}
	switch {
	case automatic && e.Exists:
		add(f.endpointBesides())
	case automatic:
		// The operator finds the address.
	case e.Exists:
		add(f.badEndpoint(e))
	case f.Endpoint.Exists:
		add(f.badEndpoint(f.Endpoint))
	default:
		add(f.badEndpoint(Endpoint{}))
	}
	return out
}

// flips reports whether there is something to flip.
func (f Facts) flips(want DataPlane) bool {
	return f.Installation.DataPlane() != want || f.bpfEnabled() != (want == BPF) || f.Felix.ByHand()
}

// join makes one problem of several: all of them are told at once, so that
// nobody finds the second after mending the first.
func join(ps []*rollout.Problem) error {
	if len(ps) == 0 {
		return nil
	}
	messages, hints := make([]string, 0, len(ps)), make([]string, 0, len(ps))
	parts := make([]rollout.Problem, 0, len(ps))
	for _, p := range ps {
		parts = append(parts, *p)
		messages = append(messages, p.Message)
		if p.Hint != "" {
			hints = append(hints, p.Hint)
		}
	}
	return &rollout.Problem{Message: strings.Join(messages, "; "), Hint: strings.Join(hints, "; "), Parts: parts}
}

func (m preflightModule) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	return cluster.Act(s, func(c *cluster.Call, d preflightData) rollout.Outcome { return m.d.preflight(ctx, c, d) })
}

func (d Deps) preflight(ctx context.Context, c *cluster.Call, data preflightData) rollout.Outcome {
	f, err := ReadFacts(ctx, d.Client)
	if err != nil {
		return c.Failed(err)
	}
	var stop *rollout.Problem
	if err := join(f.Stops(data.Want, data.Endpoint, data.Automatic)); errors.As(err, &stop) {
		// A degraded or rolling operator may be so because of the reboots that
		// have just ended: give it a moment.
		if f.degradedProblem() != nil && !f.awaitsBPF() && data.Want == BPF && c.Elapsed < settle {
			return rollout.WaitFor(cluster.PollEvery, "%s", stop.Message)
		}
		return rollout.Fail(stop)
	}
	if data.Want == Iptables {
		return rollout.AlreadyDone("the cluster is fit for the data plane %s", data.Want)
	}
	if e := f.wayTo(data.Endpoint); f.flips(BPF) && e.Exists {
		deaf, err := d.unreached(ctx, e)
		if err != nil {
			return c.Failed(err)
		}
		if p := f.unreachedProblem(e, deaf); p != nil {
			// A node that has just been rebooted may need a moment.
			if c.Elapsed < settle {
				return rollout.WaitFor(askAgain(len(f.Nodes)), "%s", p.Message)
			}
			return rollout.Fail(p)
		}
	}
	if t := f.kernelText(); t != "" {
		return rollout.Fail(&rollout.Problem{
			Message: "cannot move to eBPF: " + t,
			Hint:    "upgrade these nodes (are they in the inventory? does the Node object show the kernel of its last boot?), or take them out of the cluster",
		})
	}
	if !f.CalicoNode.Rolled() {
		return await(c, settle, roll{
			doing: "calico-node is whole before the change", now: f.CalicoNode.Progress(), mark: fmt.Sprint(f.CalicoNode.Updated, f.CalicoNode.Ready),
			hint:     "see kubectl -n calico-system get pods -o wide",
			laggards: func() string { return laggards(ctx, d.Client, f.CalicoNode) },
		})
	}
	return rollout.AlreadyDone("the cluster is fit for the data plane %s: %d nodes, Calico %s", data.Want, len(f.Nodes), f.CalicoVersion)
}

// Undo has nothing to take back.
func (m preflightModule) Undo(context.Context, rollout.Step) rollout.Outcome {
	return rollout.AlreadyDone("a check changes nothing")
}
