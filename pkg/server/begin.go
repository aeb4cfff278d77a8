package server

import (
	"context"
	"time"

	"github.com/fleetd/fleetd/pkg/journal"
)

const (
	// beginEvery is how often is looked for what was approved, tryAgain how long after a
	// fleetd that has neither begun nor refused it another one is started.
	beginEvery = 2 * time.Second
	tryAgain   = time.Minute
)

// beginning is a fleetd that was started for a proposal.
type beginning struct {
	at    time.Time
	ended <-chan struct{}
}

// begin has what was approved carried out, until ctx is done. What is to be begun is in
// the journal alone: a server that dies between the approval and the start begins it when
// it is there again, and the run itself takes the proposal up, so that it is begun once.
func (s *Server) begin(ctx context.Context) {
	started := map[int64]beginning{}
	tick := time.NewTicker(beginEvery)
	defer tick.Stop()
	for {
		if err := s.beginReady(ctx, started); err != nil && ctx.Err() == nil {
			s.log.Error("cannot begin what is approved", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// beginReady starts a fleetd for what is approved and was not begun, unless one is at it.
func (s *Server) beginReady(ctx context.Context, started map[int64]beginning) error {
	all, err := s.proposals(ctx)
	if err != nil {
		return err
	}
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
		// Another run would refuse it: it is begun after that one, if it is approved still.
		if _, held, err := journal.Holder(s.store.dir); err != nil || held {
			return err
		}
		ended, err := s.start(p.ID)
		if err != nil {
			return err
		}
		s.log.Info("an approved plan is begun", "proposal", p.ID)
		started[p.ID] = beginning{s.now(), ended}
		return nil // one run at a time
	}
	return nil
}
