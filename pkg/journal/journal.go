// Package journal keeps the events of runs in an SQLite file, so that a run
// survives the process, the bastion's power and the engineer's terminal.
//
// The file is in WAL mode. Of its two ways to commit, synchronous=FULL puts the
// log on the disk and NORMAL leaves that to the next one that does
// (sqlite.org/pragma.html#pragma_synchronous). An append with an event that has
// to be durable commits in the first way and takes along all that was committed
// before it, because the log is one file: a boot_id that is lost with the page
// cache would mean a second reboot. The others commit in the second way. They
// outlive the process, and what the bastion's power takes of them nothing
// depends on.
package journal

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite" // the driver, in Go: fleetd needs no C library on a bastion
)

const fileName = "journal.db"

// patience is how long a journal waits for a process that holds the file.
const patience = 10 * time.Second

// Journal is an open journal file. It may be used by several goroutines, and
// the file by several processes.
type Journal struct {
	file string
	db   *sql.DB
	// runs is what a query reads the table of runs from.
	runs string
	info fs.FileInfo // of the file, as it was opened

	mu sync.Mutex // one transaction at a time
	// conn is the connection that writes; nil in a journal opened for reading. It
	// is one and stays, because whether it syncs is a property of the connection.
	conn   *sql.Conn
	synced bool // how conn commits
	stmts  statements
}

// Open opens the journal in dir, and makes both if they are not there.
func Open(dir string) (*Journal, error) { return open(dir, patience) }

func open(dir string, patience time.Duration) (*Journal, error) {
	if err := makeFolder(dir); err != nil {
		return nil, err
	}
	// Who switches a new file to WAL while somebody else does gets SQLITE_BUSY at
	// once, whatever the patience.
	defer oneByOne(dir, patience)()
	j := &Journal{file: filepath.Join(dir, fileName), runs: current}
	// SQLite would let everybody read a file that it makes; its -wal and -shm take
	// their mode from this one. To open the file here, and close it, would take
	// away the locks that another Journal of this process has on it.
	if err := unix.Mknod(j.file, unix.S_IFREG|0o600, 0); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, hint(fmt.Errorf("cannot make the journal %s: %w", j.file, err), writableHint)
	}
	if err := j.connect(url.Values{"_pragma": {"journal_mode(WAL)", "synchronous(FULL)", busy(patience)}}); err != nil {
		return nil, err
	}
	if err := j.prepare(context.Background()); err != nil {
		return nil, errors.Join(j.cannot("open", err), j.Close())
	}
	var err error
	if j.info, err = os.Stat(j.file); err != nil {
		return nil, errors.Join(j.cannot("open", err), j.Close())
	}
	return j, nil
}

// makeFolder makes the state folder, for the user alone: plans name every host of
// the fleet.
func makeFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return hint(fmt.Errorf("cannot make the state folder: %w", err), writableHint)
	}
	return nil
}

// prepare makes the connection that writes, and brings the file up to date.
func (j *Journal) prepare(ctx context.Context) (err error) {
	if j.conn, err = j.db.Conn(ctx); err != nil {
		return err
	}
	j.synced = true
	if err := j.conn.Raw(writable); err != nil {
		return err
	}
	if err := j.migrate(ctx, j.conn); err != nil {
		return err
	}
	return j.stmts.prepare(ctx, j.conn)
}

// writable returns an error if SQLite, unable to write the file, has opened it
// for reading: it says nothing of that before the first write.
func writable(driver any) error {
	readOnly, err := driver.(interface{ IsReadOnly(string) (bool, error) }).IsReadOnly("main")
	if err == nil && readOnly {
		err = hint(errors.New("the file or its folder cannot be written"), writableHint)
	}
	return err
}

// OpenReadOnly opens the journal in dir to read it, also where neither file nor
// folder can be written. It brings nothing up to date: the runs of an earlier
// fleetd are listed from the file as it is.
func OpenReadOnly(dir string) (*Journal, error) {
	file := filepath.Join(dir, fileName)
	ways := []url.Values{
		beside,
		// Where SQLite cannot make the index that it shares with other processes
		// (-shm), there is no other process: one that has the file open has made it.
		// With a log left over, the index is made in memory; the locks that this
		// would take are for writers.
		{"mode": {"ro"}, "vfs": {"unix-none"}, "_pragma": {"locking_mode(EXCLUSIVE)"}},
	}
	if _, err := os.Stat(file + "-wal"); errors.Is(err, fs.ErrNotExist) {
		// Without a log, all is in the file. With one, this would leave out what is
		// in the log.
		ways[1] = url.Values{"mode": {"ro"}, "immutable": {"1"}}
	}
	return openTo(file, ways)
}

// OpenBeside opens the journal in dir to read it for long, beside processes that
// write meanwhile: it sees what they write. For that it has to share their lock,
// so a folder that it cannot write is an error.
func OpenBeside(dir string) (*Journal, error) {
	return openTo(filepath.Join(dir, fileName), []url.Values{beside})
}

// Outdated reports whether a journal has to be opened
// anew to see what is written from now on: its file was moved away, or it was not
// up to date, and who writes to it makes it so.
func (j *Journal) Outdated() bool {
	info, err := os.Stat(j.file)
	return err != nil || !os.SameFile(info, j.info) || j.runs != current
}

// beside is how a file is read that others may be writing.
var beside = url.Values{"mode": {"ro"}, "_pragma": {busy(patience)}}

// openTo opens a file in the first of the ways that works.
func openTo(file string, ways []url.Values) (*Journal, error) {
	j := &Journal{file: file}
	var err error
	if j.info, err = os.Stat(file); err != nil {
		return nil, fmt.Errorf("cannot open the journal %s: %w", file, err)
	}
	var errs []error
	for _, way := range ways {
		err := j.connect(way)
		if err == nil {
			if j.runs, err = readable(context.Background(), j.db); err == nil {
				return j, nil
			}
			err = errors.Join(err, j.db.Close())
		}
		errs = append(errs, err)
		if !notWritable(err) {
			break
		}
	}
	return nil, j.cannot("open", errs[len(errs)-1])
}

// connect opens the file; SQLite looks at it with the first query.
func (j *Journal) connect(q url.Values) (err error) {
	j.db, err = sql.Open("sqlite", "file:"+url.PathEscape(j.file)+"?"+q.Encode())
	return err
}

func busy(patience time.Duration) string {
	return fmt.Sprintf("busy_timeout(%d)", patience.Milliseconds())
}

// Exists reports whether dir holds a journal, without making one.
func Exists(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, fileName))
	return !errors.Is(err, fs.ErrNotExist)
}

// Close closes the file.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	err := j.stmts.close()
	if j.conn != nil {
		err = errors.Join(err, j.conn.Close())
	}
	return errors.Join(err, j.db.Close())
}

// NewID makes the name of a run: when it started, in UTC, and four random
// digits that tell two of the same second apart. Names sort by time.
func NewID(now time.Time) string {
	var b [2]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return now.UTC().Format("20060102-150405-") + hex.EncodeToString(b[:])
}
