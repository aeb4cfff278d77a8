package view

import (
	"fmt"
	"io"

	"github.com/fleetd/fleetd/pkg/compliance"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// Compliance writes a report: the drift host by host, hosts that could not be
// judged, and a summary. What is as it should be is only counted.
func Compliance(w io.Writer, st Style, r *compliance.Report) {
	n := map[compliance.Status]int{}
	var unknown []rollout.HostProblem
	for _, h := range r.Hosts {
		n[h.Status]++
		if h.Problem != nil {
			unknown = append(unknown, rollout.HostProblem{Host: h.Name, Problem: *h.Problem})
		}
		if h.Status != compliance.Drift {
			continue
		}
		fmt.Fprintln(w, st.bold(hostNames([]string{h.Name})))
		for _, f := range h.Findings {
			if f.Status != compliance.Drift {
				continue
			}
			fmt.Fprintf(w, "  %s %s: %s\n", st.red("✗"), f.Rule, sshexec.Printable(f.Text))
			for _, d := range f.Fields {
				fmt.Fprintf(w, "      %s is %s, should be %s\n", d.Name, value(d.Is), value(d.Want))
			}
		}
	}
	if len(unknown) > 0 {
		fmt.Fprintln(w, st.red("Not judged"))
		Problems(w, st, unknown)
	}
	word := st.green("Compliant")
	switch r.Status {
	case compliance.Drift:
		word = st.red("Drift")
	case compliance.Unknown:
		word = st.yellow("Not known")
	}
	fmt.Fprintf(w, "%s: %d compliant, %d with drift, %d not judged (of %s)\n", word,
		n[compliance.Compliant], n[compliance.Drift], n[compliance.Unknown], count(len(r.Hosts), "host"))
}
