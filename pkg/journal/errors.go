package journal

import (
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// hinted is an error with what to do about it.
type hinted struct {
	error
	hint string
}

func (h *hinted) Hint() string  { return h.hint }
func (h *hinted) Unwrap() error { return h.error }

func hint(err error, text string) error { return &hinted{err, text} }

const writableHint = "fleetd writes the state folder and every file in it; make them writable, or use another --state"

// cannot says what could not be done with the file, and why, for a person.
func (j *Journal) cannot(do string, err error) error {
	return fmt.Errorf("cannot %s the journal %s: %w", do, j.file, j.explain(err))
}

// explain says in front of an error of SQLite what it means.
func (j *Journal) explain(err error) error {
	why, do := "", ""
	switch code(err) {
	case sqlite3.SQLITE_FULL:
		why, do = "the disk is full", "make room for "+j.file+"; what is in it is whole"
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		why, do = "another process holds it", "fuser -v "+j.file+" shows which"
	case sqlite3.SQLITE_CANTOPEN:
		why, do = "the file or its folder cannot be opened", writableHint
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		why, do = "the file or its folder cannot be written", writableHint
	case sqlite3.SQLITE_NOTADB:
		why, do = "the file is no journal of fleetd", "move it away, or use another --state"
	case sqlite3.SQLITE_CORRUPT:
		why, do = "the file is damaged", "move it away, or use another --state; sqlite3 "+j.file+" .recover saves what can be read"
	case sqlite3.SQLITE_IOERR:
		why, do = "the disk fails, or is full", "df and dmesg tell which; then call fleetd again"
	default:
		return err
	}
	return hint(fmt.Errorf("%s: %w", why, err), do)
}

// notWritable reports whether SQLite wanted to write something beside the file
// and could not.
func notWritable(err error) bool {
	switch code(err) {
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR:
		return true
	}
	return false
}

// code is SQLite's primary result code; 0 if the error is not of SQLite.
func code(err error) int {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return 0
	}
	return e.Code() & 0xff
}

// taken reports whether there is a row of that key already.
func taken(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY
}
