package sshexec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// maxSessions is how many sessions are opened on one connection: OpenSSH's
// default for MaxSessions. A server that allows fewer tells us, see open.
const maxSessions = 10

// A conn is one SSH connection.
type conn struct {
	key  string
	name string // of the target it was dialed for
	ssh  ssh.Conn
	pool *Pool

	hostKey  string // fingerprint of the host's key
	loginKey string // and of ours; "" = a password

	// guarded by pool.mu
	refs     int
	lastUsed time.Time
	lastPing time.Time
	missed   int
	withheld int // session tokens that the server does not honour

	sessions chan struct{}   // tokens
	life     context.Context // ends with the connection; its cause is why
	end      context.CancelCauseFunc
	shut     func() // once
}

// adopt makes a conn of a finished handshake and serves it until it ends.
func (p *Pool) adopt(h *handshake, sc ssh.Conn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request, via *conn) *conn {
	now := time.Now()
	t := h.target
	h.mu.Lock() // a host may change its keys at any time
	hostKey := h.hostKey
	h.mu.Unlock()
	c := &conn{
		key: t.key(), name: t.name(), ssh: sc, pool: p,
		hostKey: hostKey, loginKey: h.login.Outcome().Signed,
		lastUsed: now, lastPing: now,
		sessions: make(chan struct{}, maxSessions),
	}
	c.life, c.end = context.WithCancelCause(context.Background())
	c.shut = sync.OnceFunc(func() {
		sc.Close()
		if via != nil {
			p.release(via)
		}
	})
	for range maxSessions {
		c.sessions <- struct{}{}
	}
	// ssh.NewClient would start three goroutines for what this one does, and
	// goroutines are what an idle connection costs.
	p.work.Go(func() { c.serve(chans, reqs) })
	return c
}

func (c *conn) serve(chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) {
	for chans != nil || reqs != nil {
		select {
		case nc, ok := <-chans:
			if !ok {
				chans = nil
				continue
			}
			_ = nc.Reject(ssh.UnknownChannelType, "this client serves no channels")
		case r, ok := <-reqs:
			if !ok {
				reqs = nil
				continue
			}
			if r.WantReply {
				// hostkeys-00@openssh.com and the server's keepalives.
				_ = r.Reply(false, nil)
			}
		}
	}
	c.close(c.ssh.Wait())
}

// close ends the connection and everything on it. The first caller's cause is
// the one that is told.
func (c *conn) close(cause error) {
	c.end(cause)
	c.shut()
}

func (c *conn) isDead() bool { return c.life.Err() != nil }

// lostErr is the error of an operation that the end of the connection broke.
func (c *conn) lostErr() error {
	select {
	case <-c.life.Done():
	case <-time.After(time.Second):
		// The mux saw the end before serve did; do not wait long for the name
		// of the cause.
		return errLost
	}
	cause := context.Cause(c.life)
	if errors.Is(cause, errLost) || errors.Is(cause, io.EOF) {
		return fmt.Errorf("%w: the host closed it", errLost)
	}
	return fmt.Errorf("%w: %w", errLost, cause)
}

// errNoRoom: the server opens no more sessions on the connection as it is.
var errNoRoom = errors.New("no room for one more session")

// openSession opens a session channel, within what the server allows at a time: it
// waits until others' sessions end, or, in a hurry, returns errNoRoom. done must be
// called when the session is over.
func (c *conn) openSession(ctx context.Context, hurry bool) (ch ssh.Channel, reqs <-chan *ssh.Request, done func(), err error) {
	if err := c.takeSession(ctx, hurry); err != nil {
		return nil, nil, nil, err
	}
	done = sync.OnceFunc(func() { c.sessions <- struct{}{} })
	for pause := firstSessionPause; ; {
		ch, reqs, err = c.open(ctx, "session", nil)
		_, refused := errors.AsType[*ssh.OpenChannelError](err)
		switch {
		case err == nil:
			return ch, reqs, done, nil
		case refused && hurry:
			err = errNoRoom
		case refused && c.withhold():
			if err := c.takeSession(ctx, hurry); err != nil { // waits for a session to end
				return nil, nil, nil, err
			}
			continue
		case refused && pause <= lastSessionPause:
			// Nobody else has a session. But sshd counts one until its program has
			// ended, which for a killed one may be after we have closed it.
			select {
			case <-time.After(pause):
			case <-c.life.Done():
			case <-ctx.Done():
			}
			pause *= 2
			continue
		case refused:
			err = &Error{Kind: KindProtocol, Err: fmt.Errorf("sshd opens no session: %w", err),
				Hint: "MaxSessions in the host's sshd_config is 0, or the login is restricted"}
		}
		done()
		return nil, nil, nil, err
	}
}

// takeSession waits, unless in a hurry, until a session may be opened.
func (c *conn) takeSession(ctx context.Context, hurry bool) error {
	if hurry {
		select {
		case <-c.sessions:
			return nil
		default:
			return errNoRoom
		}
	}
	select {
	case <-c.sessions:
		return nil
	case <-c.life.Done():
		return c.lostErr()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// The pauses between attempts to open the only session, 2.5 s in all.
const (
	firstSessionPause = 10 * time.Millisecond
	lastSessionPause  = 1280 * time.Millisecond
)

// withhold keeps a session token out for the rest of the connection, because
// the server's MaxSessions is lower than we thought. The last token stays.
func (c *conn) withhold() bool {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	if c.withheld == maxSessions-1 {
		return false
	}
	c.withheld++
	return true
}

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
