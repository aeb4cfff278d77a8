package view

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/compliance"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
)

// Compliance writes a report: each trouble once, with its hosts, what is and what
// should be, and what mends it; then one line of verdict. What is as it should be is
// only counted.
func Compliance(w io.Writer, st Style, r *compliance.Report) {
	fmt.Fprintf(w, "%s  %s\n", st.bold("fleetd compliance"), text.Printable(lookedAt(r)))
	title := compliance.Status("")
	for _, t := range compliance.Fold(r) {
		if t.Status != title {
			title = t.Status
			fmt.Fprintf(w, "\n%s\n", statusStyle(st, title)(statusTitles[title]))
		}
		trouble(w, st, r, t)
	}
	if unread := unreadable(r); len(unread) > 0 {
		rows(w, st, "Not judged, or not all of it", unread)
	}
	if len(r.Notes) > 0 {
		fmt.Fprintf(w, "\n%s\n", st.bold("Waivers"))
		for _, n := range r.Notes {
			indent(w, "  ", n)
		}
	}
	fmt.Fprintf(w, "\n%s\n", verdict(r, statusStyle(st, r.Status)))
}

var statusTitles = map[compliance.Status]string{
	compliance.Drift: "Drift", compliance.Unknown: "Not known", compliance.Waived: "Waived",
}

// statusStyle is in which colour a status is written.
func statusStyle(st Style, s compliance.Status) func(string) string {
	switch s {
	case compliance.Drift:
		return st.red
	case compliance.Unknown:
		return st.yellow
	case compliance.Waived:
		return st.bold
	}
	return st.green
}

// lookedAt says what was held against what.
func lookedAt(r *compliance.Report) string {
	parts := []string{"inventory " + strings.Join(r.Inventories, " + ")}
	if r.Playbook != "" {
		parts = append(parts, "playbook "+r.Playbook)
	}
	if r.PolicyFile != "" {
		parts = append(parts, "policies "+r.PolicyFile)
	}
	return strings.Join(parts, ", ")
}

// verdict is the report in one line.
func verdict(r *compliance.Report, paint func(string) string) string {
	word := "Compliant"
	switch r.Status {
	case compliance.Drift, compliance.Unknown:
		word = statusTitles[r.Status]
	}
	waived := ""
	if n := r.Count(compliance.Waived); n > 0 {
		waived = fmt.Sprintf(", %d waived", n)
	}
	return fmt.Sprintf("%s: %d compliant, %d with drift%s, %d not judged (of %s)", paint(word),
		r.Count(compliance.Compliant), r.Count(compliance.Drift), waived, r.Count(compliance.Unknown), count(len(r.Hosts), "host"))
}

// unreadable are the hosts of which something could not be read.
func unreadable(r *compliance.Report) (out []rollout.HostProblem) {
	for _, h := range r.Hosts {
		if h.Problem != nil {
			for _, p := range h.Problem.Single() {
				out = append(out, rollout.HostProblem{Host: h.Name, Problem: p})
			}
		}
	}
	return out
}

// troubleName is what a trouble is called: a policy by its name, what the playbook wants by
// the rule.
func troubleName(t compliance.Trouble) string {
	if t.Name == compliance.PlaybookPolicy {
		return t.Rule
	}
	return t.Name
}

// troubleKind is what stands behind the name.
func troubleKind(t compliance.Trouble) string {
	if t.Name == compliance.PlaybookPolicy {
		return "playbook"
	}
	return t.Rule + ", " + string(t.Severity)
}

