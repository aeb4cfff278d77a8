package calico

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/probe"
	"github.com/fleetd/fleetd/pkg/rollout"
)

const defaultVerifyTimeout = 5 * time.Minute

// verifyModule is fleetd.calico.verify: what the API server can tell of a
// finished flip, all of it, after everything. It reads only.
type verifyModule struct{ d Deps }

type verifyData struct {
	Want    DataPlane `json:"want"`
	Timeout string    `json:"timeout"`
	// Probes is set where Services are asked for meanwhile.
	Probes *probing `json:"probes,omitempty"`
}

func (verifyModule) About() rollout.About {
	return rollout.About{
		Params: rollout.Params{
			"linux_dataplane": {Type: rollout.String, Required: true, Choices: []string{string(BPF), string(Iptables)}, Help: "BPF or Iptables"},
			"timeout":         {Type: rollout.Duration, Help: "how long the cluster may take until all holds (5m)"},
		},
		Guards: rollout.Changes,
	}
}

func (verifyModule) Reads(rollout.Args) []rollout.Read { return readsCalico() }

func (m verifyModule) Diff(_ string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	want, err := cluster.ArgChoice(args, "linux_dataplane", "", string(BPF), string(Iptables))
	if err != nil {
		return rollout.Change{}, nil, err
	}
	timeout, err := cluster.ArgTimeout(args, defaultVerifyTimeout)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	probes, err := probesOf(before)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	c := rollout.Change{
		Action:  rollout.ReadOnly,
		Summary: "verify that the data plane is " + want + " on every node, " + map[string]string{string(BPF): "and kube-proxy gone", string(Iptables): "and kube-proxy back"}[want],
		Data:    cluster.Pack(verifyData{Want: DataPlane(want), Timeout: timeout.String(), Probes: probes}),
	}
	if probes != nil {
		c.Reasons = []string{"every path to a Service that answered before has to answer" + map[string]string{string(BPF): ", and not by rules that kube-proxy has left"}[want]}
	}
	return c, before, nil
}

// Check is one thing that must hold, and what was found.
type Check struct {
	Name string
	OK   bool
	// Found says why it does not hold; "" if it does.
	Found string
}

// Verify says what of a data plane holds in the cluster. It is the same look
// for the step at the end of a run and for a compliance report.
func (f Facts) Verify(want DataPlane) []Check {
	inForce, why := f.InForce(want)
	out := []Check{{"data plane " + string(want), inForce, why}}
	if want == BPF {
		off, why := f.KubeProxyOff()
		out = append(out, Check{"kube-proxy off", off, why})
	} else {
		on, why := f.kubeProxyOn()
		out = append(out, Check{"kube-proxy on", on, why})
	}
	st, ok := f.Status("calico")
	switch {
	case !ok:
		out = append(out, Check{"TigeraStatus calico", false, "does not exist"})
	case st.Is("Degraded"):
		out = append(out, Check{"TigeraStatus calico", false, "Degraded: " + st.Why("Degraded")})
	case !st.Is("Available"):
		out = append(out, Check{"TigeraStatus calico", false, "not Available: " + cmp.Or(st.Why("Progressing"), "no reason given")})
	default:
		out = append(out, Check{"TigeraStatus calico", true, ""})
	}
	if f.Felix.ByHand() {
		out = append(out, Check{"bpfEnabled is the operator's", false,
			fmt.Sprintf("bpfEnabled is %s, the operator set %s", cmp.Or(f.Felix.BPFEnabled, "not set"), cmp.Or(f.Felix.Operator, "nothing"))})
	}
	var away []string
	for _, n := range f.Nodes {
		if !n.Ready {
			away = append(away, n.Name)
		}
	}
	c := Check{"nodes Ready", len(away) == 0, ""}
	if !c.OK {
		c.Found = "not Ready: " + cluster.Few(away)
	}
	return append(out, c)
}

// kubeProxyOn reports whether kube-proxy serves on every node, and why not.
func (f Facts) kubeProxyOn() (bool, string) {
	if len(f.StaticKubeProxies) > 0 || len(f.Embedded.On) > 0 {
		return true, ""
	}
	if len(f.KubeProxies) == 0 {
		return false, "the cluster has no kube-proxy"
	}
	for _, k := range f.KubeProxies {
		switch {
		case k.Disabled():
			return false, fmt.Sprintf("a node selector keeps DaemonSet %s/%s off the nodes", k.Namespace, k.Name)
		case !k.Rolled():
			return false, k.Progress()
		}
	}
	return true, ""
}

func (m verifyModule) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	return cluster.Act(s, func(c *cluster.Call, d verifyData) rollout.Outcome {
		return m.d.withEvidence(ctx, m.d.verify(ctx, c, d), d.Probes)
	})
}

func (d Deps) verify(ctx context.Context, c *cluster.Call, data verifyData) rollout.Outcome {
	timeout, err := parseStall(data.Timeout)
	if err != nil {
		return rollout.Fail(err)
	}
	f, err := ReadFacts(ctx, d.Client)
	if err != nil {
		return c.Failed(err)
	}
	var names, missing []string
	for _, check := range f.Verify(data.Want) {
		names = append(names, check.Name)
		if !check.OK {
			missing = append(missing, check.Name+": "+check.Found)
		}
	}
	if len(missing) == 0 {
		// Last, and only where all else holds: this asks every node.
		p, err := d.prove(ctx, data.Want)
		if err != nil {
			return c.Failed(err)
		}
		names = append(names, fmt.Sprintf("Felix on %d nodes", p.Nodes))
		if len(p.Unproven) > 0 {
			missing = append(missing, p.text(data.Want))
		}
	}
	var e *probe.Evidence
	if len(missing) == 0 && data.Probes != nil {
		found, err := d.lookAtProbes(ctx, *data.Probes, false)
		if err != nil {
			return c.Failed(err)
		}
		e = &found
		names = append(names, found.Text())
		missing = append(missing, unserved(found, data.Want)...)
	}
	switch {
	case len(missing) == 0 && e == nil:
		return rollout.AlreadyDone("verified: %s", strings.Join(names, ", "))
	case len(missing) == 0:
		// What was seen is kept; whether they can be ended changes nothing of it, and
		// they end by themselves.
		_, _ = d.lookAtProbes(ctx, *data.Probes, true)
		return noted(rollout.AlreadyDone("verified: %s", strings.Join(names, ", ")), *e)
	}
	if c.Elapsed < timeout {
		return rollout.WaitFor(cluster.PollEvery, "%s", strings.Join(missing, "; "))
	}
	return rollout.Fail(&rollout.Problem{
		Message: fmt.Sprintf("cannot verify the data plane %s within %s: %s", data.Want, data.Timeout, strings.Join(missing, "; ")),
		Hint:    "see kubectl get tigerastatus, and kubectl -n calico-system get pods -o wide",
	})
}

// unserved is what the probes show to be wrong with a data plane.
func unserved(e probe.Evidence, want DataPlane) []string {
	var out []string
	if lost := e.Lost(); len(lost) > 0 {
		out = append(out, "what answered before does not now: "+cluster.Few(lost))
	}
	if carried := e.Carried(); want == BPF && len(carried) > 0 {
		out = append(out, "rules that kube-proxy has left still carry, and nobody keeps up to date (Felix takes them away unless bpfKubeProxyIptablesCleanupEnabled is false; so does a reboot): "+cluster.Few(carried))
	}
	return out
}

// Undo has nothing to take back.
func (m verifyModule) Undo(context.Context, rollout.Step) rollout.Outcome {
	return rollout.AlreadyDone("a check changes nothing")
}
