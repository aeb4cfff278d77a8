package rollout

import (
	"fmt"
	"time"
)

// OutcomeKind is how a step ended, or that it has not ended yet.
type OutcomeKind string

const (
	Changed   OutcomeKind = "changed"
	Unchanged OutcomeKind = "unchanged"
	// Retrying and Waiting are not ends: the step is asked again after Outcome.After.
	// Retrying says that an attempt failed and may succeed later; Waiting that
	// the step has done its part and watches the world follow.
	Retrying    OutcomeKind = "retrying"
	Waiting     OutcomeKind = "waiting"
	Failed      OutcomeKind = "failed"
	Unreachable OutcomeKind = "unreachable"
)

// Outcome is the answer of a module to Do or Undo.
type Outcome struct {
	Kind OutcomeKind `json:"kind"`
	// Message says what was done or could not be done, on one line; Hint what
	// to do next.
	Message string        `json:"message,omitempty"`
	Hint    string        `json:"hint,omitempty"`
	After   time.Duration `json:"after,omitempty"`
}

// Final reports whether the step is over.
func (o Outcome) Final() bool { return o.Kind != Retrying && o.Kind != Waiting }

// Bad reports whether the host is lost to the run: failed or unreachable.
func (o Outcome) Bad() bool { return o.Kind == Failed || o.Kind == Unreachable }

// Did is the outcome of a step that changed something.
func Did(format string, a ...any) Outcome {
	return Outcome{Kind: Changed, Message: fmt.Sprintf(format, a...)}
}

// AlreadyDone is the outcome of a step that found nothing left to do, or of a
// check that passed.
func AlreadyDone(format string, a ...any) Outcome {
	return Outcome{Kind: Unchanged, Message: fmt.Sprintf(format, a...)}
}

// WaitFor asks for the step to be called again after d.
func WaitFor(d time.Duration, format string, a ...any) Outcome {
	return Outcome{Kind: Waiting, After: d, Message: fmt.Sprintf(format, a...)}
}

// RetryAfter asks for the step to be called again after d because of err.
func RetryAfter(d time.Duration, err error) Outcome {
	return Outcome{Kind: Retrying, After: d, Message: err.Error()}
}

// Fail turns an error into an outcome. An error that carries a hint (a method
// Hint() string, or a *Problem) keeps it; one that says the host could not be
// reached (a method Unreachable() bool, or such a *Problem) ends as Unreachable.
func Fail(err error) Outcome {
	p := AsProblem(err)
	o := Outcome{Kind: Failed, Message: p.Message, Hint: p.Hint}
	if p.Unreachable {
		o.Kind = Unreachable
	}
	return o
}
