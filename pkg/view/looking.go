package view

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/fleetd/fleetd/pkg/sshexec"
)

// Looking says, on a terminal, which hosts are still being read: a fleet takes
// as long as its slowest repository, and a silent screen looks like a hang. It
// leaves nothing behind, and writes nothing where there is no terminal.
type Looking struct {
	w    io.Writer
	st   Style
	live bool
	now  func() time.Time

	screen  sync.Mutex // held by whoever writes
	mu      sync.Mutex
	started time.Time
	total   int
	waiting map[string]bool
	stopped chan struct{}
	done    sync.WaitGroup
}

// NewLooking prepares to show a look at hosts.
func NewLooking(w io.Writer, st Style, hosts []string, now func() time.Time) *Looking {
	l := &Looking{w: w, st: st, live: Terminal(w), now: now, total: len(hosts), waiting: map[string]bool{}, stopped: make(chan struct{})}
	for _, h := range hosts {
		l.waiting[h] = true
	}
	return l
}

// Show begins. Close must follow.
func (l *Looking) Show() {
	l.started = l.now()
	if l.live {
		l.done.Go(l.tick)
	}
}

// Read takes a host that has been read, or that could not be.
func (l *Looking) Read(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, host)
}

// Hold takes the line away until release is called: a question needs the screen.
func (l *Looking) Hold() (release func()) {
	l.screen.Lock()
	if l.live {
		fmt.Fprint(l.w, eraseLine)
	}
	return l.screen.Unlock
}

// Close takes the line away.
func (l *Looking) Close() {
	if !l.live {
		return
	}
	close(l.stopped)
	l.done.Wait()
	fmt.Fprint(l.w, eraseLine)
}

func (l *Looking) tick() {
	t := time.NewTicker(500 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			l.screen.Lock()
			fmt.Fprint(l.w, eraseLine+l.st.dim(l.line()))
			l.screen.Unlock()
		case <-l.stopped:
			return
		}
	}
}

// line names those that are waited for once they are few enough to be a reason.
func (l *Looking) line() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := fmt.Sprintf("looking at the fleet: %d of %s read, %s", l.total-len(l.waiting), count(l.total, "host"), l.now().Sub(l.started).Truncate(time.Second))
	if n := len(l.waiting); n > 0 && n <= 20 {
		s += ", waiting for " + sshexec.HostRange(slices.Sorted(maps.Keys(l.waiting)))
	}
	return s
}
