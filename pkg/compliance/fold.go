package compliance

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Trouble is one policy that hosts do not meet, or about which nothing can be said of
// them.
type Trouble struct {
	Policy
	// Rule is the finding's: the playbook has several.
	Rule   string
	Status Status
	// Kinds are the ways in which hosts have the trouble, those of most hosts first.
	Kinds []Kind
}

// Kind is the same finding on several hosts, to the letter.
type Kind struct {
	Text, Hint string
	Fields     []Difference
	Waiver     *Waiver
	Hosts      []string
	// Since is when the first of them was seen so; nil if that is not known.
	Since *time.Time
}

// Hosts counts the hosts.
func (t Trouble) Hosts() (n int) {
	for _, k := range t.Kinds {
		n += len(k.Hosts)
	}
	return n
}

// Fold puts together what is alike on several hosts: what drifts, then what is not
// known, then what is waived; within that what matters most first, and what concerns
// most hosts. What holds is left out, and so are the hosts' own problems.
func Fold(r *Report) []Trouble {
	type key struct {
		policy, rule string
		status       Status
	}
	at := map[key]int{}
	kinds := map[string]int{}
	var out []Trouble
	for _, h := range r.Hosts {
		for _, f := range h.Findings {
			if f.Status == Compliant {
				continue
			}
			k := key{f.Policy, f.Rule, f.Status}
			i, known := at[k]
			if !known {
				i = len(out)
				at[k] = i
				out = append(out, Trouble{Policy: r.Policy(f.Policy), Rule: f.Rule, Status: f.Status})
			}
			t := &out[i]
			same := fmt.Sprintf("%d\x00%s", i, f.kind())
			j, known := kinds[same]
			if !known {
				j = len(t.Kinds)
				kinds[same] = j
				t.Kinds = append(t.Kinds, Kind{Text: f.Text, Hint: f.Hint, Fields: f.Fields, Waiver: f.Waiver})
			}
			kind := &t.Kinds[j]
			if n := len(kind.Hosts); n == 0 || kind.Hosts[n-1] != h.Name { // a playbook may ask twice
				kind.Hosts = append(kind.Hosts, h.Name)
			}
			if f.Since != nil && (kind.Since == nil || f.Since.Before(*kind.Since)) {
				kind.Since = f.Since
			}
		}
	}
	for i := range out {
		slices.SortStableFunc(out[i].Kinds, func(a, b Kind) int { return cmp.Compare(len(b.Hosts), len(a.Hosts)) })
	}
	states, severities := []Status{Drift, Unknown, Waived}, []Severity{High, Medium, Low}
	slices.SortStableFunc(out, func(a, b Trouble) int {
		return cmp.Or(
			cmp.Compare(slices.Index(states, a.Status), slices.Index(states, b.Status)),
			cmp.Compare(slices.Index(severities, a.Severity), slices.Index(severities, b.Severity)),
			cmp.Compare(b.Hosts(), a.Hosts()),
		)
	})
	return out
}

// kind is all of a finding that hosts must have in common to stand together.
func (f Finding) kind() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q %q", f.Text, f.Hint)
	for _, d := range f.Fields {
		fmt.Fprintf(&b, " %q %q %q", d.Name, d.Is, d.Want)
	}
	if f.Waiver != nil {
		fmt.Fprintf(&b, " %q %q %v", f.Waiver.Owner, f.Waiver.Reason, f.Waiver.Expires)
	}
	return b.String()
}

// String is the difference in words.
func (d Difference) String() string {
	return fmt.Sprintf("%s is %s, should be %s", d.Name, cmp.Or(d.Is, "(absent)"), cmp.Or(d.Want, "(absent)"))
}

// Said is what was found, in one line.
func (f Finding) Said() string {
	var parts []string
	for _, d := range f.Fields {
		parts = append(parts, d.String())
	}
	if len(parts) == 0 {
		return f.Text
	}
	return f.Text + ": " + strings.Join(parts, "; ")
}
