package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// Waiting is the run of an approved plan that was paused because its maintenance window
// closed, that nobody has gone on with since and nobody wants to stay as it is.
type Waiting struct {
	Run string
	// Proposal is the one that the run has begun, Digest that of its plan.
	Proposal int64
	Digest   string
	// Tries is how often it was to go on since, the last time at Tried.
	Tries int
	Tried time.Time
	// paused is the event with which it was.
	paused int64
}

// ErrNotWaiting says that a run does not wait for its maintenance window.
var ErrNotWaiting = errors.New("its maintenance window has not paused it, or somebody wants it to stay as it is")

// WaitingRuns are the runs that wait for their maintenance windows, the first proposed first.
func (j *Journal) WaitingRuns(ctx context.Context) ([]Waiting, error) {
	// A journal that an earlier fleetd wrote, opened to be read, has none.
	if v, err := version(ctx, j.db); err != nil || v < resumptionsSchema {
		return nil, err
	}
	out, err := waiting(ctx, j.db, "")
	if err != nil {
		return nil, j.cannot("read", err)
	}
	return out, nil
}

// TryResume counts a try to go on with a run that waits, before it is made: so a process
// that dies in between has made it. Of two who are about to do so one is told ErrNotWaiting.
func (j *Journal) TryResume(ctx context.Context, w Waiting, now time.Time) error {
	err := j.write(true, func(ctx context.Context) error {
		is, err := waiting(ctx, j.conn, w.Run)
		if err != nil {
			return err
		}
		if len(is) != 1 || is[0] != w {
			return ErrNotWaiting
		}
		_, err = j.conn.ExecContext(ctx, `INSERT OR REPLACE INTO resumptions (run, paused, tries, at) VALUES (?, ?, ?, ?)`, w.Run, w.paused, w.Tries+1, now.UnixNano())
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot go on with run %s: %w", w.Run, j.explain(err))
	}
	return nil
}

// waiting are those of all runs, or of one.
func waiting(ctx context.Context, q rowser, run string) (out []Waiting, err error) {
	rows, err := q.QueryContext(ctx, `
		WITH begun AS (
			SELECT id, run, digest,
				(SELECT max(seq) FROM events INDEXED BY events_of_run WHERE run = proposals.run AND host IS NULL AND type IN (?1, ?2)) AS life,
				(SELECT max(seq) FROM events INDEXED BY events_of_run WHERE run = proposals.run AND host IS NULL AND type = ?3) AS paused
			FROM proposals WHERE run <> '' AND (?4 = '' OR run = ?4))
		SELECT begun.run, begun.id, digest, begun.paused, coalesce(tries, 0), coalesce(at, 0)
		FROM begun LEFT JOIN resumptions ON resumptions.run = begun.run AND resumptions.paused = begun.paused
		WHERE begun.paused > life
			AND EXISTS (SELECT 1 FROM events INDEXED BY events_of_run WHERE run = begun.run AND host IS NULL AND seq > life AND type = ?5 AND body ->> '$.request.by.user' = ?6)
			AND NOT EXISTS (SELECT 1 FROM requests WHERE run = begun.run AND requests.life >= begun.life AND user <> ?6)
		ORDER BY begun.id`,
		rollout.RunStarted, rollout.RunResumed, rollout.RunInterrupted, run, rollout.RunRequested, rollout.Window.User)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var w Waiting
		var at int64
		if err := rows.Scan(&w.Run, &w.Proposal, &w.Digest, &w.paused, &w.Tries, &at); err != nil {
			return nil, err
		}
		if w.Tries > 0 {
			w.Tried = time.Unix(0, at)
		}
		out = append(out, w)
	}
	return out, rows.Err()
}
