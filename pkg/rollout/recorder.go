package rollout

import (
	"context"
	"time"
)

// Operation is one thing that was done to a node or to the cluster: a command,
// an upload, a write to the API server. The journal keeps all of them, so that
// a run can be told afterwards command by command. Secrets are never in it.
type Operation struct {
	// Kind is "ssh", "upload" or "api".
	Kind string `json:"kind"`
	Host string `json:"host"`
	// Text is the command line, or "PATCH /apis/…" with the body.
	Text    string        `json:"text"`
	Started time.Time     `json:"started"`
	Took    time.Duration `json:"took"`
	// Result is "rc 0", "200 OK" or the error.
	Result string `json:"result"`
	// Output is the end of what a command printed, its standard error behind its
	// standard output.
	Output string `json:"output,omitempty"`
}

// Recorder takes what a step has to say while it runs. Its methods may be called
// from several goroutines and never wait for a disk or a screen. What a step
// must not forget is no matter for it: that is an outcome (Intends).
type Recorder interface {
	// Record notes an operation.
	Record(Operation)
	// Progress is a line for the person who watches.
	Progress(text string)
}

type recorderKey struct{}

// WithRecorder returns a context whose Recorder connections and API clients
// report to by themselves, so that no module has to remember it.
func WithRecorder(ctx context.Context, r Recorder) context.Context {
	return context.WithValue(ctx, recorderKey{}, r)
}

// RecorderFrom returns the Recorder of the context, or one that drops
// everything, as when nodes are only observed.
func RecorderFrom(ctx context.Context) Recorder {
	if r, ok := ctx.Value(recorderKey{}).(Recorder); ok {
		return r
	}
	return discard{}
}

type discard struct{}

func (discard) Record(Operation) {}
func (discard) Progress(string)  {}
