package calico

import (
	"context"
	"fmt"
	"maps"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// dataplaneModule is fleetd.calico.dataplane: the flip.
type dataplaneModule struct{ d Deps }

type dataplaneData struct {
	// Before is the spec's value, "" where it was not set.
	Before DataPlane `json:"before,omitempty"`
	After  DataPlane `json:"after"`
	// Asked is set when the data plane was asked for already: the step waits for
	// it, and has nothing to take back.
	Asked bool `json:"asked,omitempty"`
	// HostPorts is the value before, for the way back. HostPortsNoted is the note
	// of it on the Installation before.
	HostPorts      string `json:"host_ports,omitempty"`
	HostPortsNoted string `json:"host_ports_noted,omitempty"`
	// Bootstrap and Management are the fields of the operator's automatic mode that
	// go together with the data plane.
	Bootstrap  setting `json:"bootstrap,omitzero"`
	Management setting `json:"management,omitzero"`
	Stall      string  `json:"stall"`
	// OnFailure is what is done with a flip that stands still.
	OnFailure string `json:"on_failure,omitempty"`
	// Probes is set where Services are asked for meanwhile.
	Probes *probing `json:"probes,omitempty"`
	// Proxies are the DaemonSets of kube-proxy that the play takes away before this
	// step. A flip that goes back brings them back first.
	Proxies []proxySelector `json:"proxies,omitempty"`
}

// What is done with a flip that stands still.
const (
	onFailureRevert = "revert"
	onFailureWait   = "wait"
)

func (dataplaneModule) About() rollout.About {
	return rollout.About{
		Params: rollout.Params{
			"linux_dataplane": {Type: rollout.String, Required: true, Choices: []string{string(BPF), string(Iptables)}, Help: "BPF or Iptables"},
			"automatic":       {Type: rollout.Bool, Help: "the way to BPF is the operator's automatic mode: it finds the API server by itself (no)"},
			"timeout":         {Type: rollout.Duration, Help: "how long the roll of calico-node, and then the proof on every node, may stand still (10m)"},
			"on_failure":      {Type: rollout.String, Choices: []string{onFailureRevert, onFailureWait}, Help: "what is done when the move to BPF stands still: revert takes the data plane back as long as kube-proxy serves, wait leaves it as it is (revert)"},
		},
		Rule: "data-plane",
	}
}

func (dataplaneModule) Reads(rollout.Args) []rollout.Read { return readsCalico() }

func (m dataplaneModule) Diff(_ string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	text, err := cluster.ArgChoice(args, "linux_dataplane", "", string(BPF), string(Iptables))
	if err != nil {
		return rollout.Change{}, nil, err
	}
	want := DataPlane(text)
	onFailure, err := cluster.ArgChoice(args, "on_failure", onFailureRevert, onFailureRevert, onFailureWait)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	stall, err := cluster.ArgTimeout(args, defaultStall)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	automatic, err := cluster.ArgBool(args, "automatic", false)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	f, err := Section.Get(before)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	if p := f.notOurs(); p != nil {
		return rollout.Change{}, nil, p
	}
	have := f.Installation.DataPlane()
	if have == want && f.bpfEnabled() == (want == BPF) {
		return cluster.NoOp("the data plane is %s already", want), before, nil
	}
	if err := join(f.flipBlocked(want)); err != nil {
		return rollout.Change{}, nil, err
	}
	automatic = want == BPF && (automatic || f.Installation.Automatic())
	if automatic {
		if err := join(f.automaticBlocked()); err != nil {
			return rollout.Change{}, nil, err
		}
	} else if want == BPF && !f.Endpoint.Exists {
		return rollout.Change{}, nil, f.badEndpoint(Endpoint{})
	}
	probes, err := probesOf(before)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	taken := f.taken()
	bootstrap, management := f.automaticFields(want, automatic)
	if have == want {
		bootstrap.After, management.After = bootstrap.Before, management.Before
	}
	c := rollout.Change{
		Action: rollout.Update, Disruptive: true, BackDisruptive: true,
		Summary: fmt.Sprintf("move the cluster's data plane from %s to %s", have, want),
		Risks:   f.flipRisks(want),
		Back:    fmt.Sprintf("move the data plane back to %s", have),
		Data: cluster.Pack(dataplaneData{
			Before: f.Installation.LinuxDataplane, After: want, Asked: have == want,
			HostPorts: f.Installation.HostPorts, HostPortsNoted: f.Installation.HostPortsNoted, Bootstrap: bootstrap, Management: management, Stall: stall.String(), OnFailure: onFailure, Probes: probes, Proxies: taken,
		}),
	}
	if want == BPF && f.Installation.Automatic() {
		c.Back += ", with bpfNetworkBootstrap Disabled: the operator takes nothing back while it is Enabled"
	}
	if have == want {
		c.Summary = fmt.Sprintf("wait until the data plane %s is in force", want)
		c.Back = fmt.Sprintf("leave the data plane at %s, which was asked for before", want)
		c.Reasons = []string{"Installation asks for it already; the operator has not told Felix yet"}
	} else {
		c.Fields = append(c.Fields, rollout.Field{Name: "Installation linuxDataplane", Before: string(f.Installation.LinuxDataplane), After: text})
		switch noted := f.Installation.HostPortsNoted; {
		case want == BPF && f.Installation.HostPorts == hostPortsOff:
			c.Reasons = append(c.Reasons, "hostPorts is Disabled and stays so")
		case want == BPF && f.Installation.HostPorts != "":
			c.Fields = append(c.Fields, rollout.Field{Name: "Installation hostPorts", Before: f.Installation.HostPorts})
			c.Reasons = append(c.Reasons, "hostPorts is emptied together with it; the operator may put its default back, which is no drift")
		case want == Iptables && noted != "" && hostPortsOf(noted) != f.Installation.HostPorts:
			c.Fields = append(c.Fields, rollout.Field{Name: "Installation hostPorts", Before: f.Installation.HostPorts, After: hostPortsOf(noted)})
			c.Reasons = append(c.Reasons, "hostPorts was so before the move to BPF")
		}
		c.Fields = append(c.Fields, bootstrap.field(bootstrapField)...)
		c.Fields = append(c.Fields, management.field(managementField)...)
		switch {
		case bootstrap.changes() && want == BPF:
			c.Reasons = append(c.Reasons, "automatic mode: the operator finds the API server by itself")
		case bootstrap.changes():
			c.Reasons = append(c.Reasons, "the operator refuses Iptables while bpfNetworkBootstrap is Enabled")
		}
		if management.changes() {
			c.Reasons = append(c.Reasons, "the operator would take kube-proxy away with bpfEnabled, before a node is proven: it is given kube-proxy back by fleetd.calico.kube_proxy")
		}
	}
	if want == BPF && onFailure == onFailureRevert && len(taken) > 0 {
		c.Reasons = append(c.Reasons, "kube-proxy is gone by then: a flip that goes back by itself (on_failure: revert) brings it back first")
	}
	if want == BPF && probes != nil {
		c.Reasons = append(c.Reasons, fmt.Sprintf("a path to a Service that answered before and does not for %s once the nodes are proven ends it, as on_failure says", lostPatience))
	}
	c.Fields = append(c.Fields, rollout.Field{Name: "FelixConfiguration bpfEnabled (by the operator)", Before: f.Felix.BPFEnabled, After: fmt.Sprint(want == BPF)})
	f.Installation.LinuxDataplane, f.Installation.Computed = want, want
	switch {
	case want == BPF && have != want:
		f.Installation.HostPortsNoted = hostPortsNote(f.Installation.HostPorts)
	case want == Iptables && have != want && f.Installation.HostPortsNoted != "":
		f.Installation.HostPorts, f.Installation.HostPortsNoted = hostPortsOf(f.Installation.HostPortsNoted), ""
	}
	f.Felix.BPFEnabled, f.Felix.Operator = fmt.Sprint(want == BPF), fmt.Sprint(want == BPF)
	f.CalicoNode.Env = maps.Clone(f.CalicoNode.Env)
	delete(f.CalicoNode.Env, envBPFEnabled)
	f.Installation.BPFNetworkBootstrap, f.Installation.KubeProxyManagement = bootstrap.After, management.After
	f.Installation.KubeProxyHeld = management.changes()
	return c, Section.With(before, f), nil
}

func (m dataplaneModule) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	return cluster.Act(s, func(c *cluster.Call, d dataplaneData) rollout.Outcome {
		if why := c.SoFar[reverting]; why != "" {
			return m.d.withEvidence(ctx, m.d.revert(ctx, c, d, why), d.Probes)
		}
		return m.d.withEvidence(ctx, m.d.flip(ctx, c, move{
			want: d.After, change: d.forth(), stall: d.Stall, automatic: d.After == BPF && d.Bootstrap.After == enabledSpec, probes: d.Probes,
			giveUp: func(p *rollout.Problem) rollout.Outcome { return m.d.giveUp(ctx, c, d, p) },
		}), d.Probes)
	})
}

