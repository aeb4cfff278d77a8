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
	mu       sync.Mutex
	ops      []rollout.Operation
	messages []string
}

func (n *notes) Record(o rollout.Operation) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ops = append(n.ops, o)
}

func (n *notes) Progress(string) {}

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
// to be asked, with the notes of before. Its clock is the run's: it goes on by
// what the step waits for, and not by itself.
type machine struct {
	notes
	now, began time.Duration
	attempt    int
	soFar      map[string]string
	// pause, if set, is waited for really between two calls, where something else
	// needs the time; limit bounds it all.
	pause time.Duration
	limit time.Duration
	// look, if set, is called before every attempt.
	look func(attempt int)
	undo bool
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
		if time.Now().After(deadline) || m.attempt > 1000 {
			t.Fatalf("step did not end within %s and %d attempts; it said:\n%s", m.limit, m.attempt, strings.Join(m.messages, "\n"))
		}
		wait := o.After
		if m.pause > 0 {
			wait = min(wait, m.pause)
			time.Sleep(wait)
		}
		m.now += wait
	}
}

// once is one attempt of Do (or Undo), with the calls that intentions ask for.
func (m *machine) once(mod rollout.Module, host string, c rollout.Change) rollout.Outcome {
	m.attempt++
	if m.look != nil {
		m.look(m.attempt)
	}
	for {
		o := m.call(mod, host, c)
		if o.Kind != rollout.Intends {
			return o
		}
	}
}

// call is one call, whose notes it keeps as the fold does.
func (m *machine) call(mod rollout.Module, host string, c rollout.Change) rollout.Outcome {
	s := rollout.Step{Host: host, Change: c, Attempt: max(1, m.attempt), Now: m.now, Elapsed: m.now - m.began, SoFar: maps.Clone(m.soFar)}
	do := mod.Do
	if m.undo {
		do = mod.Undo
	}
	o := do(rollout.WithRecorder(context.Background(), &m.notes), s)
	if m.soFar == nil {
		m.soFar = map[string]string{}
	}
	for k, v := range o.Notes {
		if v == "" {
			delete(m.soFar, k)
		} else {
			m.soFar[k] = v
		}
	}
	return o
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
