package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fleetd/fleetd/pkg/rollout"
)

const (
	disabled = "disabled"
	enabled  = "enabled"
)

// kubeProxyModule is fleetd.calico.kube_proxy: kube-proxy away from every node,
// or back on it.
type kubeProxyModule struct{ d Deps }

type kubeProxyData struct {
	// State is disabled or enabled.
	State string `json:"state"`
	// Names are the DaemonSets to change, in kube-system.
	Names []string `json:"names"`
	// NeedsBPF is set when the plan takes kube-proxy away because the eBPF data
	// plane serves by then. If it does not, nobody would.
	NeedsBPF bool   `json:"needs_bpf,omitempty"`
	Stall    string `json:"stall"`
}

func (kubeProxyModule) Params() rollout.Params {
	return rollout.Params{
		"state":   {Type: rollout.String, Required: true, Choices: []string{disabled, enabled}, Help: "disabled or enabled"},
		"timeout": {Type: rollout.Duration, Help: "how long the pods' coming or going may stand still (10m)"},
	}
}

func (kubeProxyModule) Reads(rollout.Args) []rollout.Read { return readsCalico() }

func (m kubeProxyModule) Diff(_ string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	state, err := argChoice(args, "state", "", disabled, enabled)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	stall, err := argTimeout(args, defaultStall)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	f, err := Calico.Get(before)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	if state == disabled {
		if p := f.foreignKubeProxy(); p != nil {
			return rollout.Change{}, nil, p
		}
		if p := f.ipvs(); p != nil {
			return rollout.Change{}, nil, p
		}
	}
	if len(f.KubeProxies) == 0 {
		if len(f.StaticKubeProxies) > 0 {
			return noOp("kube-proxy runs without a DaemonSet: %s", few(f.StaticKubeProxies)), before, nil
		}
		if state == enabled {
			return rollout.Change{}, nil, &rollout.Problem{
				Message: "cannot enable kube-proxy: the cluster has no DaemonSet kube-proxy",
				Hint:    "install it first (kubeadm init phase addon kube-proxy)",
			}
		}
		return noOp("the cluster has no kube-proxy"), before, nil
	}
	c := rollout.Change{Action: rollout.Update, Disruptive: true}
	data := kubeProxyData{State: state, Stall: stall.String(), NeedsBPF: state == disabled && f.projectedBPF()}
	proxies := make([]KubeProxy, len(f.KubeProxies))
	for i, k := range f.KubeProxies {
		proxies[i] = k.projected(state, f.CalicoNode.Desired)
		if !k.differs(state) {
			continue
		}
		data.Names = append(data.Names, k.Name)
		field := rollout.Field{Name: fmt.Sprintf("DaemonSet %s/%s nodeSelector %s", k.Namespace, k.Name, nonCalicoLabel), Before: k.NodeSelector[nonCalicoLabel]}
		if state == disabled {
			field.After = "true"
		}
		c.Fields = append(c.Fields, field)
	}
	if len(data.Names) == 0 {
		return noOp("kube-proxy is %s already", state), before, nil
	}
	if state == disabled {
		c.Summary = "take kube-proxy away from every node"
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
		c.Summary = "run kube-proxy on every node again"
		c.Reasons = []string{"without the eBPF data plane nobody else serves Services"}
		if f.projectedBPF() {
			c.Risks = []string{"while both run, eBPF wins; kube-proxy's health port 10256 is taken by Felix, unless it is configured otherwise"}
		}
	}
	c.Data = pack(data)
	f.KubeProxies = proxies
	after, err := Calico.With(before, f)
	return c, after, err
}

// differs reports whether a DaemonSet has to change to reach the state. Its
// pods are no part of it: they come and go by themselves.
func (k KubeProxy) differs(state string) bool {
	if state == disabled {
		return !k.Disabled() && k.Desired > 0
	}
	// The operator takes its own selector back by itself.
	return k.NodeSelector[nonCalicoLabel] != ""
}

// projected is the DaemonSet in the state; kube-proxy runs where calico-node does.
func (k KubeProxy) projected(state string, nodes int32) KubeProxy {
	sel := map[string]string{}
	for key, v := range k.NodeSelector {
		sel[key] = v
	}
	if state == disabled {
		sel[nonCalicoLabel] = "true"
		k.Desired, k.Current, k.Updated, k.Ready, k.Available, k.Pods = 0, 0, 0, 0, 0, 0
	} else {
		delete(sel, nonCalicoLabel)
		k.Desired, k.Current, k.Updated, k.Ready, k.Available, k.Pods = nodes, nodes, nodes, nodes, nodes, int(nodes)
	}
	k.NodeSelector = sel
	return k
}

// projectedBPF reports whether the data plane is BPF in this state of the plan,
// where a roll counts as done.
func (f Facts) projectedBPF() bool {
	return f.bpfEnabled() && (f.Install != Operator || f.Installation.DataPlane() == BPF)
}

