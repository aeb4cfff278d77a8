package view

import (
	"fmt"
	"slices"

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

// places counts hosts; localhost is where the tasks about the cluster run.
func places(hosts map[string]bool) string {
	n := len(hosts)
	switch {
	case !hosts[rollout.Localhost]:
		return count(n, "host")
	case n == 1:
		return "the cluster"
	}
	return count(n-1, "host") + " and the cluster"
}

// shortName is a host at the beginning of a line.
func shortName(host string) string {
	if host == rollout.Localhost {
		return "cluster"
	}
	return host
}
