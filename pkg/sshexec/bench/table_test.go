package bench

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// The limits that the tables are held against.
const (
	maxWallOfBare   = 1.1 // wall time, as a multiple of the bare loop's
	minCPUOfAnsible = 60  // Ansible's client CPU per host, as a multiple of fleetd exec's
	maxKiBPerConn   = 120
)

// A row is what one tool took for one run.
type row struct {
	tool      string
	wall, cpu time.Duration // of a run; cpu per host
	node      time.Duration // processor time that one node spends
	peak      int64         // KiB, of the largest process
	runs      int
	missing   bool // not installed
}

// printTable writes what an engineer compares. bare and ansible are looked for
// among the rows.
func printTable(b *testing.B, hosts int, rows []row) {
	b.Helper()
	find := func(tool string) *row {
		for i := range rows {
			if rows[i].tool == tool && rows[i].runs > 0 {
				return &rows[i]
			}
		}
		return nil
	}
	bare, ours := find("bare-loop"), find("fleetd-exec")
	var sb strings.Builder
	fmt.Fprintf(&sb, "\nuname -rv on %d hosts, %d at a time, one sshd:\n", hosts, forks)
	w := tabwriter.NewWriter(&sb, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "tool\twall s\tof bare loop\tclient CPU ms/host\tof fleetd exec\tnode CPU ms\tpeak MB\t")
	for _, r := range rows {
		if r.missing {
			fmt.Fprintf(w, "%s\tnot installed\t\t\t\t\t\t\n", r.tool)
			continue
		}
		ofBare, ofOurs := "", ""
		if bare != nil {
			ofBare = fmt.Sprintf("%.2f", float64(r.wall)/float64(bare.wall))
		}
		if ours != nil {
			ofOurs = fmt.Sprintf("%.1f", float64(r.cpu)/float64(ours.cpu))
		}
		fmt.Fprintf(w, "%s\t%.2f\t%s\t%.2f\t%s\t%.1f\t%d\t\n", r.tool, r.wall.Seconds(), ofBare,
			float64(r.cpu)/float64(time.Millisecond), ofOurs, float64(r.node)/float64(time.Millisecond), r.peak>>10)
	}
	w.Flush()
	for tool, how := range map[string]string{"fleetd-exec": "", "fleetd-exec-el9": " with EL9's ssh_config"} {
		if r := find(tool); bare != nil && r != nil {
			sb.WriteString(verdict("fleetd exec"+how+" takes at most 1.1 of the bare loop's wall time", float64(r.wall) <= maxWallOfBare*float64(bare.wall)))
		}
	}
	if bare != nil && ours != nil {
		ahead := true
		for _, r := range rows {
			if !r.missing && r.tool != "bare-loop" && r.tool != "sshexec" && !strings.HasPrefix(r.tool, "fleetd-exec") && r.wall <= ours.wall {
				ahead = false
			}
		}
		sb.WriteString(verdict("fleetd exec is ahead of every peer here", ahead))
	}
	for _, m := range []string{"raw", "shell"} {
		if a := find("ansible-" + m); a != nil && ours != nil {
			sb.WriteString(verdict(fmt.Sprintf("fleetd exec takes %d times less CPU per host than ansible -m %s", minCPUOfAnsible, m), a.cpu >= minCPUOfAnsible*ours.cpu))
		}
	}
	fmt.Fprintln(os.Stdout, sb.String())
}

func verdict(claim string, holds bool) string {
	if holds {
		return "  holds: " + claim + "\n"
	}
	return "  MISSED: " + claim + "\n"
}
