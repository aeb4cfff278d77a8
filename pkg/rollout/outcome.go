package rollout

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"
)

// OutcomeKind is how a call of Do or Undo ended.
type OutcomeKind string

const (
	Changed   OutcomeKind = "changed"
	Unchanged OutcomeKind = "unchanged"
	// Intends says that the next call will have an effect that must not be
	// forgotten: the notes are made durable, then the step is called again.
	Intends OutcomeKind = "intends"
	// Retrying and Waiting are not ends: the step is called again after
	// Outcome.After. Retrying says that an attempt failed and may succeed later;
	// Waiting that the step has done its part and watches the world follow.
	Retrying OutcomeKind = "retrying"
	Waiting  OutcomeKind = "waiting"
	// Skipped: its condition, which a result of the run decided, was false.
	Skipped     OutcomeKind = "skipped"
	Failed      OutcomeKind = "failed"
	Unreachable OutcomeKind = "unreachable"
)

// Outcome is the answer of a module to Do or Undo. It is plain data, so a call
// can run on another machine.
type Outcome struct {
	Kind OutcomeKind `json:"kind"`
	// Message says what was done or could not be done, on one line; Hint what
	// to do next.
	Message string `json:"message,omitempty"`
	Hint    string `json:"hint,omitempty"`
	// After is how long to leave a retrying or waiting step alone.
	After time.Duration `json:"after,omitempty"`
	// Notes are what the later calls of the same step find in Step.SoFar, also
	// after a crash. An empty value takes a note away.
	Notes map[string]string `json:"notes,omitempty"`
	// Result is what the task registers, or the facts that it sets, a JSON object
	// in Ansible's names; it is kept where the task does either.
	Result json.RawMessage `json:"result,omitempty"`
	// Ignored is set where the playbook says that it does not matter that the host
	// failed or could not be reached (ignore_errors, ignore_unreachable).
	Ignored bool `json:"ignored,omitempty"`
}

// Final reports whether the step is over.
func (o Outcome) Final() bool { return o.Kind != Retrying && o.Kind != Waiting && o.Kind != Intends }

// Bad reports whether the host is lost to the run: failed or unreachable.
func (o Outcome) Bad() bool { return (o.Kind == Failed || o.Kind == Unreachable) && !o.Ignored }

// Note returns the outcome with one more note.
func (o Outcome) Note(key, value string) Outcome {
	notes := maps.Clone(o.Notes)
	if notes == nil {
		notes = map[string]string{}
	}
	notes[key] = value
	o.Notes = notes
	return o
}

// Did is the outcome of a step that changed something.
func Did(format string, a ...any) Outcome {
	return Outcome{Kind: Changed, Message: fmt.Sprintf(format, a...)}
}

// AlreadyDone is the outcome of a step that found nothing left to do, or of a
// check that passed.
func AlreadyDone(format string, a ...any) Outcome {
	return Outcome{Kind: Unchanged, Message: fmt.Sprintf(format, a...)}
}

// Intend asks for a note to be made durable, and for the step to be called
// again with it: what a step must know after a crash (the boot_id from before a
// reboot) has to be on the disk before the effect, not after.
func Intend(key, value string) Outcome { return Outcome{Kind: Intends}.Note(key, value) }

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

// HiddenText stands for what is not to be kept (no_log).
const HiddenText = "hidden: no_log is set"

// Hidden is the outcome as it is kept of a task with no_log: how it ended, and no
// more. What it registered is known to the process that did it alone.
func (o Outcome) Hidden() Outcome {
	if o.Message != "" {
		o.Message = HiddenText
	}
	o.Hint = ""
	if len(o.Result) > 0 {
		// Ansible's word. Texts and booleans cannot fail.
		o.Result, _ = json.Marshal(map[string]any{"censored": HiddenText, "changed": o.Kind == Changed, "failed": o.Kind == Failed})
	}
	return o
}
