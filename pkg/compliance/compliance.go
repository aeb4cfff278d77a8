// Package compliance holds a fleet against what its playbook wants and reports
// the drift. It asks the modules the same question that plan asks, on the same
// observations, and changes nothing: what apply would write is drift, unless the
// module judges for itself (rollout.Judge). Which modules declare a state, and
// under the name of which rule, they say themselves.
package compliance

import (
	"errors"
	"slices"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// Schema names the version of the report's JSON form.
const Schema = "fleetd.io/compliance/v1"

// Status is how something stands against its policy.
type Status string

const (
	Compliant Status = "compliant"
	Drift     Status = "drift"
	// Unknown: it could not be read, so nothing is said of it.
	Unknown Status = "unknown"
)

// Report is the state of a fleet at one time.
type Report struct {
	Schema      string    `json:"schema"`
	At          time.Time `json:"at"`
	Inventories []string  `json:"inventories"`
	Playbook    string    `json:"playbook"`
	Status      Status    `json:"status"`
	Hosts       []Host    `json:"hosts"`
}

// Host is one host, or the cluster under the name localhost.
type Host struct {
	Name     string           `json:"name"`
	Status   Status           `json:"status"`
	Findings []Finding        `json:"findings"`
	Problem  *rollout.Problem `json:"problem,omitempty"`
}

// Finding is one rule on one host.
type Finding struct {
	Rule   string `json:"rule"`
	Status Status `json:"status"`
	// Text says what holds, or what would be changed.
	Text string `json:"text"`
	// Fields are the values that differ: what is and what the policy wants.
	Fields []Difference `json:"fields,omitempty"`
}

// Difference is one value that is not as the policy wants it.
type Difference struct {
	Name string `json:"name"`
	Is   string `json:"is"`
	Want string `json:"want"`
}

// Check evaluates every host of the playbook.
func Check(d rollout.Desired, observed map[string]rollout.Observation, modules map[string]rollout.Differ) Report {
	r := Report{Schema: Schema, Status: Compliant}
	seen := map[string]bool{}
	for _, play := range d.Plays {
		for _, batch := range play.Batches {
			for _, name := range batch {
				if seen[name] {
					continue
				}
				seen[name] = true
				h := checkHost(d, name, observed[name], modules)
				r.Hosts = append(r.Hosts, h)
				r.Status = worse(r.Status, h.Status)
			}
		}
	}
	return r
}

// worse is the status of two things together: drift is certain, so it outranks
// what is unknown.
func worse(a, b Status) Status {
	order := []Status{Compliant, Unknown, Drift}
	if slices.Index(order, b) > slices.Index(order, a) {
		return b
	}
	return a
}

func checkHost(d rollout.Desired, host string, o rollout.Observation, modules map[string]rollout.Differ) Host {
	out := Host{Name: host, Status: Compliant, Problem: o.Problem, Findings: []Finding{}}
	state := o.State
	for _, play := range d.Plays {
		for _, task := range play.Tasks {
			args, here := task.Args[host]
			m := modules[task.Module]
			if !here || out.Problem != nil || m == nil || m.About().Rule == "" {
				continue
			}
			findings, after, err := judge(m, host, state, args)
			if err != nil {
				out.Problem = rollout.AsProblem(err)
			}
			state = after
			for _, f := range findings {
				out.Findings = append(out.Findings, reported(f))
			}
		}
	}
	for _, f := range out.Findings {
		out.Status = worse(out.Status, f.Status)
	}
	if out.Problem != nil {
		out.Status = worse(out.Status, Unknown)
	}
	return out
}

// judge holds one task against the state of a host. It returns the state that
// the task would leave as well: the tasks behind it are judged on that one, so
// that a kernel which is not installed is one finding and not three. What a
// Judge has found stands, also where Diff then cannot say how to mend it.
func judge(m rollout.Differ, host string, state rollout.State, args rollout.Args) ([]rollout.Finding, rollout.State, error) {
	var own []rollout.Finding
	j, itself := m.(rollout.Judge)
	if itself {
		var err error
		if own, err = j.Judge(host, state, args); err != nil {
			return nil, state, err
		}
	}
	change, after, err := m.Diff(host, state, args)
	if err != nil {
		return own, state, err
	}
	if itself {
		return own, after, nil
	}
	f := rollout.Finding{Rule: m.About().Rule, Text: change.Summary}
	if change.Action.Writes() {
		f.Drift, f.Text, f.Fields = true, "would "+change.Summary, change.Fields
	}
	return []rollout.Finding{f}, after, nil
}

// reported is a finding in the form of the report.
func reported(f rollout.Finding) Finding {
	out := Finding{Rule: f.Rule, Status: Compliant, Text: f.Text}
	if f.Drift {
		out.Status = Drift
	}
	for _, v := range f.Fields {
		out.Fields = append(out.Fields, Difference{Name: v.Name, Is: v.Before, Want: v.After})
	}
	return out
}

// ErrNoPolicy says that the playbook declares no state.
var ErrNoPolicy = errors.New("the playbook declares no state that compliance could check (kernel, Calico or BPF modules)")

// HasPolicy reports whether any task of the playbook declares a state.
func HasPolicy(d rollout.Desired, modules map[string]rollout.Differ) bool {
	return slices.ContainsFunc(d.Plays, func(p rollout.Play) bool {
		return slices.ContainsFunc(p.Tasks, func(t rollout.Task) bool {
			m := modules[t.Module]
			return m != nil && m.About().Rule != ""
		})
	})
}
