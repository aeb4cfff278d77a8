package calico

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// setKubeProxy says who sees to kube-proxy, sets the node selectors, and watches the
// pods follow.
func (d Deps) setKubeProxy(ctx context.Context, c *cluster.Call, data kubeProxyData) rollout.Outcome {
	stall, err := parseStall(data.Stall)
	if err != nil {
		return rollout.Fail(err)
	}
	f, err := read(ctx, d.Client, readKubeProxies, readInstallation, readFelix, readCalicoNode, readTigeraStatus)
	if err != nil {
		return c.Failed(err)
	}
	manage, acted, p := f.managementAsPlanned(data.Management)
	if p != nil {
		return rollout.Fail(p)
	}
	patch, follow, p := f.selectorsAsPlanned(data.Selectors)
	if p != nil {
		return rollout.Fail(p)
	}
	if data.NeedsBPF && (manage || len(patch) > 0) {
		if o := d.notBefore(ctx, c, f, stall); o != nil {
			return *o
		}
	}
	switch {
	case manage:
		if err := setManagement(ctx, d.Client, data.Management); err != nil {
			return c.Failed(err)
		}
		return rollout.WaitFor(cluster.PollEvery, "the operator is to act on %s %s", managementField, cmp.Or(data.Management.After, "not set"))
	case !acted:
		// It goes by what it has acted on: a selector that is taken off before, it
		// would put back.
		return await(c, stall, roll{
			doing: "the operator lets go of kube-proxy", now: "the operator has not acted on " + managementField + " yet", mark: f.Installation.ComputedKubeProxy,
			degraded: f.degraded(), hint: "see the log of the tigera-operator",
		})
	}
	for _, sel := range patch {
		if err := selectNodes(ctx, d.Client, sel); err != nil {
			return c.Failed(err)
		}
	}
	if len(patch) > 0 {
		return rollout.WaitFor(cluster.PollEvery, "DaemonSet kube-proxy is to follow")
	}
	return d.proxiesFollow(ctx, c, data, f, follow, stall)
}

// managementAsPlanned says whether kubeProxyManagement has to be set still, and
// whether the operator has acted on it where it has to let go.
func (f Facts) managementAsPlanned(s setting) (set, acted bool, p *rollout.Problem) {
	if !s.changes() {
		return false, true, nil
	}
	switch have := f.Installation.KubeProxyManagement; have {
	case s.After:
		return false, s.After == enabledSpec || f.Installation.ComputedKubeProxy != enabledSpec, nil
	case s.Before:
		return true, true, nil
	default:
		return false, false, &rollout.Problem{
			Message: fmt.Sprintf("cannot change Installation %s: somebody else has set its %s to %q since the plan was made", defaultName, managementField, have),
			Hint:    "make a new plan, on the cluster as it is now",
		}
	}
}

// selectorsAsPlanned are the selectors that have to be set still, and the DaemonSets
// whose pods are to follow.
func (f Facts) selectorsAsPlanned(selectors []proxySelector) (patch []proxySelector, follow []KubeProxy, p *rollout.Problem) {
	for _, k := range f.KubeProxies {
		touched := false
		for _, sel := range selectors {
			if sel.Name != k.Name {
				continue
			}
			touched = true
			switch have := k.NodeSelector[sel.label()]; {
			case have == sel.After || sel.theirs():
			case have == sel.Before:
				patch = append(patch, sel)
			default:
				return nil, nil, &rollout.Problem{
					Message: fmt.Sprintf("cannot change DaemonSet %s/%s: somebody else has set its nodeSelector %s to %q since the plan was made",
						k.Namespace, k.Name, sel.label(), have),
					Hint: "make a new plan, on the cluster as it is now",
				}
			}
		}
		if touched {
			follow = append(follow, k)
		}
	}
	return patch, follow, nil
}

// notBefore is the outcome while kube-proxy has to stay because a node is not proven
// to serve Services without it; nil if it may go.
func (d Deps) notBefore(ctx context.Context, c *cluster.Call, f Facts, stall time.Duration) *rollout.Outcome {
	if on, why := f.BPFOn(); !on {
		o := await(c, stall, roll{
			doing: "kube-proxy stays until the eBPF data plane serves", now: "kube-proxy is untouched: " + why, mark: fmt.Sprint(f.CalicoNode.Updated),
			hint: "see kubectl -n calico-system rollout status ds/calico-node, then run fleetd again",
		})
		return &o
	}
	p, err := d.prove(ctx, BPF)
	if err != nil {
		o := c.Failed(err)
		return &o
	}
	if len(p.Unproven) == 0 {
		return nil
	}
	o := await(c, stall, roll{
		doing: "kube-proxy stays until the eBPF data plane serves on every node", now: "kube-proxy is untouched: " + p.text(BPF), mark: p.Mark,
		hint: "see the log of calico-node on these nodes; to go back: fleetd undo, or kubectl patch installation default --type merge -p '" + backPatch(BPF, f.Installation.Automatic()) + "'",
	})
	if o.Kind == rollout.Waiting {
		o.After = askAgain(p.Nodes)
	}
	return &o
}

// proxiesFollow watches the pods of kube-proxy go or come.
func (d Deps) proxiesFollow(ctx context.Context, c *cluster.Call, data kubeProxyData, f Facts, proxies []KubeProxy, stall time.Duration) rollout.Outcome {
	state := data.State
	var waiting []string
	var late DaemonSet // the first one that is waited for
	var mark strings.Builder
	for _, k := range proxies {
		fmt.Fprintf(&mark, "%d %d %d;", k.Observed, k.Updated, k.Pods)
		ok, why := k.gone()
		if state == enabled {
			// What the operator keeps off the nodes comes when the operator lets it.
			ok, why = f.Installation.KubeProxyManagement == enabledSpec && k.Disabled() || k.Rolled(), k.Progress()
		}
		if ok {
			continue
		}
		if len(waiting) == 0 {
			late = k.DaemonSet
		}
		waiting = append(waiting, why)
	}
	if len(waiting) > 0 {
		return await(c, stall, roll{
			doing: "kube-proxy is " + state, now: strings.Join(waiting, "; "), mark: mark.String(),
			degraded: f.proxyDegraded(),
			hint:     "see kubectl -n kube-system get pods -o wide -l k8s-app=kube-proxy",
			laggards: func() string { return laggards(ctx, d.Client, late) },
		})
	}
	if state == disabled {
		return c.Done("kube-proxy is gone: DESIRED 0, no pods left")
	}
	return c.Done("kube-proxy runs on every node")
}

// proxyDegraded is what the operator complains of about kube-proxy, "" if nothing.
func (f Facts) proxyDegraded() string {
	if st, ok := f.Status(kubeProxyStatus); ok && st.Is("Degraded") {
		return st.Why("Degraded")
	}
	return ""
}

// selectNodes sets a node selector of a DaemonSet; "" takes it away. Of non-calico it
// is the article's patch.
func selectNodes(ctx context.Context, c *cluster.Client, sel proxySelector) error {
	selector := map[string]any{sel.label(): orNull(sel.After)}
	body, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"nodeSelector": selector}}}})
	if err != nil {
		return fmt.Errorf("cannot encode a patch: %w", err)
	}
	_, err = c.Kube.AppsV1().DaemonSets(metav1.NamespaceSystem).Patch(ctx, sel.Name, types.MergePatchType, body, cluster.StrictPatch())
	return c.Explain(err, "change DaemonSet %s/%s", metav1.NamespaceSystem, sel.Name)
}
