package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// ErrNotUnderWay says that no process is at the run, so that none could do what is
// asked of it.
var ErrNotUnderWay = errors.New("it is not under way")

// ErrReason says that the reason of a request is none that can be kept.
var ErrReason = errors.New("the reason is too long, or not one line of text")

// mostReason bounds why something is asked for, in bytes.
const mostReason = 500

// Request is what is asked of a run.
type Request struct {
	rollout.Request
	Run string
	// life is the event with which the process began that is asked. Another one that
	// goes on with the run later is not: who resumes a run has seen how it stands.
	life int64
}

// Ask asks the process that is at a run for something; q is all but its ID. When Ask
// returns, the request is on the disk: the run starts no step before it has seen it.
// Whether it does see it, before it ends for another reason, is what Answer tells. A run
// that waits for its maintenance window is kept from going on in it by a pause.
func (j *Journal) Ask(ctx context.Context, run string, q rollout.Request) (Request, error) {
	cannot := func(err error) (Request, error) {
		return Request{}, fmt.Errorf("cannot %s run %s: %w", q.Verb, run, err)
	}
	if len(q.Reason) > mostReason || !utf8.ValidString(q.Reason) || strings.ContainsFunc(q.Reason, unicode.IsControl) {
		return cannot(hint(ErrReason, fmt.Sprintf("at most %d bytes, without line breaks", mostReason)))
	}
	if err := j.known(ctx, run); err != nil {
		return cannot(err)
	}
	// The lock first: who ends the run writes so before giving it up.
	holder, held, err := Holder(filepath.Dir(j.file))
	if err != nil {
		return cannot(err)
	}
	out := Request{Request: q, Run: run}
	err = j.write(true, func(ctx context.Context) error {
		life, last, err := j.lifeOf(ctx, j.conn, run)
		switch {
		case err != nil:
			return err
		// The window asks again, of the life that is about to begin.
		case last == rollout.RunInterrupted && q.By != rollout.Window:
			waits, err := waiting(ctx, j.conn, run)
			if err != nil {
				return err
			}
			if len(waits) == 0 {
				return notUnderWay(last)
			}
			if q.Verb != rollout.Pause {
				return hint(fmt.Errorf("%w: it waits for its maintenance window", ErrNotUnderWay), "fleetd pause RUN keeps it from going on in that")
			}
		case last != rollout.RunStarted && last != rollout.RunResumed:
			return notUnderWay(last)
		case !held || holder != run:
			return notUnderWay("")
		}
		res, err := j.conn.ExecContext(ctx, `INSERT INTO requests (run, life, verb, user, host, at, reason) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			run, life, q.Verb, q.By.User, q.By.Host, q.At.Format(time.RFC3339Nano), q.Reason)
		if err == nil {
			out.ID, err = res.LastInsertId()
		}
		out.life = life
		return err
	})
	if err != nil {
		return cannot(j.explain(err))
	}
	return out, nil
}

// notUnderWay is ErrNotUnderWay with how the run stands, by its last event.
func notUnderWay(last rollout.EventType) error {
	why := "the fleetd that was at it is gone"
	switch last {
	case rollout.RunDone:
		why = "it is done"
	case rollout.RunHalted:
		why = "it was halted"
	case rollout.RunInterrupted:
		why = "it was interrupted"
	}
	return hint(fmt.Errorf("%w: %s", ErrNotUnderWay, why), "nothing of it is being done, so there is nothing to stop; fleetd runs show tells how it stands")
}

// lifeOf is the number and the kind of the last event that began or ended the work at
// a run. A run without any has not begun.
func (j *Journal) lifeOf(ctx context.Context, q queryer, run string) (seq int64, last rollout.EventType, err error) {
	err = q.QueryRowContext(ctx, `SELECT seq, type FROM events INDEXED BY events_of_run WHERE run = ? AND host IS NULL AND type <> ? ORDER BY seq DESC LIMIT 1`,
		run, rollout.RunRequested).Scan(&seq, &last)
	if errors.Is(err, sql.ErrNoRows) {
		err = errEmpty
	}
	return seq, last, err
}

// Answer is what came of a request.
type Answer string

const (
	// Pending: the run has not looked yet.
	Pending Answer = "pending"
	// Heard: it is among the events of the run, or keeps one that is paused from going on
	// when its maintenance window opens.
	Heard Answer = "heard"
	// Missed: the process that was asked has ended before it looked, and nothing comes
	// of the request.
	Missed Answer = "missed"
)

// Answer is what has come of a request so far.
func (j *Journal) Answer(ctx context.Context, q Request) (Answer, error) {
	holder, held, err := Holder(filepath.Dir(j.file)) // before what it may have written meanwhile is read
	if err != nil {
		return "", err
	}
	life, last, err := j.lifeOf(ctx, j.db, q.Run)
	if err != nil {
		return "", j.cannotRead(q.Run, err)
	}
	var heard bool
	err = j.db.QueryRowContext(ctx, `SELECT coalesce(max(body ->> '$.request.id' = ?), 0) FROM events INDEXED BY events_of_run
		WHERE run = ? AND host IS NULL AND seq > ? AND type = ?`, q.ID, q.Run, q.life, rollout.RunRequested).Scan(&heard)
	switch {
	case err != nil:
		return "", j.cannotRead(q.Run, err)
	case heard:
		return Heard, nil
	case life == q.life && held && holder == q.Run:
		return Pending, nil
	case life == q.life && last == rollout.RunInterrupted: // nobody goes on with it
		return Heard, nil
	}
	return Missed, nil
}

// Await waits until something has come of a request, or ctx is done: it is Pending then.
func (j *Journal) Await(ctx context.Context, q Request) (Answer, error) {
	const every = 250 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		answer, err := j.Answer(context.WithoutCancel(ctx), q)
		if err != nil || answer != Pending {
			return answer, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return Pending, nil
		}
	}
}

// Requests are what was asked of the run since this process is at it, and is not
// among its events.
func (w *Writer) Requests(ctx context.Context) ([]rollout.Request, error) {
	requests, err := w.requests(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot read what is asked of run %s: %w", w.run, w.j.explain(err))
	}
	return requests, nil
}

func (w *Writer) requests(ctx context.Context) (out []rollout.Request, err error) {
	w.j.mu.Lock()
	defer w.j.mu.Unlock()
	rows, err := w.j.stmts.requests.QueryContext(ctx, w.run, w.life, w.heard)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var q rollout.Request
		var at string
		if err := rows.Scan(&q.ID, &q.Verb, &q.By.User, &q.By.Host, &at, &q.Reason); err != nil {
			return nil, err
		}
		if q.At, err = time.Parse(time.RFC3339Nano, at); err != nil {
			return nil, fmt.Errorf("request %d is damaged: %w", q.ID, err)
		}
		out = append(out, q)
	}
	return out, rows.Err()
}
