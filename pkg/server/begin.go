package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/rollout"
)

const (
	// beginEvery is how often is looked for what was approved, tryAgain how long after a
	// fleetd that has neither begun nor refused it another one is started. After each that
	// has not gone on with a paused run it is twice as long.
	beginEvery = 2 * time.Second
	tryAgain   = time.Minute
	// mostResumptions is how often it is tried to go on with a paused run: within an hour,
	// where its window is open for so long.
	mostResumptions = 7
)

// Job is what a fleetd of its own is started for.
type Job struct {
	// Proposal is the approved one; 0 = a person wants Run to go on.
	Proposal int64
	// Run is the run that goes on; "" = the proposal is to be begun.
	Run string
	// Until is when the maintenance window closes: from then on nothing is begun, and the
	// run pauses. Zero = never.
	Until time.Time
}

// beginning is a fleetd that was started for a proposal.
type beginning struct {
	at    time.Time
	ended <-chan error
}

// begin has what was approved carried out, until ctx is done. What is to be begun is in
// the journal alone: a server that dies between the approval and the start begins it when
// it is there again, and the run itself takes the proposal up, so that it is begun once.
// So it is with runs that go on in another window.
func (s *Server) begin(ctx context.Context) {
	started := map[int64]beginning{}
	tick := time.NewTicker(beginEvery)
	defer tick.Stop()
	for {
		if err := s.carryOut(ctx, started); err != nil && ctx.Err() == nil {
			s.log.Error("cannot begin what is approved", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// carryOut starts a fleetd for what is to be done, at most one: what was begun before goes
// on before anything else begins.
func (s *Server) carryOut(ctx context.Context, started map[int64]beginning) error {
	resumed, waits, err := s.resumeWaiting(ctx)
	if resumed {
		return err
	}
	return errors.Join(err, s.beginReady(ctx, started, waits))
}

// beginReady starts a fleetd for what is approved and was not begun, unless one is at it.
// On the inventories of what waits nothing else begins before that has come to its end.
func (s *Server) beginReady(ctx context.Context, started map[int64]beginning, waits [][]string) error {
	all, err := s.proposals(ctx)
	if err != nil {
		return err
	}
	var unread []error
	for _, p := range all {
		if !p.Ready(s.now()) {
			delete(started, p.ID) // approved again, it may be begun at once
			continue
		}
		if b, ok := started[p.ID]; ok {
			select {
			case <-b.ended:
			default:
				continue
			}
			if s.now().Sub(b.at) < tryAgain {
				continue
			}
		}
		w, err := s.windowOf(ctx, p.ID, p.Digest)
		if err != nil {
			unread = append(unread, err)
			continue
		}
		if !w.open(s.now()) {
			continue
		}
		if len(waits) > 0 {
			src, err := s.sourceOf(ctx, p.ID, p.Digest)
			if err != nil {
				unread = append(unread, err)
				continue
			}
			if slices.ContainsFunc(waits, func(inventories []string) bool { return slices.Equal(inventories, src.Inventories) }) {
				continue
			}
		}
		// Another run would refuse it: it is begun after that one, if it is approved still.
		if _, held, err := journal.Holder(s.store.dir); err != nil || held {
			return errors.Join(append(unread, err)...)
		}
		ended, err := s.start(Job{Proposal: p.ID, Until: w.until})
		if err != nil {
			return err
		}
		s.log.Info("an approved plan is begun", "proposal", p.ID)
		started[p.ID] = beginning{s.now(), ended}
		break // one run at a time
	}
	return errors.Join(unread...)
}

// resumeWaiting starts a fleetd that goes on with a run that its maintenance window has
// paused, where the next is open, and reports whether it did; waits are the inventories of
// those that are yet to go on.
func (s *Server) resumeWaiting(ctx context.Context) (resumed bool, waits [][]string, err error) {
	all, err := s.waiting(ctx)
	if err != nil {
		return false, nil, err
	}
	var unread []error
	for _, r := range all {
		w, err := s.resumes(ctx, r)
		if err != nil {
			unread = append(unread, err)
			continue
		}
		if w == nil {
			continue
		}
		src, err := s.sourceOf(ctx, r.Proposal, r.Digest)
		if err != nil {
			return false, nil, err
		}
		waits = append(waits, src.Inventories)
		// A clock that was set back waits for nothing.
		since := s.now().Sub(r.Tried)
		early := r.Tries > 0 && since >= 0 && since < tryAgain<<(r.Tries-1)
		if !w.open(s.now()) || early {
			continue
		}
		if _, held, err := journal.Holder(s.store.dir); err != nil || held {
			return false, waits, errors.Join(append(unread, err)...)
		}
		if err := s.tryResume(ctx, r); errors.Is(err, journal.ErrNotWaiting) {
			continue // somebody was faster
		} else if err != nil {
			return false, waits, err
		}
		if _, err = s.start(Job{Proposal: r.Proposal, Run: r.Run, Until: w.until}); err != nil {
			return false, waits, err
		}
		s.log.Info("a run goes on in its maintenance window", "run", r.Run, "proposal", r.Proposal, "try", r.Tries+1)
		return true, waits, errors.Join(unread...)
	}
	return false, waits, errors.Join(unread...)
}

// waiting are the runs that their maintenance windows have paused.
func (s *Server) waiting(ctx context.Context) ([]journal.Waiting, error) {
	j, err := s.store.open()
	if err != nil || j == nil {
		return nil, err
	}
	return j.WaitingRuns(ctx)
}

func (s *Server) tryResume(ctx context.Context, r journal.Waiting) error {
	j, err := journal.Open(s.store.dir)
	if err != nil {
		return err
	}
	return errors.Join(j.TryResume(ctx, r, s.now()), j.Close())
}

// resumes is the window in which a run that waits goes on; nil = a person has to see to
// it: it was tried often enough, its fleet has no windows any more, or another run has
// begun on the fleet since and may have done what is left, or taken back what was done.
func (s *Server) resumes(ctx context.Context, r journal.Waiting) (*window, error) {
	if r.Tries >= mostResumptions {
		return nil, nil
	}
	w, err := s.windowOf(ctx, r.Proposal, r.Digest)
	if err != nil || w.always {
		return nil, err
	}
	src, err := s.sourceOf(ctx, r.Proposal, r.Digest)
	if err != nil {
		return nil, err
	}
	for before := ""; ; {
		rows, more, err := s.store.list(ctx, before, rowsOfPage)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			switch {
			case row.ID == r.Run:
				return &w, nil
			case row.Undoes == r.Run, slices.Equal(row.Inventories, src.Inventories):
				return nil, nil
			}
			before = row.ID
		}
		if !more {
			return nil, fmt.Errorf("%w: %s", journal.ErrNoRun, r.Run)
		}
	}
}

// resumesAt is when a run that its window has paused goes on; nil = it is none, or nobody
// goes on with it unasked.
func (s *Server) resumesAt(ctx context.Context, run string) (*time.Time, error) {
	all, err := s.waiting(ctx)
	i := slices.IndexFunc(all, func(r journal.Waiting) bool { return r.Run == run })
	if err != nil || i < 0 {
		return nil, err
	}
	w, err := s.resumes(ctx, all[i])
	if err != nil || w == nil || w.opens.IsZero() {
		return nil, err
	}
	at := w.opens.UTC()
	return &at, nil
}

// windowOf is the maintenance window in which the plan of a proposal may be carried out,
// the one that is open or the next. Without a fleet of the configuration that is always.
func (s *Server) windowOf(ctx context.Context, id int64, digest string) (window, error) {
	if !slices.ContainsFunc(s.fleets, func(f *scheduled) bool { return len(f.Windows) > 0 }) {
		return window{always: true}, nil
	}
	src, err := s.sourceOf(ctx, id, digest)
	if err != nil {
		return window{}, err
	}
	return s.windowFor(src), nil
}

// windowFor is that in which a plan of that source may be carried out.
func (s *Server) windowFor(src rollout.Source) window {
	for _, f := range s.fleets {
		if s.isOf(src, f.Fleet) && len(f.Windows) > 0 {
			return f.window(s.now())
		}
	}
	return window{always: true}
}

// sourceOf is what the plan of a proposal was made of. A plan of many hosts takes a moment
// to read, and never changes.
func (s *Server) sourceOf(ctx context.Context, id int64, digest string) (rollout.Source, error) {
	if src, ok := s.sources.Load(digest); ok {
		return src.(rollout.Source), nil
	}
	j, err := s.store.open()
	if err == nil && j == nil {
		err = journal.ErrNoProposal
	}
	if err != nil {
		return rollout.Source{}, err
	}
	_, plan, err := j.Proposal(ctx, id)
	if err == nil && plan.Digest != digest {
		err = journal.ErrOtherDigest
	}
	if err != nil {
		return rollout.Source{}, err
	}
	s.sources.Store(digest, plan.Source)
	return plan.Source, nil
}