// foreignKubeProxy is why kube-proxy cannot be changed by its DaemonSet.
func (f Facts) foreignKubeProxy() *rollout.Problem {
	if len(f.StaticKubeProxies) > 0 {
		return &rollout.Problem{
			Message: "cannot take kube-proxy away: it runs without a DaemonSet: " + few(f.StaticKubeProxies),
			Hint:    "turn it off where it is configured (RKE2: disable-kube-proxy: true), then run fleetd again",
		}
	}
	for _, k := range f.KubeProxies {
		if k.ManagedBy != "" && !k.Disabled() && k.Desired > 0 {
			return &rollout.Problem{
				Message: fmt.Sprintf("cannot change DaemonSet %s/%s: %s would put it back", k.Namespace, k.Name, k.ManagedBy),
				Hint:    fmt.Sprintf("set nodeSelector %s=true where %s gets it from, then run fleetd again", nonCalicoLabel, k.ManagedBy),
			}
		}
	}
	return nil
}

func (m kubeProxyModule) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	d, err := unpack[kubeProxyData](s)
	if err != nil {
		return rollout.Fail(err)
	}
	return m.d.setKubeProxy(ctx, s, d)
}

func (m kubeProxyModule) Undo(ctx context.Context, s rollout.Step) rollout.Outcome {
	d, err := unpack[kubeProxyData](s)
	if err != nil {
		return rollout.Fail(err)
	}
	if d.State == disabled {
		d.State = enabled
	} else {
		d.State = disabled
	}
	d.NeedsBPF = false
	return m.d.setKubeProxy(ctx, s, d)
}

// setKubeProxy sets the node selectors and watches the pods follow.
func (d Deps) setKubeProxy(ctx context.Context, s rollout.Step, data kubeProxyData) rollout.Outcome {
	stall, err := parseStall(data.Stall)
	if err != nil {
		return rollout.Fail(err)
	}
	f, err := d.Client.read(ctx, readKubeProxies, readInstallation, readFelix, readCalicoNode)
	if err != nil {
		return failure(ctx, s, err)
	}
	if err := answered(ctx, s); err != nil {
		return rollout.Fail(err)
	}
	var patch []KubeProxy
	for _, k := range f.KubeProxies {
		if slices.Contains(data.Names, k.Name) && k.needsPatch(data.State) {
			patch = append(patch, k)
		}
	}
	if on, why := f.BPFOn(); data.NeedsBPF && !on && len(patch) > 0 {
		return await(ctx, s, stall, roll{
			doing: "kube-proxy stays until the eBPF data plane serves", now: "kube-proxy is untouched: " + why, mark: fmt.Sprint(f.CalicoNode.Updated),
			hint: "see kubectl -n calico-system rollout status ds/calico-node, then run fleetd again",
		})
	}
	for _, k := range patch {
		if err := d.Client.selectNonCalico(ctx, k, data.State == disabled); err != nil {
			return failure(ctx, s, err)
		}
	}
	if len(patch) > 0 {
		return rollout.WaitFor(pollEvery, "DaemonSet kube-proxy is to follow")
	}
	var waiting []string
	var mark strings.Builder
	for _, k := range f.KubeProxies {
		if !slices.Contains(data.Names, k.Name) {
			continue
		}
		fmt.Fprintf(&mark, "%d %d %d;", k.Observed, k.Updated, k.Pods)
		gone, why := k.gone()
		switch {
		case data.State == disabled && !gone:
			waiting = append(waiting, why)
		case data.State == enabled && !k.back():
			waiting = append(waiting, k.Progress())
		}
	}
	if len(waiting) == 0 {
		if data.State == disabled {
			return rollout.Did("kube-proxy is gone: DESIRED 0, no pods left")
		}
		return rollout.Did("kube-proxy runs on every node")
	}
	return await(ctx, s, stall, roll{
		doing: "kube-proxy is " + data.State, now: strings.Join(waiting, "; "), mark: mark.String(),
		hint:     "see kubectl -n kube-system get pods -o wide -l k8s-app=kube-proxy",
		laggards: func() string { return d.Client.laggards(ctx, f.KubeProxies[0].DaemonSet) }, // something is waited for, so there is one
	})
}

// needsPatch reports whether the node selector is not yet the state's.
func (k KubeProxy) needsPatch(state string) bool {
	if state == disabled {
		return !k.Disabled()
	}
	return k.NodeSelector[nonCalicoLabel] != ""
}

// selectNonCalico is the article's patch, there and back.
func (c *Client) selectNonCalico(ctx context.Context, k KubeProxy, on bool) error {
	selector := map[string]any{nonCalicoLabel: nil}
	if on {
		selector[nonCalicoLabel] = "true"
	}
	body, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"nodeSelector": selector}}}})
	if err != nil {
		return fmt.Errorf("cannot encode a patch: %w", err)
	}
	_, err = c.Kube.AppsV1().DaemonSets(k.Namespace).Patch(ctx, k.Name, types.MergePatchType, body, strictPatch())
	return c.explain(err, "change DaemonSet %s/%s", k.Namespace, k.Name)
}
