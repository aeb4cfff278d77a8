package rollout

import (
	"context"
	"time"
)

// Operation is one thing that was done to a node or to the cluster: a command,
// an upload, a write to the API server, a wait for a reboot. The journal keeps
// all of them, so that a run can be told afterwards command by command.
// Secrets are never in it.
type Operation struct {
	// Kind is "ssh", "upload", "reboot" or "api".
	Kind string `json:"kind"`
	Host string `json:"host"`
	// Text is the command line, or "PATCH /apis/…" with the body.
	Text    string        `json:"text"`
	Started time.Time     `json:"started"`
	Took    time.Duration `json:"took"`
	// Result is "rc 0", "200 OK" or the error.
	Result string `json:"result"`
}

// Recorder takes what a step has to say while it runs. All methods may be
// called from several goroutines.
type Recorder interface {
	// Record notes an operation.
	Record(Operation)
	// Progress is a line for the person who watches.
	Progress(text string)
	// Checkpoint stores a value durably before the step goes on. After a crash
	// the step is called again with all its checkpoints. An error means that
	// nothing is stored and the step must not go on.
	Checkpoint(key, value string) error
}

type recorderKey struct{}

// WithRecorder returns a context whose Recorder connections and API clients
// report to by themselves, so that no module has to remember it.
func WithRecorder(ctx context.Context, r Recorder) context.Context {
	return context.WithValue(ctx, recorderKey{}, r)
}

// RecorderFrom returns the Recorder of the context, or one that drops everything
// (and lets checkpoints pass), as when nodes are only observed.
func RecorderFrom(ctx context.Context) Recorder {
	if r, ok := ctx.Value(recorderKey{}).(Recorder); ok {
		return r
	}
	return discard{}
}

type discard struct{}

func (discard) Record(Operation)                {}
func (discard) Progress(string)                 {}
func (discard) Checkpoint(string, string) error { return nil }
