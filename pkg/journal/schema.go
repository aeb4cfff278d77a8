package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// migrations lead from one schema of the file to the next. How many of them a
// file has behind it is its user_version. One that was released never changes.
var migrations = []string{
	// The first fleetd did not count: a file of its is at 0 as an empty one is.
	`CREATE TABLE IF NOT EXISTS runs (
		id      TEXT PRIMARY KEY,
		started INTEGER NOT NULL -- Unix nanoseconds
	) STRICT;
	CREATE TABLE IF NOT EXISTS events (
		run  TEXT    NOT NULL REFERENCES runs(id),
		seq  INTEGER NOT NULL,
		body TEXT    NOT NULL, -- rollout.Event as JSON
		PRIMARY KEY (run, seq)
	) STRICT, WITHOUT ROWID;`,

	// Columns for what every event has, the plan out of the event and in a table of
	// its own, snapshots. The events of an earlier fleetd keep their form: they are
	// there for who looks into the file.
	`ALTER TABLE runs ADD COLUMN plan_schema TEXT NOT NULL DEFAULT 'fleetd.io/plan/v1';
	ALTER TABLE runs ADD COLUMN reach BLOB; -- compressed
	ALTER TABLE events RENAME TO old;
	CREATE TABLE events (
		run     TEXT    NOT NULL,
		seq     INTEGER NOT NULL,
		at      TEXT    NOT NULL, -- RFC 3339
		clock   INTEGER NOT NULL, -- nanoseconds of the run's clock
		type    TEXT    NOT NULL,
		play    INTEGER, -- the step's, from 0; NULL in an event of the run
		task    INTEGER,
		host    TEXT,
		attempt INTEGER NOT NULL,
		body    TEXT    NOT NULL, -- the rest, as JSON
		PRIMARY KEY (run, seq)
	) STRICT, WITHOUT ROWID;
	INSERT INTO events (run, seq, at, clock, type, attempt, body) SELECT run, seq, '', 0, '', 0, body FROM old;
	DROP TABLE old;
	CREATE TABLE plans (
		sum  TEXT PRIMARY KEY, -- SHA-256 of body
		body BLOB NOT NULL     -- rollout.Plan as JSON, compressed
	) STRICT;
	CREATE TABLE snapshots (
		run  TEXT PRIMARY KEY,
		body BLOB NOT NULL -- rollout.Snapshot as JSON, compressed
	) STRICT;`,

	// What compliance found, and when.
	`CREATE TABLE looks (
		id     INTEGER PRIMARY KEY AUTOINCREMENT,
		name   TEXT    NOT NULL UNIQUE,
		fleet  TEXT    NOT NULL,
		at     INTEGER NOT NULL, -- Unix nanoseconds
		title  TEXT    NOT NULL,
		status TEXT    NOT NULL,
		hosts  INTEGER NOT NULL
	) STRICT;
	CREATE INDEX looks_of_fleet ON looks (fleet, id);
	CREATE TABLE rulings (
		fleet  TEXT    NOT NULL,
		host   TEXT    NOT NULL,
		policy TEXT    NOT NULL,
		rule   TEXT    NOT NULL,
		look   INTEGER NOT NULL, -- the first that said so; it holds until the next of the same key
		status TEXT    NOT NULL, -- '' = nobody asks any more
		since  INTEGER NOT NULL, -- Unix nanoseconds of the first look with this status
		text   TEXT    NOT NULL,
		PRIMARY KEY (fleet, host, policy, rule, look)
	) STRICT, WITHOUT ROWID;`,

	// What a look was of, and which schedule asked for it.
	`ALTER TABLE looks ADD COLUMN schedule TEXT NOT NULL DEFAULT '';
	ALTER TABLE looks ADD COLUMN about TEXT NOT NULL DEFAULT ''; -- JSON; '' = an earlier fleetd's`,

	// What is asked of runs while they are worked on. What a run has heard is among
	// its events; a row never changes.
	`CREATE TABLE requests (
		id     INTEGER PRIMARY KEY AUTOINCREMENT,
		run    TEXT    NOT NULL,
		life   INTEGER NOT NULL, -- the event with which the process began that is asked
		verb   TEXT    NOT NULL CHECK (verb IN ('pause', 'abort')),
		user   TEXT    NOT NULL,
		host   TEXT    NOT NULL,
		at     TEXT    NOT NULL, -- RFC 3339
		reason TEXT    NOT NULL
	) STRICT;
	CREATE INDEX requests_of_run ON requests (run, life, id);
	-- The events that are of no step: few among very many.
	CREATE INDEX events_of_run ON events (run, seq) WHERE host IS NULL;`,

	// Plans that wait for an approval. Times are Unix nanoseconds.
	`CREATE TABLE proposals (
		id     INTEGER PRIMARY KEY AUTOINCREMENT,
		digest TEXT    NOT NULL,
		plan   BLOB    NOT NULL, -- rollout.Plan as JSON, compressed
		by     TEXT    NOT NULL,
		at     INTEGER NOT NULL,
		until  INTEGER NOT NULL,
		approved       TEXT    NOT NULL DEFAULT '', -- by whom
		approved_at    INTEGER NOT NULL DEFAULT 0,
		approved_until INTEGER NOT NULL DEFAULT 0,
		run     TEXT NOT NULL DEFAULT '', -- that has begun it
		refused TEXT NOT NULL DEFAULT ''  -- why it was not begun
	) STRICT;`,

	// What webhooks are to be told, and up to where they were.
	`CREATE TABLE notices (
		id      INTEGER PRIMARY KEY AUTOINCREMENT,
		webhook TEXT    NOT NULL,
		body    TEXT    NOT NULL, -- JSON
		tries   INTEGER NOT NULL DEFAULT 0
	) STRICT;
	CREATE INDEX notices_of_webhook ON notices (webhook, id);
	CREATE TABLE marks (
		source TEXT PRIMARY KEY,
		seq    INTEGER NOT NULL
	) STRICT, WITHOUT ROWID;
	CREATE TABLE dropped (
		webhook TEXT PRIMARY KEY,
		n       INTEGER NOT NULL,
		at      INTEGER NOT NULL, -- Unix nanoseconds of the last
		why     TEXT    NOT NULL
	) STRICT, WITHOUT ROWID;`,

	// How often it was tried to go on with a run that its maintenance window has paused.
	`CREATE TABLE resumptions (
		run    TEXT PRIMARY KEY,
		paused INTEGER NOT NULL, -- the event with which it was
		tries  INTEGER NOT NULL,
		at     INTEGER NOT NULL  -- Unix nanoseconds of the last
	) STRICT, WITHOUT ROWID;`,
}

