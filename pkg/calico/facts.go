package calico

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// Section is the section of localhost's state that holds the cluster.
var Section = rollout.NewSection[Facts]("calico")

// Install is how Calico was installed.
type Install string

const (
	// Operator: the Tigera operator owns calico-node; an Installation describes it.
	Operator Install = "operator"
	// Manifest: calico-node was applied as a file and nobody looks after it.
	Manifest Install = "manifest"
	// NoCalico: there is no calico-node.
	NoCalico Install = "none"
)

// DataPlane is a value of Installation's linuxDataplane.
type DataPlane string

const (
	BPF      DataPlane = "BPF"
	Iptables DataPlane = "Iptables"
	// Nftables and VPP exist and are no destination of fleetd's.
	Nftables DataPlane = "Nftables"
	VPP      DataPlane = "VPP"
)

// Facts are what was read of the cluster.
type Facts struct {
	// Server is the API server as the kubeconfig names it.
	Server            string `json:"server,omitempty"`
	KubernetesVersion string `json:"kubernetes_version,omitempty"`
	// ServiceIPs are the ClusterIPs of the service default/kubernetes.
	ServiceIPs []string `json:"service_ips,omitempty"`

	Install Install `json:"install"`
	// CalicoVersion and OperatorVersion are "v3.29.2"; "" = not known.
	CalicoVersion   string       `json:"calico_version,omitempty"`
	OperatorVersion string       `json:"operator_version,omitempty"`
	Installation    Installation `json:"installation"`
	// Endpoint is the ConfigMap tigera-operator/kubernetes-services-endpoint.
	Endpoint Endpoint `json:"endpoint"`
	Felix    Felix    `json:"felix"`
	// CalicoNode is the DaemonSet calico-node.
	CalicoNode DaemonSet `json:"calico_node"`
	// Companions are calico-typha and calico-kube-controllers, where they exist.
	Companions   []Deployment   `json:"companions,omitempty"`
	TigeraStatus []TigeraStatus `json:"tigera_status,omitempty"`
	// KubeProxies are the DaemonSets of kube-proxy for Linux.
	KubeProxies []KubeProxy `json:"kube_proxies,omitempty"`
	// StaticKubeProxies are kube-proxy pods that belong to no DaemonSet.
	StaticKubeProxies []string `json:"static_kube_proxies,omitempty"`
	// Embedded is the kube-proxy inside of k3s.
	Embedded Embedded `json:"embedded,omitzero"`
	// Nodes are the cluster's Linux nodes, by name.
	Nodes []cluster.Node `json:"nodes,omitempty"`
}

// Installation is operator.tigera.io/v1 Installation "default".
type Installation struct {
	Exists  bool   `json:"exists"`
	Variant string `json:"variant,omitempty"`
	// LinuxDataplane and HostPorts are the spec's; "" = not set.
	LinuxDataplane DataPlane `json:"linux_dataplane,omitempty"`
	HostPorts      string    `json:"host_ports,omitempty"`
	// HostPortsNoted is what fleetd noted of HostPorts before the move to BPF; ""
	// = nothing.
	HostPortsNoted string `json:"host_ports_noted,omitempty"`
	// BPFNetworkBootstrap and KubeProxyManagement exist from operator 1.40 on.
	BPFNetworkBootstrap string `json:"bpf_network_bootstrap,omitempty"`
	KubeProxyManagement string `json:"kube_proxy_management,omitempty"`
	// KubeProxyHeld is set where the plan has the operator leave kube-proxy alone
	// until the nodes are proven, before this point; it is never observed.
	KubeProxyHeld bool `json:"kube_proxy_held,omitempty"`
	// Computed is status.computed's data plane, and ComputedKubeProxy its
	// kubeProxyManagement: what the operator last acted on.
	Computed          DataPlane   `json:"computed,omitempty"`
	ComputedKubeProxy string      `json:"computed_kube_proxy,omitempty"`
	Conditions        []Condition `json:"conditions,omitempty"`
}

// Automatic reports whether the operator itself finds the API server (Calico 3.31
// and later, when asked to).
func (i Installation) Automatic() bool { return i.BPFNetworkBootstrap == enabledSpec }

// DataPlane is the spec's, with the operator's default.
func (i Installation) DataPlane() DataPlane {
	if i.LinuxDataplane == "" {
		return Iptables
	}
	return i.LinuxDataplane
}

// Condition is a condition of a TigeraStatus or an Installation.
type Condition struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// Endpoint is where Calico finds the API server without kube-proxy.
type Endpoint struct {
	Exists bool   `json:"exists"`
	Host   string `json:"host,omitempty"`
	Port   string `json:"port,omitempty"`
}

