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
	via  *conn // jump host, held while we live
	pool *Pool

	hostKey  string // fingerprint of the host's key
	loginKey string // and of ours; "" = a password

	// guarded by pool.mu
	refs     int
	lastUsed time.Time
	lastPing time.Time
	missed   int
	withheld int // session tokens that the server does not honour

	sessions  chan struct{} // tokens
	closeOnce sync.Once
	dead      chan struct{}
	cause     error // why it died; set before dead is closed
}

// adopt makes a conn of a finished handshake and serves it until it ends.
func (p *Pool) adopt(h *handshake, sc ssh.Conn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request, via *conn) *conn {
	now := time.Now()
	t := h.target
	h.mu.Lock() // a host may change its keys at any time
	hostKey := h.hostKey
	h.mu.Unlock()
	c := &conn{
		key: t.key(), name: t.name(), ssh: sc, via: via, pool: p,
		hostKey: hostKey, loginKey: h.login.Signed(),
		lastUsed: now, lastPing: now,
		sessions: make(chan struct{}, maxSessions),
		dead:     make(chan struct{}),
	}
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
	c.closeOnce.Do(func() {
		c.cause = cause
		close(c.dead)
		c.ssh.Close()
		if c.via != nil {
			go c.pool.release(c.via)
		}
	})
}

func (c *conn) isDead() bool {
	select {
	case <-c.dead:
		return true
	default:
		return false
	}
}

// lostErr is the error of an operation that the end of the connection broke.
func (c *conn) lostErr() error {
	select {
	case <-c.dead:
	case <-time.After(time.Second):
		// The mux saw the end before serve did; do not wait long for the name
		// of the cause.
		return errLost
	}
	switch {
	case c.cause == nil, errors.Is(c.cause, errLost), errors.Is(c.cause, io.EOF):
		return fmt.Errorf("%w: the host closed it", errLost)
	default:
		return fmt.Errorf("%w: %w", errLost, c.cause)
	}
}

// openSession opens a session channel, within what the server allows at a
// time. done must be called when the session is over.
func (c *conn) openSession(ctx context.Context) (ch ssh.Channel, reqs <-chan *ssh.Request, done func(), err error) {
	giveBack := func() { c.sessions <- struct{}{} }
	if err := c.takeSession(ctx); err != nil {
		return nil, nil, nil, err
	}
	for pause := firstSessionPause; ; {
		ch, reqs, err = c.open(ctx, "session", nil)
		if err == nil {
			return ch, reqs, sync.OnceFunc(giveBack), nil
		}
		if _, refused := errors.AsType[*ssh.OpenChannelError](err); !refused {
			giveBack()
			return nil, nil, nil, err
		}
		if c.withhold() {
			if err := c.takeSession(ctx); err != nil { // waits for a session to end
				return nil, nil, nil, err
			}
			continue
		}
		// Nobody else has a session. But sshd counts one until its program has
		// ended, which for a killed one may be after we have closed it.
		if pause > lastSessionPause {
			giveBack()
			return nil, nil, nil, &fault{kind: KindProtocol, err: fmt.Errorf("sshd opens no session: %w", err),
				hint: "MaxSessions in the host's sshd_config is 0, or the login is restricted"}
		}
		select {
		case <-time.After(pause):
		case <-c.dead:
		case <-ctx.Done():
		}
		pause *= 2
	}
}

// errNoRoom: the server opens no more sessions on the connection as it is.
var errNoRoom = errors.New("no room for one more session")

// openSessionNow is openSession for who must not wait until others' sessions
// end: it returns errNoRoom instead.
func (c *conn) openSessionNow(ctx context.Context) (ch ssh.Channel, reqs <-chan *ssh.Request, done func(), err error) {
	select {
	case <-c.sessions:
	default:
		return nil, nil, nil, errNoRoom
	}
	giveBack := sync.OnceFunc(func() { c.sessions <- struct{}{} })
	ch, reqs, err = c.open(ctx, "session", nil)
	if err == nil {
		return ch, reqs, giveBack, nil
	}
	giveBack()
	if _, refused := errors.AsType[*ssh.OpenChannelError](err); refused {
		err = errNoRoom
	}
	return nil, nil, nil, err
}

// takeSession waits until a session may be opened.
func (c *conn) takeSession(ctx context.Context) error {
	select {
	case <-c.sessions:
		return nil
	case <-c.dead:
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
