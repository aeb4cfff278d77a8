// Package compliance holds a fleet against what its playbook wants and reports
// the drift. It asks the modules the same question that plan asks, on the same
// observations, and changes nothing: what apply would write is drift. The one
// rule of its own is the oldest kernel that is allowed, which a newer one
// satisfies as well.
package compliance

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fleetd/fleetd/pkg/kernel"
	"github.com/fleetd/fleetd/pkg/node"
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

// rules are the modules that declare a state to be in, with the name of their
// rule. The others (drain, preflight, verify) are steps on a way, not states.
var rules = map[string]string{
	"fleetd.kernel.package":               "kernel-installed",
	"fleetd.kernel.trial_boot":            "kernel-running",
	"fleetd.kernel.default":               "kernel-default",
	"fleetd.calico.api_endpoint":          "api-endpoint",
	"fleetd.calico.dataplane":             "data-plane",
	"fleetd.calico.kube_proxy":            "kube-proxy",
	"fleetd.calico.external_service_mode": "external-service-mode",
	"fleetd.bpf.object":                   "bpf-object",
}

// MinimumRule is the rule for the oldest kernel allowed.
const MinimumRule = "kernel-minimum"

// Check evaluates every host of the playbook. minimum gives the oldest kernel
// that a host may run, "" for none.
func Check(d rollout.Desired, observed map[string]rollout.Observation, modules map[string]rollout.Differ, minimum func(host string) string) Report {
	r := Report{Schema: Schema, Status: Compliant}
	for _, play := range d.Plays {
		for _, batch := range play.Batches {
			for _, h := range batch {
				if !slices.ContainsFunc(r.Hosts, func(x Host) bool { return x.Name == h }) {
					r.Hosts = append(r.Hosts, checkHost(d, h, observed[h], modules, minimum(h)))
				}
			}
		}
	}
	for _, h := range r.Hosts {
		r.Status = worse(r.Status, h.Status)
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

func checkHost(d rollout.Desired, host string, o rollout.Observation, modules map[string]rollout.Differ, minimum string) Host {
	out := Host{Name: host, Status: Compliant, Problem: o.Problem, Findings: []Finding{}}
	if host != rollout.Localhost && minimum != "" && o.Problem == nil {
		f, err := checkMinimum(o.State, minimum)
		if err != nil {
			out.Problem = rollout.AsProblem(err)
		} else {
			out.Findings = append(out.Findings, f)
		}
	}
	state := o.State
	for _, play := range d.Plays {
		for _, task := range play.Tasks {
			rule, ok := rules[task.Module]
			args, here := task.Args[host]
			if !ok || !here || out.Problem != nil {
				continue
			}
			change, after, err := modules[task.Module].Diff(host, state, args)
			if err != nil {
				out.Problem = rollout.AsProblem(err)
				continue
			}
			state = after
			out.Findings = append(out.Findings, finding(rule, change))
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

func finding(rule string, c rollout.Change) Finding {
	if !c.Action.Writes() {
		return Finding{Rule: rule, Status: Compliant, Text: c.Summary}
	}
	f := Finding{Rule: rule, Status: Drift, Text: "would " + c.Summary}
	for _, v := range c.Fields {
		f.Fields = append(f.Fields, Difference{Name: v.Name, Is: v.Before, Want: v.After})
	}
	return f
}

func checkMinimum(st rollout.State, minimum string) (Finding, error) {
	facts, err := node.Section.Get(st)
	if err != nil {
		return Finding{}, err
	}
	order, err := kernel.CompareRelease(facts.Running, minimum)
	if err != nil {
		return Finding{}, fmt.Errorf("cannot compare the running kernel with kernel_minimum %q: %w", minimum, err)
	}
	if order < 0 {
		return Finding{Rule: MinimumRule, Status: Drift, Text: "runs a kernel older than " + minimum,
			Fields: []Difference{{Name: "running kernel", Is: facts.Running, Want: ">= " + minimum}}}, nil
	}
	return Finding{Rule: MinimumRule, Status: Compliant, Text: facts.Running + " is at least " + minimum}, nil
}

// ErrNoPolicy says that the playbook declares no state.
var ErrNoPolicy = errors.New("the playbook declares no state that compliance could check (kernel, Calico or BPF modules)")

// HasPolicy reports whether any task of the playbook declares a state.
func HasPolicy(d rollout.Desired) bool {
	return slices.ContainsFunc(d.Plays, func(p rollout.Play) bool {
		return slices.ContainsFunc(p.Tasks, func(t rollout.Task) bool { return rules[t.Module] != "" })
	})
}