func (e Endpoint) String() string {
	if !e.Exists || e.Host == "" && e.Port == "" {
		return ""
	}
	if strings.Contains(e.Host, ":") {
		return "[" + e.Host + "]:" + e.Port
	}
	return e.Host + ":" + e.Port
}

// Felix is FelixConfiguration "default".
type Felix struct {
	Exists bool `json:"exists"`
	// BPFEnabled is "true", "false" or "" (not set); Operator is the operator's
	// note of what it set: another value means that somebody else did.
	BPFEnabled string `json:"bpf_enabled,omitempty"`
	Operator   string `json:"operator,omitempty"`
	// ExternalServiceMode is bpfExternalServiceMode; "" = not set, as Tunnel.
	ExternalServiceMode string `json:"external_service_mode,omitempty"`
	// V3 is set where it is a resource of projectcalico.org/v3.
	V3 bool `json:"v3,omitempty"`
}

func (f Felix) resource() schema.GroupVersionResource {
	if f.V3 {
		return felixconfigsV3
	}
	return felixconfigs
}

// ByHand reports whether bpfEnabled is not what the operator set.
func (f Felix) ByHand() bool { return f.Exists && f.BPFEnabled != f.Operator }

// TigeraStatus is what the operator says of one component.
type TigeraStatus struct {
	Name       string      `json:"name"`
	Conditions []Condition `json:"conditions,omitempty"`
}

// Is reports whether the condition holds.
func (t TigeraStatus) Is(condition string) bool {
	return slices.ContainsFunc(t.Conditions, func(c Condition) bool { return c.Type == condition && c.Status == "True" })
}

// Why is the message of the condition.
func (t TigeraStatus) Why(condition string) string {
	for _, c := range t.Conditions {
		if c.Type == condition {
			return strings.TrimSpace(strings.ReplaceAll(strings.Trim(c.Reason+": "+c.Message, ": "), "\n", "; "))
		}
	}
	return ""
}

// Status finds a component's TigeraStatus.
func (f Facts) Status(name string) (TigeraStatus, bool) {
	for _, t := range f.TigeraStatus {
		if t.Name == name {
			return t, true
		}
	}
	return TigeraStatus{}, false
}

// DaemonSet is a DaemonSet's roll.
type DaemonSet struct {
	Exists         bool              `json:"exists"`
	Namespace      string            `json:"namespace,omitempty"`
	Name           string            `json:"name,omitempty"`
	Generation     int64             `json:"generation,omitempty"`
	Observed       int64             `json:"observed,omitempty"`
	Desired        int32             `json:"desired,omitempty"`
	Current        int32             `json:"current,omitempty"`
	Updated        int32             `json:"updated,omitempty"`
	Ready          int32             `json:"ready,omitempty"`
	Available      int32             `json:"available,omitempty"`
	MaxUnavailable string            `json:"max_unavailable,omitempty"`
	Image          string            `json:"image,omitempty"`
	NodeSelector   map[string]string `json:"node_selector,omitempty"`
	// Selector is the label selector of its pods.
	Selector string `json:"selector,omitempty"`
	// Env are those of the first container's variables that matter here.
	Env map[string]string `json:"env,omitempty"`
}

// Rolled reports whether every pod is of the current template and available.
// The counts mean nothing while observedGeneration is behind.
func (d DaemonSet) Rolled() bool {
	return d.Exists && d.Observed >= d.Generation && d.Updated == d.Desired && d.Current == d.Desired &&
		d.Ready == d.Desired && d.Available == d.Desired
}

// Progress is the roll in a few words.
func (d DaemonSet) Progress() string {
	if d.Observed < d.Generation {
		return d.Name + " is about to roll"
	}
	return fmt.Sprintf("%s %d/%d updated, %d ready", d.Name, d.Updated, d.Desired, d.Ready)
}

// Deployment is a Deployment's roll.
type Deployment struct {
	Namespace  string            `json:"namespace"`
	Name       string            `json:"name"`
	Generation int64             `json:"generation,omitempty"`
	Observed   int64             `json:"observed,omitempty"`
	Replicas   int32             `json:"replicas,omitempty"`
	Total      int32             `json:"total,omitempty"`
	Updated    int32             `json:"updated,omitempty"`
	Available  int32             `json:"available,omitempty"`
	Env        map[string]string `json:"env,omitempty"`
}

