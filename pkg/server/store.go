package server

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/fleetd/fleetd/pkg/compliance"
	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/view"
)

// store reads the journal for all who ask. It keeps what costs: runs that are
// looked at stay folded, and rows of the list as long as nothing came to them.
type store struct {
	dir  string
	now  func() time.Time
	next func(id string, r *rollout.Run) view.Next
	mend func(schedule string, r *compliance.Report) view.ComplianceNext

	mu      sync.Mutex
	journal *journal.Journal
	rows    map[string]keptRow
	runs    []*follower // the last asked for at the end
	// standing is how fleets stood at their last look.
	standing map[string]keptStanding
}

type keptRow struct {
	seq int64
	row view.RunRow
}

const (
	// mostRuns is how many runs stay folded: a big one takes 100 MB.
	mostRuns = 4
	mostRows = 1000
)

// open is the journal; nil if there is none yet: a bastion on which nothing was
// run. A file that was put in its place is opened anew.
func (s *store) open() (*journal.Journal, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journal != nil {
		if !s.journal.Outdated() {
			return s.journal, nil
		}
		_ = s.journal.Close() // nothing was written to it
		s.journal, s.rows, s.runs, s.standing = nil, nil, nil, nil
	}
	if !journal.Exists(s.dir) {
		return nil, nil
	}
	j, err := journal.OpenBeside(s.dir)
	if err != nil {
		return nil, err
	}
	s.journal, s.rows = j, map[string]keptRow{}
	return j, nil
}

func (s *store) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journal == nil {
		return nil
	}
	return s.journal.Close()
}

// list is at most limit runs, the newest first, that began before the run of
// that name; "" = from the newest on. more says whether others follow.
func (s *store) list(ctx context.Context, before string, limit int) (rows []view.RunRow, more bool, err error) {
	rows = []view.RunRow{}
	j, err := s.open()
	if err != nil || j == nil {
		return rows, false, err
	}
	holder := journal.UnderWay(s.dir)
	heads, err := j.Heads(ctx)
	if err != nil {
		return nil, false, err
	}
	if before != "" {
		i := slices.IndexFunc(heads, func(h journal.Head) bool { return h.ID == before })
		if i < 0 {
			return nil, false, journal.ErrNoRun
		}
		heads = heads[i+1:]
	}
	more = len(heads) > limit
	heads = heads[:min(limit, len(heads))]
	for _, h := range heads {
		row, err := s.row(ctx, j, h, holder)
		if err != nil {
			return nil, false, err
		}
		rows = append(rows, row)
	}
	return rows, more, nil
}

// row sums a run up, from what is kept of it if nothing came since.
func (s *store) row(ctx context.Context, j *journal.Journal, h journal.Head, holder func(string) (bool, error)) (view.RunRow, error) {
	s.mu.Lock()
	kept, ok := s.rows[h.ID]
	s.mu.Unlock()
	switch {
	case !ok:
	case kept.seq == h.Seq && (kept.row.Ended != nil || kept.row.Error != ""):
		return kept.row, nil
	case kept.seq == h.Seq && kept.row.Status == rollout.Interrupted: // it was cut off
		if held, err := holder(h.ID); err != nil || !held {
			return kept.row, err
		}
	case kept.row.Status == rollout.Running:
		// It is going on: what came since is little, and who folds it is at hand.
		f, err := s.follow(ctx, h.ID)
		if err != nil {
			return view.RunRow{}, err
		}
		return f.stands().RunRow, nil
	}
	r, err := j.Run(ctx, h.ID)
	held, lockErr := holder(h.ID)
	if lockErr != nil {
		return view.RunRow{}, lockErr
	}
	if ctx.Err() != nil {
		return view.RunRow{}, ctx.Err()
	}
	row := view.RunRow{ID: h.ID, Started: h.Started}
	if err != nil {
		row.Error = err.Error()
	} else {
		row = view.RowOf(h.ID, r, held)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journal == j {
		if len(s.rows) >= mostRows {
			clear(s.rows)
		}
		s.rows[h.ID] = keptRow{h.Seq, row}
	}
	return row, nil
}

// follow is the run of that name, as the journal has it now.
func (s *store) follow(ctx context.Context, id string) (*follower, error) {
	j, err := s.open()
	if err != nil {
		return nil, err
	}
	if j == nil {
		return nil, journal.ErrNoRun
	}
	s.mu.Lock()
	i := slices.IndexFunc(s.runs, func(f *follower) bool { return f.id == id })
	var f *follower
	if i >= 0 {
		f = s.runs[i]
		s.runs = slices.Delete(s.runs, i, i+1)
	} else {
		f = &follower{id: id, dir: s.dir, journal: j, clock: s.now, next: s.next}
	}
	s.runs = append(s.runs, f)
	if len(s.runs) > mostRuns {
		s.runs = slices.Delete(s.runs, 0, 1) // who follows it goes on
	}
	s.mu.Unlock()
	if err := f.refresh(ctx); err != nil {
		return nil, err
	}
	return f, nil
}
