package view

import (
	"fmt"
	"io"
	"slices"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// Preflight writes what keeps hosts from being changed, and what mends it: a row for
// each distinct problem, those of most hosts first; then what a check has found that
// is no reason to stop.
func Preflight(w io.Writer, st Style, p *rollout.Plan) {
	fmt.Fprintf(w, "%s  %s\n", st.bold("fleetd preflight"), madeFrom(p))
	unfit := map[string]bool{}
	for _, hp := range p.Problems() {
		unfit[hp.Host] = true
	}
	rows(w, st, "What is wrong, and what mends it", Singles(p))
	rows(w, st, "Worth knowing, and no reason to stop", notes(p))
	if len(unfit) == 0 {
		fmt.Fprintf(w, "\n%s\n", st.green(hostsAre(p)+" fit for the change."))
		return
	}
	var hosts []string
	for _, h := range p.Hosts() {
		if unfit[h] {
			hosts = append(hosts, h)
		}
	}
	fmt.Fprintf(w, "\n%s\n", st.red(fmt.Sprintf("To be mended: %s of %s.", hostNames(named(p, hosts)), places(p, all(p)))))
}

// Singles are the problems of a plan, one by one.
func Singles(p *rollout.Plan) (out []rollout.HostProblem) {
	for _, hp := range p.Problems() {
		for _, one := range hp.Single() {
			out = append(out, rollout.HostProblem{Host: hp.Host, Problem: one})
		}
	}
	return out
}

// notes are what the checks say of hosts that are fit.
func notes(p *rollout.Plan) (out []rollout.HostProblem) {
	p.Each(func(id rollout.StepID, s rollout.PlannedStep) bool {
		if s.Change.Action == rollout.ReadOnly {
			for _, r := range s.Change.Risks {
				out = append(out, rollout.HostProblem{Host: id.Host, Problem: rollout.Problem{Message: r}})
			}
		}
		return true
	})
	return out
}

func rows(w io.Writer, st Style, title string, of []rollout.HostProblem) {
	if len(of) == 0 {
		return
	}
	all := causes(of)
	slices.SortStableFunc(all, func(a, b *cause) int { return len(b.hosts) - len(a.hosts) })
	// A fleet's names may fill a line: those that do have one.
	const most = 30
	width := 0
	for _, c := range all {
		if n := len(hostNames(c.hosts)); n <= most {
			width = max(width, n)
		}
	}
	fmt.Fprintf(w, "\n%s\n", st.bold(title))
	for _, c := range all {
		hosts := hostNames(c.hosts)
		if len(hosts) > most {
			fmt.Fprintf(w, "  %s\n", hosts)
			hosts = ""
		}
		pad := fmt.Sprintf("  %-*s  ", width, hosts)
		indent(w, pad, c.Message)
		c.more(w, fmt.Sprintf("  %*s    ", width, ""))
	}
}

func all(p *rollout.Plan) map[string]bool {
	out := map[string]bool{}
	for _, h := range p.Hosts() {
		out[h] = true
	}
	return out
}