// Rolled reports whether every replica is of the current template, available,
// and none of an older one is left.
func (d Deployment) Rolled() bool {
	return d.Observed >= d.Generation && d.Updated == d.Replicas && d.Total == d.Replicas && d.Available == d.Replicas
}

// Progress is the roll in a few words.
func (d Deployment) Progress() string {
	return fmt.Sprintf("%s %d/%d updated, %d available", d.Name, d.Updated, d.Replicas, d.Available)
}

// KubeProxy is one DaemonSet of kube-proxy.
type KubeProxy struct {
	DaemonSet
	// Mode is iptables, ipvs, nftables or another; "" = not known.
	Mode string `json:"mode,omitempty"`
	// ManagedBy is who would put the DaemonSet back; "" = nobody known.
	ManagedBy string `json:"managed_by,omitempty"`
	// Pods counts the pods on nodes where it is not wanted to stay, those that
	// are still terminating included.
	Pods int `json:"pods,omitempty"`
	// Taken is set where the plan takes it away before this point; it is never
	// observed.
	Taken bool `json:"taken,omitempty"`
}

// The node selectors that keep kube-proxy away from every node.
const (
	operatorProxyLabel = "operator.tigera.io/disable-kube-proxy"
)

// Disabled reports whether a node selector keeps it off the nodes, ours or the
// operator's.
func (k KubeProxy) Disabled() bool {
	return k.NodeSelector[cluster.NonCalicoLabel] == "true" || k.NodeSelector[operatorProxyLabel] == "true"
}

// InForce reports whether a data plane is in force: asked for, acted on by the
// operator, told to Felix, and rolled to every node. The reason says what is
// missing.
func (f Facts) InForce(want DataPlane) (bool, string) {
	switch {
	case f.Install == NoCalico:
		return false, "Calico is not installed"
	case f.Install == Operator && f.Installation.DataPlane() != want:
		return false, fmt.Sprintf("Installation asks for linuxDataplane %s", f.Installation.DataPlane())
	case !f.CalicoNode.Rolled():
		// Before what the operator says of itself: that comes when the roll is over.
		return false, f.CalicoNode.Progress()
	case f.Install == Operator && f.Installation.Computed != "" && f.Installation.Computed != want:
		return false, "the operator has not acted on the Installation yet"
	case f.bpfEnabled() != (want == BPF):
		return false, fmt.Sprintf("FelixConfiguration bpfEnabled is %s", cmp.Or(f.Felix.BPFEnabled, "not set"))
	}
	return true, ""
}

// BPFOn reports whether the eBPF data plane is in force, and why not.
func (f Facts) BPFOn() (bool, string) { return f.InForce(BPF) }

// bpfEnabled is what Felix is told. Its environment outranks its configuration
// resource; operators before 1.36 used it.
func (f Facts) bpfEnabled() bool {
	v := f.Felix.BPFEnabled
	if env, ok := f.CalicoNode.Env[envBPFEnabled]; ok {
		v = env
	}
	on, _ := strconv.ParseBool(v) // not set is off
	return on
}

// KubeProxyOff reports whether no kube-proxy is left on the nodes, and why not.
func (f Facts) KubeProxyOff() (bool, string) {
	if len(f.StaticKubeProxies) > 0 {
		return false, "kube-proxy runs without a DaemonSet: " + cluster.Few(f.StaticKubeProxies)
	}
	if len(f.Embedded.On) > 0 {
		return false, "kube-proxy is part of k3s on " + cluster.Few(f.Embedded.On)
	}
	for _, k := range f.KubeProxies {
		if gone, why := k.gone(); !gone {
			return false, why
		}
	}
	return true, ""
}

// gone reports whether the DaemonSet controller has taken every pod away.
func (k KubeProxy) gone() (bool, string) {
	name := k.Namespace + "/" + k.Name
	switch {
	case !k.Disabled() && k.Desired > 0:
		return false, fmt.Sprintf("DaemonSet %s runs on %d nodes", name, k.Desired)
	case k.Observed < k.Generation:
		return false, fmt.Sprintf("the change of DaemonSet %s has not been acted on yet", name)
	case k.Pods > 0:
		return false, fmt.Sprintf("pods of DaemonSet %s that are not gone yet: %d", name, k.Pods)
	}
	return true, ""
}

// The environment variables of calico-node that matter here.
const (
	envHost       = "KUBERNETES_SERVICE_HOST"
	envPort       = "KUBERNETES_SERVICE_PORT"
	envBPFEnabled = "FELIX_BPFENABLED"
	envAPIGroup   = "CALICO_API_GROUP"
)
