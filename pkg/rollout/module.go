package rollout

import "context"

// About is what a module says of itself, so that the core need not guess.
type About struct {
	// Params are the arguments that a task may give.
	Params Params
	// Guards says what the module's steps are there for, if not for themselves.
	Guards Guards
	// Rule is the name of the compliance rule that the module's state is judged
	// by. "" = its tasks are steps on a way, and declare no state.
	Rule string
	// Open is the action of steps whose condition or arguments a result of the run
	// decides: the module's Diff asks for no state. "" = it has to know its
	// arguments when the plan is made.
	Open Action
	// Facts is set when the steps' results are variables of the host (set_fact).
	Facts bool
	// Gathers is set when these variables are what the host says of itself, which
	// playbooks find in ansible_facts, too.
	Gathers bool
	// Uncounted is set when a recap leaves the steps out, as Ansible's does with meta.
	Uncounted bool
}

// Guards is what a guard protects. Where there is nothing of it, the guard has
// nothing to do.
type Guards string

const (
	// Changes: a check that matters where its play changes something on the host.
	Changes Guards = "changes"
	// Disruptions: a step that matters where another one of its play takes the
	// host out of service, such as a drain before a reboot.
	Disruptions Guards = "disruptions"
)

// Differ is the pure half of a module.
type Differ interface {
	About() About
	// Reads lists what has to be observed before Diff can be asked.
	Reads(args Args) []Read
	// Diff says what the task would change on a host in this state, and the
	// state that the host is in afterwards, which the tasks after it are
	// planned on. The state is the one that all tasks before it will have
	// left. A *Problem as the error means: this host is not fit for the change.
	// Any other error is a mistake in the arguments or in fleetd.
	Diff(host string, before State, args Args) (Change, State, error)
}

// Module is one thing that a task can name: the only place where fleetd
// touches a node or the cluster. It is built when the program is wired, with
// the connections and clients that it needs.
type Module interface {
	Differ
	// Do makes the change, or one step of the way to it: a short call with at
	// most one effect, which says by its outcome whether and when it wants to be
	// called again. It is idempotent: called again after a crash at any point it
	// ends in the same state. The context carries the Recorder.
	Do(ctx context.Context, s Step) Outcome
	// Undo takes the change back in the same way, as far as Data in the change
	// allows.
	Undo(ctx context.Context, s Step) Outcome
}

// Keeper is a Module of which a later step needs that what it did still holds, as a
// reboot needs that the node is still drained: a person may have given the node work
// again while no fleetd was at it.
type Keeper interface {
	// Keeps looks whether what the step did, by Do or by Undo, still holds. Where it
	// does not, the outcome is what becomes of the later step. It changes nothing.
	Keeps(ctx context.Context, s Step, undo bool) (o Outcome, holds bool)
}

type keepersKey struct{}

// WithKeepers returns a context for a step that asks before it takes its host out of
// service.
func WithKeepers(ctx context.Context, ask func(context.Context) (Outcome, bool)) context.Context {
	return context.WithValue(ctx, keepersKey{}, ask)
}

// StillKept asks the steps before this one on its host whether what they did still
// holds. A module asks right before it takes the host out of service; where it does
// not hold, the outcome is its own.
func StillKept(ctx context.Context) (o Outcome, holds bool) {
	if ask, ok := ctx.Value(keepersKey{}).(func(context.Context) (Outcome, bool)); ok {
		return ask(ctx)
	}
	return o, true
}

// Judge is a Differ whose compliance is more than that Diff would write nothing.
type Judge interface {
	// Judge holds the state of a host against what the arguments ask for.
	Judge(host string, state State, args Args) ([]Finding, error)
}

// Finding is how a host stands against one rule.
type Finding struct {
	Rule string
	// Drift is set when it is not as the policy wants it.
	Drift bool
	// Text says what holds, or what would be changed.
	Text string
	// Fields are the values that differ: Before is what is, After what is wanted.
	Fields []Field
}

// Observer reads one section of the state of many hosts at once. It only reads.
// The answer has an entry for every host that was asked.
type Observer interface {
	Section() string
	Observe(ctx context.Context, keys map[string][]string) map[string]SectionObservation
}

// SectionObservation is one section of one host: its JSON, or why not; and what
// the core has to know of the host that is in no section's language.
type SectionObservation struct {
	Value []byte
	Err   error
	// Identity tells this machine, or this cluster, from every other: names and
	// values such as "machine_id". A plan is bound to them.
	Identity map[string]string
	// Down says why the host is out of service as it stands. "" = it serves, or
	// the section cannot tell.
	Down string
	// ControlPlane is set when the cluster says that the host carries it.
	ControlPlane bool
}
