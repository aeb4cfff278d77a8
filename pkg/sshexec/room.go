package sshexec

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// outOfFiles tells that a file descriptor was lacking: CentOS 7 allows a login
// no more than 4,096, and a fleet can be larger.
func outOfFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// noFiles says it in words.
type noFiles struct{ err error }

func (e *noFiles) Error() string { return "this machine allows no more open files" }
func (e *noFiles) Unwrap() error { return e.err }

// dialInTurn dials, and waits for descriptors as long as there are connections
// that may give them back.
func (p *Pool) dialInTurn(ctx context.Context, t Target) (*conn, error) {
	lastChance := time.Now().Add(t.connectTimeout())
	for {
		c, err := p.dialOnce(ctx, t)
		if err == nil || !outOfFiles(err) {
			return c, err
		}
		if p.closeIdle() {
			lastChance = time.Now().Add(t.connectTimeout())
		} else if time.Now().After(lastChance) {
			return nil, err
		}
		select {
		case <-time.After(backoff(1)):
		case <-ctx.Done():
			return nil, err
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
