package sshexec

import (
	"context"
	"errors"
	"sync"
)

// A HostResult is what a command did on one host.
type HostResult struct {
	Host   string
	Result Result
	Err    error // of Run
}

// RunAll runs cmd on all targets and calls each, in one goroutine at a time,
// as results come in. At most forks commands run at a time (0 means 64); hosts
// that are being connected to do not count, so those that hang hold up nobody.
// cmd.Stdin must be nil: one reader cannot serve many hosts.
func (p *Pool) RunAll(ctx context.Context, targets []Target, cmd Command, forks int, each func(HostResult)) {
	if forks <= 0 {
		forks = 64
	}
	places := make(chan struct{}, forks)
	var turn sync.Mutex
	var wg sync.WaitGroup
	for _, t := range targets {
		wg.Go(func() {
			r := HostResult{Host: t.name()}
			var leave func()
			r.Result, leave, r.Err = p.runInTurn(ctx, t, cmd, places)
			turn.Lock()
			defer turn.Unlock()
			// The place is free once the output is handed over: what commands print
			// must not pile up before a caller who is slow.
			defer leave()
			each(r)
		})
	}
	wg.Wait()
}

// runInTurn runs cmd once there is a place for it, and returns how to leave that.
func (p *Pool) runInTurn(ctx context.Context, t Target, cmd Command, places chan struct{}) (Result, func(), error) {
	none := func() {}
	if cmd.Stdin != nil {
		return Result{}, none, wrap(t, cmd.op(), &Error{Kind: KindUsage, Err: errors.New("standard input cannot be shared by many hosts")})
	}
	c, _, err := p.acquire(ctx, t)
	if err != nil {
		return Result{}, none, wrap(t, cmd.op(), err)
	}
	defer p.retire(c)
	select {
	case places <- struct{}{}:
	case <-ctx.Done():
		return Result{}, none, wrap(t, cmd.op(), context.Cause(ctx))
	}
	res, err := p.Run(ctx, t, cmd)
	return res, func() { <-places }, err
}

// Connect makes sure that there is a connection to t: it dials and logs in, if
// none is open, and runs nothing.
func (p *Pool) Connect(ctx context.Context, t Target) error {
	leave, err := p.enter()
	if err != nil {
		return wrap(t, "connect", err)
	}
	defer leave()
	c, _, err := p.acquire(ctx, t)
	if err != nil {
		return wrap(t, "connect", err)
	}
	p.release(c)
	return nil
}

// A plan is made for machines, and reaches them by names. Between the plan and
// its end a name may come to mean another machine: DNS is changed, two ports are
// swapped. A machine is told by its host key.

// HostKey returns the fingerprint of the host key of the open connection to t,
// "" if none is open.
func (p *Pool) HostKey(t Target) string {
	if c := p.opened(t); c != nil {
		return c.hostKey
	}
	return ""
}

// LoginKey returns the fingerprint of the public key that opened the connection
// to t: "" for a password, and if no connection is open. Where the host wanted
// both, it is the key's.
func (p *Pool) LoginKey(t Target) string {
	if c := p.opened(t); c != nil {
		return c.loginKey
	}
	return ""
}

// opened returns the connection that a command on t would go over.
func (p *Pool) opened(t Target) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.slotOf(t.key(), t)
	if s == nil || s.conn == nil || s.conn.isDead() {
		return nil
	}
	return s.conn
}

// unbound is t with whatever host key known_hosts allows.
func (t Target) unbound() Target {
	t.HostKey = ""
	return t
}
