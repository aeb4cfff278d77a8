package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const lockName = "run.lock"

// Lock keeps a second run out of the same state folder. It is the kernel's
// lock on an open file, so it ends with the process however that ends.
type Lock struct{ f *os.File }

// ErrLocked says that another run holds the lock.
var ErrLocked = errors.New("another run is under way")

// holder is what the lock file says of who holds the lock.
type holder struct {
	Run   string    `json:"run"`
	PID   int       `json:"pid"`
	Since time.Time `json:"since"`
}

// Acquire takes the run lock of dir for run, or says at once which run holds it.
func Acquire(dir, run string) (*Lock, error) {
	if err := makeFolder(dir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, hint(fmt.Errorf("cannot take the run lock: the state folder cannot be written: %w", err), writableHint)
	}
	if err := lock(f); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, locked(f)
		}
		return nil, fmt.Errorf("cannot take the run lock %s: %w", f.Name(), err)
	}
	text, err := json.Marshal(holder{run, os.Getpid(), time.Now().Round(time.Second)})
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(append(text, '\n'), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot take the run lock: %w", err), f.Close())
	}
	return &Lock{f}, nil
}

// lock takes the lock for this process alone.
func lock(f *os.File) error {
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		// Whoever only asks who holds the lock shares it for that moment. If it can
		// be shared now, that was all: no run holds it.
		if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
			return err
		}
	}
}

// oneByOne lets one process after the other open a journal: it returns when no
// other does, or when its patience is over, for a process may be stopped while it
// does, and there are file systems without such locks.
func oneByOne(dir string, patience time.Duration) (done func()) {
	f, err := os.Open(dir)
	if err != nil {
		return func() {}
	}
	const pause = 5 * time.Millisecond
	for range patience / pause {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		time.Sleep(pause)
	}
	return func() { _ = f.Close() } // which gives the lock back
}

// locked is ErrLocked with what the lock file says of the holder.
func locked(f *os.File) error {
	h := read(f)
	if h.Run == "" { // it has not written it yet
		return ErrLocked
	}
	return fmt.Errorf("%w: run %s, process %d, since %s", ErrLocked, h.Run, h.PID, h.Since.Format(time.DateTime))
}

func read(f *os.File) (h holder) {
	raw, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<16))
	if err != nil || json.Unmarshal(raw, &h) != nil {
		return holder{}
	}
	return h
}

// Holder returns the run that holds the lock of dir now, without keeping another
// one from taking it. A run that is not at its end and does not hold the lock was
// cut off.
func Holder(dir string) (run string, held bool, err error) {
	h, held, err := holderOf(dir)
	return h.Run, held, err
}

// UnderWay returns a question: does a process hold the lock of dir for a run? It is
// yes where one did when UnderWay was called, or does now. What is read of the run
// in between may lag behind its begin or its end, and must not look cut off.
func UnderWay(dir string) func(run string) (bool, error) {
	before, was, errBefore := Holder(dir)
	return func(run string) (bool, error) {
		now, is, err := Holder(dir)
		return was && before == run || is && now == run, errors.Join(errBefore, err)
	}
}

func holderOf(dir string) (h holder, held bool, err error) {
	f, err := os.Open(filepath.Join(dir, lockName))
	if errors.Is(err, fs.ErrNotExist) {
		return holder{}, false, nil
	}
	if err != nil {
		return holder{}, false, fmt.Errorf("cannot see who holds the run lock: %w", err)
	}
	defer f.Close()
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); {
	case err == nil:
		return holder{}, false, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		return read(f), true, nil
	default:
		return holder{}, false, fmt.Errorf("cannot see who holds the run lock %s: %w", f.Name(), err)
	}
}

// Release gives the lock up. The file stays: removing it would let two
// processes hold locks on two files of one name.
func (l *Lock) Release() error {
	// The next holder is not to be taken for this one before it has written.
	return errors.Join(l.f.Truncate(0), l.f.Close())
}
