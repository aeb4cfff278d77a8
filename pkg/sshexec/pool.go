package sshexec

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"github.com/fleetd/fleetd/pkg/sshexec/auth"
	"github.com/fleetd/fleetd/pkg/sshexec/hostkeys"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/algorithms"
)

// An AlgorithmPolicy says which algorithms a connection may use.
type AlgorithmPolicy = algorithms.Policy

const (
	// Modern is what OpenSSH offers by default today: nothing with SHA-1.
	Modern = algorithms.Modern
	// FIPS is what FIPS 140-3 allows of that: no Curve25519, Ed25519 or ChaCha20.
	FIPS = algorithms.FIPS
)

// Options configure a [Pool]. The zero value is ready to use.
type Options struct {
	// MaxDials bounds how many connections are being set up at the same time.
	// A dial that waits on a silent peer does not count. 0 means 64.
	MaxDials int
	// DialAttempts is how often a dial is tried when it is refused or the peer
	// hangs up before the handshake. A timeout is tried at most twice. 0 means 4.
	DialAttempts int
	// IdleTimeout closes connections that nobody used for so long. 0 means 5
	// minutes.
	IdleTimeout time.Duration
	// KeepAlive is the interval at which a peer is asked for a sign of life;
	// after three without an answer the connection is closed and what runs on
	// it fails with KindLost. 0 means 15 seconds.
	KeepAlive time.Duration
	// Passphrase asks for the passphrase of an encrypted private key, once per
	// file, from one goroutine at a time; it must return when ctx ends. Nil means
	// that such a key is an error.
	Passphrase func(ctx context.Context, file string) (Secret, error)
	// Challenge answers keyboard-interactive questions that are not the
	// password (a one-time code), from one goroutine at a time and never beside
	// Passphrase; it must return when ctx ends. Nil means that such a question is
	// an error.
	Challenge func(ctx context.Context, t Target, instruction, question string, echo bool) (Secret, error)
	// Algorithms says which algorithms connections may use.
	Algorithms AlgorithmPolicy
	// noSFTP, when not empty, makes uploads go without an SFTP server, for the
	// test of that way.
	noSFTP string
	// becomeBound is how long sudo and su may take until our shell runs, where a
	// password can be asked for. 0 means 30 seconds, three times what Ansible
	// waits for the prompt.
	becomeBound time.Duration
}

// A Pool owns connections to hosts. Its methods may be called from any number
// of goroutines. Close it when done.
type Pool struct {
	opts Options
	gate *gate
	keys *auth.Ring

	ctx    context.Context // ends with Close; every dial and cleanup hangs on it
	cancel context.CancelFunc
	work   sync.WaitGroup // goroutines that Close waits for

	mu       sync.Mutex
	closed   bool
	slots    map[string]*slot
	janitor  bool
	settings hostkeys.Store

	passwords map[[sha256.Size]byte]*password // to become another user
}

// A slot is the place of one connection: being dialed, or ready.
type slot struct {
	key     string
	name    string
	ready   chan struct{} // closed when conn or err is set
	conn    *conn
	err     error // of the dial
	waiters int
	cancel  context.CancelFunc
}

// NewPool returns a pool without connections.
func NewPool(o Options) *Pool {
	o.MaxDials = cmp.Or(o.MaxDials, 64)
	o.DialAttempts = cmp.Or(o.DialAttempts, 4)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 5*time.Minute)
	o.KeepAlive = cmp.Or(o.KeepAlive, 15*time.Second)
	o.becomeBound = cmp.Or(o.becomeBound, 30*time.Second)
	p := &Pool{
		opts:  o,
		gate:  newGate(o.MaxDials),
		keys:  auth.NewRing(o.Passphrase),
		slots: map[string]*slot{}, passwords: map[[sha256.Size]byte]*password{},
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

var errPoolClosed error = &Error{Kind: KindCanceled, Err: errors.New("the connection pool is closed")}

// enter registers a call, so that Close waits for it; leave is called at its
// end. Without it a call could start goroutines while Close waits for the last.
func (p *Pool) enter() (leave func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errPoolClosed
	}
	p.work.Add(1)
	return p.work.Done, nil
}

// acquire returns a live connection to t, which the caller must release.
// reused tells that it was there before.
func (p *Pool) acquire(ctx context.Context, t Target) (c *conn, reused bool, err error) {
	key := t.key()
	for {
		if ctx.Err() != nil {
			return nil, false, context.Cause(ctx)
		}
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, false, errPoolClosed
		}
		s := p.slotOf(key, t)
		reused = s != nil && s.conn != nil
		if reused && s.conn.isDead() {
			delete(p.slots, s.key)
			s, reused = nil, false
		}
		if s == nil {
			s = p.startDial(key, t)
		}
		if s.conn != nil {
			s.conn.refs++
			p.mu.Unlock()
			return s.conn, reused, nil
		}
		s.waiters++
		p.mu.Unlock()

		select {
		case <-s.ready:
		case <-ctx.Done():
		}

		p.mu.Lock()
		s.waiters--
		if s.conn == nil && s.err == nil && s.waiters == 0 {
			// Nobody wants this connection any more.
			s.cancel()
			if p.slots[key] == s {
				delete(p.slots, key)
			}
		}
		switch {
		case s.conn != nil && ctx.Err() == nil && !s.conn.isDead():
			s.conn.refs++
			p.mu.Unlock()
			return s.conn, reused, nil
		case errors.Is(s.err, errForgotten): // not ours to fail for: somebody wants it fresh
		case s.err != nil:
			p.mu.Unlock()
			return nil, false, s.err
		}
		p.mu.Unlock()
	}
}

