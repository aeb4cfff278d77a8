package view

import (
	"fmt"
	"slices"
	"time"

	"github.com/fleetd/fleetd/pkg/compliance"
)

// FleetStanding is how a fleet stands against its policies, as the journal remembers
// the last report.
type FleetStanding struct {
	// Report is the id of the last report, At when it was made.
	Report string    `json:"report"`
	At     time.Time `json:"at"`
	// Of says what was held against what. Asked is how many hosts the last report was
	// about: of the others, earlier ones tell.
	Of      string                    `json:"of"`
	Asked   int                       `json:"asked"`
	Status  compliance.Status         `json:"status"`
	Verdict string                    `json:"verdict"`
	Hosts   map[compliance.Status]int `json:"hosts"`
	// Troubles are the policies that hosts do not meet, what matters most first.
	Troubles []TroubleStanding `json:"troubles"`
	// Unreadable are hosts of which something could not be read, and why.
	Unreadable []KindStanding `json:"unreadable,omitempty"`
	// Notes are what should be known of waivers.
	Notes []string  `json:"notes,omitempty"`
	Next  []Command `json:"next,omitempty"`
}

// TroubleStanding is a policy that hosts do not meet, or that was not judged, or waived.
type TroubleStanding struct {
	// Policy is "playbook" for what the playbook wants.
	Policy   string              `json:"policy"`
	Rule     string              `json:"rule"`
	Severity compliance.Severity `json:"severity"`
	Status   compliance.Status   `json:"status"`
	// Fix says what mends it, in the words of the file of policies.
	Fix   string         `json:"fix,omitempty"`
	Kinds []KindStanding `json:"kinds"`
	// Title, Name and Kind are for people.
	Title string `json:"-"`
	Name  string `json:"-"`
	// Plan is the command that shows what would mend it; "" if a plan does not.
	Plan string `json:"-"`
	Kind string `json:"-"`
}

// KindStanding is hosts of which the same was found.
type KindStanding struct {
	Hosts string   `json:"hosts"`
	Names []string `json:"names"`
	// Text is what was found when the first of them was seen so.
	Text string `json:"text"`
	// Since is that time.
	Since *time.Time `json:"since,omitempty"`
	// Began is Since for people.
	Began string `json:"-"`
}

// ComplianceNext is what can be typed about a fleet.
type ComplianceNext struct{ Plan, Look string }

// FleetStandingOf is how a fleet stands, from its last report as it is remembered. asked is
// how many hosts that one was about.
func FleetStandingOf(id string, at time.Time, asked int, r *compliance.Report, next ComplianceNext) FleetStanding {
	r.At = at
	s := FleetStanding{
		Report: id, At: at, Of: lookedAt(r), Asked: asked, Status: r.Status, Hosts: map[compliance.Status]int{}, Notes: r.Notes,
		Verdict: verdict(r, func(s string) string { return s }), Troubles: []TroubleStanding{},
	}
	for _, h := range r.Hosts {
		s.Hosts[h.Status]++
	}
	playbook := false
	for _, t := range compliance.Fold(r) {
		out := TroubleStanding{Policy: t.Name, Rule: t.Rule, Severity: t.Severity, Status: t.Status, Title: statusTitles[t.Status], Name: troubleName(t), Kind: troubleKind(t)}
		if t.Status == compliance.Drift {
			out.Fix = t.Fix
			if t.Name == compliance.PlaybookPolicy {
				playbook, out.Plan = true, next.Plan
			}
		}
		for _, k := range t.Kinds {
			began := since(k, r)
			if began == "" && k.Since != nil {
				began = Stamp(*k.Since) + " (this report was the first to see it)"
			}
			out.Kinds = append(out.Kinds, KindStanding{Hosts: hostNames(k.Hosts), Names: k.Hosts, Text: k.Text, Since: k.Since, Began: began})
		}
		s.Troubles = append(s.Troubles, out)
	}
	for _, c := range causes(unreadable(r)) {
		s.Unreadable = append(s.Unreadable, KindStanding{Hosts: hostNames(c.hosts), Names: c.hosts, Text: c.Message})
	}
	if playbook {
		s.Next = append(s.Next, Command{next.Plan, "shows what would mend what the playbook wants"})
	}
	s.Next = append(s.Next, Command{next.Look, "looks at the fleet again, and tells everything that it finds"})
	return s
}

// Partial says that the last report was not about all hosts; "" if it was.
func (s FleetStanding) Partial() string {
	n := 0
	for _, of := range s.Hosts {
		n += of
	}
	if s.Asked >= n {
		return ""
	}
	return fmt.Sprintf("The last report was about %d of them: the others stand as earlier ones found them.", s.Asked)
}

// When says when the report was made.
func (s FleetStanding) When() string { return Stamp(s.At) }

// Ago says how old the report is.
func (s FleetStanding) Ago(now time.Time) string { return days(max(0, now.Sub(s.At))) + " ago" }

// Shown are the kinds for a page: of more than a few ways to have one trouble, the
// hosts of fewest stand together.
func (t TroubleStanding) Shown() []KindStanding {
	if len(t.Kinds) <= mostKinds {
		return t.Kinds
	}
	rest := t.Kinds[mostKinds-1:]
	all := KindStanding{Text: fmt.Sprintf("and %d other ways", len(rest))}
	for _, k := range rest {
		all.Names = append(all.Names, k.Names...)
	}
	all.Hosts = hostNames(all.Names)
	return append(slices.Clone(t.Kinds[:mostKinds-1]), all)
}
