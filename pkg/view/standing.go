package view

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
)

// HostState is where a host of a run stands.
type HostState string

const (
	HostAhead   HostState = "ahead"   // its turn is still to come
	HostWorking HostState = "working" // a step is being done on it
	HostWaiting HostState = "waiting" // a step waits: for the world to follow, or to be tried again
	HostBetween HostState = "between" // it has begun, and none of its steps is under way
	HostThrough HostState = "through" // all that was to do is done
	HostIdle    HostState = "idle"    // there was nothing to do
	HostLost    HostState = "lost"    // it failed or could not be reached
)

// HostStates are all of them, those first that want to be looked at.
func HostStates() []HostState {
	return []HostState{HostLost, HostWaiting, HostWorking, HostBetween, HostAhead, HostThrough, HostIdle}
}

// Standing is a run as it stands, for who looks at it from outside.
type Standing struct {
	RunRow
	// Verdict is the run in one or two lines.
	Verdict string `json:"verdict"`
	// Steps are those that the run is expected to do, StepsOver of them have ended.
	Steps     int `json:"steps"`
	StepsOver int `json:"steps_over"`
	// Hosts counts the hosts by state.
	Hosts map[HostState]int `json:"hosts"`
	Plays []PlayStanding    `json:"plays"`
	// AtWork are the steps under way, the longest first; Causes what took hosts from
	// the run.
	AtWork []Activity `json:"at_work,omitempty"`
	Causes []LostTo   `json:"causes,omitempty"`
	Halt   *HaltOf    `json:"halt,omitempty"`
	// Asked is what somebody has asked of the run.
	Asked *rollout.Request `json:"asked,omitempty"`
	// Next are the command lines that fit how it ended.
	Next []Command `json:"next,omitempty"`
	// Each is every host, in the plan's order. Local is what localhost is called.
	Each  []HostOfRun `json:"-"`
	Local string      `json:"-"`

	plan *rollout.Plan
}

// HaltOf is where and why a run was halted.
type HaltOf struct {
	Play   int    `json:"play"` // from 1
	Batch  int    `json:"batch"`
	Reason string `json:"reason"`
}

// PlayStanding is a play of a run as it stands.
type PlayStanding struct {
	Name    string         `json:"name"`
	Current bool           `json:"current,omitempty"` // the run is at it
	Batches []BatchOf      `json:"batches"`
	Tasks   []TaskStanding `json:"tasks"`
}

// BatchOf is a batch with the state of each of its hosts.
type BatchOf struct {
	Current bool   `json:"current,omitempty"`
	Hosts   []Cell `json:"hosts"`
}

// Cell is one host in a play.
type Cell struct {
	Host  string    `json:"host"`
	State HostState `json:"state"`
}

// TaskStanding counts the hosts by how far they are with a task.
type TaskStanding struct {
	Name   string `json:"name"`
	Module string `json:"module"`
	Over   int    `json:"over"`
	AtWork int    `json:"at_work"`
	Lost   int    `json:"lost"`
	Left   int    `json:"left"`
}

// Activity is a step that hosts are at.
type Activity struct {
	Hosts   string    `json:"hosts"` // as a range
	First   string    `json:"first"` // one of them
	Task    string    `json:"task"`
	State   HostState `json:"state"`
	Message string    `json:"message,omitempty"`
	// Seconds is how long the longest has been at it, Usual how long it took in earlier
	// runs; 0 = that is not known.
	Seconds float64 `json:"seconds"`
	Usual   float64 `json:"usual_seconds,omitempty"`
	names   []string
}

// Took is how long it has been going on, and how long it usually does.
func (a Activity) Took() string {
	s := Took(time.Duration(a.Seconds * float64(time.Second)))
	if a.Usual >= 1 {
		s += ", usually " + Took(time.Duration(a.Usual*float64(time.Second)))
	}
	return s
}

// LostTo is a cause, and the hosts that the run lost to it.
type LostTo struct {
	Hosts   string              `json:"hosts"` // as a range
	Names   []string            `json:"names"`
	Task    string              `json:"task"`
	Kind    rollout.OutcomeKind `json:"outcome"`
	Message string              `json:"message"`
	Hint    string              `json:"hint,omitempty"`
	Note    string              `json:"note,omitempty"` // whose words they are
}

