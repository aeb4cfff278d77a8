// Package journal keeps the events of runs in an SQLite file, so that a run
// survives the process, the bastion's power and the engineer's terminal. An
// event is durable when Append returns: the file is in WAL mode with
// synchronous=FULL (sqlite.org/pragma.html#pragma_synchronous), because a
// boot_id that is lost with the page cache would mean a second reboot.
package journal

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // the driver, in Go: fleetd needs no C library on a bastion

	"github.com/fleetd/fleetd/pkg/rollout"
)

// schema is applied at every open; it must stay idempotent.
const schema = `
CREATE TABLE IF NOT EXISTS runs (
	id      TEXT PRIMARY KEY,
	started INTEGER NOT NULL -- Unix nanoseconds
) STRICT;
CREATE TABLE IF NOT EXISTS events (
	run  TEXT    NOT NULL REFERENCES runs(id),
	seq  INTEGER NOT NULL,
	body TEXT    NOT NULL, -- rollout.Event as JSON
	PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;`

// Journal is an open journal file. It may be used by several goroutines, and
// the file by several processes.
type Journal struct{ db *sql.DB }

// Open opens the journal in dir, and makes both if they are not there. The
// folder is for the user alone: plans name every host of the fleet.
func Open(dir string) (*Journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the state folder: %w", err)
	}
	file := filepath.Join(dir, "journal.db")
	q := url.Values{"_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(10000)", "foreign_keys(1)"}}
	db, err := sql.Open("sqlite", "file:"+url.PathEscape(file)+"?"+q.Encode())
	if err != nil {
		return nil, fmt.Errorf("cannot open the journal %s: %w", file, err)
	}
	if _, err := db.Exec(schema); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open the journal %s: %w", file, err), db.Close())
	}
	return &Journal{db}, nil
}

// Exists reports whether dir holds a journal, without making one.
func Exists(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "journal.db"))
	return !errors.Is(err, fs.ErrNotExist)
}

// Close closes the file.
func (j *Journal) Close() error { return j.db.Close() }

// NewID makes the name of a run: when it started, in UTC, and four random
// digits that tell two of the same second apart. Names sort by time.
func NewID(now time.Time) string {
	var b [2]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return now.UTC().Format("20060102-150405-") + hex.EncodeToString(b[:])
}

// Writer appends the events of one run.
type Writer struct {
	j   *Journal
	run string
	seq int64
}

// Begin starts the journal of a new run.
func (j *Journal) Begin(ctx context.Context, run string, now time.Time) (*Writer, error) {
	if _, err := j.db.ExecContext(ctx, `INSERT INTO runs (id, started) VALUES (?, ?)`, run, now.UnixNano()); err != nil {
		return nil, fmt.Errorf("cannot begin run %s: %w", run, err)
	}
	return &Writer{j: j, run: run}, nil
}

// Continue goes on after the last event of a run.
func (j *Journal) Continue(ctx context.Context, run string) (*Writer, error) {
	w := &Writer{j: j, run: run}
	if err := j.exists(ctx, run); err != nil {
		return nil, err
	}
	err := j.db.QueryRowContext(ctx, `SELECT coalesce(max(seq), 0) FROM events WHERE run = ?`, run).Scan(&w.seq)
	if err != nil {
		return nil, fmt.Errorf("cannot read run %s: %w", run, err)
	}
	return w, nil
}

// Append writes one event and returns it with its number. When it returns
// without an error the event is on the disk.
func (w *Writer) Append(ctx context.Context, e rollout.Event) (rollout.Event, error) {
	e.Seq = w.seq + 1
	body, err := json.Marshal(e)
	if err != nil {
		return e, fmt.Errorf("cannot encode event %d of run %s: %w", e.Seq, w.run, err)
	}
	// The primary key refuses a second writer of the same run.
	if _, err := w.j.db.ExecContext(ctx, `INSERT INTO events (run, seq, body) VALUES (?, ?, ?)`, w.run, e.Seq, string(body)); err != nil {
		return e, fmt.Errorf("cannot write event %d of run %s: %w", e.Seq, w.run, err)
	}
	w.seq = e.Seq
	return e, nil
}

// ErrNoRun says that there is no run of that name.
var ErrNoRun = errors.New("no such run")

func (j *Journal) exists(ctx context.Context, run string) error {
	var n int
	if err := j.db.QueryRowContext(ctx, `SELECT count(*) FROM runs WHERE id = ?`, run).Scan(&n); err != nil {
		return fmt.Errorf("cannot read the journal: %w", err)
	}
	if n == 0 {
		return fmt.Errorf("%w: %s", ErrNoRun, run)
	}
	return nil
}

// Events reads the events of a run in order.
func (j *Journal) Events(ctx context.Context, run string) ([]rollout.Event, error) {
	if err := j.exists(ctx, run); err != nil {
		return nil, err
	}
	rows, err := j.db.QueryContext(ctx, `SELECT seq, body FROM events WHERE run = ? ORDER BY seq`, run)
	if err != nil {
		return nil, fmt.Errorf("cannot read run %s: %w", run, err)
	}
	defer rows.Close()
	var out []rollout.Event
	for rows.Next() {
		var seq int64
		var body []byte
		if err := rows.Scan(&seq, &body); err != nil {
			return nil, fmt.Errorf("cannot read run %s: %w", run, err)
		}
		var e rollout.Event
		if err := json.Unmarshal(body, &e); err != nil {
			return nil, fmt.Errorf("event %d of run %s is damaged: %w", seq, run, err)
		}
		out = append(out, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("cannot read run %s: %w", run, err)
	}
	return out, nil
}

// Runs lists the names of all runs, the newest first.
func (j *Journal) Runs(ctx context.Context) ([]string, error) {
	rows, err := j.db.QueryContext(ctx, `SELECT id FROM runs ORDER BY started DESC, id DESC`)
	if err != nil {
		return nil, fmt.Errorf("cannot read the journal: %w", err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("cannot read the journal: %w", err)
		}
		out = append(out, id)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("cannot read the journal: %w", err)
	}
	return out, nil
}
