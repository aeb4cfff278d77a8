package sshexec

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/fleetd/fleetd/pkg/sshexec/internal/wire"
)

// DefaultMaxOutput is what Command.MaxOutput 0 means, for each stream.
const DefaultMaxOutput = 1 << 20

// maxLine bounds a line of a lineSplitter; a longer one comes in pieces.
const maxLine = 64 << 10

// A capture keeps the beginning and the end of a stream within a bound.
type capture struct {
	mu    sync.Mutex
	limit int // bytes kept at each end
	head  []byte
	tail  []byte // ring buffer, in use when head is full
	next  int    // where the ring is written
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
	n := len(b)
	c.total += int64(n)
	if room := c.limit - len(c.head); room > 0 {
		k := min(room, len(b))
		c.head = append(c.head, b[:k]...)
		b = b[k:]
	}
	if len(b) > c.limit {
		b = b[len(b)-c.limit:]
	}
	for len(b) > 0 {
		if len(c.tail) < c.limit {
			k := min(c.limit-len(c.tail), len(b))
			c.tail = append(c.tail, b[:k]...)
			b = b[k:]
			continue
		}
		k := copy(c.tail[c.next:], b)
		c.next = (c.next + k) % c.limit
		b = b[k:]
	}
	return n, nil
}

// end stops the capture and returns what it kept.
func (c *capture) end() (out []byte, truncated bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	cut := c.total - int64(len(c.head)) - int64(len(c.tail))
	out = c.head
	if cut > 0 {
		out = fmt.Appendf(out, "\n[... %d bytes left out ...]\n", cut)
	}
	out = append(out, c.tail[c.next:]...)
	out = append(out, c.tail[:c.next]...)
	return out, cut > 0
}

func (c *capture) size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}

// A lineSplitter cuts a stream into lines of at most maxLine bytes. A last
// line without newline is emitted by flush.
type lineSplitter struct {
	emit func(string)
	part []byte
}

func (l *lineSplitter) write(b []byte) {
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			l.part = append(l.part, b...)
			l.cut()
			return
		}
		l.part = append(l.part, b[:i]...)
		l.cut()
		l.line(l.part)
		l.part = l.part[:0]
		b = b[i+1:]
	}
}

// cut emits pieces while the line is too long, never within a character.
func (l *lineSplitter) cut() {
	for len(l.part) > maxLine {
		k := maxLine
		for back := 0; back < utf8.UTFMax-1 && !utf8.RuneStart(l.part[k]); back++ {
			k--
		}
		l.line(l.part[:k])
		l.part = append(l.part[:0], l.part[k:]...)
	}
}

func (l *lineSplitter) line(b []byte) {
	l.emit(wire.Printable(strings.TrimSuffix(string(b), "\r")))
}

func (l *lineSplitter) flush() {
	if len(l.part) > 0 {
		l.line(l.part)
		l.part = nil
	}
}
