package sshtest

import (
	"net"
	"sync"
	"time"
)

// A Fault makes connections misbehave. The zero value is a healthy one.
// Counts are in bytes of the connection, handshake included.
type Fault struct {
	// Delay is waited before the first byte is sent.
	Delay time.Duration
	// Cut closes the connection after the server has sent so many bytes.
	// A negative value means at once.
	Cut int64
	// CutIn closes the connection after the server has received so many bytes.
	CutIn int64
	// Silent stops sending after so many bytes, without closing. A negative
	// value means from the start.
	Silent int64
	// Deaf stops reading after so many bytes, without closing. A negative
	// value means from the start.
	Deaf int64
	// NoChannels leaves channel-open requests without an answer.
	NoChannels bool
	// Linger is how long a session counts for MaxSessions after its end.
	Linger time.Duration
	// Unheard cuts the connection when its n-th command has run, before a word
	// about it was sent: the client cannot know whether it ran.
	Unheard int
	// Rate bounds what is sent, in bytes per second.
	Rate int
}

// SetFault makes every coming connection misbehave.
func (s *Server) SetFault(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// FaultNext makes the next connections misbehave, one after the other.
func (s *Server) FaultNext(f ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, f...)
}

// faultyConn applies a Fault to the byte stream.
type faultyConn struct {
	net.Conn
	fault Fault

	mu      sync.Mutex
	out     int64
	in      int64
	frozen  chan struct{} // closed: nothing passes any more
	gone    chan struct{} // closed: the connection is closed
	once    sync.Once
	freeze1 sync.Once
}

func newFaultyConn(c net.Conn, f Fault) *faultyConn {
	return &faultyConn{Conn: c, fault: f, frozen: make(chan struct{}), gone: make(chan struct{})}
}

func (c *faultyConn) freeze() { c.freeze1.Do(func() { close(c.frozen) }) }

func (c *faultyConn) Close() error {
	c.once.Do(func() { close(c.gone) })
	return c.Conn.Close()
}

// hang blocks until the connection is closed by somebody.
func (c *faultyConn) hang() error {
	<-c.gone
	return net.ErrClosed
}

func (c *faultyConn) isFrozen() bool {
	select {
	case <-c.frozen:
		return true
	default:
		return false
	}
}

// room returns how many of n bytes may pass when limit is set and done have
// passed. reached tells that the limit ends this call.
func room(limit, done int64, n int) (k int, reached bool) {
	if limit == 0 {
		return n, false
	}
	left := max(limit-done, 0)
	if int64(n) < left {
		return n, false
	}
	return int(left), true
}

func (c *faultyConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isFrozen() {
		return 0, c.hang()
	}
	if c.out == 0 && c.fault.Delay > 0 {
		select {
		case <-time.After(c.fault.Delay):
		case <-c.gone:
			return 0, net.ErrClosed
		}
	}
	k, cut := room(c.fault.Cut, c.out, len(b))
	q, silent := room(c.fault.Silent, c.out, len(b))
	k = min(k, q)
	if k > 0 {
		if r := c.fault.Rate; r > 0 {
			time.Sleep(time.Duration(k) * time.Second / time.Duration(r))
		}
		if _, err := c.Conn.Write(b[:k]); err != nil {
			return 0, err
		}
		c.out += int64(k)
	}
	switch {
	case cut && k <= len(b):
		c.Close()
		return k, net.ErrClosed
	case silent:
		return k, c.hang()
	}
	return len(b), nil
}

func (c *faultyConn) Read(b []byte) (int, error) {
	if c.isFrozen() {
		return 0, c.hang()
	}
	c.mu.Lock()
	in := c.in
	c.mu.Unlock()
	if k, reached := room(c.fault.Deaf, in, len(b)); reached {
		if k == 0 {
			return 0, c.hang()
		}
		b = b[:k]
	}
	if k, reached := room(c.fault.CutIn, in, len(b)); reached {
		if k == 0 {
			c.Close()
			return 0, net.ErrClosed
		}
		b = b[:k]
	}
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	c.in += int64(n)
	c.mu.Unlock()
	if c.isFrozen() {
		return 0, c.hang()
	}
	return n, err
}
