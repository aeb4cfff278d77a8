package compliance

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Prometheus writes the report in Prometheus' text format, for node_exporter's
// textfile collector. Only what is not as it should be has a series for each host: a
// fleet that is in order costs a few.
func Prometheus(w io.Writer, r *Report) error {
	b := bufio.NewWriter(w)
	family := func(name, help string) { fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name) }

	family("fleetd_compliance_timestamp_seconds", "When the fleet was last looked at.")
	fmt.Fprintf(b, "fleetd_compliance_timestamp_seconds %d\n", r.At.Unix())

	family("fleetd_compliance_hosts", "Hosts by how they stand against their policies.")
	for _, s := range []Status{Compliant, Waived, Unknown, Drift} {
		fmt.Fprintf(b, "fleetd_compliance_hosts{status=%s} %d\n", label(string(s)), r.Count(s))
	}

	type series struct {
		policy, rule string
		status       Status
	}
	counts := map[series]int{}
	var order []series
	var troubles, since []string
	for _, h := range r.Hosts {
		worst := map[series]Status{}
		for _, f := range h.Findings {
			k := series{policy: f.Policy, rule: f.Rule}
			if have, ok := worst[k]; ok {
				worst[k] = worse(have, f.Status)
			} else {
				worst[k] = f.Status
			}
		}
		told := map[series]bool{}
		for _, f := range h.Findings {
			k := series{policy: f.Policy, rule: f.Rule}
			if told[k] { // a series stands once
				continue
			}
			told[k] = true
			k.status = worst[k]
			if counts[k] == 0 {
				order = append(order, k)
			}
			counts[k]++
			if k.status == Compliant {
				continue
			}
			labels := fmt.Sprintf("host=%s,policy=%s,rule=%s,severity=%s,status=%s",
				label(h.Name), label(f.Policy), label(f.Rule), label(string(r.Policy(f.Policy).Severity)), label(string(k.status)))
			troubles = append(troubles, fmt.Sprintf("fleetd_compliance_trouble{%s} 1\n", labels))
			if f.Since != nil {
				since = append(since, fmt.Sprintf("fleetd_compliance_trouble_since_seconds{%s} %d\n", labels, f.Since.Unix()))
			}
		}
	}
	slices.SortStableFunc(order, func(a, b series) int { return strings.Compare(a.policy+"\x00"+a.rule, b.policy+"\x00"+b.rule) })
	family("fleetd_compliance_policy_hosts", "Hosts by how they stand against one rule of a policy.")
	for _, k := range order {
		fmt.Fprintf(b, "fleetd_compliance_policy_hosts{policy=%s,rule=%s,severity=%s,status=%s} %d\n",
			label(k.policy), label(k.rule), label(string(r.Policy(k.policy).Severity)), label(string(k.status)), counts[k])
	}
	family("fleetd_compliance_unreadable", "Hosts that could not be read, or not all of them.")
	for _, h := range r.Hosts {
		if h.Problem != nil {
			fmt.Fprintf(b, "fleetd_compliance_unreadable{host=%s} 1\n", label(h.Name))
		}
	}
	family("fleetd_compliance_trouble", "Hosts that are not as a policy wants them, or not known to be.")
	for _, line := range troubles {
		fmt.Fprint(b, line)
	}
	family("fleetd_compliance_trouble_since_seconds", "Since when, as far as the journal remembers.")
	for _, line := range since {
		fmt.Fprint(b, line)
	}
	return b.Flush()
}

// label is a label's value, in quotes.
func label(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(strings.ToValidUTF8(s, "\uFFFD")) + `"`
}
