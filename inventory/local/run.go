package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"
	"syscall"

	"github.com/fleetd/fleetd/inventory"
)

func maxOutput(l inventory.Limits) int64 {
	if l.FileSize > 0 {
		return l.FileSize
	}
	return inventory.DefaultLimits.FileSize
}

// run starts an executable in dir and returns what it printed. Its standard
// error becomes part of the error, if it fails.
func run(ctx context.Context, dir, name string, args []string, limit int64) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, complaints := &bounded{limit: limit}, &bounded{limit: 4 << 10}
	cmd.Stdout, cmd.Stderr = out, complaints
	err := cmd.Run()
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ENOEXEC), errors.Is(err, fs.ErrNotExist):
		// Not started: a file that only looks executable, or whose
		// interpreter is missing.
		return nil, fmt.Errorf("%w: %w", inventory.ErrNotScript, err)
	case err != nil && ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		if s := strings.TrimSpace(complaints.kept.String()); s != "" {
			return nil, fmt.Errorf("%w: %s", err, s)
		}
		return nil, err
	}
	return out.kept.Bytes(), nil
}

// bounded keeps limit+1 bytes and drops the rest, so that who reads it can
// tell that there was more.
//
// The buffer is not embedded: its ReadFrom would be found by io.Copy and go
// round the bound.
type bounded struct {
	kept  bytes.Buffer
	limit int64
}

func (b *bounded) Write(p []byte) (int, error) {
	if room := b.limit + 1 - int64(b.kept.Len()); room > 0 {
		b.kept.Write(p[:min(int64(len(p)), room)])
	}
	return len(p), nil
}
