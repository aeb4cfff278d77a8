package view

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
)

// Progress shows a run while it happens. Every line it prints stays true and
// in order, so that the output can be kept as a record; on a terminal one more
// line at the bottom says what is going on at this moment. What it costs per
// event does not grow with the plan.
type Progress struct {
	out   *Output
	st    Style
	runID string
	now   func() time.Time

	mu      sync.Mutex
	play    int
	batch   int
	batches map[string]int // of the play: by host
	active  map[rollout.StepID]activity
	total   int
	over    int
	clock   time.Duration // the run's, at the last event
	seen    time.Time     // when that was
	stopped chan struct{}
	done    sync.WaitGroup
}

// activity is a step that is under way.
type activity struct {
	since time.Duration // by the run's clock
	task  string
	text  string
}

// NewProgress shows the run of that name. now is the clock of the live line.
func NewProgress(out *Output, st Style, runID string, now func() time.Time) *Progress {
	p := &Progress{out: out, st: st, runID: runID, now: now, play: -1, batch: -1,
		active: map[rollout.StepID]activity{}, stopped: make(chan struct{})}
	if out.live {
		p.done.Go(p.tick)
	}
	return p
}

// tick keeps the live line going. Events do not touch it: a thousand of them in a
// second are one line.
func (p *Progress) tick() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			p.out.Live(p.status())
		case <-p.stopped:
			p.out.Live("")
			return
		}
	}
}

// Close takes the live line away.
func (p *Progress) Close() {
	close(p.stopped)
	p.done.Wait()
}

// Watch takes one event; it is the engine's Watch.
func (p *Progress) Watch(r *rollout.Run, e rollout.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clock, p.seen = e.Clock, p.now()
	switch e.Type {
	case rollout.RunStarted, rollout.RunResumed:
		p.begin(r, e)
	case rollout.RunRequested:
		p.out.Line(clock(e.At)+"  "+p.st.yellow(toStop(e.Request)), true)
	case rollout.StepStarted:
		p.heading(r, *e.Step, e.At)
		if _, known := p.active[*e.Step]; !known {
			p.active[*e.Step] = activity{since: r.Step(*e.Step).First, task: taskName(r.Plan.Task(*e.Step))}
		}
		if e.Attempt == 1 && r.Plan.Standby(*e.Step) {
			p.total++
		}
	case rollout.StepProgress:
		p.news(r, e, e.Text)
	case rollout.StepEnded:
		p.ended(r, e)
	}
}

// Join begins in the middle of a run, as it stands, whose last event came at seen.
func (p *Progress) Join(r *rollout.Run, s *Standing, seen time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clock, p.seen = r.Clock, seen
	p.count(r)
	r.Plan.Each(func(id rollout.StepID, _ rollout.PlannedStep) bool {
		if st := r.Step(id); st != nil && !st.Over() {
			p.active[id] = activity{since: st.First, task: taskName(r.Plan.Task(id)), text: st.Outcome.Message}
		}
		return true
	})
	var b strings.Builder
	s.write(&b, p.st)
	p.out.Line(b.String(), true)
}

// count counts the steps, and those that are over.
func (p *Progress) count(r *rollout.Run) {
	r.Plan.Each(func(id rollout.StepID, s rollout.PlannedStep) bool {
		if s.Counts() && (r.Step(id) != nil || !r.Plan.Standby(id)) {
			p.total++
			if st := r.Step(id); st != nil && st.Over() {
				p.over++
			}
		}
		return true
	})
}

func (p *Progress) begin(r *rollout.Run, e rollout.Event) {
	p.total, p.over = 0, 0
	p.count(r)
	verb, text := "run", count(r.Plan.Changes(), "change")
	if r.Plan.Undoes != "" {
		verb = "undo of " + r.Plan.Undoes + ", run"
	}
	if e.Type == rollout.RunResumed {
		verb, text = "resuming "+verb, fmt.Sprintf("%d of %s are over", p.over, count(p.total, "step"))
	}
	if n := len(r.Plan.Problems()); n > 0 {
		text += ", " + count(n, "host") + " with a problem"
	}
	p.out.Line(fmt.Sprintf("%s  %s %s: %s", clock(e.At), verb, p.st.bold(p.runID), text), true)
}