// HostOfRun is one host of a run as it stands.
type HostOfRun struct {
	Host  string    `json:"host"`
	State HostState `json:"state"`
	// Play and Batch, from 1, are where it is, or was when it ended; 0 = it has
	// begun none.
	Play  int `json:"play"`
	Batch int `json:"batch"`
	// Task is the step that it is at, or at which the run lost it.
	Task    string  `json:"task,omitempty"`
	Message string  `json:"message,omitempty"`
	Hint    string  `json:"hint,omitempty"`
	Seconds float64 `json:"seconds,omitempty"` // how long it is at that step
	Over    int     `json:"steps_over"`
	Steps   int     `json:"steps"`
}

// StandingOf sums up how a run stands. held says whether a process holds the lock
// for it; since is how long ago its last event came about; usual is what earlier runs
// have shown, if there were any.
func StandingOf(id string, r *rollout.Run, held bool, since time.Duration, usual rollout.Usual, next Next) Standing {
	c := recapOf(id, r, nil)
	s := Standing{RunRow: rowOf(id, r, held, &c), Hosts: map[HostState]int{}, Local: hostNames(named(&r.Plan, []string{rollout.Localhost})), plan: &r.Plan}
	s.Asked = r.Asked
	if h := r.Halt; h != nil {
		s.Halt = &HaltOf{h.Play + 1, h.Batch + 1, h.Reason}
	}
	live := s.Status == rollout.Running
	now := r.Clock
	if live {
		now += max(0, since)
		s.Seconds = now.Seconds()
	}
	b := boardOf(r, live, now, usual)
	s.Plays, s.Each, s.AtWork, s.Steps, s.StepsOver = b.plays, b.each, b.activities(&r.Plan), b.steps, b.over
	for _, h := range s.Each {
		s.Hosts[h.State]++
	}
	for _, k := range c.causes() {
		s.Causes = append(s.Causes, LostTo{hostNames(c.named(k.hosts)), k.hosts, k.Task, k.Kind, k.Message, k.Hint, asOf(k.hosts[0], k.same)})
	}
	s.Verdict = s.verdict(r, &c)
	if !live {
		c.Status = s.Status
		s.Next = c.commands(next)
	}
	return s
}

// verdict is the run in one or two lines.
func (s *Standing) verdict(r *rollout.Run, c *recap) string {
	worked := took(time.Duration(s.Seconds * float64(time.Second)))
	switch {
	case s.Status == rollout.Running:
		var parts []string
		if r.Asked != nil {
			parts = append(parts, toStop(r.Asked)+".")
		}
		for pi, p := range s.Plays {
			if !p.Current {
				continue
			}
			at := fmt.Sprintf("Play %d of %d, %s", pi+1, len(s.Plays), p.Name)
			for bi, b := range p.Batches {
				if b.Current && len(p.Batches) > 1 {
					at += fmt.Sprintf(", batch %d of %d", bi+1, len(p.Batches))
				}
			}
			parts = append(parts, at+".")
		}
		through, all := 0, 0
		for _, h := range s.Each {
			if h.Host == rollout.Localhost && len(s.Each) > 1 {
				continue // it is the cluster
			}
			if all++; h.State == HostThrough || h.State == HostIdle {
				through++
			}
		}
		hosts := fmt.Sprintf("%d of %s through", through, count(all, "host"))
		if n := s.Hosts[HostWorking] + s.Hosts[HostWaiting]; n > 0 {
			hosts += fmt.Sprintf(", %d at work", n)
		}
		if n := s.Hosts[HostLost]; n > 0 {
			hosts += fmt.Sprintf(", %d lost", n)
		}
		return strings.Join(append(parts, hosts+", "+Took(time.Duration(s.Seconds*float64(time.Second)))+" so far."), " ")
	case r.Status == rollout.Running && r.Asked != nil && r.Asked.Verb == rollout.Abort:
		return fmt.Sprintf("Cut off after %s, while it was being aborted %s: %s. A resume brings to its end what was begun, and ends it.", worked, asker(r.Asked), c.did(r.Plan.Undoes != ""))
	case r.Status == rollout.Running:
		return fmt.Sprintf("Cut off after %s: %s. The fleetd that was at it is gone; what was begun is in the journal.", worked, c.did(r.Plan.Undoes != ""))
	}
	var b bytes.Buffer
	c.verdict(&b, Style{}, r)
	return strings.TrimSpace(b.String())
}

