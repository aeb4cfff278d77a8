package view

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// reader is a writer whose other side reads only when it is let.
type reader struct {
	let  chan struct{} // one for each write; closed = all
	at   chan struct{} // closed when the first write is waiting
	once sync.Once
	mu   sync.Mutex
	more sync.Cond // something was read
	got  strings.Builder
	err  error
}

func newReader() *reader {
	r := &reader{let: make(chan struct{}), at: make(chan struct{})}
	r.more.L = &r.mu
	return r
}

func (r *reader) Write(p []byte) (int, error) {
	r.once.Do(func() { close(r.at) })
	<-r.let
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return 0, r.err
	}
	r.more.Broadcast()
	return r.got.Write(p)
}

// until waits until something has been read.
func (r *reader) until(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for !strings.Contains(r.got.String(), text) {
		r.more.Wait()
	}
}

// stopped is an output whose reader has stopped in the middle of its first line.
func stopped(t *testing.T, live bool) (*Output, *reader) {
	t.Helper()
	r := newReader()
	o := newOutput(r, live)
	o.Line("first", true)
	wait(t, r.at)
	return o, r
}

func wait(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(time.Minute):
		t.Fatal("waited in vain")
	}
}

// read lets the reader go on, and returns all that it got.
func read(t *testing.T, o *Output, r *reader) []string {
	t.Helper()
	close(r.let)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := o.Close(ctx); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(r.got.String(), "\n"), "\n")
}

func TestStoppedReader(t *testing.T) {
	o, r := stopped(t, false)
	// Nothing of this may block: the reader does not read.
	const lines = 3*mostWaiting + 7
	for i := range lines {
		o.Line(fmt.Sprintf("may go %d", i), false)
		if i%500 == 250 {
			o.Line(fmt.Sprintf("stays %d", i), true)
		}
	}
	o.Line("last", true)
	got := read(t, o, r)

	want := []string{"first"}
	gone := 0 // those in front of the last mostWaiting
	mark := func() {
		if gone > 0 {
			want = append(want, fmt.Sprintf("… %d lines left out: the reader was slow", gone))
		}
		gone = 0
	}
	for i := range lines {
		if i < lines-mostWaiting {
			gone++
		} else {
			mark()
			want = append(want, fmt.Sprintf("may go %d", i))
		}
		if i%500 == 250 {
			mark()
			want = append(want, fmt.Sprintf("stays %d", i))
		}
	}
	want = append(want, "last")
	if a, b := strings.Join(want, "\n"), strings.Join(got, "\n"); a != b {
		t.Errorf("got %d lines, want %d:\n%.2000s", len(got), len(want), b)
	}
}

// TestSlowReader has a reader that reads now and then: every line arrives, or is
// counted where it is missing.
func TestSlowReader(t *testing.T) {
	o, r := stopped(t, false)
	const lines = 5 * mostWaiting
	for i := range lines {
		o.Line(fmt.Sprintf("n %d", i), i%100 == 0)
		if i%5 == 0 {
			r.let <- struct{}{} // there is always a write that waits for it
		}
	}
	at := 0
	for i, l := range read(t, o, r)[1:] {
		var n int
		switch {
		case l == fmt.Sprintf("n %d", at):
			at++
		case sscan(l, "… %d lines left out: the reader was slow", &n), sscan(l, "… %d line left out: the reader was slow", &n):
			for range n {
				if at%100 == 0 {
					t.Fatalf("line %d should have been kept", at)
				}
				at++
			}
		default:
			t.Fatalf("line %d of the output is %q, want n %d", i, l, at)
		}
	}
	if at != lines {
		t.Errorf("%d of %d lines are accounted for", at, lines)
	}
}

func sscan(s, format string, n *int) bool {
	_, err := fmt.Sscanf(s, format, n)
	return err == nil && s == fmt.Sprintf(format, *n)
}

// TestQueueIsBounded: what waits for a reader that never comes back does not grow
// with what is left out.
func TestQueueIsBounded(t *testing.T) {
	o, r := stopped(t, false)
	for range 20 * mostWaiting {
		o.Line("may go", false)
	}
	o.mu.Lock()
	n := o.lines.Len()
	o.mu.Unlock()
	if n > mostWaiting+1 {
		t.Errorf("%d lines wait", n)
	}
	if got := read(t, o, r); len(got) != mostWaiting+2 {
		t.Errorf("%d lines arrived", len(got))
	}
}

// TestRoomComesBack: a reader that has caught up misses nothing because it was
// slow before.
func TestRoomComesBack(t *testing.T) {
	o, r := stopped(t, false)
	const lines = mostWaiting - 1 // one more is about to be read
	for range 3 {
		for range lines {
			o.Line("may go", false)
		}
		for range lines {
			r.let <- struct{}{}
		}
	}
	if got := read(t, o, r); len(got) != 1+3*lines || slices.ContainsFunc(got, func(l string) bool { return strings.Contains(l, "left out") }) {
		t.Errorf("%d lines arrived", len(got))
	}
}

func TestStatusLine(t *testing.T) {
	o, r := stopped(t, true)
	for i := range 100 {
		o.Live(fmt.Sprintf("status %d", i))
	}
	o.Line("second", true)
	close(r.let)
	r.until("status 99")
	o.Line("third", true)
	if err := o.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := "first\nsecond\nstatus 99" + eraseLine + "third\n"
	if got := r.got.String(); got != want && got != "first\nsecond\nstatus 99"+eraseLine+"third\nstatus 99"+eraseLine {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestNoStatusLineOffTerminal(t *testing.T) {
	o, r := stopped(t, false)
	o.Live("status")
	o.mu.Lock()
	status := o.status
	o.mu.Unlock()
	if got := read(t, o, r); len(got) != 1 || status != "" {
		t.Errorf("%q, and %q waits", got, status)
	}
}

func TestReaderGone(t *testing.T) {
	o, r := stopped(t, true)
	r.err = syscall.EPIPE
	o.Line("second", true)
	o.Line("may go", false)
	close(r.let)
	wait(t, o.flushed)
	for range 2 * mostWaiting { // goes on as if nothing had happened
		o.Line("third", true)
		o.Line("may go", false)
		o.Live("status")
	}
	if n, err := io.WriteString(o, "the end\n"); n != 8 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if err := o.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if o.lines.Len() > 0 || r.got.Len() > 0 {
		t.Errorf("%d lines wait, %q was read", o.lines.Len(), r.got.String())
	}
}

func TestCloseGivesUp(t *testing.T) {
	o, r := stopped(t, false)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := o.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	o.Line("too late", true)
	if got := read(t, o, r); len(got) != 1 || got[0] != "first" {
		t.Errorf("%q", got)
	}
}
