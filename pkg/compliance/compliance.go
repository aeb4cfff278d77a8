// Package compliance holds a fleet against what it should be, and reports the drift.
// It changes nothing: all that it is given are rules and the observed state of hosts.
//
// What a host should be comes from two sides. What the playbook declares is judged by
// its modules, which are asked the same question that a plan asks, on the same
// observations: what apply would write is drift, unless the module judges for itself
// (rollout.Judge). What a policy file asks for beyond that is judged by the rules
// (rollout.Rule) that the packages bring whose facts they are about, or by an expression.
//
//   - [Load] reads policies, [Default] are those without a file.
//   - [Evaluate] holds a fleet against them: pure, whatever the clock and the network do.
//   - [Fold] puts hosts with the same trouble together; [JUnit], [SARIF] and
//     [Prometheus] write a [Report] for other programs. For people pkg/view does.
package compliance

import (
	"slices"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// Schema names the version of the report's JSON form.
const Schema = "fleetd.io/compliance/v2"

// Status is how something stands against its policy.
type Status string

const (
	Compliant Status = "compliant"
	// Waived: it is not as it should be, and somebody has answered for that.
	Waived Status = "waived"
	// Unknown: it could not be read, so nothing is said of it.
	Unknown Status = "unknown"
	Drift   Status = "drift"
)

// worse is the status of two things together: drift is certain, so it outranks
// what is unknown.
func worse(a, b Status) Status {
	order := []Status{Compliant, Waived, Unknown, Drift}
	if slices.Index(order, b) > slices.Index(order, a) {
		return b
	}
	return a
}

// Severity is how much a policy matters.
type Severity string

const (
	Low    Severity = "low"
	Medium Severity = "medium"
	High   Severity = "high"
)

// PlaybookPolicy is the name of the policy that is what the playbook wants.
const PlaybookPolicy = "playbook"

// Report is the state of a fleet at one time.
type Report struct {
	Schema      string    `json:"schema"`
	At          time.Time `json:"at"`
	Inventories []string  `json:"inventories"`
	Playbook    string    `json:"playbook,omitempty"`
	PolicyFile  string    `json:"policy_file,omitempty"`
	Status      Status    `json:"status"`
	// Policies are those that hosts were held against, in the order of the file; the
	// playbook's first.
	Policies []Policy `json:"policies"`
	Hosts    []Host   `json:"hosts"`
	// Kernels is how many hosts run which kernel, as uname -r; of those under "" it is
	// not known. The cluster runs none.
	Kernels map[string]int `json:"kernels,omitempty"`
	// Notes are what should be known of waivers: expired, about to be, of no use.
	Notes []string `json:"notes,omitempty"`
}

// Policy is what a host was held against, as a person named it.
type Policy struct {
	Name string `json:"name"`
	// Rule is what judges; "" for the playbook, which has several.
	Rule     string   `json:"rule,omitempty"`
	Severity Severity `json:"severity"`
	// Fix says what mends a host that drifts, in the words of the file.
	Fix string `json:"fix,omitempty"`
	// At is where it stands.
	At rollout.Position `json:"at,omitzero"`
}

// Host is one host, or the cluster under the name localhost.
type Host struct {
	Name     string    `json:"name"`
	Status   Status    `json:"status"`
	Findings []Finding `json:"findings"`
	// Problem says why something of the host could not be read.
	Problem *rollout.Problem `json:"problem,omitempty"`
}

// Finding is one rule on one host.
type Finding struct {
	Policy string `json:"policy"`
	Rule   string `json:"rule"`
	Status Status `json:"status"`
	// Text says what holds, what would be changed, or why it cannot be judged; Hint
	// then what to do about that.
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"`
	// Fields are the values that differ: what is and what the policy wants.
	Fields []Difference `json:"fields,omitempty"`
	// Since is when this status was first seen, as far as the journal remembers; nil if
	// nobody asked it.
	Since *time.Time `json:"since,omitempty"`
	// Waiver is the one that excuses it, or that has expired.
	Waiver *Waiver `json:"waiver,omitempty"`
}

// Difference is one value that is not as the policy wants it.
type Difference struct {
	Name string `json:"name"`
	Is   string `json:"is"`
	Want string `json:"want"`
}

// Waiver excuses hosts from a policy until its last day.
type Waiver struct {
	Owner  string `json:"owner"`
	Reason string `json:"reason"`
	// Expires is the last day, in UTC.
	Expires time.Time `json:"expires"`
	Expired bool      `json:"expired,omitempty"`
}

// Policy finds a policy of the report.
func (r *Report) Policy(name string) Policy {
	for _, p := range r.Policies {
		if p.Name == name {
			return p
		}
	}
	return Policy{Name: name, Severity: Medium}
}

// Count counts the hosts of a status.
func (r *Report) Count(s Status) (n int) {
	for _, h := range r.Hosts {
		if h.Status == s {
			n++
		}
	}
	return n
}
