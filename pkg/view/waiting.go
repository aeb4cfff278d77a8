package view

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"
)

// Waiting says, on a terminal, which hosts are waited for: a fleet takes as long
// as its slowest host, and a silent screen looks like a hang. It leaves nothing
// behind, and writes nothing where there is no terminal.
type Waiting struct {
	w    io.Writer
	st   Style
	what string // "looking at the fleet"
	done string // "read": what a host is that is not waited for any more
	live bool
	now  func() time.Time

	screen  sync.Mutex // held by whoever writes
	mu      sync.Mutex
	started time.Time
	total   int
	waiting map[string]bool
	stopped chan struct{}
	ticking sync.WaitGroup
}

// NewWaiting prepares to show that something ("looking at the fleet") is going
// on until all hosts are done ("read").
func NewWaiting(w io.Writer, st Style, what, done string, hosts []string, now func() time.Time) *Waiting {
	wt := &Waiting{w: w, st: st, what: what, done: done, live: Terminal(w), now: now, total: len(hosts), waiting: map[string]bool{}, stopped: make(chan struct{})}
	for _, h := range hosts {
		wt.waiting[h] = true
	}
	return wt
}

// Show begins. Close must follow.
func (wt *Waiting) Show() {
	wt.started = wt.now()
	if wt.live {
		wt.ticking.Go(wt.tick)
	}
}

// Done takes a host that is not waited for any more, for whatever reason.
func (wt *Waiting) Done(host string) {
	wt.mu.Lock()
	defer wt.mu.Unlock()
	delete(wt.waiting, host)
}

// Hold takes the line away until release is called: a question needs the screen.
func (wt *Waiting) Hold() (release func()) {
	wt.screen.Lock()
	if wt.live {
		fmt.Fprint(wt.w, eraseLine)
	}
	return wt.screen.Unlock
}

// Close takes the line away.
func (wt *Waiting) Close() {
	if !wt.live {
		return
	}
	close(wt.stopped)
	wt.ticking.Wait()
	fmt.Fprint(wt.w, eraseLine)
}

func (wt *Waiting) tick() {
	t := time.NewTicker(500 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			wt.screen.Lock()
			fmt.Fprint(wt.w, eraseLine+wt.st.dim(fit(wt.line(), columns(wt.w))))
			wt.screen.Unlock()
		case <-wt.stopped:
			return
		}
	}
}

// line names those that are waited for once they are few enough to be a reason.
func (wt *Waiting) line() string {
	wt.mu.Lock()
	defer wt.mu.Unlock()
	s := fmt.Sprintf("%s: %d of %s %s, %s", wt.what, wt.total-len(wt.waiting), count(wt.total, "host"), wt.done, wt.now().Sub(wt.started).Truncate(time.Second))
	if n := len(wt.waiting); n > 0 && n <= 20 {
		s += ", waiting for " + HostRange(slices.Sorted(maps.Keys(wt.waiting)))
	}
	return s
}
