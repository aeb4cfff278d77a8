package rollout

import "time"

// Manner is how the steps of a task are done, by the keywords of its playbook.
type Manner struct {
	// IgnoreErrors keeps a host in the run where the task failed on it,
	// IgnoreUnreachable where it could not be reached.
	IgnoreErrors      bool `json:"ignore_errors,omitempty"`
	IgnoreUnreachable bool `json:"ignore_unreachable,omitempty"`
	// AnyErrorsFatal halts the run after the task where it lost a host there.
	AnyErrorsFatal bool `json:"any_errors_fatal,omitempty"`
	// NoLog keeps what the task does and registers out of the journal and off the
	// screen.
	NoLog bool `json:"no_log,omitempty"`
	// Once has one host of each batch do the task for all: the first that is left.
	Once bool `json:"once,omitempty"`
	// Ends is what comes to its end where the step is done.
	Ends Ends `json:"ends,omitempty"`
	// Throttle bounds how many hosts do the task at once; 0 = as many as there are
	// forks.
	Throttle int `json:"throttle,omitempty"`
	// Timeout bounds the step, for one item if it has several; 0 = no bound.
	Timeout time.Duration `json:"timeout,omitempty"`
}

// Ends is what a task brings to its end: nothing behind it in its play is done there,
// no rescue, no always and no handler, and no host has failed by that.
type Ends string

const (
	EndsHost  Ends = "host"
	EndsBatch Ends = "batch" // of a task that is done once for it
	EndsPlay  Ends = "play"  // the same
)
