package compliance_test

import (
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/calico"
	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/compliance"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
)

// TestExpressionsAskFacts holds expressions against the facts that fleetd really has:
// their types are Go's, and CEL has its own idea of some.
func TestExpressionsAskFacts(t *testing.T) {
	facts := node.Facts{Running: "6.1.4", Installed: []node.Package{{Name: "kernel-ml"}}, FailedTrials: map[string]string{"6.1.3": "then"}, Mounts: []node.Mount{{Point: "/", Free: 1 << 40}}}
	state := cluster.Kubernetes.With(node.Section.With(nil, facts), cluster.Node{Name: "n1", Ready: true, Roles: []string{"worker"}})
	here := calico.Section.With(nil, calico.Facts{Install: calico.Operator, Installation: calico.Installation{LinuxDataplane: calico.BPF}, KubeProxies: []calico.KubeProxy{{Mode: "ipvs"}}})
	for expr, want := range map[string]string{
		`node.running == "6.1.4" && host == "n1"`:                    "compliant",
		`node.installed.exists(p, p.name.startsWith("kernel-"))`:     "compliant",
		`"6.1.3" in node.failed_trials`:                              "compliant",
		`node.mounts.all(m, m.free > 100000000000)`:                  "compliant",
		`has(node.upkeep) && node.upkeep.uptime > 0`:                 "drift",
		`node.upkeep.uptime > 0`:                                     "drift", // what a node did not tell is 0
		`now > timestamp("2020-01-01T00:00:00Z")`:                    "compliant",
		`kubernetes.ready && !("control-plane" in kubernetes.roles)`: "compliant",
		`calico.install == "operator"`:                               "compliant",
		`calico.installation.linux_dataplane == "BPF"`:               "compliant",
		`calico.kube_proxies.exists(k, k.mode == "ipvs")`:            "compliant",
		`node.running.matches("^5")`:                                 "drift",
		`node.kubelet == calico.kubernetes_version`:                  "compliant", // neither is known
		`[1, 2][node.panic + 7] == 1`:                                "unknown",
		`felix.maps > 0`:                                             "unknown",
	} {
		p, err := compliance.Load(&text.Source{Name: "p.yaml", Data: "playbook: false\npolicies:\n  - name: x\n    rule: expression\n    with:\n      expr: |\n        " + expr + "\n"}, compliance.Options{
			Facts: []compliance.Fact{
				{Section: node.Section, Keys: []string{""}}, {Section: cluster.Kubernetes, Keys: []string{""}}, {Section: calico.FelixSection, Keys: []string{""}}, {Section: calico.Section, Keys: []string{""}, Cluster: true},
			},
			Hosts: func(string) ([]string, error) { return []string{"n1"}, nil },
		})
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		r := compliance.Evaluate(p, compliance.Fleet{Observed: map[string]rollout.Observation{"n1": {State: state}, rollout.Localhost: {State: here}}}, time.Now())
		if got := string(r.Status); got != want {
			t.Errorf("%s: %s, want %s: %+v", expr, got, want, r.Hosts[0].Findings)
		}
	}
}
