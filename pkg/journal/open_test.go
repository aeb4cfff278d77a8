package journal

import (
	"database/sql"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// raw is the file, past the journal.
func raw(t *testing.T, dir string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() }) // some tests have closed it
	db.SetMaxOpenConns(1)
	return db
}

func rawExec(t *testing.T, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.Exec(query, args...); err != nil {
		t.Fatal(err)
	}
}

// earlier makes the file of the first fleetd, with two runs.
func earlier(t *testing.T, dir string) *sql.DB {
	t.Helper()
	db := raw(t, dir)
	rawExec(t, db, `PRAGMA journal_mode = WAL`)
	rawExec(t, db, `
CREATE TABLE IF NOT EXISTS runs (
	id      TEXT PRIMARY KEY,
	started INTEGER NOT NULL -- Unix nanoseconds
) STRICT;
CREATE TABLE IF NOT EXISTS events (
	run  TEXT    NOT NULL REFERENCES runs(id),
	seq  INTEGER NOT NULL,
	body TEXT    NOT NULL, -- rollout.Event as JSON
	PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;`)
	for _, run := range []string{"old1", "old2"} {
		rawExec(t, db, `INSERT INTO runs (id, started) VALUES (?, ?)`, run, start.UnixNano())
		rawExec(t, db, `INSERT INTO events (run, seq, body) VALUES (?, 1, ?), (?, 2, '{"seq":2, broken')`,
			run, `{"seq":1,"at":"2026-01-02T03:04:05Z","type":"run.started","plan":{"schema":"fleetd.io/plan/v1"}}`, run)
	}
	return db
}

const byEarlier = "it was recorded by an earlier fleetd, whose plans (fleetd.io/plan/v1) this one does not read"

