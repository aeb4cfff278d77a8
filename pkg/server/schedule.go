package server

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// Fleet is one that is held against its policies at its times.
type Fleet struct {
	Name string
	// Inventory, Playbook, Policy and Kubeconfig are as for fleetd compliance; of the
	// last three, "" is its default.
	Inventory, Playbook, Policy, Kubeconfig string
	Times                                   Times
	// Windows are when approved plans may be carried out; none = always. Reserve is for
	// how long before the end of one no other step begins.
	Windows []Window
	Reserve time.Duration
}

// scheduled is a fleet with how its schedule stands.
type scheduled struct {
	Fleet
	mu sync.Mutex
	// over is until when its times are over.
	over time.Time
	// running is since when it is being looked at; zero if it is not.
	running time.Time
	failed  *failure
}

// failure is why the last look has not come to a report.
type failure struct {
	At    time.Time `json:"at"`
	Error string    `json:"error"`
	Hint  string    `json:"hint,omitempty"`
}

const (
	// mostWait bounds how long nobody looks at the clock: it may be set meanwhile.
	mostWait = time.Minute
	// setBack is by how much a time must be ahead of the clock to be that of a clock
	// that was wrong.
	setBack = time.Hour
)

// keep looks at a fleet at its times, until ctx is done. What was missed while nobody
// was there, or while a look took, is made up for by one.
func (s *Server) keep(ctx context.Context, f *scheduled) {
	for ctx.Err() == nil {
		next, err := s.due(ctx, f)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			s.unable(f, err)
		case !next.After(s.now()):
			s.lookAt(ctx, f, next)
			continue
		}
		wait := time.NewTimer(min(mostWait, max(time.Second, next.Sub(s.now()))))
		select {
		case <-ctx.Done():
		case <-wait.C:
		}
		wait.Stop()
	}
}

// due is when a fleet is to be looked at next; zero = it never was.
func (s *Server) due(ctx context.Context, f *scheduled) (time.Time, error) {
	look, err := s.store.lastScheduled(ctx, f.Name)
	if err != nil {
		return s.now().Add(mostWait), err
	}
	var last time.Time
	if look != nil {
		last = look.At
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	now := s.now()
	wrong := now.Add(setBack)
	if f.over.After(wrong) {
		f.over = now
	}
	if last.After(wrong) {
		if last = (time.Time{}); f.over.IsZero() {
			f.over = now
		}
	}
	if last.After(f.over) {
		f.over = last
	}
	if f.over.IsZero() {
		return time.Time{}, nil
	}
	if next := f.Times.Next(f.over); !next.IsZero() {
		return next, nil
	}
	return now.Add(mostWait), nil // not for years
}

// lookAt looks at a fleet once.
func (s *Server) lookAt(ctx context.Context, f *scheduled, due time.Time) {
	f.mu.Lock()
	f.running = s.now()
	f.mu.Unlock()
	s.log.Info("looking at a fleet", "fleet", f.Name)
	err := s.look(ctx, f.Fleet)
	f.mu.Lock()
	began := f.running
	f.running = time.Time{}
	// Times that came while it was looked at are over as well, and so is this one where
	// the clock was set back meanwhile.
	if f.over = s.now(); due.After(f.over) {
		f.over = due
	}
	if err == nil {
		f.failed = nil
	}
	f.mu.Unlock()
	switch {
	case ctx.Err() != nil: // it is made up for at the next start
	case err != nil:
		s.unable(f, err)
	default:
		s.log.Info("looked at a fleet", "fleet", f.Name, "took", s.now().Sub(began).Round(time.Second))
	}
}

// unable remembers and tells why a fleet could not be looked at.
func (s *Server) unable(f *scheduled, err error) {
	text, hint, _ := strings.Cut(err.Error(), "\n")
	if hint == "" {
		hint = rollout.AsProblem(err).Hint
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed == nil || f.failed.Error != text || f.failed.Hint != hint { // not every minute
		s.log.Error("cannot look at a fleet", "fleet", f.Name, "error", err)
		s.notifier.lookFailed(f.Name, s.now())
	}
	f.failed = &failure{At: s.now().UTC(), Error: text, Hint: hint}
}

// scheduleStanding is how the schedule of a fleet stands.
type scheduleStanding struct {
	Cron     string `json:"cron"`
	TimeZone string `json:"time_zone"`
	// Next is when the fleet is looked at next, Running since when it is now.
	Next    *time.Time `json:"next,omitempty"`
	Running *time.Time `json:"running_since,omitempty"`
	Failed  *failure   `json:"failed,omitempty"`
}

// stands is how the schedule stands; old tells whether a report of that time should
// have been renewed.
func (f *scheduled) stands(now, report time.Time) (st scheduleStanding, old bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	st = scheduleStanding{Cron: f.Times.Cron, TimeZone: f.Times.Zone.String(), Failed: f.failed}
	if !f.running.IsZero() {
		running := f.running.UTC()
		st.Running = &running
		return st, false
	}
	from := f.over
	if now.After(from) {
		from = now
	}
	if next := f.Times.Next(from).UTC(); !next.IsZero() {
		st.Next = &next
	}
	// The minute in which it is about to begin is none that is missed.
	return st, !f.Times.Next(report).Add(2 * mostWait).After(now)
}

// lastScheduled is the last look that a schedule has asked for; nil if there is none.
func (s *store) lastScheduled(ctx context.Context, schedule string) (*journal.Look, error) {
	j, err := s.open()
	if err != nil || j == nil {
		return nil, err
	}
	return j.LastScheduled(ctx, schedule)
}
