//go:build lab

package integration

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fleetd/fleetd/integration/lab/controlplane"
)

// TestOrderOfTheFlip reads from the API server's audit log in which order fleetd
// changes a cluster with the shipped playbooks: kube-proxy is never taken away while
// a node is not proven, but under article; DSR comes after; and the way back has an
// order of its own.
func TestOrderOfTheFlip(t *testing.T) {
	c := startCrowd(t, controlplane.Config{
		Workloads: true, Nodes: []controlplane.NodeSpec{{Name: "node1", ControlPlane: true}, {Name: "node2"}, {Name: "node3"}},
	})
	// Longer than a flip is watched once it is called proven (20 s): whoever does not
	// wait for this node is seen.
	slow := map[string]time.Duration{"node3": 30 * time.Second}
	vars := []string{"-e", "calico_api_host=10.0.2.101", "-e", "calico_external_service_mode=DSR", "--yes"}
	apply := func(book string, code int, more ...string) []controlplane.Request {
		t.Helper()
		r := c.want(code, nil, slices.Concat([]string{"apply", "hosts", "--playbook", book}, vars, more)...)
		return c.writes(r.began)
	}
	inOrder := func(writes []controlplane.Request, want ...string) {
		t.Helper()
		var got []string
		for _, w := range writes {
			got = append(got, saying(w))
		}
		if !slices.Equal(got, want) {
			t.Fatalf("in this order: %s\nwant: %s", strings.Join(got, ", "), strings.Join(want, ", "))
		}
	}

	// This operator has no automatic mode: it is said before anything is touched.
	c.want(1, []string{"it needs Calico 3.31 with operator 1.40"}, "plan", "hosts", "--playbook", enableBPF, "-e", "calico_dataplane_order=automatic")

	c.behaves(slow)
	writes := apply(enableBPF, 0)
	inOrder(writes, "create configmaps", "data plane BPF", "kube-proxy off", "external services DSR")
	last, nodes := c.provenAll()
	if nodes != 3 || !writes[2].Time.After(last) {
		t.Errorf("kube-proxy was taken away at %s; the last of %d nodes was proven at %s", writes[2].Time, nodes, last)
	}
	if wait := last.Sub(writes[1].Time); wait < slow["node3"] {
		t.Errorf("node3 was proven %s after the data plane was asked for: the test does not test", wait)
	}
	inOrder(apply(disableBPF, 0), "kube-proxy on", "external services Tunnel", "data plane Iptables")

	// A node that is never proven: kube-proxy is not touched, and the way back is taken.
	c.behaves(nil, "node2")
	inOrder(apply(c.impatient(), 3), "data plane BPF", "data plane Iptables")

	// The article takes kube-proxy away first. Where a node is not proven then, it
	// comes back first.
	c.behaves(nil)
	writes = apply(enableBPF, 0, "-e", "calico_dataplane_order=article")
	inOrder(writes, "kube-proxy off", "data plane BPF", "external services DSR")
	if last, nodes = c.provenAll(); nodes != 3 || !writes[2].Time.After(last) {
		t.Errorf("DSR at %s; the last of %d nodes was proven at %s", writes[2].Time, nodes, last)
	}
	inOrder(apply(disableBPF, 0, "-e", "calico_dataplane_order=article"), "external services Tunnel", "data plane Iptables", "kube-proxy on")
}

// impatient is the flip of the shipped playbook with less patience.
func (c *crowd) impatient() string {
	return c.file("flip-only.yml", flipOnly)
}
