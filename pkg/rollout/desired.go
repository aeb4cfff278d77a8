package rollout

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// Localhost is the host that tasks about the cluster run on: the bastion
// itself, as Ansible's implicit localhost.
const Localhost = "localhost"

// Desired is a playbook compiled for an inventory: every condition and template
// is already resolved for each host, but for those that need a result of the run.
type Desired struct {
	Plays []Play
}

// Play is a list of tasks for a list of hosts.
type Play struct {
	Name     string
	Position Position
	Strategy Strategy
	// Batches are the hosts that serial takes at once, in order. Each host
	// stands in exactly one batch.
	Batches [][]string
	// MaxFailPercentage halts the run when more than this share of a batch
	// (0 to 100) failed. nil is Ansible's default: halt when all of it failed.
	MaxFailPercentage *float64
	// AnyErrorsFatal halts the run after the task in which any host failed.
	AnyErrorsFatal bool
	// MaxUnavailable is how many hosts may be out of service at once; 0 = as many
	// as a batch has.
	MaxUnavailable int
	// Blocks are those with rescue or always.
	Blocks Blocks
	Tasks  []Task
}

// Task is one module call. Args holds its resolved arguments for each host of
// the play, Open what is not resolved before the run; a host that is in neither
// is skipped, because `when` was false there.
type Task struct {
	Name     string
	Module   string
	Position Position
	// Become is whether the task acts as another user, BecomeOn the hosts that say
	// otherwise by their own variables.
	Become   bool
	BecomeOn map[string]bool
	Args     map[string]Args
	// Open is, by host, what of its step only the run tells. A host may have both:
	// then its arguments are known, and how its end is judged is not.
	Open map[string]Open
	// Register is the variable that takes the task's result; "" = none.
	Register string
	// Notify are the handlers that a change of the task calls.
	Notify []string
	// Handler is set for a handler, where it stands among the tasks: its number, the
	// same wherever it stands in the play.
	Handler int
	Manner
	// BecomeAs are, by host, the users to become, and how, where it is not the host's own
	// setting.
	BecomeAs map[string]BecomeAs
	// On are, by host, the hosts on which the task acts for it (delegate_to).
	On map[string]string
}

// on reports whether the task is one for the host.
func (t Task) on(host string) bool {
	_, bound := t.Args[host]
	_, open := t.Open[host]
	return bound || open
}

// Becomes reports whether the task acts as another user on a host.
func (t Task) Becomes(host string) bool {
	if b, says := t.BecomeOn[host]; says {
		return b
	}
	return t.Become
}

// Args are the arguments of a task, as plain data: strings, bools, int64,
// float64, []any and map[string]any.
type Args map[string]any

// What stands in Args was held against the module's Params: it has its type, or is not
// there.

// String is an argument of the type String; dflt where it is missing or blank.
func (a Args) String(name, dflt string) string {
	s, _ := a[name].(string)
	return cmp.Or(strings.TrimSpace(s), dflt)
}

// Strings is an argument of the type Strings.
func (a Args) Strings(name string) (out []string) {
	list, _ := a[name].([]any)
	for _, x := range list {
		s, _ := x.(string)
		out = append(out, s)
	}
	return out
}

// Duration is an argument of the type Duration, and longer than nothing.
func (a Args) Duration(name string, dflt time.Duration) (time.Duration, error) {
	s := a.String(name, dflt.String())
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%s: %q is no duration such as 10m", name, s)
	}
	return d, nil
}

// Strategy is how the hosts of a batch go through the tasks, in Ansible's words.
type Strategy string

const (
	// Linear waits for every host of the batch before the next task starts.
	Linear Strategy = "linear"
	// Free lets every host of the batch go on by itself.
	Free Strategy = "free"
)

// Position is a place in a file that the user wrote. Line and Column count
// from 1; Line 0 means the whole file.
type Position struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

func (p Position) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}
