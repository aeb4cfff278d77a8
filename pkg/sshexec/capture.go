package sshexec

import (
	"fmt"
	"slices"
	"sync"
)

// DefaultMaxOutput is what Command.MaxOutput 0 means, for each stream.
const DefaultMaxOutput = 1 << 20

// A capture keeps the beginning and the end of a stream within a bound.
type capture struct {
	mu    sync.Mutex
	limit int // bytes kept at each end
	head  []byte
	tail  []byte // a little more than limit
	total int64
	ended bool
}

func newCapture(limit int) *capture {
	if limit <= 0 {
		limit = DefaultMaxOutput
	}
	return &capture{limit: max(limit/2, 1)}
}

func (c *capture) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		// Run has returned; a command that would not die talks to nobody.
		return len(b), nil
	}
	c.total += int64(len(b))
	k := min(c.limit-len(c.head), len(b))
	c.head = append(c.head, b[:k]...)
	c.tail = append(c.tail, b[k:]...)
	if more := len(c.tail) - c.limit; more > c.limit/4 {
		c.tail = append(c.tail[:0], c.tail[more:]...)
	}
	return len(b), nil
}

// end stops the capture and returns what it kept.
func (c *capture) end() (out []byte, truncated bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	tail := c.tail[max(len(c.tail)-c.limit, 0):]
	cut := c.total - int64(len(c.head)) - int64(len(tail))
	if len(tail) == 0 {
		return c.head, cut > 0
	}
	var gap []byte
	if cut > 0 {
		gap = fmt.Appendf(nil, "\n[... %d bytes left out ...]\n", cut)
	}
	// One allocation of the size: what many hosts have printed is held at once.
	return slices.Concat(c.head, gap, tail), cut > 0
}

func (c *capture) size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}