// board is every step of a run, by play, batch and task.
type board struct {
	plays []PlayStanding
	each  []HostOfRun
	steps int
	over  int
	work  []Activity // one for each host
	usual rollout.Usual
}

// hostInPlay counts the steps of one host in one play.
type hostInPlay struct {
	begun, active, waiting bool
	over, left             int
	at                     rollout.StepID
	last                   int // the last task that it has begun
}

// boardOf looks at every step. live is set where a process is at the run, whose
// clock is at now.
func boardOf(r *rollout.Run, live bool, now time.Duration, usual rollout.Usual) board {
	b := board{usual: usual}
	hosts := map[string]*HostOfRun{}
	for _, h := range r.Plan.Hosts() {
		b.each = append(b.each, HostOfRun{Host: h, State: HostIdle})
	}
	for i := range b.each {
		hosts[b.each[i].Host] = &b.each[i]
	}
	current := false
	for pi := range r.Plan.Plays {
		play := &r.Plan.Plays[pi]
		p := PlayStanding{Name: play.Name, Tasks: make([]TaskStanding, len(play.Tasks))}
		for ti, t := range play.Tasks {
			p.Tasks[ti] = TaskStanding{Name: taskName(t), Module: t.Module}
		}
		for bi, batch := range play.Batches {
			row := BatchOf{Hosts: make([]Cell, len(batch))}
			ends := true
			for i, h := range batch {
				in := b.inPlay(r, pi, h, &p)
				lostAt, lost := r.Lost(h)
				state := in.state(lost && lostAt.Play <= pi, live)
				row.Hosts[i] = Cell{h, state}
				ends = ends && (state == HostThrough || state == HostIdle || state == HostLost)
				b.host(r, hosts[h], in, state, pi, bi, now)
			}
			if !ends && !current {
				row.Current, p.Current, current = live, live, true
			}
			p.Batches = append(p.Batches, row)
		}
		b.plays = append(b.plays, p)
	}
	return b
}

// inPlay counts the steps of a host in a play.
func (b *board) inPlay(r *rollout.Run, pi int, host string, p *PlayStanding) (in hostInPlay) {
	in.at, in.last = rollout.StepID{Task: -1}, -1
	for ti := range p.Tasks {
		id := rollout.StepID{Play: pi, Task: ti, Host: host}
		planned, ok := r.Plan.Step(id)
		if !ok || !planned.Counts() {
			continue
		}
		state, t := r.Step(id), &p.Tasks[ti]
		_, lost := r.Lost(host)
		switch {
		case state == nil && (r.Passes(id) || r.Plan.Standby(id)):
			continue
		case state == nil && lost: // its turn does not come any more
		case state == nil:
			in.left++
			t.Left++
		case !state.Over():
			in.begun, in.last, in.at = true, ti, id
			in.left++
			in.active = in.active || state.Active
			in.waiting = in.waiting || state.Outcome.Kind == rollout.Waiting || state.Outcome.Kind == rollout.Retrying
			t.AtWork++
		case state.Outcome.Bad() && !r.Rescued(id):
			in.begun, in.last = true, ti
			in.over++
			t.Lost++
		default:
			in.begun, in.last = true, ti
			in.over++
			t.Over++
		}
	}
	b.steps, b.over = b.steps+in.over+in.left, b.over+in.over
	return in
}

func (in hostInPlay) state(lost, live bool) HostState {
	switch {
	case lost:
		return HostLost
	case live && in.waiting:
		return HostWaiting
	case live && in.active:
		return HostWorking
	case in.left > 0 && in.begun:
		return HostBetween
	case in.left > 0:
		return HostAhead
	case in.over > 0:
		return HostThrough
	}
	return HostIdle
}

