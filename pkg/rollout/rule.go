package rollout

import (
	"fmt"
	"reflect"
	"time"
)

// Rule is something that a policy can ask of a host, or of the cluster on
// [Localhost], beyond what a playbook declares. It belongs to the package whose
// facts it judges, and it is pure: what it has to know is observed before.
type Rule struct {
	// Name is how a policy names it.
	Name string
	// Help is one line for a person.
	Help string
	// Params are the arguments that a policy may give.
	Params Params
	// Cluster is set where it is asked of the cluster, once, and not of each host.
	Cluster bool
	// Reads are what it has to know of the host, OfCluster the sections of Localhost
	// that it has to know beside.
	Reads     []Read
	OfCluster []Read
	// With makes the judgement of a policy's arguments, or says what is wrong with
	// them.
	With func(Args) (Judgement, error)
}

// Judgement holds a host against a policy. A *Problem as its error means that it
// cannot be judged.
type Judgement func(Look) (Finding, error)

// Look is what a Judgement sees.
type Look struct {
	Host string
	// Cluster is what was observed on Localhost.
	State, Cluster State
	Now            time.Time
}

// AnySection is a Section whose type is known to reflection alone, for those who
// judge any fact.
type AnySection interface {
	Name() string
	// Type is that of the section's value, a struct.
	Type() reflect.Type
	// Any is Get.
	Any(State) (any, error)
}

// Type is the section's.
func (s Section[T]) Type() reflect.Type { return reflect.TypeFor[T]() }

// Any is Get for those who do not know the type.
func (s Section[T]) Any(st State) (any, error) { return s.Get(st) }

// Holds is a finding of what holds.
func Holds(format string, args ...any) Finding { return Finding{Text: fmt.Sprintf(format, args...)} }

// Drifts is a finding of what does not hold. A field whose Before differs from host
// to host keeps it out of the text, so that hosts with the same trouble stand together.
func Drifts(text string, fields ...Field) Finding {
	return Finding{Drift: true, Text: text, Fields: fields}
}

// Ruling is how a host stood against one rule of a policy, as it is remembered.
type Ruling struct {
	Host, Policy, Rule string
	Status             string
	// Text says what was found when this status was first seen.
	Text string
	// Since is when it was first seen with this status.
	Since time.Time
}