func (m dataplaneModule) Undo(ctx context.Context, s rollout.Step) rollout.Outcome {
	return cluster.Act(s, func(c *cluster.Call, d dataplaneData) rollout.Outcome {
		if d.Asked {
			return rollout.AlreadyDone("the data plane was asked for before this run")
		}
		return m.d.flip(ctx, c, move{want: d.before(), change: d.back(), stall: d.Stall})
	})
}

// before is the data plane that the way back leads to.
func (d dataplaneData) before() DataPlane { return Installation{LinuxDataplane: d.Before}.DataPlane() }

// forth is the change of the Installation.
func (d dataplaneData) forth() installationPatch {
	p := installationPatch{Network: map[string]any{"linuxDataplane": string(d.After)}}
	switch {
	case d.After == BPF:
		// Emptied as in the article; but what a user has turned off, an operator's
		// default would turn on.
		if d.HostPorts != hostPortsOff {
			p.Network["hostPorts"] = nil
		}
		p.Noted = hostPortsNote(d.HostPorts)
	case d.HostPortsNoted != "":
		p.Network["hostPorts"] = orNull(hostPortsOf(d.HostPortsNoted))
		p.Noted = nil
	}
	d.Bootstrap.set(p.Network, bootstrapField)
	d.Management.set(p.Network, managementField)
	return p
}

// back is the change that takes it back.
func (d dataplaneData) back() installationPatch {
	p := installationPatch{Network: map[string]any{"linuxDataplane": orNull(string(d.Before))}, Noted: orNull(d.HostPortsNoted)}
	if d.After == BPF || d.HostPortsNoted != "" {
		p.Network["hostPorts"] = orNull(d.HostPorts)
	}
	d.Bootstrap.back().set(p.Network, bootstrapField)
	d.Management.back().set(p.Network, managementField)
	if d.After == BPF && d.Bootstrap.Before == enabledSpec {
		// Left Enabled, the operator calls itself degraded and takes nothing back.
		p.Network[bootstrapField] = disabledSpec
	}
	return p
}
