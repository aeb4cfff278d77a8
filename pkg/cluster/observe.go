package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// HostRef is how a host of the inventory finds its Node.
type HostRef struct {
	// NodeName is the Node's name (variable kubernetes_node_name); "" means the
	// host's own name, else one of its addresses.
	NodeName string
	// Addresses are the host's addresses (ansible_host), compared with the
	// Nodes' InternalIPs.
	Addresses []string
	// NoNode is set where the inventory says so (kubernetes: false).
	NoNode bool `json:",omitempty"`
}

// Observer returns the observer of the section "kubernetes". With a nil client
// no host is known to be a node or none ([Node.Unknown]): a missing kubeconfig
// must not look like hosts without pods.
func Observer(c *Client, hosts map[string]HostRef) rollout.Observer {
	return &nodeObserver{c, hosts}
}

type nodeObserver struct {
	client *Client
	hosts  map[string]HostRef
}

func (*nodeObserver) Section() string { return Kubernetes.Name() }

func (o *nodeObserver) Observe(ctx context.Context, keys map[string][]string) map[string]rollout.SectionObservation {
	out := make(map[string]rollout.SectionObservation, len(keys))
	if o.client == nil {
		for h := range keys {
			out[h] = Observation(Node{Unknown: !o.hosts[h].NoNode}, nil)
		}
		return out
	}
	var id map[string]string
	nodes, err := o.client.Nodes(ctx) // one list for the whole fleet
	if err == nil {
		id, err = o.client.Identity(ctx)
	}
	var lacks []string
	if err == nil {
		lacks, err = o.client.lacks(ctx)
	}
	var blocked map[string][]string
	if err == nil {
		blocked, err = o.client.blocked(ctx)
	}
	if err != nil {
		for h := range keys {
			if out[h] = Observation(Node{}, nil); !o.hosts[h].NoNode {
				out[h] = rollout.SectionObservation{Err: err}
			}
		}
		return out
	}
	asked := make([]string, 0, len(keys))
	for h := range keys {
		asked = append(asked, h)
	}
	for h, m := range matchNodes(asked, o.hosts, nodes) {
		if m.node.Name != "" {
			m.node.CordonedElsewhere = o.client.by.elsewhere(m.node.CordonedBy)
			m.node.Blocked, m.node.Lacks = blocked[m.node.Name], lacks
		}
		so := Observation(m.node, m.err)
		if so.Err == nil && m.node.Name != "" {
			so.Identity, so.Down, so.ControlPlane = id, m.node.Down(), m.node.ControlPlane()
		}
		out[h] = so
	}
	return out
}

type match struct {
	node Node
	err  error
}

// matchNodes finds each host's Node: the one it names, else the one with its
// name, else the one with its address. A host without one is no node of the
// cluster; two hosts with the same one are a mistake in the inventory that
// would drain the wrong machine.
func matchNodes(hosts []string, refs map[string]HostRef, nodes []Node) map[string]match {
	byName, byIP := map[string]Node{}, map[string]Node{}
	for _, n := range nodes {
		byName[n.Name] = n
		for _, ip := range n.InternalIPs {
			byIP[canonicalIP(ip)] = n
		}
	}
	out := make(map[string]match, len(hosts))
	owner := map[string]string{}
	slices.Sort(hosts) // the message names the same host each time
	for _, h := range hosts {
		ref := refs[h]
		// Node names are lower case; inventories need not be.
		n, ok := byName[strings.ToLower(orWord(ref.NodeName, h))]
		if !ok && ref.NodeName != "" {
			out[h] = match{err: &rollout.Problem{
				Message: fmt.Sprintf("cannot find the Node of %s: kubernetes_node_name says %q, the cluster has no such Node", h, ref.NodeName),
				Hint:    "correct the variable (kubectl get nodes), or remove it if the host is no node of this cluster",
			}}
			continue
		}
		for i := 0; !ok && i < len(ref.Addresses); i++ {
			if ip := canonicalIP(ref.Addresses[i]); ip != "" {
				n, ok = byIP[ip]
			}
		}
		if ok && ref.NoNode {
			out[h] = match{err: &rollout.Problem{
				Message: fmt.Sprintf("cannot tell whether %s is a node: its variable kubernetes is false, and the cluster has Node %s", h, n.Name),
				Hint:    "remove the variable, or the Node if the machine has left the cluster (kubectl delete node " + n.Name + ")",
			}}
			continue
		}
		if ok && owner[n.Name] != "" {
			err := &rollout.Problem{
				Message: fmt.Sprintf("cannot tell which Node is which host: %s and %s both are Node %s", owner[n.Name], h, n.Name),
				Hint:    "set kubernetes_node_name on both",
			}
			out[h], out[owner[n.Name]] = match{err: err}, match{err: err}
			continue
		}
		if ok {
			owner[n.Name] = h
		}
		out[h] = match{node: n}
	}
	return out
}

// canonicalIP makes two ways to write an address equal; "" for what is no
// address that could tell one node from another.
func canonicalIP(s string) string {
	ip, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil || ip.IsLoopback() || ip.IsUnspecified() {
		return ""
	}
	return ip.Unmap().String()
}

// Identity tells this cluster from every other. Nothing else in a cluster has a
// name: the API server's address may lead elsewhere tomorrow. The namespace
// kube-system lives as long as the cluster does.
func (c *Client) Identity(ctx context.Context) (map[string]string, error) {
	ns, err := c.Kube.CoreV1().Namespaces().Get(ctx, kubeNamespace, metav1.GetOptions{})
	if err != nil {
		return nil, c.Explain(err, "tell which cluster this is (a plan is bound to the UID of namespace %s)", kubeNamespace)
	}
	return map[string]string{"cluster_uid": string(ns.UID)}, nil
}

// Observation is what an observer found, or why it could not.
func Observation(v any, err error) rollout.SectionObservation {
	if err != nil {
		return rollout.SectionObservation{Err: err}
	}
	raw, err := json.Marshal(v)
	return rollout.SectionObservation{Value: raw, Err: err}
}
