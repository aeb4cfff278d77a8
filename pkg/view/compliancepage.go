package view

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"strings"

	"github.com/fleetd/fleetd/pkg/compliance"
	"github.com/fleetd/fleetd/pkg/text"
)

//go:embed compliance.html.tmpl
var compliancePage string

//go:embed compliance.css
var complianceStyle string

var complianceTemplate = template.Must(template.New("compliance").Parse(compliancePage))

// reportPage is what the template shows.
type reportPage struct {
	// Policy is the Content-Security-Policy: it lets in the page's own style alone.
	Policy                              string
	CSS                                 template.CSS
	Title, Word, At, Of                 string
	Status                              compliance.Status
	Compliant, Drift, Waived, NotJudged int
	Total                               string
	Bar                                 bar
	Policies                            []pagePolicy
	Troubles                            []pageSection
	Unreadable                          []pageRow
	Notes                               []string
}

// bar is how hosts stand, as shares of a width of 1000.
type bar struct{ Compliant, Waived, Unknown, Drift int }

// At are the places at which the parts begin.
func (b bar) WaivedAt() int  { return b.Compliant }
func (b bar) UnknownAt() int { return b.Compliant + b.Waived }
func (b bar) DriftAt() int   { return b.Compliant + b.Waived + b.Unknown }

type pagePolicy struct {
	Name, Rule, Severity string
	Counts               string
	Status               compliance.Status
	Bar                  bar
}

type pageSection struct {
	Title    string
	Status   compliance.Status
	Troubles []pageTrouble
}

type pageTrouble struct {
	Name, Kind, Said, Fix string
	Rows                  []pageRow
}

type pageRow struct {
	Hosts, Count string
	Lines        []string
	Since        string
}

// ComplianceHTML writes the report as one page that needs nothing beside it: no
// script, no font, no picture, and a Content-Security-Policy that lets none in.
func ComplianceHTML(w io.Writer, r *compliance.Report) error {
	return complianceTemplate.Execute(w, reportPageOf(r))
}

func reportPageOf(r *compliance.Report) reportPage {
	sum := sha256.Sum256([]byte(complianceStyle))
	p := reportPage{
		CSS: template.CSS(complianceStyle), Policy: ("default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"),
		Title: "Compliance", Word: "Compliant", At: Stamp(r.At), Of: text.Printable(lookedAt(r)), Status: r.Status, Notes: printables(r.Notes),
		Compliant: r.Count(compliance.Compliant), Drift: r.Count(compliance.Drift), Waived: r.Count(compliance.Waived), NotJudged: r.Count(compliance.Unknown),
		Total: count(len(r.Hosts), "host"),
	}
	if word, ok := statusTitles[r.Status]; ok && r.Status != compliance.Waived {
		p.Word = word
	}
	p.Bar = barOf(p.Compliant, p.Waived, p.NotJudged, p.Drift)
	p.Policies = policyRows(r)
	for _, t := range compliance.Fold(r) {
		if n := len(p.Troubles); n == 0 || p.Troubles[n-1].Status != t.Status {
			p.Troubles = append(p.Troubles, pageSection{Title: statusTitles[t.Status], Status: t.Status})
		}
		last := &p.Troubles[len(p.Troubles)-1]
		last.Troubles = append(last.Troubles, pageTroubleOf(r, t))
	}
	for _, c := range causes(unreadable(r)) {
		p.Unreadable = append(p.Unreadable, pageRow{Hosts: text.Printable(namesOf(c.hosts)), Count: several(len(c.hosts)), Lines: printables([]string{c.Message, c.Hint, asOf(c.hosts[0], c.same)})})
	}
	return p
}

func pageTroubleOf(r *compliance.Report, t compliance.Trouble) pageTrouble {
	out := pageTrouble{Name: text.Printable(troubleName(t)), Kind: troubleKind(t), Fix: text.Printable(t.Fix)}
	if t.Status != compliance.Drift {
		out.Fix = ""
	}
	said, same := sameText(t)
	if same {
		out.Said = text.Printable(said)
	}
	for _, k := range few(t.Kinds) {
		out.Rows = append(out.Rows, pageRow{Hosts: text.Printable(namesOf(k.Hosts)), Count: several(len(k.Hosts)), Lines: printables(kindLines(k, !same)), Since: since(k, r)})
	}
	return out
}

// policyRows counts, for each policy and rule, how hosts stand, in the order in which
// policies stand in the file.
func policyRows(r *compliance.Report) (out []pagePolicy) {
	type key struct{ policy, rule string }
	counts := map[key]map[compliance.Status]int{}
	var order []key
	for _, h := range r.Hosts {
		for _, f := range h.Findings {
			k := key{f.Policy, f.Rule}
			if counts[k] == nil {
				counts[k] = map[compliance.Status]int{}
				order = append(order, k)
			}
			counts[k][f.Status]++
		}
	}
	for _, p := range r.Policies {
		for _, k := range order {
			if k.policy != p.Name {
				continue
			}
			n := counts[k]
			row := pagePolicy{Name: text.Printable(p.Name), Rule: k.rule, Severity: string(p.Severity), Status: compliance.Compliant,
				Bar: barOf(n[compliance.Compliant], n[compliance.Waived], n[compliance.Unknown], n[compliance.Drift])}
			var parts []string
			for _, s := range []compliance.Status{compliance.Compliant, compliance.Waived, compliance.Unknown, compliance.Drift} {
				if n[s] > 0 {
					row.Status = s
					parts = append(parts, fmt.Sprintf("%d %s", n[s], s))
				}
			}
			row.Counts = strings.Join(parts, ", ")
			if p.Name == compliance.PlaybookPolicy {
				row.Name = k.rule
				row.Rule = "playbook"
			}
			out = append(out, row)
		}
	}
	return out
}

// barOf never makes what there is too thin to be seen.
func barOf(compliant, waived, unknown, drift int) bar {
	total := compliant + waived + unknown + drift
	if total == 0 {
		return bar{}
	}
	share := func(n int) int {
		if n == 0 {
			return 0
		}
		return max(8, n*1000/total)
	}
	b := bar{Waived: share(waived), Unknown: share(unknown), Drift: share(drift)}
	b.Compliant = max(0, 1000-b.Waived-b.Unknown-b.Drift)
	return b
}

// several is the number of hosts, "" for one.
func several(n int) string {
	if n == 1 {
		return ""
	}
	return count(n, "host")
}

func printables(all []string) (out []string) {
	for _, s := range all {
		if s != "" {
			out = append(out, text.Printable(s))
		}
	}
	return out
}