// slotOf returns the slot that serves t, nil if there is none. A connection that
// was opened before t was bound to a host key serves it too, if it has that key:
// a plan is made and applied over the same connections. It is called with p.mu
// held.
func (p *Pool) slotOf(key string, t Target) *slot {
	s := p.slots[key]
	if s != nil || t.HostKey == "" {
		return s
	}
	s = p.slots[t.unbound().key()]
	if s == nil || s.conn == nil || s.conn.isDead() || s.conn.hostKey != t.HostKey {
		return nil
	}
	return s
}

// startDial is called with p.mu held.
func (p *Pool) startDial(key string, t Target) *slot {
	ctx, cancel := context.WithCancel(p.ctx)
	s := &slot{key: key, name: t.name(), ready: make(chan struct{}), cancel: cancel}
	p.slots[key] = s
	p.work.Go(func() {
		defer cancel()
		c, err := p.dial(ctx, t)
		p.mu.Lock()
		switch {
		case p.slots[key] != s: // forgotten, or closed, while we dialed
			s.err = errForgotten
			if c != nil {
				defer c.close(errForgotten) // may take its time: not under the lock
			}
		case err != nil:
			s.err = err
			delete(p.slots, key)
		default:
			s.conn = c
			p.startJanitor()
		}
		close(s.ready)
		p.mu.Unlock()
	})
	return s
}

var errForgotten error = &Error{Kind: KindLost, Err: errors.New("the connection was given up")}

// release gives back what acquire returned.
func (p *Pool) release(c *conn) {
	p.mu.Lock()
	c.refs--
	c.lastUsed = time.Now()
	p.mu.Unlock()
}

// retire gives back what acquire returned and is not needed again. To close
// hundreds of connections at the end would leave all the nodes' logouts to wait
// for.
func (p *Pool) retire(c *conn) {
	p.mu.Lock()
	c.refs--
	last := c.refs == 0
	if s := p.slots[c.key]; last && s != nil && s.conn == c {
		delete(p.slots, c.key)
	}
	p.mu.Unlock()
	if last {
		c.close(errIdle)
	}
}

// Forget closes the connections to t and abandons dials to it. What still runs
// on them fails with KindLost. Jump hosts' connections stay.
func (p *Pool) Forget(t Target) {
	key, unbound := t.key(), t.unbound().key()
	p.mu.Lock()
	var drop []*slot
	for k, s := range p.slots {
		if k == key || k == unbound || s.name == t.name() {
			drop = append(drop, s)
			delete(p.slots, k)
		}
	}
	p.mu.Unlock()
	for _, s := range drop {
		s.cancel()
		if s.conn != nil {
			s.conn.close(errForgotten)
		}
	}
}

// closeIdle closes the connection that has been idle for longest, if one is.
// It returns whether there is any connection.
func (p *Pool) closeIdle() bool {
	var idle *conn
	open := false
	p.mu.Lock()
	for _, s := range p.slots {
		c := s.conn
		if c == nil {
			continue
		}
		open = true
		if c.refs == 0 && s.waiters == 0 && (idle == nil || c.lastUsed.Before(idle.lastUsed)) {
			idle = c
		}
	}
	if idle != nil {
		delete(p.slots, idle.key)
	}
	p.mu.Unlock()
	if idle != nil {
		idle.close(errIdle)
	}
	return open
}

// Close closes every connection, and waits until all calls have returned and
// all goroutines of the pool are gone. What still runs fails.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	var conns []*conn
	for k, s := range p.slots {
		if s.conn != nil {
			conns = append(conns, s.conn)
		}
		delete(p.slots, k)
	}
	p.mu.Unlock()
	p.cancel()
	for _, c := range conns {
		c.close(errPoolClosed)
	}
	p.work.Wait()
	p.keys.Close()
	return nil
}

// startJanitor starts, with the first connection, the one goroutine that sends
// keepalives and closes what is idle: a goroutine and a timer per connection
// would cost memory a thousand times over. It is called with p.mu held.
func (p *Pool) startJanitor() {
	if p.janitor || p.closed {
		return
	}
	p.janitor = true
	tick := min(p.opts.KeepAlive, p.opts.IdleTimeout, 20*time.Second) / 4
	tick = max(tick, 5*time.Millisecond)
	p.work.Go(func() {
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		for {
			select {
			case <-p.ctx.Done():
				return
			case now := <-ticker.C:
				p.sweep(now)
			}
		}
	})
}

func (p *Pool) sweep(now time.Time) {
	over := map[*conn]error{}
	p.mu.Lock()
	for k, s := range p.slots {
		c := s.conn
		if c == nil {
			continue
		}
		switch {
		case c.isDead():
			delete(p.slots, k)
		case c.refs == 0 && now.Sub(c.lastUsed) > p.opts.IdleTimeout:
			delete(p.slots, k)
			over[c] = errIdle
		case now.Sub(c.lastPing) >= p.opts.KeepAlive:
			if c.missed >= 3 {
				delete(p.slots, k)
				over[c] = errors.New("the host gave no sign of life")
				break
			}
			c.lastPing = now
			c.missed++
			if c.missed == 1 { // no earlier question is still open
				p.work.Go(func() { _ = c.ping() })
			}
		}
	}
	p.mu.Unlock()
	for c, why := range over {
		c.close(why)
	}
}

var errIdle = errors.New("the connection was idle")

// ping asks c for a sign of life. The question blocks until it is answered or
// the connection is closed; sweep counts how long that takes.
func (c *conn) ping() error {
	// sshd answers "failure" to a request it does not know: an answer as good
	// as any.
	_, _, err := c.ssh.SendRequest("keepalive@openssh.com", true, nil)
	if err != nil {
		return err
	}
	c.pool.mu.Lock()
	c.missed = 0
	c.pool.mu.Unlock()
	return nil
}
