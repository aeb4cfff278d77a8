package calico

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

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
	// Automatic is set when the operator's automatic mode has to be switched
	// together with the data plane.
	Automatic bool   `json:"automatic,omitempty"`
	Stall     string `json:"stall"`
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

const (
	// watchFor is how long every node has to show the data plane without a
	// restart of its Felix before the flip is called done.
	watchFor = 20 * time.Second
	// cutPatience is how long a node may be out of SSH's reach once the data plane has
	// moved. It was asked right before.
	cutPatience = 3 * time.Minute
	// reverting is the note that the data plane is being taken back, and why.
	reverting = "reverting"
)

func (dataplaneModule) About() rollout.About {
	return rollout.About{
		Params: rollout.Params{
			"linux_dataplane": {Type: rollout.String, Required: true, Choices: []string{string(BPF), string(Iptables)}, Help: "BPF or Iptables"},
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
	if want == BPF && !f.Installation.Automatic() && !f.Endpoint.Exists {
		return rollout.Change{}, nil, f.badEndpoint(Endpoint{})
	}
	probes, err := probesOf(before)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	taken := f.taken()
	c := rollout.Change{
		Action: rollout.Update, Disruptive: true, BackDisruptive: true,
		Summary: fmt.Sprintf("move the cluster's data plane from %s to %s", have, want),
		Risks:   f.flipRisks(want),
		Back:    fmt.Sprintf("move the data plane back to %s", have),
		Data: cluster.Pack(dataplaneData{
			Before: f.Installation.LinuxDataplane, After: want, Asked: have == want,
			HostPorts: f.Installation.HostPorts, HostPortsNoted: f.Installation.HostPortsNoted, Automatic: f.Installation.Automatic(), Stall: stall.String(), OnFailure: onFailure, Probes: probes, Proxies: taken,
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
		if want == Iptables && f.Installation.Automatic() {
			c.Fields = append(c.Fields, rollout.Field{Name: "Installation bpfNetworkBootstrap", Before: "Enabled", After: "Disabled"})
			c.Reasons = append(c.Reasons, "the operator refuses Iptables while bpfNetworkBootstrap is Enabled")
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
	if want == Iptables && f.Installation.Automatic() {
		f.Installation.BPFNetworkBootstrap = "Disabled"
	}
	return c, Section.With(before, f), nil
}

func (m dataplaneModule) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	return cluster.Act(s, func(c *cluster.Call, d dataplaneData) rollout.Outcome {
		if why := c.SoFar[reverting]; why != "" {
			return m.d.withEvidence(ctx, m.d.revert(ctx, c, d, why), d.Probes)
		}
		return m.d.withEvidence(ctx, m.d.flip(ctx, c, move{
			want: d.After, change: d.forth(), stall: d.Stall, automatic: d.Automatic, probes: d.Probes,
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
	if d.After == Iptables && d.Automatic {
		p.Network["bpfNetworkBootstrap"] = "Disabled"
	}
	return p
}

// back is the change that takes it back.
func (d dataplaneData) back() installationPatch {
	p := installationPatch{Network: map[string]any{"linuxDataplane": orNull(string(d.Before))}, Noted: orNull(d.HostPortsNoted)}
	if d.After == BPF || d.HostPortsNoted != "" {
		p.Network["hostPorts"] = orNull(d.HostPorts)
	}
	switch {
	case d.After == Iptables && d.Automatic:
		p.Network["bpfNetworkBootstrap"] = "Enabled"
	case d.After == BPF && d.Automatic:
		// Left Enabled, the operator calls itself degraded and takes nothing back.
		p.Network["bpfNetworkBootstrap"] = "Disabled"
	}
	return p
}

// move is a change of the data plane, there or back.
type move struct {
	want   DataPlane
	change installationPatch
	stall  string
	// automatic is set where the operator sees to the network by itself.
	automatic bool
	// probes is set where Services are asked for meanwhile.
	probes *probing
	// giveUp, if set, is the end of one that stands still.
	giveUp func(*rollout.Problem) rollout.Outcome
}

// outage ends a move in which the API server is away for good. It may be so from
// here only: then a node of the control plane has the way back.
func (m move) outage(o rollout.Outcome) rollout.Outcome {
	if o.Bad() {
		o.Hint = strings.TrimPrefix(o.Hint+"; if it is out of reach from here only, go back on a control-plane node: kubectl --kubeconfig /etc/kubernetes/admin.conf patch installation default --type merge -p '"+backPatch(m.want, m.automatic)+"'", "; ")
	}
	return o
}

// flip asks for a data plane in one patch and watches it arrive: first in the
// cluster's objects, then, if it is BPF, on every node, and in what Services answer.
func (d Deps) flip(ctx context.Context, c *cluster.Call, m move) rollout.Outcome {
	want := m.want
	stall, err := parseStall(m.stall)
	if err != nil {
		return rollout.Fail(err)
	}
	f, err := read(ctx, d.Client, rollParts...)
	if err != nil {
		return m.outage(c.Failed(err))
	}
	if f.Installation.DataPlane() != want {
		if f.Felix.ByHand() {
			return rollout.Fail(f.byHand())
		}
		if err := patchInstallation(ctx, d.Client, m.change); err != nil {
			return c.Failed(err)
		}
		return rollout.WaitFor(cluster.PollEvery, "the operator is to act on linuxDataplane %s", want)
	}
	done, why := f.InForce(want)
	if done {
		// The objects are read side by side: a DaemonSet from before the operator
		// touched it may stand beside a Felix from after. What is read now is
		// younger than all of it.
		if f, err = read(ctx, d.Client, rollParts...); err != nil {
			return c.Failed(err)
		}
		done, why = f.InForce(want)
	}
	if st, ok := f.Status("calico"); done && ok && !st.Is("Available") {
		// It lags behind: by itself it proves nothing, but it is waited for.
		done, why = false, "calico-node has rolled; TigeraStatus calico is not Available yet"
	}
	r := roll{
		doing: fmt.Sprintf("the data plane moves to %s", want), now: why,
		mark:     fmt.Sprintf("%s %s %d %s", want, f.Installation.Computed, f.CalicoNode.Updated, f.Felix.BPFEnabled),
		degraded: f.degraded(),
		hint:     "see kubectl -n calico-system get pods -o wide, and kubectl get tigerastatus; to go back: kubectl patch installation default --type merge -p '" + backPatch(want, f.Installation.Automatic()) + "'",
		laggards: func() string { return laggards(ctx, d.Client, f.CalicoNode) },
		giveUp:   m.giveUp,
	}
	switch {
	case !done:
		return await(c, stall, r)
	case want == BPF:
		return d.awaitProof(ctx, c, stall, r, m)
	}
	return c.Done("the data plane is %s: %s, bpfEnabled %s", want, f.CalicoNode.Progress(), cmp.Or(f.Felix.BPFEnabled, "not set"))
}

// awaitProof waits until every node shows the eBPF data plane, and goes on
// showing it for a while: bpfEnabled is a request, Felix restarts itself only
// then, its readiness may stay green meanwhile, and where the kernel refuses it
// goes on without.
func (d Deps) awaitProof(ctx context.Context, c *cluster.Call, stall time.Duration, r roll, m move) rollout.Outcome {
	p, err := d.prove(ctx, BPF)
	if err != nil {
		return m.outage(c.Failed(err))
	}
	if len(p.Unproven) > 0 {
		r.now, r.mark, r.laggards = p.text(BPF), p.Mark, nil
		r.hint = "see kubectl -n calico-system logs of these nodes' calico-node, and whether their kernel is fit; " + r.hint
		if p.Unasked > 0 {
			// What the others do is no progress for them.
			r.mark, stall = "cut off", min(stall, cutPatience)
		}
		if o := await(c, stall, r); o.Kind != rollout.Waiting {
			return o
		}
		c.Steady("proven", "")
		return rollout.WaitFor(askAgain(p.Nodes), "%s", r.now)
	}
	if c.Steady("proven", p.Mark) < watchFor {
		return rollout.WaitFor(askAgain(p.Nodes), "%d nodes are proven to run the data plane BPF; they are watched for %s", p.Nodes, watchFor)
	}
	if m.probes == nil {
		return c.Done("the data plane is BPF, proven on %d nodes", p.Nodes)
	}
	e, err := d.lookAtProbes(ctx, *m.probes, false)
	if err != nil {
		return m.outage(c.Failed(err))
	}
	if lost := e.Lost(); len(lost) > 0 {
		r.now, r.mark, r.laggards = "what answered before does not now: "+cluster.Few(lost), "lost", nil
		r.hint = "see kubectl -n kube-system get endpoints,pods -o wide, and calico-node -bpf nat dump in these nodes' calico-node; " + r.hint
		o := await(c, lostPatience, r)
		if o.Kind == rollout.Waiting {
			o.After = askAgain(p.Nodes)
		}
		return o
	}
	return noted(c.Done("the data plane is BPF, proven on %d nodes; %s", p.Nodes, e.Text()), e)
}

// giveUp is the end of a flip that stands still: the data plane is taken back
// where that is wanted and kube-proxy serves, else it is left as it is.
func (d Deps) giveUp(ctx context.Context, c *cluster.Call, data dataplaneData, p *rollout.Problem) rollout.Outcome {
	if data.After != BPF || data.OnFailure != onFailureRevert || data.Asked {
		return rollout.Fail(p)
	}
	f, err := read(ctx, d.Client, readKubeProxies, readEmbedded, readInstallation)
	if err != nil {
		return c.Failed(err)
	}
	if !f.kubeProxyServes() && len(data.Proxies) == 0 {
		p.Hint = "the data plane is not taken back, because kube-proxy is off and nobody would serve Services: bring it back first (fleetd.calico.kube_proxy: {state: enabled}); " + p.Hint
		return rollout.Fail(p)
	}
	return rollout.Intend(reverting, p.Message)
}

// revert takes the data plane back and then fails with the reason. kube-proxy comes
// back before eBPF goes, where the play took it away before.
func (d Deps) revert(ctx context.Context, c *cluster.Call, data dataplaneData, why string) rollout.Outcome {
	o, proxies := rollout.Outcome{}, "kube-proxy was not touched"
	if len(data.Proxies) > 0 {
		proxies = "kube-proxy runs again"
		o = d.setKubeProxy(ctx, c, kubeProxyData{State: enabled, Selectors: data.Proxies, Stall: data.Stall})
	}
	if len(data.Proxies) == 0 || o.Final() && !o.Bad() {
		o = d.flip(ctx, c, move{want: data.before(), change: data.back(), stall: data.Stall})
	}
	switch {
	case !o.Final():
		o.Message = "taking the data plane back: " + o.Message
		return o
	case o.Bad():
		return rollout.Fail(&rollout.Problem{Message: why + "; and the data plane could not be taken back: " + o.Message, Hint: o.Hint})
	}
	return rollout.Fail(&rollout.Problem{
		Message: fmt.Sprintf("%s; the data plane was taken back to %s, and %s", why, data.before(), proxies),
		Hint:    "mend what is named (calico-node's log on that node says more), then apply again",
	})
}

// backPatch is the way back for a person to type. In automatic mode the operator takes
// nothing back while it sees to the network by itself.
func backPatch(want DataPlane, automatic bool) string {
	switch {
	case want == Iptables:
		return `{"spec":{"calicoNetwork":{"linuxDataplane":"BPF"}}}`
	case automatic:
		return `{"spec":{"calicoNetwork":{"linuxDataplane":"Iptables","bpfNetworkBootstrap":"Disabled"}}}`
	}
	return `{"spec":{"calicoNetwork":{"linuxDataplane":"Iptables"}}}`
}

// degraded is what the operator complains of, "" if nothing.
func (f Facts) degraded() string {
	if st, ok := f.Status("calico"); ok && st.Is("Degraded") {
		return st.Why("Degraded")
	}
	return ""
}

func parseStall(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("the plan's timeout cannot be read: %w", err)
	}
	return d, nil
}