// runsSchema is the first schema whose table of runs is today's, looksSchema the first
// with looks, aboutSchema the first that tells what they were of.
const (
	runsSchema  = 2
	looksSchema = 3
	aboutSchema = 4
	// proposalsSchema is the first with proposals.
	proposalsSchema = 6
	// resumptionsSchema is the first that counts how often a run was to go on.
	resumptionsSchema = 8
)

var errNewer = hint(errors.New("it was written by a newer fleetd"), "use that one, or another --state")

var errUnderWay = hint(errors.New("it has to be brought up to date, and a run is under way"), "wait for the end of the run")

// migrate brings the file up to date, in one transaction.
func (j *Journal) migrate(ctx context.Context, c *sql.Conn) error {
	// Most files are: no need to wait for whoever is writing.
	if v, err := version(ctx, c); err != nil || v == len(migrations) {
		return err
	}
	// The run of an earlier fleetd would find its tables gone.
	h, held, err := holderOf(filepath.Dir(j.file))
	if err != nil {
		return err
	}
	if held && h.PID != os.Getpid() {
		return errUnderWay
	}
	if _, err := c.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err = func() error {
		v, err := version(ctx, c) // another process may have been faster
		if err != nil {
			return err
		}
		for _, m := range migrations[v:] {
			if _, err := c.ExecContext(ctx, m); err != nil {
				return err
			}
		}
		_, err = c.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", len(migrations)))
		return err
	}()
	if err == nil {
		_, err = c.ExecContext(ctx, "COMMIT")
	}
	if err != nil {
		_, _ = c.ExecContext(ctx, "ROLLBACK") // SQLite may have done so by itself
	}
	return err
}

type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// version is the schema of the file.
func version(ctx context.Context, q queryer) (v int, err error) {
	if err := q.QueryRowContext(ctx, "PRAGMA user_version").Scan(&v); err != nil {
		return 0, err
	}
	if v > len(migrations) {
		return 0, errNewer
	}
	return v, nil
}

// current is what the runs of a file that is up to date are read from.
const current = "(SELECT rowid, id, started, plan_schema, " + lastSeq + " FROM runs)"

// lastSeq is the number of a run's last event.
const lastSeq = "(SELECT coalesce(max(seq), 0) FROM events WHERE run = id) AS seq"

// readable says what to read the table of runs from in a file that is not
// brought up to date.
func readable(ctx context.Context, q queryer) (string, error) {
	v, err := version(ctx, q)
	if err != nil || v >= runsSchema {
		return current, err
	}
	var tables int
	err = q.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE name = 'runs'").Scan(&tables)
	if tables == 0 { // whoever made the file was stopped there
		return "(SELECT 0 AS rowid, '' AS id, 0 AS started, '' AS plan_schema, 0 AS seq WHERE false)", err
	}
	return "(SELECT rowid, id, started, 'fleetd.io/plan/v1' AS plan_schema, " + lastSeq + " FROM runs)", err
}

// foreign is the error of a run whose plan this fleetd cannot read; nil if it can.
func (j *Journal) foreign(planSchema string) error {
	if planSchema == rollout.PlanSchema {
		return nil
	}
	who := "an earlier fleetd"
	if planSchema != "fleetd.io/plan/v1" {
		who = "another fleetd"
	}
	return hint(fmt.Errorf("it was recorded by %s, whose plans (%s) this one does not read", who, planSchema),
		"its events are in the table events of "+j.file)
}
