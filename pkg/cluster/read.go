package cluster

import (
	"cmp"
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// kubeNamespace is where the control plane's own objects live.
const kubeNamespace = metav1.NamespaceSystem

// pageOfNodes is how many Nodes one request lists.
const pageOfNodes = int64(500)

// Nodes lists the cluster's Linux nodes, by name.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	var out []Node
	o := metav1.ListOptions{Limit: pageOfNodes}
	for {
		l, err := c.Kube.CoreV1().Nodes().List(ctx, o)
		if err != nil {
			return nil, c.Explain(err, "list nodes")
		}
		for i := range l.Items {
			if os := l.Items[i].Status.NodeInfo.OperatingSystem; os == "" || os == "linux" {
				out = append(out, nodeFacts(&l.Items[i]))
			}
		}
		if o.Continue = l.Continue; o.Continue == "" {
			break
		}
	}
	slices.SortFunc(out, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

func nodeFacts(n *corev1.Node) Node {
	out := Node{
		Name: n.Name, UID: string(n.UID), Unschedulable: n.Spec.Unschedulable, CordonedBy: n.Annotations[CordonedByAnnotation],
		BootID: n.Status.NodeInfo.BootID, KernelVersion: n.Status.NodeInfo.KernelVersion, OSImage: n.Status.NodeInfo.OSImage,
		Arch: n.Status.NodeInfo.Architecture, Kubelet: n.Status.NodeInfo.KubeletVersion,
		NonCalico: n.Labels[NonCalicoLabel] == "true",
	}
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			out.InternalIPs = append(out.InternalIPs, a.Address)
		}
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			out.Ready = c.Status == corev1.ConditionTrue
		}
	}
	for label := range n.Labels {
		if role, ok := strings.CutPrefix(label, "node-role.kubernetes.io/"); ok && role != "" {
			out.Roles = append(out.Roles, role)
		}
	}
	slices.Sort(out.Roles)
	return out
}
