package compliance

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// Rulings are the findings of a report as they are remembered: the worst where a host
// has several of one rule. over tells the hosts of which all was asked, so that what
// is remembered of them and is not among the rulings is over; with limited, the report
// is not about the whole fleet.
func Rulings(r *Report, limited bool) (rulings []rollout.Ruling, over func(host string) bool) {
	asked := map[string]bool{}
	for _, h := range r.Hosts {
		asked[h.Name] = h.Problem == nil
		if h.Problem != nil {
			rulings = append(rulings, rollout.Ruling{Host: h.Name, Status: string(Unknown), Text: h.Problem.Message})
		}
		type key struct{ policy, rule string }
		at := map[key]int{}
		for _, f := range h.Findings {
			v := rollout.Ruling{Host: h.Name, Policy: f.Policy, Rule: f.Rule, Status: string(f.Status)}
			if f.Status != Compliant { // of 10,000 hosts that are in order, the text would be most of the journal
				v.Text = f.Said()
			}
			i, twice := at[key{f.Policy, f.Rule}]
			switch {
			case !twice:
				at[key{f.Policy, f.Rule}] = len(rulings)
				rulings = append(rulings, v)
			case worse(Status(rulings[i].Status), f.Status) != Status(rulings[i].Status):
				rulings[i] = v
			}
		}
	}
	return rulings, func(host string) bool {
		all, here := asked[host]
		return all || !here && !limited
	}
}

// SetSince tells the findings of a report since when they stand.
func SetSince(r *Report, rulings []rollout.Ruling) {
	type key struct{ host, policy, rule string }
	at := make(map[key]*rollout.Ruling, len(rulings))
	for i := range rulings {
		v := &rulings[i]
		at[key{v.Host, v.Policy, v.Rule}] = v
	}
	for i := range r.Hosts {
		h := &r.Hosts[i]
		for j := range h.Findings {
			f := &h.Findings[j]
			if v := at[key{h.Name, f.Policy, f.Rule}]; v != nil && v.Status == string(f.Status) {
				f.Since = &v.Since
			}
		}
	}
}

// About is what is remembered of a report beside its rulings, as JSON: what was held
// against what.
func About(r *Report) ([]byte, error) {
	short := *r
	short.Hosts = nil
	return json.Marshal(short)
}

// Remembered is the report of which About and Rulings are remembered. A finding has the
// text with which it was first seen; its hint, its fields and its waiver are gone.
func Remembered(about []byte, rulings []rollout.Ruling) (*Report, error) {
	r := &Report{}
	if len(about) > 0 {
		if err := json.Unmarshal(about, r); err != nil {
			return nil, fmt.Errorf("cannot read what a report was about: %w", err)
		}
	}
	rulings = slices.SortedFunc(slices.Values(rulings), func(a, b rollout.Ruling) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Rule, b.Rule))
	})
	r.Status, r.Hosts = Compliant, []Host{}
	for _, v := range rulings {
		if n := len(r.Hosts); n == 0 || r.Hosts[n-1].Name != v.Host {
			r.Hosts = append(r.Hosts, Host{Name: v.Host, Status: Compliant, Findings: []Finding{}})
		}
		h := &r.Hosts[len(r.Hosts)-1]
		if v.Policy == "" { // whether it could be read
			h.Problem = &rollout.Problem{Message: v.Text}
		} else {
			h.Findings = append(h.Findings, Finding{Policy: v.Policy, Rule: v.Rule, Status: Status(v.Status), Text: v.Text, Since: &v.Since})
		}
		h.Status = worse(h.Status, Status(v.Status))
		r.Status = worse(r.Status, h.Status)
	}
	return r, nil
}

// KernelsOf are the kernels of the report of which about is remembered; nil if it does
// not tell.
func KernelsOf(about []byte) map[string]int {
	var r struct {
		Kernels map[string]int `json:"kernels"`
	}
	if json.Unmarshal(about, &r) != nil {
		return nil // an earlier fleetd's, or none
	}
	return r.Kernels
}

// Diff is what has changed from one report to another.
type Diff struct {
	From    string    `json:"from"`
	FromAt  time.Time `json:"from_at"`
	To      string    `json:"to"`
	ToAt    time.Time `json:"to_at"`
	Changes []Change  `json:"changes"`
}

// Change is one rule of a policy against which hosts stand otherwise than before.
type Change struct {
	// Policy and Rule are "" for whether the host can be read at all.
	Policy string `json:"policy,omitempty"`
	Rule   string `json:"rule,omitempty"`
	// Was and Is are "" where it was not asked then.
	Was Status `json:"was,omitempty"`
	Is  Status `json:"is,omitempty"`
	// Text is what was found the second time; the first time where it is not asked any
	// more, or holds now.
	Text  string   `json:"text,omitempty"`
	Hosts []string `json:"hosts"`
}

// Changes are those between two reports, what became worse first.
func Changes(before, after []rollout.Ruling) []Change {
	type key struct{ host, policy, rule string }
	was := make(map[key]rollout.Ruling, len(before))
	for _, v := range before {
		was[key{v.Host, v.Policy, v.Rule}] = v
	}
	type kind struct {
		policy, rule string
		was, is      Status
		text         string
	}
	hosts := map[kind][]string{}
	put := func(a, b rollout.Ruling, host string) {
		if a.Policy+b.Policy == "" { // whether it can be read is remembered of those that cannot
			a.Status, b.Status = cmp.Or(a.Status, string(Compliant)), cmp.Or(b.Status, string(Compliant))
		}
		if a.Status == b.Status {
			return
		}
		k := kind{cmp.Or(b.Policy, a.Policy), cmp.Or(b.Rule, a.Rule), Status(a.Status), Status(b.Status), cmp.Or(b.Text, a.Text)}
		hosts[k] = append(hosts[k], host)
	}
	for _, v := range after {
		k := key{v.Host, v.Policy, v.Rule}
		a := was[k]
		delete(was, k)
		put(a, v, v.Host)
	}
	for _, a := range was {
		put(a, rollout.Ruling{}, a.Host)
	}
	out := make([]Change, 0, len(hosts))
	for k, h := range hosts {
		slices.Sort(h)
		out = append(out, Change{Policy: k.policy, Rule: k.rule, Was: k.was, Is: k.is, Text: k.text, Hosts: h})
	}
	order := []Status{Drift, Unknown, Waived, Compliant, ""}
	slices.SortFunc(out, func(a, b Change) int {
		return cmp.Or(
			cmp.Compare(slices.Index(order, a.Is), slices.Index(order, b.Is)), cmp.Compare(len(b.Hosts), len(a.Hosts)),
			cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Was, b.Was), cmp.Compare(a.Text, b.Text),
		)
	})
	return out
}
