package server

import (
	"context"
	"sync"
	"time"

	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/view"
)

// follower is one run, folded up to its last event, for all who look at it:
// however many they are, the journal is read and the run summed up once.
type follower struct {
	id, dir string
	journal *journal.Journal
	clock   func() time.Time
	next    func(id string, r *rollout.Run) view.Next

	mu    sync.Mutex
	run   *rollout.Run
	usual rollout.Usual
	last  time.Time // when the last event came about
	asked time.Time // when the journal was read
	standing
}

// standing is how the run stands, and what a page shows of it.
type standing struct {
	view view.Standing
	seq  int64
	// held says whether a process holds the lock for the run, quiet how long ago its
	// last event came about.
	held  bool
	quiet time.Duration
	live  []byte // the message to pages that follow it
}

// fresh is for how long what was read is the run as it stands.
const fresh = 500 * time.Millisecond

// refresh takes the events that have come since.
func (f *follower) refresh(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.clock()
	if f.run != nil && now.Sub(f.asked) < fresh && !now.Before(f.asked) {
		return nil
	}
	holder := journal.UnderWay(f.dir)
	if f.run == nil {
		r, err := f.journal.Run(ctx, f.id)
		if err != nil {
			return err
		}
		last, err := f.journal.After(ctx, f.id, r.Seq-1, 1)
		if err != nil {
			return err
		}
		f.run = r
		if len(last) > 0 {
			f.last = last[0].At
		}
	}
	const page = 256
	for {
		events, err := f.journal.After(ctx, f.id, f.run.Seq, page)
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := f.run.Apply(e); err != nil {
				return err
			}
			f.last = e.At
		}
		if len(events) < page {
			break
		}
	}
	if f.usual == nil && f.run.Status == rollout.Running {
		earlier, err := f.journal.Earlier(ctx, f.id, f.run.Plan.Source.Playbook)
		if err != nil {
			return err
		}
		f.usual = rollout.UsualOf(earlier)
	}
	held, err := holder(f.id)
	if err != nil {
		return err
	}
	f.asked = now
	quiet := now.Sub(f.last)
	f.standing = standing{seq: f.run.Seq, held: held, quiet: quiet, view: view.StandingOf(f.id, f.run, held, quiet, f.usual, f.next(f.id, f.run))}
	return nil
}

// stands is how the run stands.
func (f *follower) stands() view.Standing {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.view
}

// now is all of that as it was read at one time.
func (f *follower) now() standing {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.standing
}

// plan is what the run carries out. It does not change.
func (f *follower) plan() *rollout.Plan {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &f.run.Plan
}

// message is what pages that follow the run are sent: made once for all of them.
func (f *follower) message(of func(view.Standing) ([]byte, error)) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.live == nil {
		msg, err := of(f.view)
		if err != nil {
			return nil, err
		}
		f.live = msg
	}
	return f.live, nil
}
