package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// ErrOtherWriter says that somebody else writes the same run.
var ErrOtherWriter = errors.New("another process writes this run")

// errReadOnly is for the programmer who writes to a journal opened for reading.
var errReadOnly = errors.New("it was opened for reading")

// statements are what a run executes all the time.
type statements struct{ begin, commit, insert, requests *sql.Stmt }

func (s *statements) prepare(ctx context.Context, c *sql.Conn) (err error) {
	prepare := func(text string) *sql.Stmt {
		if err != nil {
			return nil
		}
		var stmt *sql.Stmt
		stmt, err = c.PrepareContext(ctx, text)
		return stmt
	}
	s.begin = prepare("BEGIN IMMEDIATE") // a lock taken later would not wait
	s.commit = prepare("COMMIT")
	// The primary key refuses a second writer of the same run.
	s.insert = prepare(`INSERT INTO events (run, seq, at, clock, type, play, task, host, attempt, body)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	s.requests = prepare(`SELECT id, verb, user, host, at, reason FROM requests WHERE run = ? AND life = ? AND id > ? ORDER BY id`)
	return err
}

// close closes the statements, which live as long as the connection. One left open would keep the file open, so that
// the log would stay beside it.
func (s *statements) close() (err error) {
	for _, stmt := range []*sql.Stmt{s.begin, s.commit, s.insert, s.requests} {
		if stmt != nil {
			err = errors.Join(err, stmt.Close())
		}
	}
	return err
}

// write executes f in one transaction; with durable, it is on the disk when write
// returns, and all that was written before it. A write that fails leaves nothing.
//
// There is no context on the way: an end in the middle of a commit would leave
// open whether it has happened.
func (j *Journal) write(durable bool, f func(ctx context.Context) error) error {
	ctx := context.Background()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.conn == nil {
		return errReadOnly
	}
	if durable != j.synced {
		mode := "NORMAL"
		if durable {
			mode = "FULL"
		}
		if _, err := j.conn.ExecContext(ctx, "PRAGMA synchronous = "+mode); err != nil {
			return err
		}
		j.synced = durable
	}
	if _, err := j.stmts.begin.ExecContext(ctx); err != nil {
		return err
	}
	err := f(ctx)
	if err == nil {
		_, err = j.stmts.commit.ExecContext(ctx)
	}
	if err != nil {
		_, _ = j.conn.ExecContext(ctx, "ROLLBACK") // SQLite may have done so by itself
	}
	return err
}

// Writer appends the events of one run. It is for one goroutine.
type Writer struct {
	j    *Journal
	run  string
	last int64 // the number of the last event
	// life is the number of the event with which this process began or went on, heard
	// the last request that is among the events.
	life, heard int64
}

// Begin starts the journal of a new run. reach says how the run reaches its
// hosts, so that a resume needs no inventory; it is JSON.
func (j *Journal) Begin(ctx context.Context, run string, now time.Time, reach []byte) (*Writer, error) {
	return j.begin(ctx, run, now, reach, func(context.Context) error { return nil })
}

// begin is Begin; what has to be so for the run to begin is done in the same moment.
func (j *Journal) begin(ctx context.Context, run string, now time.Time, reach []byte, claim func(context.Context) error) (*Writer, error) {
	packed, _, err := pack(json.RawMessage(reach))
	if err != nil {
		return nil, fmt.Errorf("cannot begin run %s: how it reaches its hosts is not JSON: %w", run, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("cannot begin run %s: %w", run, err)
	}
	// On the disk with the first event.
	err = j.write(false, func(ctx context.Context) error {
		if err := claim(ctx); err != nil {
			return err
		}
		_, err := j.conn.ExecContext(ctx, `INSERT INTO runs (id, started, plan_schema, reach) VALUES (?, ?, ?, ?)`,
			run, now.UnixNano(), rollout.PlanSchema, packed)
		if taken(err) {
			return fmt.Errorf("%w: it is there already", ErrOtherWriter)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot begin run %s: %w", run, j.explain(err))
	}
	return &Writer{j: j, run: run}, nil
}

// Continue goes on after the last event of a run.
func (j *Journal) Continue(ctx context.Context, run string) (*Writer, error) {
	if err := j.known(ctx, run); err != nil {
		return nil, err
	}
	w := &Writer{j: j, run: run}
	err := j.db.QueryRowContext(ctx, `SELECT coalesce(max(seq), 0) FROM events WHERE run = ?`, run).Scan(&w.last)
	if err != nil {
		return nil, j.cannotRead(run, err)
	}
	return w, nil
}

// Append writes events, all of them or, with an error, none: the same ones may be
// appended again then. If one of them has to be durable, they all are when Append
// returns, and every event before them.
func (w *Writer) Append(ctx context.Context, events []rollout.Event) error {
	if len(events) == 0 {
		return nil
	}
	if err := w.append(ctx, events); err != nil {
		return fmt.Errorf("cannot write event %d of run %s: %w", events[0].Seq, w.run, w.j.explain(err))
	}
	w.last += int64(len(events))
	for _, e := range events {
		switch e.Type {
		case rollout.RunStarted, rollout.RunResumed:
			w.life = e.Seq
		case rollout.RunRequested:
			w.heard = e.Request.ID
		}
	}
	return nil
}

func (w *Writer) append(ctx context.Context, events []rollout.Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	rows := make([]row, len(events))
	plans := map[string][]byte{}
	for i, e := range events {
		if want := w.last + int64(i) + 1; e.Seq != want {
			return fmt.Errorf("its number is %d, and %d is the next", e.Seq, want)
		}
		var sum string
		var err error
		if e.Plan != nil {
			var packed []byte
			if packed, sum, err = pack(e.Plan); err != nil {
				return err
			}
			plans[sum] = packed
		}
		if rows[i], err = newRow(e, sum); err != nil {
			return err
		}
	}
	return w.j.write(slices.ContainsFunc(events, rollout.Event.Durable), func(ctx context.Context) error {
		for sum, packed := range plans {
			if _, err := w.j.conn.ExecContext(ctx, `INSERT OR IGNORE INTO plans (sum, body) VALUES (?, ?)`, sum, packed); err != nil {
				return err
			}
		}
		for _, r := range rows {
			_, err := w.j.stmts.insert.ExecContext(ctx, w.run, r.seq, r.at, r.clock, r.kind, r.play, r.task, r.host, r.attempt, string(r.body))
			if taken(err) {
				return fmt.Errorf("%w: event %d is there already", ErrOtherWriter, r.seq)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Snapshot stores the run as it stood after one of its events, in place of an
// older one.
func (w *Writer) Snapshot(ctx context.Context, s rollout.Snapshot) error {
	err := ctx.Err()
	if err == nil {
		err = w.snapshot(s)
	}
	if err != nil {
		return fmt.Errorf("cannot write the snapshot of run %s: %w", w.run, w.j.explain(err))
	}
	return nil
}

func (w *Writer) snapshot(s rollout.Snapshot) error {
	if s.Seq > w.last {
		return fmt.Errorf("it tells of event %d, and event %d is the last", s.Seq, w.last)
	}
	packed, _, err := pack(s)
	if err != nil {
		return err
	}
	// What the power takes of it, the events tell again. It cannot be on the disk
	// before them: they are before it in the log.
	return w.j.write(false, func(ctx context.Context) error {
		_, err := w.j.conn.ExecContext(ctx, `INSERT OR REPLACE INTO snapshots (run, body) VALUES (?, ?)`, w.run, packed)
		return err
	})
}
