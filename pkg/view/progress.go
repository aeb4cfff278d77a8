package view

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// Progress shows a run while it happens. Every line it prints stays true and
// in order, so that the output can be kept as a record; on a terminal one more
// line at the bottom says what is going on at this moment.
type Progress struct {
	w     io.Writer
	st    Style
	live  bool
	runID string
	now   func() time.Time

	mu      sync.Mutex
	play    int
	batch   int
	status  string // the live line as it stands on the screen
	active  map[rollout.StepID]activity
	total   int
	over    int
	stopped chan struct{}
	done    sync.WaitGroup
}

type activity struct {
	since time.Time
	text  string
}

// NewProgress shows the run of that name on w. now is the clock of the live line.
func NewProgress(w io.Writer, st Style, runID string, now func() time.Time) *Progress {
	p := &Progress{w: w, st: st, live: Terminal(w), runID: runID, now: now, play: -1, batch: -1,
		active: map[rollout.StepID]activity{}, stopped: make(chan struct{})}
	if p.live {
		p.done.Go(p.tick)
	}
	return p
}

// tick keeps the live line's clock going.
func (p *Progress) tick() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			p.mu.Lock()
			p.redraw()
			p.mu.Unlock()
		case <-p.stopped:
			return
		}
	}
}

// Close takes the live line away.
func (p *Progress) Close() {
	if p.live {
		close(p.stopped)
		p.done.Wait()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
}

// Watch takes one event; it is the engine's Watch.
func (p *Progress) Watch(r *rollout.Run, e rollout.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	switch e.Type {
	case rollout.RunStarted, rollout.RunResumed:
		p.begin(r, e)
	case rollout.StepStarted:
		p.heading(r, *e.Step, e.At)
		if r.Step(*e.Step).Attempts == 1 {
			p.active[*e.Step] = activity{since: e.At}
		}
	case rollout.StepProgress:
		a := p.active[*e.Step]
		a.text = e.Text
		p.active[*e.Step] = a
		p.line(e.At, *e.Step, r.Plan.Task(*e.Step).Name, p.st.dim("…"), e.Text, 0)
	case rollout.StepEnded:
		p.ended(r, e)
	}
	p.redraw()
}

func (p *Progress) begin(r *rollout.Run, e rollout.Event) {
	p.total, p.over = 0, 0
	r.Plan.Each(func(id rollout.StepID, s rollout.PlannedStep) bool {
		if s.Problem != nil || s.Change.Action != rollout.NoOp {
			p.total++
			if st := r.Step(id); st != nil && st.Over() {
				p.over++
			}
		}
		return true
	})
	verb := "run"
	if e.Type == rollout.RunResumed {
		verb = "resuming run"
	}
	fmt.Fprintf(p.w, "%s  %s %s: %s, %s\n", clock(e.At), verb, p.st.bold(p.runID), count(r.Plan.Changes(), "change"), count(len(r.Plan.Problems()), "host")+" with a problem")
}

// heading says that another play or batch begins.
func (p *Progress) heading(r *rollout.Run, id rollout.StepID, at time.Time) {
	play := r.Plan.Plays[id.Play]
	if id.Play != p.play {
		p.play, p.batch = id.Play, -1
		fmt.Fprintf(p.w, "%s  %s\n", clock(at), p.st.bold(fmt.Sprintf("play %d/%d: %s", id.Play+1, len(r.Plan.Plays), play.Name)))
	}
	for bi, hosts := range play.Batches {
		for _, h := range hosts {
			if h == id.Host && bi != p.batch {
				p.batch = bi
				if len(play.Batches) > 1 {
					fmt.Fprintf(p.w, "%s  batch %d/%d: %s\n", clock(at), bi+1, len(play.Batches), hostNames(hosts))
				}
			}
		}
	}
}

func (p *Progress) ended(r *rollout.Run, e rollout.Event) {
	o := *e.Outcome
	task := r.Plan.Task(*e.Step)
	st := r.Step(*e.Step)
	if !o.Final() {
		a := p.active[*e.Step]
		if a.text != o.Message && o.Message != "" {
			p.line(e.At, *e.Step, task.Name, p.st.dim("…"), o.Message, 0)
		}
		a.text = o.Message
		p.active[*e.Step] = a
		return
	}
	delete(p.active, *e.Step)
	p.over++
	word := string(o.Kind)
	switch {
	case o.Bad():
		word = p.st.red(word)
	case o.Kind == rollout.Changed:
		word = p.st.green(word)
	default:
		word = "ok"
	}
	p.line(e.At, *e.Step, task.Name, word, o.Message, e.At.Sub(st.First))
	if o.Hint != "" {
		indent(p.w, strings.Repeat(" ", 10), o.Hint)
	}
}

func (p *Progress) line(at time.Time, id rollout.StepID, task, word, text string, d time.Duration) {
	host := id.Host
	if host == rollout.Localhost {
		host = "cluster"
	}
	s := fmt.Sprintf("%s  %s  %s: %s", clock(at), p.st.bold(host), task, word)
	if text != "" {
		s += "  " + sshexec.Printable(strings.ReplaceAll(text, "\n", " "))
	}
	if d >= time.Second {
		s += "  " + p.st.dim("("+took(d)+")")
	}
	fmt.Fprintln(p.w, s)
}

// eraseLine empties the line that the cursor is on, on every terminal since the
// VT100. It does not reach the beginning of a text that took two lines.
const eraseLine = "\r\x1b[K"

// fit cuts a text to a line of so many columns; 0 is any number.
func fit(s string, columns int) string {
	if r := []rune(s); columns > 1 && len(r) >= columns {
		return string(r[:columns-2]) + "…" // the last column stays free: some terminals wrap there
	}
	return s
}

// erase takes the live line off the screen, redraw puts it back.
func (p *Progress) erase() {
	if p.live && p.status != "" {
		fmt.Fprint(p.w, eraseLine)
		p.status = ""
	}
}

func (p *Progress) redraw() {
	if !p.live || len(p.active) == 0 {
		return
	}
	var oldest rollout.StepID
	var since time.Time
	for id, a := range p.active {
		if since.IsZero() || a.since.Before(since) || (a.since.Equal(since) && id.Host < oldest.Host) {
			oldest, since = id, a.since
		}
	}
	s := fmt.Sprintf("%d/%d steps, %s at work, longest %s for %s", p.over, p.total, count(len(p.active), "host"), hostNames([]string{oldest.Host}), p.now().Sub(since).Truncate(time.Second))
	fmt.Fprint(p.w, eraseLine+p.st.dim(fit(s, columns(p.w))))
	p.status = s
}

func clock(t time.Time) string { return t.Local().Format("15:04:05") }
