package sshexec

import (
	"context"
	"errors"

	"golang.org/x/crypto/ssh"
)

// A caller makes calls of x/crypto/ssh, which nothing can interrupt, one after
// the other on a goroutine of its own: what ends early is the wait for them. end
// must be called.
type caller struct {
	conn  *conn
	calls chan func()
}

func (c *conn) newCaller() *caller {
	q := &caller{conn: c, calls: make(chan func(), 1)}
	c.pool.work.Go(func() {
		for call := range q.calls {
			call()
		}
	})
	return q
}

func (q *caller) end() { close(q.calls) }

// do calls f and returns its error; or, before f has ended, the reason for which
// ctx or the connection has. If f succeeds after that, undo is called, unless it
// is nil. Nothing can be called after a call that was not waited for.
func (q *caller) do(ctx context.Context, f func() error, undo func()) error {
	done, gone := make(chan error), make(chan struct{})
	q.calls <- func() {
		err := f()
		select {
		case done <- err:
		case <-gone:
			if err == nil && undo != nil {
				undo()
			}
		}
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		close(gone)
		return context.Cause(ctx)
	case <-q.conn.dead:
		close(gone)
		return q.conn.lostErr()
	}
}

// answers asks the host for a sign of life, and waits for it.
func (c *conn) answers(ctx context.Context) error {
	q := c.newCaller()
	defer q.end()
	return q.do(ctx, c.ping, nil)
}

// open opens a channel; one that opens when nobody waits any more is closed.
func (q *caller) open(ctx context.Context, kind string, extra []byte) (ssh.Channel, <-chan *ssh.Request, error) {
	var ch ssh.Channel
	var reqs <-chan *ssh.Request
	err := q.do(ctx, func() (err error) {
		ch, reqs, err = q.conn.ssh.OpenChannel(kind, extra)
		if _, refused := errors.AsType[*ssh.OpenChannelError](err); err != nil && !refused {
			err = q.conn.lostErr()
		}
		return err
	}, func() {
		go ssh.DiscardRequests(reqs)
		ch.Close()
	})
	if err != nil {
		return nil, nil, err
	}
	return ch, reqs, nil
}
