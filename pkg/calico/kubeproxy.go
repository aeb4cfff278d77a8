package calico

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/rollout"
)

const (
	disabled = "disabled"
	enabled  = "enabled"
	// enabledSpec is how Installation's fields say it.
	enabledSpec = "Enabled"
)

// kubeProxyModule is fleetd.calico.kube_proxy: kube-proxy away from every node,
// or back on it.
type kubeProxyModule struct{ d Deps }

type kubeProxyData struct {
	// State is disabled or enabled.
	State string `json:"state"`
	// Selectors are what changes: no other DaemonSet is touched, there or back.
	Selectors []proxySelector `json:"selectors"`
	// NeedsBPF is set when the plan takes kube-proxy away because the eBPF data
	// plane serves by then. If it does not, nobody would.
	NeedsBPF bool   `json:"needs_bpf,omitempty"`
	Stall    string `json:"stall"`
}

// proxySelector is the value of the node selector non-calico on one DaemonSet
// in kube-system; "" = there is none.
type proxySelector struct {
	Name   string `json:"name"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

func (d kubeProxyData) selector(name string) (proxySelector, bool) {
	i := slices.IndexFunc(d.Selectors, func(sel proxySelector) bool { return sel.Name == name })
	if i < 0 {
		return proxySelector{}, false
	}
	return d.Selectors[i], true
}

func (kubeProxyModule) About() rollout.About {
	return rollout.About{
		Params: rollout.Params{
			"state":   {Type: rollout.String, Required: true, Choices: []string{disabled, enabled}, Help: "disabled or enabled"},
			"timeout": {Type: rollout.Duration, Help: "how long the pods' coming or going may stand still (10m)"},
		},
		Rule: "kube-proxy",
	}
}

func (kubeProxyModule) Reads(rollout.Args) []rollout.Read { return readsCalico() }

func (m kubeProxyModule) Diff(_ string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	state, err := cluster.ArgChoice(args, "state", "", disabled, enabled)
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
	if state == disabled {
		if p := f.foreignKubeProxy(); p != nil {
			return rollout.Change{}, nil, p
		}
		for _, p := range []*rollout.Problem{f.ipvs(), f.unknownMode()} {
			if p != nil {
				return rollout.Change{}, nil, p
			}
		}
	}
	if f.operatorsKubeProxy(state) {
		return cluster.NoOp("the operator sees to kube-proxy by itself (kubeProxyManagement is Enabled)"), before, nil
	}
	if len(f.KubeProxies) == 0 {
		if len(f.StaticKubeProxies) > 0 {
			return cluster.NoOp("kube-proxy runs without a DaemonSet: %s", cluster.Few(f.StaticKubeProxies)), before, nil
		}
		if state == enabled && len(f.Embedded.On) > 0 {
			return cluster.NoOp("kube-proxy is part of k3s on %s", cluster.Few(f.Embedded.On)), before, nil
		}
		if state == enabled {
			return rollout.Change{}, nil, &rollout.Problem{
				Message: "cannot enable kube-proxy: the cluster has no DaemonSet kube-proxy",
				Hint:    f.Embedded.installHint(),
			}
		}
		return cluster.NoOp("the cluster has no kube-proxy"), before, nil
	}
	c := rollout.Change{Action: rollout.Update, Disruptive: true, BackDisruptive: true}
	data := kubeProxyData{State: state, Stall: stall.String(), NeedsBPF: state == disabled && f.projectedBPF()}
	proxies := make([]KubeProxy, len(f.KubeProxies))
	for i, k := range f.KubeProxies {
		proxies[i] = k
		if !k.differs(state) {
			continue
		}
		proxies[i] = k.projected(state, f.CalicoNode.Desired)
		sel := proxySelector{Name: k.Name, Before: k.NodeSelector[cluster.NonCalicoLabel]}
		if state == disabled {
			sel.After = "true"
		}
		data.Selectors = append(data.Selectors, sel)
		c.Fields = append(c.Fields, rollout.Field{
			Name: fmt.Sprintf("DaemonSet %s/%s nodeSelector %s", k.Namespace, k.Name, cluster.NonCalicoLabel), Before: sel.Before, After: sel.After,
		})
	}
	if len(data.Selectors) == 0 {
		return cluster.NoOp("kube-proxy is %s already", state), before, nil
	}
	if state == disabled {
		c.Summary, c.Back = "take kube-proxy away from every node", "run kube-proxy on every node again"
		c.Reasons = []string{"the eBPF data plane serves Services by itself"}
		c.Risks = []string{
			"kube-proxy's iptables rules stay on the nodes and go on answering until Felix or a reboot removes them",
			"kubeadm upgrade puts the DaemonSet back as it was",
		}
		if !data.NeedsBPF {
			c.Reasons = []string{"the playbook takes kube-proxy away before the data plane changes"}
			c.Risks = append([]string{"the eBPF data plane is not on yet: until it is, nobody keeps the rules of Services up to date: pods that come and go are missed, nodes that reboot serve none (order: article; the order safe flips the data plane first)"}, c.Risks...)
		}
	} else {
		c.Summary, c.Back = "run kube-proxy on every node again", "take kube-proxy away from every node again"
		c.Reasons = []string{"without the eBPF data plane nobody else serves Services"}
		if f.projectedBPF() {
			c.Risks = []string{"while both run, eBPF wins; kube-proxy's health port 10256 is taken by Felix, unless it is configured otherwise"}
		}
	}
	c.Data = cluster.Pack(data)
	f.KubeProxies = proxies
	return c, Section.With(before, f), nil
}

// differs reports whether a DaemonSet has to change to reach the state. Its
// pods are no part of it: they come and go by themselves.
func (k KubeProxy) differs(state string) bool {
	if state == disabled {
		return !k.Disabled() && k.Desired > 0
	}
	// The operator takes its own selector back by itself.
	return k.NodeSelector[cluster.NonCalicoLabel] != ""
}

// projected is the DaemonSet in the state; kube-proxy runs where calico-node does.
func (k KubeProxy) projected(state string, nodes int32) KubeProxy {
	sel := map[string]string{}
	for key, v := range k.NodeSelector {
		sel[key] = v
	}
	if state == disabled {
		sel[cluster.NonCalicoLabel] = "true"
		k.Desired, k.Current, k.Updated, k.Ready, k.Available, k.Pods = 0, 0, 0, 0, 0, 0
	} else {
		delete(sel, cluster.NonCalicoLabel)
		k.Desired, k.Current, k.Updated, k.Ready, k.Available, k.Pods = nodes, nodes, nodes, nodes, nodes, int(nodes)
	}
	k.NodeSelector, k.Taken = sel, state == disabled
	return k
}

// taken are the DaemonSets that the plan takes away before this point, with what
// brings each back.
func (f Facts) taken() []proxySelector {
	var out []proxySelector
	for _, k := range f.KubeProxies {
		if k.Taken {
			out = append(out, proxySelector{Name: k.Name, Before: "true"})
		}
	}
	return out
}

// projectedBPF reports whether the data plane is BPF in this state of the plan,
// where a roll counts as done.
func (f Facts) projectedBPF() bool {
	return f.bpfEnabled() && (f.Install != Operator || f.Installation.DataPlane() == BPF)
}

// operatorsKubeProxy reports whether the operator brings kube-proxy to the state
// when the data plane changes. A selector of fleetd's own, from an earlier run,
// it does not take back.
func (f Facts) operatorsKubeProxy(state string) bool {
	return f.Installation.KubeProxyManagement == enabledSpec &&
		(state == disabled || !slices.ContainsFunc(f.KubeProxies, func(k KubeProxy) bool { return k.differs(state) }))
}

// kubeProxyServes reports whether Services would be served without the eBPF
// data plane. The operator brings back what it manages itself.
func (f Facts) kubeProxyServes() bool {
	if len(f.StaticKubeProxies) > 0 || len(f.Embedded.On) > 0 || f.Installation.KubeProxyManagement == enabledSpec {
		return true
	}
	return slices.ContainsFunc(f.KubeProxies, func(k KubeProxy) bool { return !k.Disabled() })
}

// foreignKubeProxy is why kube-proxy cannot be changed by its DaemonSet.
func (f Facts) foreignKubeProxy() *rollout.Problem {
	if p := f.Embedded.problem(); p != nil {
		return p
	}
	if len(f.StaticKubeProxies) > 0 {
		return &rollout.Problem{
			Message: "cannot take kube-proxy away: it runs without a DaemonSet: " + cluster.Few(f.StaticKubeProxies),
			Hint:    "turn it off where it is configured (RKE2: disable-kube-proxy: true), then run fleetd again",
		}
	}
	for _, k := range f.KubeProxies {
		if k.ManagedBy != "" && !k.Disabled() && k.Desired > 0 {
			return &rollout.Problem{
				Message: fmt.Sprintf("cannot change DaemonSet %s/%s: %s would put it back", k.Namespace, k.Name, k.ManagedBy),
				Hint:    fmt.Sprintf("set nodeSelector %s=true where %s gets it from, then run fleetd again", cluster.NonCalicoLabel, k.ManagedBy),
			}
		}
	}
	return nil
}

func (m kubeProxyModule) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	return cluster.Act(s, func(c *cluster.Call, d kubeProxyData) rollout.Outcome { return m.d.setKubeProxy(ctx, c, d) })
}

func (m kubeProxyModule) Undo(ctx context.Context, s rollout.Step) rollout.Outcome {
	return cluster.Act(s, func(c *cluster.Call, d kubeProxyData) rollout.Outcome {
		d.State = map[string]string{disabled: enabled, enabled: disabled}[d.State]
		d.NeedsBPF = false
		for i, sel := range d.Selectors {
			d.Selectors[i].Before, d.Selectors[i].After = sel.After, sel.Before
		}
		return m.d.setKubeProxy(ctx, c, d)
	})
}

// setKubeProxy sets the node selectors and watches the pods follow.
func (d Deps) setKubeProxy(ctx context.Context, c *cluster.Call, data kubeProxyData) rollout.Outcome {
	stall, err := parseStall(data.Stall)
	if err != nil {
		return rollout.Fail(err)
	}
	f, err := read(ctx, d.Client, readKubeProxies, readInstallation, readFelix, readCalicoNode)
	if err != nil {
		return c.Failed(err)
	}
	var patch, follow []KubeProxy
	for _, k := range f.KubeProxies {
		sel, ok := data.selector(k.Name)
		if !ok {
			continue
		}
		switch k.NodeSelector[cluster.NonCalicoLabel] {
		case sel.After:
			follow = append(follow, k)
		case sel.Before:
			patch = append(patch, k)
		default:
			return rollout.Fail(&rollout.Problem{
				Message: fmt.Sprintf("cannot change DaemonSet %s/%s: somebody else has set its nodeSelector %s to %q since the plan was made",
					k.Namespace, k.Name, cluster.NonCalicoLabel, k.NodeSelector[cluster.NonCalicoLabel]),
				Hint: "make a new plan, on the cluster as it is now",
			})
		}
	}
	if on, why := f.BPFOn(); data.NeedsBPF && !on && len(patch) > 0 {
		return await(c, stall, roll{
			doing: "kube-proxy stays until the eBPF data plane serves", now: "kube-proxy is untouched: " + why, mark: fmt.Sprint(f.CalicoNode.Updated),
			hint: "see kubectl -n calico-system rollout status ds/calico-node, then run fleetd again",
		})
	}
	if data.NeedsBPF && len(patch) > 0 {
		p, err := d.prove(ctx, BPF)
		if err != nil {
			return c.Failed(err)
		}
		if len(p.Unproven) > 0 {
			o := await(c, stall, roll{
				doing: "kube-proxy stays until the eBPF data plane serves on every node", now: "kube-proxy is untouched: " + p.text(BPF), mark: p.Mark,
				hint: "see the log of calico-node on these nodes; to go back: fleetd undo, or kubectl patch installation default --type merge -p '" + backPatch(BPF, f.Installation.Automatic()) + "'",
			})
			if o.Kind == rollout.Waiting {
				o.After = askAgain(p.Nodes)
			}
			return o
		}
	}
	for _, k := range patch {
		sel, _ := data.selector(k.Name)
		if err := selectNonCalico(ctx, d.Client, k, sel.After); err != nil {
			return c.Failed(err)
		}
	}
	if len(patch) > 0 {
		return rollout.WaitFor(cluster.PollEvery, "DaemonSet kube-proxy is to follow")
	}
	return d.proxiesFollow(ctx, c, data.State, follow, stall)
}

// proxiesFollow watches the pods of kube-proxy go or come.
func (d Deps) proxiesFollow(ctx context.Context, c *cluster.Call, state string, proxies []KubeProxy, stall time.Duration) rollout.Outcome {
	var waiting []string
	var late DaemonSet // the first one that is waited for
	var mark strings.Builder
	for _, k := range proxies {
		fmt.Fprintf(&mark, "%d %d %d;", k.Observed, k.Updated, k.Pods)
		ok, why := k.gone()
		if state == enabled {
			// What the operator keeps off the nodes comes when the operator lets it.
			ok, why = k.Disabled() || k.Rolled(), k.Progress()
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
			hint:     "see kubectl -n kube-system get pods -o wide -l k8s-app=kube-proxy",
			laggards: func() string { return laggards(ctx, d.Client, late) },
		})
	}
	if state == disabled {
		return c.Done("kube-proxy is gone: DESIRED 0, no pods left")
	}
	return c.Done("kube-proxy runs on every node")
}

// selectNonCalico is the article's patch, there and back; "" takes the selector
// away.
func selectNonCalico(ctx context.Context, c *cluster.Client, k KubeProxy, value string) error {
	selector := map[string]any{cluster.NonCalicoLabel: nil}
	if value != "" {
		selector[cluster.NonCalicoLabel] = value
	}
	body, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"nodeSelector": selector}}}})
	if err != nil {
		return fmt.Errorf("cannot encode a patch: %w", err)
	}
	_, err = c.Kube.AppsV1().DaemonSets(k.Namespace).Patch(ctx, k.Name, types.MergePatchType, body, cluster.StrictPatch())
	return c.Explain(err, "change DaemonSet %s/%s", k.Namespace, k.Name)
}
