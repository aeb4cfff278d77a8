package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// notes is a Recorder that keeps everything, as the journal would.
type notes struct {
	mu          sync.Mutex
	ops         []rollout.Operation
	checkpoints map[string]string
	messages    []string
}

func (n *notes) Record(o rollout.Operation) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ops = append(n.ops, o)
}

func (n *notes) Progress(string) {}

func (n *notes) Checkpoint(k, v string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.checkpoints == nil {
		n.checkpoints = map[string]string{}
	}
	n.checkpoints[k] = v
	return nil
}

// wrote lists the recorded writes, each once, without the queries of their URLs.
func (n *notes) wrote() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for _, o := range n.ops {
		method, rest, _ := strings.Cut(o.Text, " ")
		path, body, _ := strings.Cut(rest, " ")
		path, _, _ = strings.Cut(path, "?")
		if line := strings.TrimSpace(method + " " + path + " " + body); !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	return out
}

// machine is the engine for one step: it asks again as long as the step wants
// to be asked, with the checkpoints of before.
type machine struct {
	notes
	first   time.Time
	attempt int
	// pause bounds the waits; look, if set, is called before every attempt.
	pause time.Duration
	limit time.Duration
	look  func(attempt int)
	undo  bool
}

func (m *machine) run(t *testing.T, mod rollout.Module, host string, c rollout.Change) rollout.Outcome {
	t.Helper()
	if m.limit == 0 {
		m.limit = 2 * time.Minute
	}
	deadline := time.Now().Add(m.limit)
	for {
		o := m.once(mod, host, c)
		if len(m.messages) == 0 || m.messages[len(m.messages)-1] != o.Message {
			m.messages = append(m.messages, o.Message)
		}
		if o.Final() {
			return o
		}
		if time.Now().After(deadline) {
			t.Fatalf("step did not end within %s; it said:\n%s", m.limit, strings.Join(m.messages, "\n"))
		}
		time.Sleep(min(o.After, m.pause))
	}
}

// once is one call of Do (or Undo).
func (m *machine) once(mod rollout.Module, host string, c rollout.Change) rollout.Outcome {
	if m.first.IsZero() {
		m.first = time.Now()
	}
	m.attempt++
	if m.look != nil {
		m.look(m.attempt)
	}
	m.mu.Lock()
	s := rollout.Step{Host: host, Change: c, Attempt: m.attempt, First: m.first, Checkpoints: maps.Clone(m.checkpoints)}
	m.mu.Unlock()
	ctx := rollout.WithRecorder(context.Background(), &m.notes)
	if m.undo {
		return mod.Undo(ctx, s)
	}
	return mod.Do(ctx, s)
}

// bootIDs stands in for SSH: it answers the one command that this package runs
// on a node.
type bootIDs struct {
	mu   sync.Mutex
	ids  map[string]string
	err  error
	runs int
}

func (b *bootIDs) Run(_ context.Context, host string, c sshexec.Command) (sshexec.Result, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.runs++
	if got := strings.Join(c.Argv, " "); got != "cat /proc/sys/kernel/random/boot_id" {
		return sshexec.Result{}, fmt.Errorf("unexpected command %q", got)
	}
	if b.err != nil {
		return sshexec.Result{}, b.err
	}
	return sshexec.Result{Stdout: []byte(b.ids[host] + "\n")}, nil
}

// state builds a State of sections.
func state(t *testing.T, sections ...func(rollout.State) (rollout.State, error)) rollout.State {
	t.Helper()
	st := rollout.State{}
	for _, s := range sections {
		var err error
		if st, err = s(st); err != nil {
			t.Fatal(err)
		}
	}
	return st
}

func with[T any](sec rollout.Section[T], v T) func(rollout.State) (rollout.State, error) {
	return func(st rollout.State) (rollout.State, error) { return sec.With(st, v) }
}
