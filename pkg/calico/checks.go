package calico

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// notOurs is why fleetd cannot change this cluster's Calico at all.
func (f Facts) notOurs() *rollout.Problem {
	switch {
	case f.Install == NoCalico:
		return &rollout.Problem{
			Message: fmt.Sprintf("cannot change Calico: the cluster at %s has none (no Installation, no DaemonSet calico-node)", f.Server),
			Hint:    "is this the right kubeconfig?",
		}
	case f.Install == Manifest:
		return &rollout.Problem{
			Message: fmt.Sprintf("cannot change Calico: it was installed from a manifest (DaemonSet %s/%s, no Installation), which fleetd does not support yet", f.CalicoNode.Namespace, f.CalicoNode.Name),
			Hint:    "migrate to the Tigera operator first, or leave the Calico play out (--playbook)",
		}
	case f.Installation.Variant != "" && f.Installation.Variant != "Calico":
		return &rollout.Problem{
			Message: fmt.Sprintf("cannot change Calico: the variant is %s; fleetd knows open-source Calico only", f.Installation.Variant),
			Hint:    "leave the Calico play out (--playbook)",
		}
	}
	return nil
}

// flipBlocked lists why the data plane must not change as things stand.
func (f Facts) flipBlocked(want DataPlane) []*rollout.Problem {
	if have := f.Installation.DataPlane(); have != BPF && have != Iptables {
		return []*rollout.Problem{{
			Message: fmt.Sprintf("cannot change the data plane: it is %s, and fleetd knows the way between Iptables and BPF only", have),
			Hint:    "set linuxDataplane to Iptables first",
		}}
	}
	var out []*rollout.Problem
	if f.Felix.ByHand() {
		out = append(out, f.byHand())
	}
	if want == BPF {
		for _, p := range []*rollout.Problem{f.ipvs(), f.unknownMode()} {
			if p != nil {
				out = append(out, p)
			}
		}
	}
	if want == Iptables && len(f.KubeProxies) == 0 && len(f.StaticKubeProxies) == 0 && len(f.Embedded.On) == 0 && !f.Installation.Automatic() {
		out = append(out, &rollout.Problem{
			Message: "cannot move the data plane to Iptables: the cluster has no kube-proxy, nobody would serve Services",
			Hint:    f.Embedded.installHint(),
		})
	}
	return out
}

func (f Facts) byHand() *rollout.Problem {
	return &rollout.Problem{
		Message: fmt.Sprintf("cannot change the data plane: somebody set FelixConfiguration bpfEnabled by hand (it is %s, the operator set %s); the operator refuses to override it",
			cmp.Or(f.Felix.BPFEnabled, "not set"), cmp.Or(f.Felix.Operator, "nothing")),
		Hint: "put back what the operator set: " + f.putBack(),
	}
}

func (f Facts) putBack() string {
	return fmt.Sprintf(`kubectl patch felixconfigurations.%s default --type merge -p '{"spec":{"bpfEnabled":%s}}'`, f.Felix.resource().Group, cmp.Or(f.Felix.Operator, "null"))
}

// ipvs is a hard stop: IPVS answers before the eBPF programs see the packet,
// and Felix does not clean up after it.
func (f Facts) ipvs() *rollout.Problem {
	for _, k := range f.KubeProxies {
		if k.Mode == "ipvs" && !k.Disabled() && k.Desired > 0 {
			return &rollout.Problem{
				Message: fmt.Sprintf("cannot move to eBPF: kube-proxy (DaemonSet %s/%s) runs in IPVS mode", k.Namespace, k.Name),
				Hint:    "move kube-proxy to iptables mode first, and reboot the nodes or run kube-proxy --cleanup on them",
			}
		}
	}
	return nil
}

// unknownMode is a stop, too: what cannot be told may be IPVS.
func (f Facts) unknownMode() *rollout.Problem {
	for _, k := range f.KubeProxies {
		if slices.Contains([]string{"iptables", "nftables", "ipvs"}, k.Mode) || k.Disabled() || k.Desired == 0 {
			continue
		}
		what := "the mode of kube-proxy (DaemonSet %s/%s) cannot be told: it is %q"
		if k.Mode == "" {
			what = "the mode of kube-proxy (DaemonSet %s/%s) cannot be told: its configuration is in no ConfigMap that the DaemonSet mounts%.0s"
		}
		return &rollout.Problem{
			Message: "cannot move to eBPF: " + fmt.Sprintf(what, k.Namespace, k.Name, k.Mode),
			Hint:    "fleetd knows iptables and nftables; see the file that its argument --config names, and give it as a ConfigMap or by --proxy-mode",
		}
	}
	return nil
}

