package calico

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/rollout"
)

const (
	disabled = "disabled"
	enabled  = "enabled"
	// enabledSpec and disabledSpec are how Installation's fields say it.
	enabledSpec  = "Enabled"
	disabledSpec = "Disabled"
)

// kubeProxyModule is fleetd.calico.kube_proxy: kube-proxy away from every node,
// or back on it.
type kubeProxyModule struct{ d Deps }

type kubeProxyData struct {
	// State is disabled or enabled.
	State string `json:"state"`
	// Selectors are what changes: no other DaemonSet is touched, there or back.
	Selectors []proxySelector `json:"selectors"`
	// Management is the operator's hand on kube-proxy, where it changes.
	Management setting `json:"management,omitzero"`
	// NeedsBPF is set when the plan takes kube-proxy away because the eBPF data
	// plane serves by then. If it does not, nobody would.
	NeedsBPF bool   `json:"needs_bpf,omitempty"`
	Stall    string `json:"stall"`
}

// proxySelector is the value of a node selector on one DaemonSet in kube-system; "" =
// there is none.
type proxySelector struct {
	Name string `json:"name"`
	// Label is the selector's; "" = non-calico.
	Label  string `json:"label,omitempty"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

func (s proxySelector) label() string { return cmp.Or(s.Label, cluster.NonCalicoLabel) }

// theirs reports whether it is the operator that sets it.
func (s proxySelector) theirs() bool { return s.Label == operatorProxyLabel && s.After != "" }

func (kubeProxyModule) About() rollout.About {
	return rollout.About{
		Params: rollout.Params{
			"state":     {Type: rollout.String, Required: true, Choices: []string{disabled, enabled}, Help: "disabled or enabled"},
			"automatic": {Type: rollout.Bool, Help: "in automatic mode the operator takes it away, once every node is proven (no)"},
			"timeout":   {Type: rollout.Duration, Help: "how long the pods' coming or going may stand still (10m)"},
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
	automatic, err := cluster.ArgBool(args, "automatic", false)
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
	byOperator := data.NeedsBPF && (automatic && f.Installation.Automatic() || f.Installation.KubeProxyHeld)
	switch {
	case byOperator:
		var problem *rollout.Problem
		if data.Management, data.Selectors, problem = f.handOver(state); problem != nil {
			return rollout.Change{}, nil, problem
		}
	case state == enabled:
		data.Management, data.Selectors = f.takeOver()
	}
	c.Fields = data.Management.field(managementField)
	proxies := make([]KubeProxy, len(f.KubeProxies))
	for i, k := range f.KubeProxies {
		proxies[i] = k
		if !k.differs(state) {
			continue
		}
		if !byOperator && (state == disabled || k.NodeSelector[cluster.NonCalicoLabel] != "") {
			sel := proxySelector{Name: k.Name, Before: k.NodeSelector[cluster.NonCalicoLabel]}
			if state == disabled {
				sel.After = "true"
			}
			data.Selectors = append(data.Selectors, sel)
		}
		proxies[i] = k.projected(state, f.CalicoNode.Desired)
	}
	for _, sel := range data.Selectors {
		field := rollout.Field{Name: fmt.Sprintf("DaemonSet %s/%s nodeSelector %s", metav1.NamespaceSystem, sel.Name, sel.label()), Before: sel.Before, After: sel.After}
		if sel.theirs() {
			field.Name += " (by the operator)"
		}
		c.Fields = append(c.Fields, field)
	}
	if len(data.Selectors) == 0 && !data.Management.changes() {
		return cluster.NoOp("kube-proxy is %s already", state), before, nil
	}
	if state == disabled {
		c.Summary, c.Back = "take kube-proxy away from every node", "run kube-proxy on every node again"
		c.Reasons = []string{"the eBPF data plane serves Services by itself"}
		if byOperator {
			c.Summary = "leave kube-proxy to the operator, which takes it away from every node"
			c.Back = "take kube-proxy back from the operator, and run it on every node again"
		}
		c.Risks = []string{
			"kube-proxy's iptables rules stay on the nodes and go on answering until Felix or a reboot removes them",
		}
		if !byOperator {
			c.Risks = append(c.Risks, "kubeadm upgrade puts the DaemonSet back as it was")
		}
		if !data.NeedsBPF {
			c.Reasons = []string{"the playbook takes kube-proxy away before the data plane changes"}
			c.Risks = append([]string{"the eBPF data plane is not on yet: until it is, nobody keeps the rules of Services up to date: pods that come and go are missed, nodes that reboot serve none (order: article; the order safe flips the data plane first)"}, c.Risks...)
		}
	} else {
		c.Summary, c.Back = "run kube-proxy on every node again", "take kube-proxy away from every node again"
		c.Reasons = []string{"without the eBPF data plane nobody else serves Services"}
		if data.Management.changes() {
			c.Reasons = append(c.Reasons, "the operator brings it back only once eBPF is off: Services would be dead until its pods have come")
		}
		if f.projectedBPF() {
			c.Risks = []string{"while both run, eBPF wins; kube-proxy's health port 10256 is taken by Felix, unless it is configured otherwise"}
		}
	}
	c.Data = cluster.Pack(data)
	f.KubeProxies, f.Installation.KubeProxyManagement, f.Installation.KubeProxyHeld = proxies, cmp.Or(data.Management.After, f.Installation.KubeProxyManagement), false
	return c, Section.With(before, f), nil
}

// differs reports whether a DaemonSet has to change to reach the state. Its
// pods are no part of it: they come and go by themselves.
func (k KubeProxy) differs(state string) bool {
	if state == disabled {
		return !k.Disabled() && k.Desired > 0
	}
	return k.NodeSelector[cluster.NonCalicoLabel] != "" || k.NodeSelector[operatorProxyLabel] != ""
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
		delete(sel, operatorProxyLabel)
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
// by itself: away while the data plane is BPF, back while it is not. A selector of
// fleetd's own, from an earlier run, it does not take back.
func (f Facts) operatorsKubeProxy(state string) bool {
	ours := func(k KubeProxy) bool { return k.NodeSelector[cluster.NonCalicoLabel] != "" }
	return f.Installation.KubeProxyManagement == enabledSpec && f.projectedBPF() == (state == disabled) &&
		(state == disabled || !slices.ContainsFunc(f.KubeProxies, ours))
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
		d.Management = d.Management.back()
		for i, sel := range d.Selectors {
			d.Selectors[i].Before, d.Selectors[i].After = sel.After, sel.Before
		}
		return m.d.setKubeProxy(ctx, c, d)
	})
}
