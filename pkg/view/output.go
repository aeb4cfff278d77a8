package view

import (
	"container/list"
	"context"
	"fmt"
	"io"
	"sync"
)

// mostWaiting is how many lines that may be left out wait for a slow reader.
const mostWaiting = 1000

// Output is the queue between a run and whoever reads of it: a terminal that was
// stopped with Ctrl-S, a pager, a pipe that nobody empties. None of them can
// delay the run, because nothing but Output's own goroutine ever writes to
// them. What must not be missed waits in memory for as long as it takes; the
// rest is left out, oldest first, and a line in its place says how much.
type Output struct {
	w       io.Writer
	live    bool // there is a status line
	st      Style
	leftOut func(n int) string
	flushed chan struct{}

	mu     sync.Mutex
	work   sync.Cond
	lines  list.List     // of *waitingLine
	oldest *list.Element // the first line that may be left out; nil if none
	spare  int           // how many of them there are
	status string
	closed bool
	gone   bool // the reader is: everything is swallowed
}

// waitingLine is a text in the queue, or the mark of n texts that were left out.
type waitingLine struct {
	text string
	keep bool
	n    int
}

// NewOutput begins to write to w. Close must follow.
func NewOutput(w io.Writer) *Output { return newOutput(w, Terminal(w)) }

func newOutput(w io.Writer, live bool) *Output {
	o := &Output{w: w, live: live, st: StyleFor(w), flushed: make(chan struct{})}
	o.leftOut = func(n int) string {
		return o.st.dim(fmt.Sprintf("… %s left out: the reader was slow", count(n, "line")))
	}
	o.work.L = &o.mu
	go o.run()
	return o
}

// Line queues a line, which may be left out unless it is to be kept. It never
// blocks.
func (o *Output) Line(text string, keep bool) { o.add(text+"\n", keep) }

// Write queues whole lines that are kept. It never blocks, and never fails.
func (o *Output) Write(p []byte) (int, error) {
	o.add(string(p), true)
	return len(p), nil
}

func (o *Output) add(text string, keep bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.gone {
		return
	}
	e := o.lines.PushBack(&waitingLine{text: text, keep: keep})
	if !keep {
		o.spare++
		if o.oldest == nil {
			o.oldest = e
		}
		if o.spare > mostWaiting {
			o.leaveOut()
		}
	}
	o.work.Signal()
}

// Live sets the line at the bottom of a terminal, "" for none. Only the latest
// one is ever shown. It never blocks.
func (o *Output) Live(text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.live && !o.closed && !o.gone {
		o.status = text
		o.work.Signal()
	}
}

// Close takes no more, and waits until all is written or ctx is done. Without
// its error, the reader has all or is gone.
func (o *Output) Close(ctx context.Context) error {
	o.mu.Lock()
	o.closed, o.status = true, ""
	o.work.Signal()
	o.mu.Unlock()
	select {
	case <-o.flushed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// leaveOut takes the oldest line that may be left out. Its mark stands where the
// line did, and one mark for all of them that stood together.
func (o *Output) leaveOut() {
	e := o.oldest
	o.pass()
	if before := e.Prev(); before != nil {
		if mark := before.Value.(*waitingLine); mark.n > 0 {
			mark.n++
			o.lines.Remove(e)
			return
		}
	}
	e.Value = &waitingLine{n: 1, keep: true}
}

// pass goes from the oldest line that may be left out to the next one.
func (o *Output) pass() {
	o.spare--
	e := o.oldest.Next()
	for e != nil && e.Value.(*waitingLine).keep {
		e = e.Next()
	}
	o.oldest = e
}

func (o *Output) run() {
	defer close(o.flushed)
	shown := "" // the status line as it stands on the screen
	for {
		line, status, more := o.next(shown)
		if !more {
			return
		}
		text := line
		if shown != "" {
			text = eraseLine + line
		}
		if shown = ""; line == "" && status != "" {
			text += o.st.dim(fit(status, columns(o.w)))
			shown = status
		}
		if _, err := io.WriteString(o.w, text); err != nil {
			o.swallow()
			return
		}
	}
}

// next waits for something to write: a line, or a status that is not the one
// shown.
func (o *Output) next(shown string) (line, status string, more bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		if e := o.lines.Front(); e != nil {
			if e == o.oldest {
				o.pass()
			}
			l := o.lines.Remove(e).(*waitingLine)
			if l.n > 0 {
				return o.leftOut(l.n) + "\n", "", true
			}
			return l.text, "", true
		}
		if o.status != shown {
			return "", o.status, true
		}
		if o.closed {
			return "", "", false
		}
		o.work.Wait()
	}
}

// swallow gives up: nobody reads any more. The run goes on without a watcher.
func (o *Output) swallow() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gone, o.oldest, o.spare = true, nil, 0
	o.lines.Init()
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
