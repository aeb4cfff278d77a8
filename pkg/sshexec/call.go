package sshexec

import (
	"context"
	"errors"

	"golang.org/x/crypto/ssh"
)

// do makes a call of x/crypto/ssh, which nothing can interrupt: what ends early is
// the wait for it. It returns f's error; or, before f has ended, the reason for which
// ctx or the connection has. If f succeeds after that, undo is called, unless it is
// nil.
func (c *conn) do(ctx context.Context, f func() error, undo func()) error {
	done, gone := make(chan error), make(chan struct{})
	c.pool.work.Go(func() {
		err := f()
		select {
		case done <- err:
		case <-gone:
			if err == nil && undo != nil {
				undo()
			}
		}
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		close(gone)
		return context.Cause(ctx)
	case <-c.life.Done():
		close(gone)
		return c.lostErr()
	}
}

// open opens a channel; one that opens when nobody waits any more is closed.
func (c *conn) open(ctx context.Context, kind string, extra []byte) (ssh.Channel, <-chan *ssh.Request, error) {
	var ch ssh.Channel
	var reqs <-chan *ssh.Request
	err := c.do(ctx, func() (err error) {
		ch, reqs, err = c.ssh.OpenChannel(kind, extra)
		if _, refused := errors.AsType[*ssh.OpenChannelError](err); err != nil && !refused {
			err = c.lostErr()
		}
		return err
	}, func() {
		go ssh.DiscardRequests(reqs)
		ch.Close()
	})
	if err != nil {
		return nil, nil, err // and ch may be set yet
	}
	return ch, reqs, nil
}
