package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/term"

	"github.com/fleetd/fleetd/inventory/source"
)

// complaintsKept is how many bytes of a program's standard error are kept.
const complaintsKept = 4 << 10

// program is an executable to be run in a folder.
type program struct {
	dir, name string
	args      []string
	limit     int64 // bytes that it may print
	// terminal lets it ask the person at the terminal, if there is one: input that
	// comes from a pipe is somebody else's answer.
	terminal bool
}

// run starts a program and returns what it printed, and its complaints on
// standard error. They become part of the error, if it fails. One that prints
// more than it may is ended.
func (p program) run(ctx context.Context) (out []byte, complaints string, err error) {
	cmd := exec.CommandContext(ctx, p.name, p.args...)
	cmd.Dir = p.dir
	printed, complained := &bounded{limit: p.limit, refuse: true}, &bounded{limit: complaintsKept}
	cmd.Stdout, cmd.Stderr = printed, complained
	if p.terminal {
		cmd.Stderr = io.MultiWriter(os.Stderr, complained)
		if term.IsTerminal(int(os.Stdin.Fd())) {
			cmd.Stdin = os.Stdin
		}
	}
	err = cmd.Run()
	complaints = strings.TrimSpace(complained.kept.String())
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ENOEXEC), errors.Is(err, fs.ErrNotExist):
		// Not started: a file that only looks executable, or whose
		// interpreter is missing.
		return nil, "", fmt.Errorf("%w: %w", source.ErrNotScript, err)
	case printed.full:
		return nil, "", fmt.Errorf("it printed more than %d bytes", p.limit)
	case err != nil && ctx.Err() != nil:
		return nil, "", ctx.Err()
	case err != nil && complaints != "":
		return nil, "", fmt.Errorf("%w: %s", err, complaints)
	}
	return printed.kept.Bytes(), complaints, err
}

// bounded keeps limit bytes. What is beyond it is dropped, or refused: then
// whoever writes it has nobody any more to write to, and ends.
//
// The buffer is not embedded: its ReadFrom would be found by io.Copy and go
// round the bound.
type bounded struct {
	kept   bytes.Buffer
	limit  int64
	refuse bool
	full   bool
}

func (b *bounded) Write(p []byte) (int, error) {
	room := b.limit - int64(b.kept.Len())
	if int64(len(p)) <= room {
		return b.kept.Write(p)
	}
	b.kept.Write(p[:room])
	b.full = true
	if b.refuse {
		return int(room), io.ErrShortWrite
	}
	return len(p), nil
}
