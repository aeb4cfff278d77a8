package calico

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/rollout"
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
		if m.automatic && f.Endpoint.Exists {
			return rollout.Fail(f.twoEndpoints())
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
		degraded: f.degraded(), back: want != BPF,
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
