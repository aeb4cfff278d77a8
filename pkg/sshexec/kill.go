package sshexec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/fleetd/fleetd/pkg/sshexec/internal/wire"
)

// killGrace is the time between SIGTERM and SIGKILL.
const killGrace = 3 * time.Second

// kill ends the process group of a started command, whose context has ended, with the
// privileges it has. SSH's own signal request would not do: OpenSSH before 7.9 (EL7) ignores
// it, and it cannot signal what sudo started.
func (r *runner) kill(ended context.Context, s *session) {
	if s.pid <= 1 || r.cmd.Harmless && !isLate(ended) {
		return
	}
	ctx, cancel := context.WithTimeout(r.pool.ctx, 10*time.Second+killGrace)
	defer cancel()
	program, err := wire.Program{
		Env:    map[string]string{"fl_kill": fmt.Sprint(s.pid), "fl_grace": fmt.Sprint(int(killGrace / time.Second))},
		Script: wire.KillScript,
	}.Encode()
	if err != nil {
		return
	}
	l := launch{target: r.target, become: r.cmd.Become, program: program, stderr: io.Discard, hurry: true}
	killer, err := s.conn.begin(ctx, l)
	if errors.Is(err, errNoRoom) {
		// All sessions are taken, this one among them, or MaxSessions is 1: to
		// wait for one would be to wait for what is to be killed.
		l.target.spare, l.hurry = true, false
		var c *conn
		if c, _, err = r.pool.acquire(ctx, l.target); err == nil {
			defer r.pool.release(c)
			killer, err = c.begin(ctx, l)
		}
	}
	if err != nil {
		if killer != nil {
			killer.close()
		}
		return
	}
	defer killer.close()
	select {
	case <-s.exited:
		// It is gone; the killer only sleeps.
	case <-killer.exited:
		select {
		case <-s.exited:
		case <-time.After(time.Second):
		}
	case <-s.conn.life.Done():
	case <-ctx.Done():
	}
}