// heading says that another play or batch begins.
func (p *Progress) heading(r *rollout.Run, id rollout.StepID, at time.Time) {
	play := &r.Plan.Plays[id.Play]
	if id.Play != p.play {
		p.play, p.batch = id.Play, -1
		p.batches = map[string]int{}
		for bi, hosts := range play.Batches {
			for _, h := range hosts {
				p.batches[h] = bi
			}
		}
		p.out.Line(fmt.Sprintf("%s  %s", clock(at), p.st.bold(fmt.Sprintf("play %d/%d: %s", id.Play+1, len(r.Plan.Plays), play.Name))), true)
	}
	if bi := p.batches[id.Host]; bi != p.batch {
		p.batch = bi
		if len(play.Batches) > 1 {
			p.out.Line(fmt.Sprintf("%s  batch %d/%d: %s", clock(at), bi+1, len(play.Batches), hostNames(named(&r.Plan, play.Batches[bi]))), true)
		}
	}
}

// news says what a step is at, once and not with every look at it. It is a line
// that a slow reader may miss.
func (p *Progress) news(r *rollout.Run, e rollout.Event, text string) {
	a := p.active[*e.Step]
	if text == "" || text == a.text {
		return
	}
	a.text = text
	p.active[*e.Step] = a
	p.out.Line(p.line(r, e.At, *e.Step, taskName(r.Plan.Task(*e.Step)), p.st.dim("…"), text, 0), false)
}

func (p *Progress) ended(r *rollout.Run, e rollout.Event) {
	o := *e.Outcome
	if !o.Final() {
		p.news(r, e, o.Message)
		return
	}
	delete(p.active, *e.Step)
	p.over++
	word := string(o.Kind)
	switch {
	case r.Rescued(*e.Step):
		word = p.st.yellow(word + ", rescue follows")
	case o.Bad():
		word = p.st.red(word)
	case o.Kind == rollout.Changed:
		word = p.st.green(word)
	case o.Ignored:
		word = p.st.yellow(word + ", ignored")
	case o.Kind == rollout.Skipped:
		word = p.st.dim(word)
	default:
		word = "ok"
	}
	text := p.line(r, e.At, *e.Step, taskName(r.Plan.Task(*e.Step)), word, o.Message, e.Clock-r.Step(*e.Step).First)
	if o.Hint != "" {
		text += "\n" + indented(strings.Repeat(" ", 10), o.Hint)
	}
	p.out.Line(text, true)
}

func (p *Progress) line(r *rollout.Run, at time.Time, id rollout.StepID, task, word, message string, d time.Duration) string {
	s := fmt.Sprintf("%s  %s  %s: %s", clock(at), p.st.bold(shortName(&r.Plan, id)), task, word)
	if message != "" {
		s += "  " + text.Printable(strings.ReplaceAll(message, "\n", " "))
	}
	if d >= time.Second {
		s += "  " + p.st.dim("("+took(d)+")")
	}
	return s
}

// status is the live line. Between events the run's clock goes on.
func (p *Progress) status() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.active) == 0 {
		return ""
	}
	var oldest rollout.StepID
	since := time.Duration(-1)
	for id, a := range p.active {
		if since < 0 || a.since < since || a.since == since && id.Host < oldest.Host {
			oldest, since = id, a.since
		}
	}
	now := p.clock + p.now().Sub(p.seen)
	a := p.active[oldest]
	doing := a.task
	if a.text != "" {
		doing += ": " + text.Printable(strings.ReplaceAll(a.text, "\n", " "))
	}
	return fmt.Sprintf("%d/%d steps, %s at work, longest %s for %s: %s", p.over, p.total, count(len(p.active), "host"),
		hostNames([]string{oldest.Host}), (now - since).Truncate(time.Second), doing)
}

// toStop says that somebody has asked the run to stop, and what follows.
func toStop(q *rollout.Request) string {
	what := "A pause"
	if q.Verb == rollout.Abort {
		what = "An abort"
	}
	return what + " was asked for " + asker(q) + ". No other step starts, and what was begun comes to its end"
}

// taskName is a task as a run shows it.
func taskName(t rollout.PlannedTask) string {
	if t.Undo {
		return "undo: " + t.Name
	}
	return t.Name
}

func clock(t time.Time) string { return t.Local().Format("15:04:05") }
