package cluster

import (
	"fmt"
	"slices"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// Kubernetes is the section of a host's state that holds its Node object.
var Kubernetes = rollout.NewSection[Node]("kubernetes")

// Node is a host's Node object. Name is "" when the host is no node of the
// cluster.
type Node struct {
	Name string `json:"name"`
	// Unknown is set where no cluster is configured that could be asked.
	Unknown bool   `json:"unknown,omitempty"`
	UID     string `json:"uid,omitempty"`
	// InternalIPs are the node's addresses of that type.
	InternalIPs []string `json:"internal_ips,omitempty"`
	Ready       bool     `json:"ready"`
	// Unschedulable is spec.unschedulable: the node is cordoned. CordonedBy is
	// the value of CordonedByAnnotation, CordonedElsewhere that it was written on
	// another machine.
	Unschedulable     bool   `json:"unschedulable,omitempty"`
	CordonedBy        string `json:"cordoned_by,omitempty"`
	CordonedElsewhere bool   `json:"cordoned_elsewhere,omitempty"`
	// BootID, KernelVersion and OSImage are the kubelet's word. After a reboot
	// they are the old ones until the new kubelet reports.
	BootID        string   `json:"boot_id,omitempty"`
	KernelVersion string   `json:"kernel_version,omitempty"`
	OSImage       string   `json:"os_image,omitempty"`
	Arch          string   `json:"arch,omitempty"`
	Kubelet       string   `json:"kubelet,omitempty"`
	Roles         []string `json:"roles,omitempty"`
	// NonCalico is set on nodes with the label non-calico=true, where kube-proxy
	// stays.
	NonCalico bool `json:"non_calico,omitempty"`

	// Blocked are the PodDisruptionBudgets of pods on the node that let none go
	// although all of them are healthy.
	Blocked []string `json:"blocked,omitempty"`
	// Lacks are the rights of a drain that the kubeconfig's user does not have.
	Lacks []string `json:"lacks,omitempty"`

	// Drained says how the plan drains the node before this point; it is never
	// observed. Whoever makes the node take work again needs it for the way back.
	Drained *DrainOptions `json:"drained,omitempty"`
}

// ControlPlane reports whether the node carries a part of the control plane:
// the API server, or etcd alone (RKE2 has such nodes).
func (n Node) ControlPlane() bool {
	return slices.ContainsFunc(n.Roles, func(r string) bool { return r == "control-plane" || r == "master" || r == "etcd" })
}

// none says why there is nothing to do for a host without a Node.
func (n Node) none(host string) string {
	if n.Unknown {
		return "no cluster is configured"
	}
	return host + " is no node of the cluster"
}

// Down says why the node is out of service, "" if it serves. A cordon is no
// reason: what runs on the node goes on.
func (n Node) Down() string {
	if n.Name == "" || n.Ready {
		return ""
	}
	return fmt.Sprintf("Node %s is NotReady", n.Name)
}

// Cordon is how the node stands towards new pods.
func (n Node) Cordon() Cordon {
	return Cordon{On: n.Unschedulable, By: n.CordonedBy, Elsewhere: n.CordonedElsewhere}
}

// DrainOptions are how pods leave a node.
type DrainOptions struct {
	// Timeout is a Go duration for all of it.
	Timeout string `json:"timeout"`
	// GracePeriod is in seconds; -1 is each pod's own.
	GracePeriod        int  `json:"grace_period"`
	DisableEviction    bool `json:"disable_eviction,omitempty"`
	DeleteEmptyDirData bool `json:"delete_emptydir_data,omitempty"`
	// Force also takes pods that no controller would bring back.
	Force bool `json:"force,omitempty"`
	// PodSelector are the pods that are moved; "" are all.
	PodSelector string `json:"pod_selector,omitempty"`
	// BlockingPodSelectors are pods for which the drain waits.
	BlockingPodSelectors []string `json:"blocking_pod_selectors,omitempty"`
	// SkipWait is a Go duration: for so long pods that are being deleted are waited
	// for; "" is for as long as it takes.
	SkipWait string `json:"skip_wait,omitempty"`
	// LeaveVolumes is set where it does not matter that volumes are attached still.
	LeaveVolumes bool `json:"leave_volumes,omitempty"`
	// UncordonOnFailure gives the node work again when it could not be drained.
	UncordonOnFailure bool `json:"uncordon_on_failure,omitempty"`
	AlertOptions
}