func TestEarlierSchema(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	db := earlier(t, dir)

	// Read, it stays as it is.
	j, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	list := func(j *Journal) (out []string) {
		t.Helper()
		runs, err := j.Runs(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range runs {
			if strings.HasPrefix(l.ID, "old") {
				wantError(t, l.Err, byEarlier)
				if !l.Started.Equal(start) {
					t.Errorf("%s started %v", l.ID, l.Started)
				}
			} else if l.Err != nil {
				t.Error(l.Err)
			}
			out = append(out, l.ID)
		}
		return out
	}
	if got := list(j); !slices.Equal(got, []string{"old2", "old1"}) {
		t.Errorf("read: %q", got)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	var version int
	if err := db.QueryRow("PRAGMA user_version").Scan(&version); err != nil || version != 0 {
		t.Errorf("version %d, %v", version, err)
	}

	// A run of the earlier fleetd that is under way keeps its tables.
	rawExec(t, db, "PRAGMA wal_checkpoint")
	lock, err := Acquire(dir, "old2")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(lock.f.Name(), []byte("run old2, pid 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = open(dir, 0)
	wantError(t, err, "it has to be brought up to date, and a run is under way")
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	// This process's own run is none.
	if lock, err = Acquire(dir, "new"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Release() }() // the process ends anyway

	j = mustOpen(t, dir)
	events := wholeRun(t, newPlan(t, 3, 2))
	record(t, j, "new", events)
	if got := list(j); !slices.Equal(got, []string{"new", "old2", "old1"}) {
		t.Errorf("brought up to date: %q", got)
	}
	for name, f := range map[string]func() error{
		"Events":   func() error { _, err := j.Events(ctx, "old1"); return err },
		"Continue": func() error { _, err := j.Continue(ctx, "old1"); return err },
		"Reach":    func() error { _, err := j.Reach(ctx, "old1"); return err },
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), "cannot read run old1: "+byEarlier) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var kept string
	if err := db.QueryRow("SELECT body FROM events WHERE run = 'old1' AND seq = 2").Scan(&kept); err != nil || kept != `{"seq":2, broken` {
		t.Errorf("the earlier events: %q, %v", kept, err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(events, mustRead(t, mustOpen(t, dir), "new")); d != "" {
		t.Error(d)
	}
}

func TestNewerSchema(t *testing.T) {
	dir := t.TempDir()
	begin(t, mustOpen(t, dir), "r")
	rawExec(t, raw(t, dir), "PRAGMA user_version = 99")
	for name, open := range map[string]func(string) (*Journal, error){"Open": Open, "OpenReadOnly": OpenReadOnly} {
		t.Run(name, func(t *testing.T) {
			_, err := open(dir)
			wantError(t, err, "cannot open the journal "+dir, "it was written by a newer fleetd")
		})
	}
}

func TestNoJournal(t *testing.T) {
	dir := t.TempDir()
	if _, err := OpenReadOnly(dir); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no file: %v", err)
	}
	if Exists(dir) {
		t.Error("reading made a file")
	}
	file := filepath.Join(dir, fileName)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	if runs, err := j.Runs(t.Context()); err != nil || len(runs) != 0 {
		t.Errorf("an empty file: %v, %v", runs, err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ content, want string }{
		"text":    {strings.Repeat("no database at all\n", 300), "the file is no journal of fleetd"},
		"damaged": {"SQLite format 3\x00" + strings.Repeat("x", 5000), "the file is"},
	} {
		if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		for how, open := range map[string]func(string) (*Journal, error){"Open": Open, "OpenReadOnly": OpenReadOnly} {
			t.Run(name+" "+how, func(t *testing.T) {
				_, err := open(dir)
				wantError(t, err, "cannot open the journal "+dir, c.want)
			})
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(dir, "file", "state")); err == nil || !strings.Contains(err.Error(), "cannot make the state folder") {
		t.Errorf("a file in the way: %v", err)
	}
}

// Another process that holds the file is waited for, and then named as the cause.
func TestHeld(t *testing.T) {
	dir := t.TempDir()
	old := earlier(t, dir)
	rawExec(t, old, "BEGIN IMMEDIATE")
	_, err := open(dir, 20*time.Millisecond)
	wantError(t, err, "cannot open the journal "+dir, "another process holds it")
	rawExec(t, old, "ROLLBACK")

	j := mustOpen(t, dir)
	w := begin(t, j, "r")
	events := wholeRun(t, newPlan(t, 3, 2))
	rawExec(t, old, "BEGIN EXCLUSIVE")
	wantError(t, w.Append(t.Context(), events[:2]), "cannot write event 1 of run r: another process holds it")
	rawExec(t, old, "ROLLBACK")
	mustAppend(t, w, events...)

	// It is waited for: the lock goes while Append waits.
	patient, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer patient.Close()
	rawExec(t, old, "BEGIN EXCLUSIVE")
	done := make(chan error, 1)
	go func() {
		_, err := patient.Begin(t.Context(), "r2", start, []byte("{}"))
		done <- err
	}()
	rawExec(t, old, "ROLLBACK")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// asNobody calls f as a user to whom file modes apply.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() == 0 {
		// File access is by the thread's own user in Linux.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := unix.Setfsuid(65534); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := unix.Setfsuid(0); err != nil {
				panic(err)
			}
		}()
	}
	f()
}

// protect takes away the right to write to a folder and its files.
func protect(t *testing.T, dir string) {
	t.Helper()
	// The testing package keeps it to the user.
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	mode := func(dirMode, fileMode os.FileMode) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if err := os.Chmod(filepath.Join(dir, e.Name()), fileMode); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(dir, dirMode); err != nil {
			t.Fatal(err)
		}
	}
	mode(0o555, 0o444)
	t.Cleanup(func() { mode(0o755, 0o644) })
}

func TestReadOnly(t *testing.T) {
	events := wholeRun(t, newPlan(t, 3, 2))
	for name, files := range map[string][]string{
		"closed":              {fileName},
		"log left over":       {fileName, fileName + "-wal"},
		"log and index":       {fileName, fileName + "-wal", fileName + "-shm"},
		"another one's still": nil, // in the folder that the writer has open
	} {
		t.Run(name, func(t *testing.T) {
			from := t.TempDir()
			j := mustOpen(t, from)
			w := record(t, j, "r", events[:5])
			mustAppend(t, w, events[5:]...)
			if name == "closed" {
				if err := j.Close(); err != nil {
					t.Fatal(err)
				}
			}
			dir := from
			if files != nil {
				dir = t.TempDir()
			}
			for _, f := range files {
				raw, err := os.ReadFile(filepath.Join(from, f))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, f), raw, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			protect(t, dir)
			asNobody(t, func() {
				j, err := OpenReadOnly(dir)
				if err != nil {
					t.Fatal(err)
				}
				defer j.Close()
				runs, err := j.Runs(t.Context())
				if err != nil || len(runs) != 1 || runs[0].Err != nil {
					t.Fatalf("runs %v, %v", runs, err)
				}
				same(t, fold(t, events), runs[0].Run)
				if d := cmp.Diff(events, mustRead(t, j, "r")); d != "" {
					t.Error(d)
				}
				if _, err := j.Begin(t.Context(), "x", start, []byte("{}")); err == nil {
					t.Error("a run begins in a journal opened for reading")
				}
			})
			if files != nil {
				asNobody(t, func() {
					_, err := open(dir, 0)
					wantError(t, err, "cannot open the journal "+dir, "the file or its folder cannot be ")
				})
			}
		})
	}
	t.Run("earlier", func(t *testing.T) {
		dir := t.TempDir()
		if err := earlier(t, dir).Close(); err != nil {
			t.Fatal(err)
		}
		protect(t, dir)
		asNobody(t, func() {
			j, err := OpenReadOnly(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer j.Close()
			if runs, err := j.Runs(t.Context()); err != nil || len(runs) != 2 {
				t.Errorf("%v, %v", runs, err)
			}
		})
	})
	t.Run("empty folder", func(t *testing.T) {
		dir := t.TempDir()
		protect(t, dir)
		asNobody(t, func() {
			_, err := Open(dir)
			wantError(t, err, "cannot make the journal "+dir, "permission denied")
			_, err = Acquire(dir, "r")
			wantError(t, err, "cannot take the run lock: the state folder cannot be written", dir)
			_, err = Open(filepath.Join(dir, "state"))
			wantError(t, err, "cannot make the state folder", "permission denied")
			_, err = Acquire(filepath.Join(dir, "state"), "r")
			wantError(t, err, "cannot make the state folder", "permission denied")
		})
	})
	t.Run("unreadable", func(t *testing.T) {
		dir := t.TempDir()
		begin(t, mustOpen(t, dir), "r")
		protect(t, dir)
		if err := os.Chmod(filepath.Join(dir, fileName), 0); err != nil {
			t.Fatal(err)
		}
		asNobody(t, func() {
			_, err := OpenReadOnly(dir)
			wantError(t, err, "cannot open the journal "+dir, "the file or its folder cannot be opened")
		})
	})
}
