package view

import (
	"crypto/sha256"
	"fmt"
	"os"
	"time"

	"github.com/fleetd/fleetd/pkg/sshexec"
)

// maxHeld bounds the output that is kept in memory; what comes after it goes to a
// file. A thousand hosts may print gigabytes.
const maxHeld = 8 << 20

// ExecResults holds what a command did on many hosts until all are there: equal
// outputs once, and large ones on disk. Close it when done.
type ExecResults struct {
	hosts  map[string]execHost
	blocks map[execKey]*execResult
	held   int
	file   *os.File // nil until it is needed; it has no name
	size   int64
	err    error // the first failure to keep output
}

// An execHost is what of a host's result is its own.
type execHost struct {
	key  execKey
	err  error
	took time.Duration
}

// An execKey is equal where results are shown as one.
type execKey struct {
	status                int
	signal                string
	truncated, unfinished bool
	stdout, stderr        [sha256.Size]byte
}

type execResult struct {
	key            execKey
	stdout, stderr stored
}

// stored is output in memory, or in the file.
type stored struct {
	text   []byte
	offset int64
	length int
}

// NewExecResults returns an empty collection.
func NewExecResults() *ExecResults {
	return &ExecResults{hosts: map[string]execHost{}, blocks: map[execKey]*execResult{}}
}

// Add takes the result of one host.
func (x *ExecResults) Add(h sshexec.HostResult) {
	r := h.Result
	key := execKey{status: r.ExitStatus, signal: r.Signal, truncated: r.Truncated, unfinished: r.Unfinished,
		stdout: sha256.Sum256(r.Stdout), stderr: sha256.Sum256(r.Stderr)}
	x.hosts[h.Host] = execHost{key, h.Err, r.Duration}
	if x.blocks[key] == nil {
		x.blocks[key] = &execResult{key: key, stdout: x.store(r.Stdout), stderr: x.store(r.Stderr)}
	}
}

func (x *ExecResults) store(text []byte) stored {
	if x.held+len(text) <= maxHeld {
		x.held += len(text)
		return stored{text: text}
	}
	if x.file == nil && x.err == nil {
		x.file, x.err = os.CreateTemp("", "fleetd-exec-")
		if x.err == nil {
			_ = os.Remove(x.file.Name()) // gone with us, however we end
		}
	}
	if x.err == nil {
		_, x.err = x.file.WriteAt(text, x.size)
	}
	if x.err != nil {
		return stored{text: []byte("[... the output could not be kept ...]\n")}
	}
	s := stored{offset: x.size, length: len(text)}
	x.size += int64(len(text))
	return s
}

func (x *ExecResults) load(s stored) []byte {
	if s.length == 0 {
		return s.text
	}
	text := make([]byte, s.length)
	if _, err := x.file.ReadAt(text, s.offset); err != nil && x.err == nil {
		x.err = err
	}
	return text
}

// Failed tells that a host was not reached, or the command failed there.
func (x *ExecResults) Failed() bool {
	for _, h := range x.hosts {
		if h.err != nil || h.key.status != 0 {
			return true
		}
	}
	return false
}

func (x *ExecResults) failure() error {
	if x.err == nil {
		return nil
	}
	return fmt.Errorf("cannot keep all that the hosts have printed: %w\nset TMPDIR to a folder with more room", x.err)
}

// Close gives the disk back.
func (x *ExecResults) Close() {
	if x.file != nil {
		x.file.Close()
	}
}
