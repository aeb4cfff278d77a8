package sshexec

import (
	"bufio"
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// stall is how long a dial may hear nothing from its peer before it gives its
// place to another one.
const stall = 100 * time.Millisecond

// A gate bounds dials. There are few places for dials that make progress,
// because a handshake costs processor time here and on a jump host, and many
// more for dials that wait: a host that hangs must not hold up those behind it.
// Who logs in has a place, however long that takes: a login costs a directory
// server, which knows nothing of the others, and the places are what bounds it.
type gate struct {
	active  chan struct{}
	pending chan struct{}
}

func newGate(n int) *gate {
	return &gate{active: make(chan struct{}, n), pending: make(chan struct{}, 16*n)}
}

// A pass is the right to dial. leave must be called.
type pass struct {
	gate  *gate
	timer *time.Timer
	once  sync.Once
	over  atomic.Bool
	login bool // has a place that it keeps until leave
}

func (g *gate) enter(ctx context.Context) (*pass, error) {
	select {
	case g.pending <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	select {
	case g.active <- struct{}{}:
	case <-ctx.Done():
		<-g.pending
		return nil, context.Cause(ctx)
	}
	p := &pass{gate: g}
	p.timer = time.AfterFunc(stall, p.yield)
	return p, nil
}

// yield gives the place among the active dials away.
func (p *pass) yield() { p.once.Do(func() { <-p.gate.active }) }

// toLogin takes a place that silence does not cost, and waits for one if the dial's
// own is gone. ctx bounds the wait.
func (p *pass) toLogin(ctx context.Context) error {
	p.over.Store(true)
	if p.timer.Stop() {
		p.once.Do(func() {}) // it is not given away any more
	} else {
		p.yield()
		select {
		case p.gate.active <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	p.login = true
	return nil
}

// heard restarts the clock. A timer that has fired is not started again: its
// place is gone.
func (p *pass) heard() {
	if !p.over.Load() && p.timer.Stop() {
		p.timer.Reset(stall)
	}
}

func (p *pass) leave() {
	p.over.Store(true)
	p.timer.Stop()
	if p.yield(); p.login {
		<-p.gate.active
	}
	<-p.gate.pending
}

// readAhead is how much is read at least: x/crypto/ssh asks for the peer's first line
// byte by byte, which would be forty system calls. From then on it reads into a larger
// buffer of its own.
const readAhead = 512

// watch reports what is read from c to the pass.
func (p *pass) watch(c net.Conn) net.Conn {
	return &watched{c, bufio.NewReaderSize(c, readAhead), p}
}

type watched struct {
	net.Conn
	ahead *bufio.Reader
	pass  *pass
}

// Read restarts the clock of a dial in progress. On an established connection
// this costs one atomic load.
func (w *watched) Read(b []byte) (int, error) {
	n, err := w.ahead.Read(b)
	if n > 0 {
		w.pass.heard()
	}
	return n, err
}
