package calico

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// k3sArgs is where k3s notes on its servers' Nodes what they were started with,
// their configuration files included, as a JSON list.
const k3sArgs = "k3s.io/node-args"

// Embedded is the kube-proxy inside of k3s, which has neither a DaemonSet nor a
// pod. The servers say whether it runs, for all nodes.
type Embedded struct {
	// On and Off are the servers of k3s that run it and those that do not.
	On  []string `json:"on,omitempty"`
	Off []string `json:"off,omitempty"`
}

func readEmbedded(ctx context.Context, c *cluster.Client, f *Facts) error {
	l, err := c.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: "node-role.kubernetes.io/control-plane"})
	if err != nil {
		return c.Explain(err, "list the control plane's nodes")
	}
	for _, n := range l.Items {
		if !strings.Contains(n.Status.NodeInfo.KubeletVersion, "+k3s") {
			continue
		}
		if disablesKubeProxy(n.Annotations[k3sArgs]) {
			f.Embedded.Off = append(f.Embedded.Off, n.Name)
		} else {
			f.Embedded.On = append(f.Embedded.On, n.Name)
		}
	}
	slices.Sort(f.Embedded.On)
	slices.Sort(f.Embedded.Off)
	return nil
}

// disablesKubeProxy reads k3sArgs. What cannot be read does not disable it.
func disablesKubeProxy(note string) bool {
	var args []string
	if json.Unmarshal([]byte(note), &args) != nil {
		return false
	}
	for i, a := range args {
		switch a {
		case "--disable-kube-proxy=true":
			return true
		case "--disable-kube-proxy":
			return i+1 == len(args) || args[i+1] != "false"
		}
	}
	return false
}

// problem is why kube-proxy cannot be taken away by fleetd.
func (e Embedded) problem() *rollout.Problem {
	if len(e.On) == 0 {
		return nil
	}
	return &rollout.Problem{
		Message: "cannot take kube-proxy away: it is part of k3s on " + cluster.Few(e.On),
		Hint:    "set disable-kube-proxy: true in /etc/rancher/k3s/config.yaml on every server and restart k3s there, one server after the other, then run fleetd again",
	}
}

// installHint is how a cluster without kube-proxy gets one.
func (e Embedded) installHint() string {
	if len(e.Off) > 0 {
		return "remove disable-kube-proxy from /etc/rancher/k3s/config.yaml on " + cluster.Few(e.Off) + " and restart k3s there first"
	}
	return "install kube-proxy first (kubeadm init phase addon kube-proxy)"
}
