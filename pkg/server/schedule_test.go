package server

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// looker stands in for what looks at a fleet: it takes its time, and tells when it
// began. What it does not show is nodes.
type looker struct {
	t    *testing.T
	mu   sync.Mutex
	at   []string
	busy bool
	// takes is how long a look takes, fails why it fails, done what is done when it is
	// through.
	takes time.Duration
	fails error
	done  func()
	// now is the clock of the machine; nil = the true one.
	now func() time.Time
	// leaves is what is still to be done when the look is given up.
	leaves func()
}

func (l *looker) look(ctx context.Context, _ Fleet) error {
	l.mu.Lock()
	if l.busy {
		l.t.Error("two looks at once")
	}
	l.busy = true
	l.at = append(l.at, time.Now().UTC().Format("02 15:04"))
	l.mu.Unlock()
	defer func() { l.mu.Lock(); l.busy = false; l.mu.Unlock() }()
	select {
	case <-ctx.Done():
		if l.leaves != nil {
			l.leaves()
		}
		return ctx.Err()
	case <-time.After(l.takes):
	}
	if l.done != nil && l.fails == nil {
		l.done()
	}
	return l.fails
}

func (l *looker) told(t *testing.T, want ...string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.at, want) {
		t.Errorf("looked at %q, want %q", l.at, want)
	}
}

// scheduling is a server that looks at the fleet prod at its times, until stop.
func scheduling(t *testing.T, dir, cron string, zone *time.Location, l *looker) (s *Server, stop func()) {
	t.Helper()
	times, err := ParseTimes(cron, zone)
	if err != nil {
		t.Fatal(err)
	}
	s = serve(t, dir)
	s.look, l.t = l.look, t
	if l.now != nil {
		s.now = l.now
	}
	f := &scheduled{Fleet: Fleet{Name: "prod", Times: times}}
	s.fleets = []*scheduled{f}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { s.keep(ctx, f) })
	return s, func() {
		cancel()
		wg.Wait()
		if err := s.store.close(); err != nil {
			t.Error(err)
		}
	}
}

const day = 24 * time.Hour

// The clock of a bubble begins on 1 January 2000.
func TestSchedule(t *testing.T) {
	bubble := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		before time.Duration // of the last look, before the start; 0 = there is none
		takes  time.Duration
		want   []string // in the three days from the start on
	}{
		"a new fleet":                   {0, time.Minute, []string{"01 00:00", "01 06:00", "02 06:00", "03 06:00"}},
		"nothing was missed":            {17 * time.Hour, time.Minute, []string{"01 06:00", "02 06:00", "03 06:00"}},
		"one was missed":                {19 * time.Hour, time.Minute, []string{"01 00:00", "01 06:00", "02 06:00", "03 06:00"}},
		"many were missed":              {200 * day, time.Minute, []string{"01 00:00", "01 06:00", "02 06:00", "03 06:00"}},
		"it takes longer than a day":    {17 * time.Hour, 30 * time.Hour, []string{"01 06:00", "03 06:00"}},
		"a look of a clock that ran on": {-300 * day, time.Minute, []string{"01 06:00", "02 06:00", "03 06:00"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.before != 0 {
				recordLook(t, dir, look{schedule: "prod", at: bubble.Add(-c.before)})
				recordLook(t, dir, look{schedule: "another", at: bubble.Add(-time.Minute)})
				recordLook(t, dir, look{at: bubble.Add(-time.Minute)}) // somebody's own
			}
			synctest.Test(t, func(t *testing.T) {
				l := &looker{takes: c.takes}
				_, stop := scheduling(t, dir, "0 6 * * *", time.UTC, l)
				time.Sleep(3 * day)
				stop()
				l.told(t, c.want...)
			})
		})
	}
}

// TestScheduleAcrossJumps: the clocks of Berlin are set, and each day has its look.
func TestScheduleAcrossJumps(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	for from, want := range map[string][]string{
		"2000-03-25": {"25 01:30", "26 01:30", "27 00:30", "28 00:30"}, // 2:30 is 1:30 in UTC, on the 26th it is not there
		"2000-10-28": {"28 00:30", "29 00:30", "30 01:30", "31 01:30"}, // on the 29th it is there twice
	} {
		synctest.Test(t, func(t *testing.T) {
			begin, err := time.Parse(time.DateOnly, from)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Until(begin))
			l := &looker{}
			_, stop := scheduling(t, t.TempDir(), "30 2 * * *", berlin, l)
			time.Sleep(4 * day)
			stop()
			l.told(t, append([]string{begin.Format("02 15:04")}, want...)...) // the first is a new fleet's
		})
	}
}

// TestScheduleClockSet: the machine's clock is set, and no time is lost or comes twice.
func TestScheduleClockSet(t *testing.T) {
	for name, c := range map[string]struct {
		set   time.Duration // at half past six of the first day
		takes time.Duration // of a look
		want  []string      // as the true clock has it
	}{
		"back a little":       {-45 * time.Minute, 0, []string{"01 00:00", "01 06:00", "02 06:45", "03 06:45"}},
		"back, during a look": {-45 * time.Minute, 40 * time.Minute, []string{"01 00:00", "01 06:00", "02 06:45", "03 06:45"}},
		"back a month":        {-30 * day, 0, []string{"01 00:00", "01 06:00", "02 06:00", "03 06:00"}},
		"forward":             {10 * day, 0, []string{"01 00:00", "01 06:00", "01 06:31", "02 06:00", "03 06:00"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				setAt := time.Now().Add(6*time.Hour + 30*time.Minute)
				l := &looker{takes: c.takes, now: func() time.Time {
					if now := time.Now(); now.After(setAt) {
						return now.Add(c.set)
					}
					return time.Now()
				}}
				_, stop := scheduling(t, t.TempDir(), "0 6 * * *", time.UTC, l)
				time.Sleep(3 * day)
				stop()
				l.told(t, c.want...)
			})
		})
	}
}

