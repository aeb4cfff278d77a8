//go:build lab

package integration

import (
	"strings"
	"testing"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// realFlip moves the cluster to eBPF. Afterwards Services answer without kube-proxy.
func realFlip(t *testing.T, b *bastion) {
	b.want(0, []string{"Done"}, "apply", "inventory.yaml", "--playbook", enableBPF, "--yes")
	b.wantCluster(t, cluster{dataplane: "BPF", bpfEnabled: true, mode: "DSR", endpoint: true})
	b.servicesAnswer(t)
	for i := range b.Nodes.Nodes() {
		if n := b.on(i+1, "pgrep -xc kube-proxy || true"); strings.TrimSpace(n) != "0" {
			t.Errorf("%s kube-proxy still run on node %d", n, i+1)
		}
	}
	b.want(0, []string{"No changes."}, "apply", "inventory.yaml", "--playbook", enableBPF, "--yes")
	b.want(0, []string{"Services"}, "runs", "evidence")
}

// realWayBack goes back to iptables. The bastion dies on the way.
func realWayBack(t *testing.T, b *bastion) {
	b.killAt(func(e rollout.Event) bool {
		return e.Operation != nil && strings.Contains(e.Operation.Text, `"linuxDataplane":"Iptables"`)
	}, "apply", "inventory.yaml", "--playbook", disableBPF, "--yes")
	b.want(0, []string{"Done"}, "resume")
	b.wantCluster(t, cluster{dataplane: "Iptables", kubeProxy: 2, mode: "Tunnel", endpoint: true})
	b.servicesAnswer(t)
}

// realFlipRefused: Felix of one node says that its kernel has no BPF and goes on
// without. The pod is ready and the operator content; the node is named all the same,
// the data plane goes back, and Services answer.
func realFlipRefused(t *testing.T, b *bastion) {
	b.flipRefused(t, "3m", 2)
	b.servicesAnswer(t)
}

// realKernels moves the nodes to another kernel, one after the other, while real pods
// that may lose one at a time run on them.
func realKernels(t *testing.T, b *bastion) {
	boots := map[string]string{}
	for i, n := range b.Nodes.Nodes() {
		boots[n.Name] = b.on(i+1, "cat /proc/sys/kernel/random/boot_id")
	}
	b.want(0, []string{"Done"}, "apply", "inventory.yaml", "--playbook", "playbooks/kernels.yml", "--yes")
	for i, n := range b.Nodes.Nodes() {
		node := b.node(t, n.Name)
		if release := b.on(i+1, "uname -r"); release != n.Kernels.ML || node.Status.NodeInfo.KernelVersion != release {
			t.Errorf("%s runs %s and reports %s, want %s", n.Name, release, node.Status.NodeInfo.KernelVersion, n.Kernels.ML)
		}
		if node.Spec.Unschedulable || node.Status.NodeInfo.BootID == boots[n.Name] {
			t.Errorf("%s is cordoned (%v), or was not booted", n.Name, node.Spec.Unschedulable)
		}
	}
	b.servicesAnswer(t)
}
