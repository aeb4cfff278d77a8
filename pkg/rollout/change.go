package rollout

import (
	"encoding/json"
	"slices"
)

// Action is what a step does to its object, in Terraform's words.
type Action string

const (
	Create  Action = "create"
	Update  Action = "update"
	Replace Action = "replace"
	Delete  Action = "delete"
	// Exec is a command of the playbook's own: what it changes is known only after
	// it ran, and nothing can take it back.
	Exec Action = "run"
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
	// Diff are the lines of a text that change, as diff -u shows them.
	Diff []string `json:"diff,omitempty"`
	// Reasons say why, Risks what it may cost, a sentence each.
	Reasons []string `json:"reasons,omitempty"`
	Risks   []string `json:"risks,omitempty"`
	// Back is what taking the change back would do, on one line: "remove
	// kernel-ml-6.1.176-1.el7.elrepo.x86_64". It is the summary of an undo.
	Back string `json:"back,omitempty"`
	// Disruptive is set when the host (or, on localhost, the cluster) may not
	// serve while the step runs: drain, reboot, data plane.
	Disruptive bool `json:"disruptive,omitempty"`
	// Note is what the look has shown and no review is about, such as "93 MB to
	// download". It may differ at the next look: the digest leaves it out, and apply is
	// not held to it.
	Note string `json:"note,omitempty"`
	// BackDisruptive is the same of taking the change back.
	BackDisruptive bool `json:"back_disruptive,omitempty"`
	// Data is the module's own.
	Data json.RawMessage `json:"data,omitempty"`
	// Content is what a file is to hold. A plan has it by its SHA-256, Digest, among
	// its Contents: many hosts get one file.
	Content []byte `json:"-"`
	Digest  string `json:"content,omitempty"`
	// Was is, of a change that is taken back, what the step found before it changed
	// anything, in the module's own words.
	Was json.RawMessage `json:"was,omitempty"`
	// Items are changes of which it consists, in the order in which they are done: of
	// the files of a folder, or of what takes back a loop.
	Items []Change `json:"items,omitempty"`
}

// Reversed is the change as an undo shows it: what it takes back, with the same
// Data, which the module's Undo reads.
func (c Change) Reversed() Change {
	if c.Action == Exec {
		return Change{Action: ReadOnly, Summary: "nothing takes back: " + c.Summary, Back: c.Summary}
	}
	out := Change{Action: c.Action, Summary: c.Back, Back: c.Summary, Disruptive: c.BackDisruptive, BackDisruptive: c.Disruptive, Data: c.Data, Digest: c.Digest}
	switch c.Action {
	case Create:
		out.Action = Delete
	case Delete:
		out.Action = Create
	}
	if out.Summary == "" {
		out.Summary = "take back: " + c.Summary
	}
	for _, f := range slices.Backward(c.Fields) {
		out.Fields = append(out.Fields, Field{Name: f.Name, Before: f.After, After: f.Before})
	}
	return out
}

// Field is one value before and after. An empty string is shown as absent.
type Field struct {
	Name   string `json:"name"`
	Before string `json:"before"`
	After  string `json:"after"`
}