// degradedProblem is that the operator is not well before anything was changed.
func (f Facts) degradedProblem() *rollout.Problem {
	st, ok := f.Status("calico")
	p := &rollout.Problem{Hint: "see kubectl get tigerastatus calico -o yaml; fleetd starts from a healthy cluster only"}
	switch {
	case !ok:
		p.Message = "cannot start: there is no TigeraStatus calico; does the tigera-operator run?"
	case st.Is("Degraded"):
		p.Message = "cannot start: the operator is degraded: " + st.Why("Degraded")
	case !st.Is("Available"):
		p.Message = "cannot start: TigeraStatus calico is not Available: " + cmp.Or(st.Why("Progressing"), cmp.Or(st.Why("Available"), "no reason given"))
	default:
		return nil
	}
	return p
}

// awaitsBPF reports whether the operator is degraded because automatic mode is
// asked for while the data plane is not BPF: the move is what mends that.
func (f Facts) awaitsBPF() bool {
	return f.Installation.Automatic() && f.Installation.DataPlane() != BPF && strings.Contains(f.degraded(), "linuxDataplane is not set to BPF")
}

// UnfitNodes names the nodes whose kernel (as their kubelet reports it) the
// eBPF data plane of this Calico cannot use, as "name (kernel: why)".
func (f Facts) UnfitNodes() (Requirement, []string) {
	r, _ := RequirementFor(f.CalicoVersion)
	var out []string
	for _, n := range f.Nodes {
		if why := r.Unmet(n.KernelVersion); why != "" {
			out = append(out, fmt.Sprintf("%s (%s: %s)", n.Name, cmp.Or(n.KernelVersion, "kernel not reported"), why))
		}
	}
	return r, out
}

// kernelText says which nodes cannot take part, "" if all can.
func (f Facts) kernelText() string {
	r, unfit := f.UnfitNodes()
	if len(unfit) == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d nodes run a kernel that the eBPF data plane of Calico %s cannot use (needed: %s): %s",
		len(unfit), len(f.Nodes), cmp.Or(f.CalicoVersion, "(version unknown)"), r, cluster.Few(unfit))
}

// flipCosts say what the flip costs, path by path, as seen on a real data plane.
func flipCosts(want DataPlane) []string {
	if want == BPF {
		return []string{
			"the flip is for the whole cluster at once: there is no canary",
			"ClusterIP, NodePort and load balancers: new connections may fail for seconds on each node (up to 12 s were seen)",
			"open connections from outside: those through a node other than the pod's are cut; those through the pod's own node live",
			"pod to pod: addresses may be unreachable for about 2 s; open connections live",
		}
	}
	return []string{
		"the flip is for the whole cluster at once: there is no canary",
		"ClusterIP, NodePort and load balancers: down for about half a second where kube-proxy already runs",
		"open connections through NodePorts and load balancers are reset",
		"pod to pod: not affected",
		"DSR and the client's own address at the pods end with eBPF",
	}
}

// flipRisks are the risks of the flip itself, in the state that it starts from.
func (f Facts) flipRisks(want DataPlane) []string {
	// Not KubeProxyOff: whether its last pods are gone changes by itself.
	off := len(f.StaticKubeProxies) == 0 && len(f.Embedded.On) == 0 && !slices.ContainsFunc(f.KubeProxies, func(k KubeProxy) bool { return !k.Disabled() })
	switch {
	case want == BPF && slices.ContainsFunc(f.KubeProxies, func(k KubeProxy) bool { return k.Mode == "nftables" && !k.Disabled() }):
		return []string{
			"Services may be unreachable for seconds, and open connections from outside be cut",
			"kube-proxy runs in nftables mode: its rules stay on the nodes until they reboot",
		}
	case want == BPF:
		return []string{"Services may be unreachable for seconds, and open connections from outside be cut"}
	case off && f.Installation.KubeProxyManagement == "Enabled":
		return []string{"Services are dead until the operator has brought kube-proxy back, and open connections from outside are reset"}
	case off:
		return []string{"kube-proxy is off: every Service is dead from the flip until kube-proxy runs again (enable kube-proxy first to avoid it)"}
	}
	return []string{"Services are down for about half a second, and open connections from outside are reset"}
}
