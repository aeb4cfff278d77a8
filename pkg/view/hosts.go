package view

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// hostNames writes a list of hosts as ranges, with their number when there are
// several; localhost is where the tasks about the cluster run.
func hostNames(hosts []string) string { return ranges(hosts, true) }

// namesOf is hostNames without the number.
func namesOf(hosts []string) string { return ranges(hosts, false) }

func ranges(hosts []string, number bool) string {
	if i := slices.Index(hosts, rollout.Localhost); i >= 0 {
		if len(hosts) == 1 {
			return "the cluster"
		}
		return ranges(slices.Delete(slices.Clone(hosts), i, i+1), number) + " and the cluster"
	}
	s := HostRange(hosts)
	if number && len(hosts) > 1 {
		s += fmt.Sprintf(" (%s)", count(len(hosts), "host"))
	}
	return s
}

// places counts the hosts of a plan.
func places(p *rollout.Plan, hosts map[string]bool) string {
	n := len(hosts)
	if !hosts[rollout.Localhost] {
		return count(n, "host")
	}
	here := "the cluster"
	if !aboutCluster(p) {
		here = machine
	}
	if n == 1 {
		return here
	}
	return count(n-1, "host") + " and " + here
}

// shortName is the host of a step at the beginning of a line.
func shortName(p *rollout.Plan, id rollout.StepID) string {
	switch {
	case id.Host != rollout.Localhost:
		return id.Host
	case strings.HasPrefix(p.Task(id).Module, builtin):
		return "localhost"
	}
	return "cluster"
}

// builtin begins the names of modules that have nothing to do with the cluster.
const builtin = "ansible.builtin."

// machine is what localhost is called where no task of the plan is about the
// cluster.
const machine = "this machine"

// named are hosts as a plan calls them: localhost is the cluster, unless what it
// does there is a team's own.
func named(p *rollout.Plan, hosts []string) []string {
	i := slices.Index(hosts, rollout.Localhost)
	if i < 0 || aboutCluster(p) {
		return hosts
	}
	hosts = slices.Clone(hosts)
	hosts[i] = machine
	return hosts
}

func aboutCluster(p *rollout.Plan) bool {
	own := false
	for _, play := range p.Plays {
		for _, t := range play.Tasks {
			if _, ok := t.Steps[rollout.Localhost]; ok {
				if !strings.HasPrefix(t.Module, builtin) {
					return true
				}
				own = true
			}
		}
	}
	return !own
}