// TestScheduleFailure: a look that fails is told on the page, with when and why, until
// one does not; the next time comes all the same.
func TestScheduleFailure(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l := &looker{fails: errors.New("cannot read the inventory <b>\x1b[2J\nmend the file"), done: func() { recordLook(t, dir, look{schedule: "prod", at: time.Now()}) }}
		s, stop := scheduling(t, dir, "0 6 * * *", time.UTC, l)
		page := func() string { return get(t, s, "/compliance").Body.String() }
		time.Sleep(time.Hour)
		text := page()
		for _, want := range []string{"No report yet.", "2000-01-01 00:00 UTC</time>, came to no report", "cannot read the inventory &lt;b&gt;", "mend the file", `Looked at next <time datetime="2000-01-01T06:00:00Z">`, "schedule 0 6 * * * (UTC)"} {
			if !strings.Contains(text, want) {
				t.Errorf("it does not say %q:\n%s", want, text)
			}
		}
		if strings.Contains(text, "\x1b") {
			t.Error("an escape sequence gets through")
		}
		l.mu.Lock()
		l.fails, l.takes = nil, 10*time.Minute
		l.mu.Unlock()
		time.Sleep(5*time.Hour + 5*time.Minute)
		if text := page(); !strings.Contains(text, "it is being looked at") || !strings.Contains(text, "Looking at it since") {
			t.Errorf("while it is looked at:\n%s", text)
		}
		time.Sleep(time.Hour)
		if text := page(); strings.Contains(text, "came to no report") || strings.Contains(text, "old") || !strings.Contains(text, "Drift: 1 compliant") || !strings.Contains(text, `<h1>Compliance</h1>`) {
			t.Errorf("after a report:\n%s", text)
		}
		l.mu.Lock()
		l.fails = errors.New("gone")
		l.mu.Unlock()
		time.Sleep(day)
		if text := page(); !strings.Contains(text, "This report is old") || !strings.Contains(text, "gone") {
			t.Errorf("after the next has failed:\n%s", text)
		}
		stop()
		l.told(t, "01 00:00", "01 06:00", "02 06:00")
	})
}

// TestScheduleKilled kills the server at moments of any kind, also while it looks. What
// is there after each time is one report, and where it was killed the next server makes
// up for it.
func TestScheduleKilled(t *testing.T) {
	for seed := range uint64(3) {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // no secret
			reports := map[string]int{}
			for range 30 {
				l := &looker{takes: 10 * time.Minute, done: func() {
					recordLook(t, dir, look{schedule: "prod", at: time.Now()})
					reports[time.Now().UTC().Add(-6*time.Hour).Format(time.DateOnly)]++ // a day begins at six
				}}
				_, stop := scheduling(t, dir, "0 6 * * *", time.UTC, l)
				if rnd.IntN(2) == 0 { // while it looks, or about then
					now := time.Now().UTC()
					six := time.Date(now.Year(), now.Month(), now.Day(), 6, 0, 0, 0, time.UTC)
					time.Sleep(max(0, six.Sub(now)) + time.Duration(rnd.IntN(20))*time.Minute)
				} else {
					time.Sleep(time.Duration(rnd.IntN(40)) * time.Hour)
				}
				stop()
				time.Sleep(time.Duration(rnd.IntN(3)) * time.Hour)
			}
			l := &looker{takes: 10 * time.Minute, done: func() {
				recordLook(t, dir, look{schedule: "prod", at: time.Now()})
				reports[time.Now().UTC().Add(-6*time.Hour).Format(time.DateOnly)]++
			}}
			_, stop := scheduling(t, dir, "0 6 * * *", time.UTC, l)
			time.Sleep(time.Hour)
			stop()
			first := time.Date(1999, 12, 31, 0, 0, 0, 0, time.UTC)
			for d := first; d.Before(time.Now().Add(-6 * time.Hour)); d = d.AddDate(0, 0, 1) {
				if n := reports[d.Format(time.DateOnly)]; n > 1 || n == 0 && d != first {
					t.Errorf("seed %d: %d reports of the day from six on %s: %v", seed, n, d.Format(time.DateOnly), reports)
				}
			}
		})
	}
}

// TestRunEndsLooks: who ends the server ends the looks, and none is left behind.
func TestRunEndsLooks(t *testing.T) {
	l := &looker{t: t, takes: time.Hour}
	s := serve(t, t.TempDir())
	times, err := ParseTimes("@daily", time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	s.look, s.fleets = l.look, []*scheduled{{Fleet: Fleet{Name: "prod", Times: times}}}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	tcp, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// It takes longer to leave than the pages do; how long is not what is tested.
	l.leaves = func() {
		for {
			c, err := (&net.Dialer{}).Dial("tcp", tcp.Addr().String())
			if err != nil {
				break
			}
			_ = c.Close()
		}
		time.Sleep(100 * time.Millisecond)
	}
	go func() { ended <- s.Run(ctx, tcp) }()
	for {
		l.mu.Lock()
		busy := l.busy
		l.mu.Unlock()
		if busy {
			break
		}
		time.Sleep(time.Millisecond)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if st, _ := s.fleets[0].stands(time.Now(), time.Time{}); l.busy || st.Failed != nil {
		t.Errorf("busy %v, failed %+v", l.busy, st.Failed)
	}
}