func trouble(w io.Writer, st Style, r *compliance.Report, t compliance.Trouble) {
	sign := map[compliance.Status]string{compliance.Drift: "✗", compliance.Unknown: "?", compliance.Waived: "~"}[t.Status]
	said := ""
	if text, same := sameText(t); same {
		said = ": " + text
	}
	indent(w, "  "+statusStyle(st, t.Status)(sign)+" ", troubleName(t)+" ("+troubleKind(t)+")"+said)
	kinds := few(t.Kinds)
	const most = 30
	width := 0
	for _, k := range kinds {
		if n := len(hostNames(k.Hosts)); n <= most {
			width = max(width, n)
		}
	}
	for _, k := range kinds {
		lines := kindLines(k, said == "")
		if s := since(k, r); s != "" && len(lines) > 0 {
			lines[0] += ", since " + s
		} else if s != "" {
			lines = []string{"since " + s}
		}
		hosts := hostNames(k.Hosts)
		if len(hosts) > most {
			fmt.Fprintf(w, "      %s\n", text.Printable(hosts))
			hosts = ""
		}
		pad := fmt.Sprintf("      %-*s  ", width, text.Printable(hosts))
		for i, l := range lines {
			if i > 0 {
				pad = fmt.Sprintf("      %*s  ", width, "")
			}
			indent(w, pad, l)
		}
		if len(lines) == 0 {
			fmt.Fprintln(w, strings.TrimRight(pad, " "))
		}
	}
	if t.Fix != "" && t.Status == compliance.Drift {
		indent(w, "      mended by: ", t.Fix)
	}
}

// sameText is the text of all kinds, if it is one.
func sameText(t compliance.Trouble) (string, bool) {
	for _, k := range t.Kinds {
		if k.Text != t.Kinds[0].Text {
			return "", false
		}
	}
	return t.Kinds[0].Text, true
}

// kindLines are what stands beside the hosts.
func kindLines(k compliance.Kind, text bool) (out []string) {
	if text {
		out = append(out, k.Text)
	}
	for _, d := range k.Fields {
		out = append(out, d.String())
	}
	if k.Waiver != nil {
		out = append(out, k.Waiver.String())
	}
	if k.Hint != "" {
		out = append(out, k.Hint)
	}
	return out
}

// mostKinds is how many ways to have one trouble are told apart.
const mostKinds = 6

// few are the kinds to show. Where each host has a value of its own, the hosts of
// fewest stand together, with how far the values go: -o json has each.
func few(kinds []compliance.Kind) []compliance.Kind {
	if len(kinds) <= mostKinds {
		return kinds
	}
	out := slices.Clone(kinds[:mostKinds-1])
	rest := kinds[mostKinds-1:]
	all := compliance.Kind{Text: fmt.Sprintf("and %d other ways", len(rest))}
	fields := map[string][]compliance.Difference{}
	var order []string
	for _, k := range rest {
		all.Hosts = append(all.Hosts, k.Hosts...)
		if k.Since != nil && (all.Since == nil || k.Since.Before(*all.Since)) {
			all.Since = k.Since
		}
		for _, d := range k.Fields {
			if fields[d.Name] == nil {
				order = append(order, d.Name)
			}
			fields[d.Name] = append(fields[d.Name], d)
		}
	}
	for _, name := range order {
		all.Fields = append(all.Fields, compliance.Difference{
			Name: name,
			Is:   span(fields[name], func(d compliance.Difference) string { return d.Is }),
			Want: span(fields[name], func(d compliance.Difference) string { return d.Want }),
		})
	}
	if text, same := sameText(compliance.Trouble{Kinds: kinds}); same {
		all.Text = text
	}
	return append(out, all)
}

// span is how far values go.
func span(of []compliance.Difference, value func(compliance.Difference) string) string {
	var all []string
	for _, d := range of {
		all = append(all, value(d))
	}
	slices.SortFunc(all, compareNatural)
	if all = slices.Compact(all); len(all) == 1 {
		return all[0]
	}
	return fmt.Sprintf("from %s to %s (%d values)", cmp.Or(all[0], "(absent)"), all[len(all)-1], len(all))
}

// since says when a trouble began, and how long ago that is; "" where this report is the
// first to see it, or somebody has answered for it.
func since(k compliance.Kind, r *compliance.Report) string {
	if k.Since == nil || !k.Since.Before(r.At) || k.Waiver != nil && !k.Waiver.Expired {
		return ""
	}
	ago := r.At.Sub(*k.Since)
	if ago < 48*time.Hour {
		return fmt.Sprintf("%s (%s)", Stamp(*k.Since), days(ago))
	}
	return fmt.Sprintf("%s (%s)", k.Since.UTC().Format(time.DateOnly), days(ago))
}

// days is a time in its largest unit; of two days it still matters how many hours.
func days(d time.Duration) string {
	switch {
	case d < time.Hour:
		return count(int(d/time.Minute), "minute")
	case d < 48*time.Hour:
		return count(int(d/time.Hour), "hour")
	}
	return count(int(d/(24*time.Hour)), "day")
}
