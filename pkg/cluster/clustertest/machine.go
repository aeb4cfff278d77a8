// Package clustertest drives the modules of pkg/cluster and pkg/calico in tests, and
// compares what they say with files.
//
// [Machine] stands in for the engine. It does one step at a time, keeps what the step
// notes as the fold does, and has the run's clock go on by what the step waits for. It
// shows no order of steps, no gate, no journal and no other host.
package clustertest

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// Notes is a Recorder that keeps everything, as the journal would.
type Notes struct {
	mu  sync.Mutex
	Ops []rollout.Operation
}

func (n *Notes) Record(o rollout.Operation) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.Ops = append(n.Ops, o)
}

func (n *Notes) Progress(string) {}

// Wrote lists the recorded writes, each once, without the queries of their URLs.
func (n *Notes) Wrote() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for _, o := range n.Ops {
		method, rest, _ := strings.Cut(o.Text, " ")
		path, body, _ := strings.Cut(rest, " ")
		path, _, _ = strings.Cut(path, "?")
		if line := strings.TrimSpace(method + " " + path + " " + body); !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	return out
}

// Machine is the engine for one step: it asks again as long as the step wants
// to be asked, with the notes of before. Its clock is the run's: it goes on by
// what the step waits for, and not by itself.
type Machine struct {
	Notes
	// Now is the run's clock, Began when the step began by it, Attempt counts its calls.
	Now, Began time.Duration
	Attempt    int
	// SoFar are the notes of the step, Messages what it said, each once in a row.
	SoFar    map[string]string
	Messages []string
	// Pause, if set, is waited for really between two calls, where something else
	// needs the time; Limit bounds it all.
	Pause time.Duration
	Limit time.Duration
	// Look, if set, is called before every attempt.
	Look func(attempt int)
	// Undo has it taken back.
	Undo bool
}

// Run does the step to its end.
func (m *Machine) Run(t *testing.T, mod rollout.Module, host string, c rollout.Change) rollout.Outcome {
	t.Helper()
	if m.Limit == 0 {
		m.Limit = 2 * time.Minute
	}
	deadline := time.Now().Add(m.Limit)
	for {
		o := m.Once(mod, host, c)
		if len(m.Messages) == 0 || m.Messages[len(m.Messages)-1] != o.Message {
			m.Messages = append(m.Messages, o.Message)
		}
		if o.Final() {
			return o
		}
		if time.Now().After(deadline) || m.Attempt > 1000 {
			t.Fatalf("step did not end within %s and %d attempts; it said:\n%s", m.Limit, m.Attempt, strings.Join(m.Messages, "\n"))
		}
		wait := o.After
		if m.Pause > 0 {
			wait = min(wait, m.Pause)
			time.Sleep(wait)
		}
		m.Now += wait
	}
}

// Once is one attempt of Do (or Undo), with the calls that intentions ask for.
func (m *Machine) Once(mod rollout.Module, host string, c rollout.Change) rollout.Outcome {
	m.Attempt++
	if m.Look != nil {
		m.Look(m.Attempt)
	}
	for {
		o := m.Call(mod, host, c)
		if o.Kind != rollout.Intends {
			return o
		}
	}
}

// Call is one call, whose notes it keeps as the fold does.
func (m *Machine) Call(mod rollout.Module, host string, c rollout.Change) rollout.Outcome {
	s := rollout.Step{Host: host, Change: c, Attempt: max(1, m.Attempt), Now: m.Now, Elapsed: m.Now - m.Began, SoFar: maps.Clone(m.SoFar)}
	do := mod.Do
	if m.Undo {
		do = mod.Undo
	}
	o := do(rollout.WithRecorder(context.Background(), &m.Notes), s)
	if m.SoFar == nil {
		m.SoFar = map[string]string{}
	}
	for k, v := range o.Notes {
		if v == "" {
			delete(m.SoFar, k)
		} else {
			m.SoFar[k] = v
		}
	}
	return o
}

// State builds a State of sections.
func State(t *testing.T, sections ...func(rollout.State) rollout.State) rollout.State {
	t.Helper()
	st := rollout.State{}
	for _, s := range sections {
		st = s(st)
	}
	return st
}

// With puts a section into a State.
func With[T any](sec rollout.Section[T], v T) func(rollout.State) rollout.State {
	return func(st rollout.State) rollout.State { return sec.With(st, v) }
}
