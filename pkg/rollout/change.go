package rollout

import "encoding/json"

// Action is what a step does to its object, in Terraform's words.
type Action string

const (
	Create  Action = "create"
	Update  Action = "update"
	Replace Action = "replace"
	Delete  Action = "delete"
	// Read is a check: it looks and may fail, but writes nothing.
	ReadOnly Action = "read"
	NoOp     Action = "no-op"
)

// Writes reports whether the action changes anything.
func (a Action) Writes() bool { return a != NoOp && a != ReadOnly }

// Change is what one task would do on one host. It holds all that the module
// needs to do it: Do gets the Change and nothing else, so what was reviewed is
// what happens. It must depend on nothing but the observed state and the
// arguments (no time, no free space, no counter), because apply refuses a plan
// whose changes are no longer the ones that a fresh look would give.
type Change struct {
	Action Action `json:"action"`
	// Summary is one line for a person: "install kernel-ml-6.1.176-1.el7.elrepo.x86_64".
	// For a no-op it says why there is nothing to do.
	Summary string `json:"summary"`
	// Fields are the values that change, in the order to show them.
	Fields []Field `json:"fields,omitempty"`
	// Reasons say why, Risks what it may cost, a sentence each.
	Reasons []string `json:"reasons,omitempty"`
	Risks   []string `json:"risks,omitempty"`
	// Disruptive is set when the host (or, on localhost, the cluster) may not
	// serve while the step runs: drain, reboot, data plane.
	Disruptive bool `json:"disruptive,omitempty"`
	// Data is the module's own.
	Data json.RawMessage `json:"data,omitempty"`
}

// Field is one value before and after. An empty string is shown as absent.
type Field struct {
	Name   string `json:"name"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// Differ is the pure half of a module.
type Differ interface {
	// Reads lists what has to be observed before Diff can be asked.
	Reads(args Args) []Read
	// Diff says what the task would change on a host in this state, and the
	// state that the host is in afterwards, which the tasks after it are
	// planned on. The state is the one that all tasks before it will have
	// left. A *Problem as the error means: this host is not fit for the change.
	// Any other error is a mistake in the arguments or in fleetd.
	Diff(host string, before State, args Args) (Change, State, error)
}