// host adds what a host is at in one play to what is known of it.
func (b *board) host(r *rollout.Run, h *HostOfRun, in hostInPlay, state HostState, play, batch int, now time.Duration) {
	h.Over, h.Steps = h.Over+in.over, h.Steps+in.over+in.left
	// A host that is through with one play and has another ahead is between them.
	before := h.State
	switch {
	case before == HostLost:
		return
	case before == HostIdle || before == HostThrough && state != HostIdle && state != HostAhead:
		h.State = state
	case before == HostThrough && state == HostAhead:
		h.State = HostBetween
	}
	if in.begun {
		h.Play, h.Batch = play+1, batch+1
	}
	switch {
	case state == HostLost:
		at, _ := r.Lost(h.Host)
		o := r.Step(at).Outcome
		h.Task, h.Message, h.Hint = taskName(r.Plan.Task(at)), o.Message, o.Hint
	case state == HostWorking || state == HostWaiting:
		s := r.Step(in.at)
		h.Task, h.Message, h.Seconds = taskName(r.Plan.Task(in.at)), s.Outcome.Message, (now - s.First).Seconds()
		b.work = append(b.work, Activity{First: h.Host, Task: h.Task, State: state, Message: h.Message, Seconds: h.Seconds, Usual: b.usual.Of(r.Plan.Task(in.at)).Seconds()})
	}
}

// activities puts hosts together that are at the same step and say the same of it.
func (b *board) activities(p *rollout.Plan) []Activity {
	type key struct {
		task, message string
		state         HostState
	}
	at := map[key]int{}
	var out []Activity
	for _, a := range b.work {
		k := key{a.Task, ofAny(a.First, a.Message), a.State}
		i, known := at[k]
		if !known {
			i = len(out)
			at[k], out = i, append(out, a)
			out[i].Message = ofOne(a.First, a.Message)
		}
		out[i].names, out[i].Seconds = append(out[i].names, a.First), max(out[i].Seconds, a.Seconds)
	}
	for i := range out {
		out[i].Hosts = hostNames(named(p, out[i].names))
	}
	slices.SortStableFunc(out, func(a, b Activity) int { return cmp.Compare(b.Seconds, a.Seconds) })
	return out
}

// hostWords say what a state means.
var hostWords = map[HostState]string{
	HostLost: "lost", HostWaiting: "waiting", HostWorking: "at work", HostBetween: "begun", HostAhead: "ahead", HostThrough: "through", HostIdle: "nothing to do",
}

// Word says what a state means.
func (h HostState) Word() string { return hostWords[h] }

// write writes how the run stands: hosts by state, those first that want to be
// looked at, with what they are at.
func (s *Standing) write(w io.Writer, st Style) {
	by := ""
	if s.By != "" {
		by = ", by " + text.Printable(s.By)
	}
	fmt.Fprintf(w, "run %s: %s%s\n%s\n\n", st.bold(s.ID), s.Status, by, text.Printable(s.Verdict))
	line := func(state HostState, hosts, what string) {
		word := fmt.Sprintf("%-14s", state.Word())
		switch state {
		case HostLost:
			word = st.red(word)
		case HostWaiting, HostBetween:
			word = st.yellow(word)
		case HostThrough:
			word = st.green(word)
		}
		if what != "" {
			hosts += "  " + text.Printable(strings.ReplaceAll(what, "\n", " "))
		}
		fmt.Fprintf(w, "  %s%s\n", word, hosts)
	}
	for _, c := range s.Causes {
		line(HostLost, st.bold(c.Hosts), fmt.Sprintf("%s: %s  %s", c.Task, c.Kind, c.Message))
		if c.Hint != "" {
			indent(w, strings.Repeat(" ", 16), c.Hint)
		}
	}
	for _, state := range []HostState{HostWaiting, HostWorking} {
		for _, a := range s.AtWork {
			if a.State != state {
				continue
			}
			what := a.Task
			if a.Message != "" {
				what += ": " + a.Message
			}
			line(state, st.bold(a.Hosts), what+"  ("+a.Took()+")")
		}
	}
	for _, state := range []HostState{HostBetween, HostAhead, HostThrough, HostIdle} {
		var hosts []string
		for _, h := range s.Each {
			if h.State == state {
				hosts = append(hosts, h.Host)
			}
		}
		if len(hosts) > 0 {
			line(state, hostNames(named(s.plan, hosts)), "")
		}
	}
}
