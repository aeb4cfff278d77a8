package sshexec

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"
)

// DefaultMaxOutput is what Command.MaxOutput 0 means, for each stream.
const DefaultMaxOutput = 1 << 20

// MaxLine bounds a line given to OnLine; a longer one comes in pieces.
const MaxLine = 64 << 10

// A capture keeps the beginning and the end of a stream within a bound.
type capture struct {
	mu    sync.Mutex
	limit int // bytes kept at each end
	head  []byte
	tail  []byte // ring buffer, in use when head is full
	next  int    // where the ring is written
	total int64
	ended bool
	lines *lineSplitter
}

func newCapture(limit int, onLine func(string)) *capture {
	if limit <= 0 {
		limit = DefaultMaxOutput
	}
	c := &capture{limit: max(limit/2, 1)}
	if onLine != nil {
		c.lines = &lineSplitter{emit: onLine}
	}
	return c
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
	if c.lines != nil {
		c.lines.write(b)
	}
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
	if !c.ended && c.lines != nil {
		c.lines.flush()
	}
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

// A lineSplitter cuts a stream into lines of at most MaxLine bytes. A last
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
	for len(l.part) > MaxLine {
		k := MaxLine
		for back := 0; back < utf8.UTFMax-1 && !utf8.RuneStart(l.part[k]); back++ {
			k--
		}
		l.line(l.part[:k])
		l.part = append(l.part[:0], l.part[k:]...)
	}
}

func (l *lineSplitter) line(b []byte) {
	l.emit(Printable(strings.TrimSuffix(string(b), "\r")))
}

func (l *lineSplitter) flush() {
	if len(l.part) > 0 {
		l.line(l.part)
		l.part = nil
	}
}

// Printable makes text of a node safe to print on a terminal: escape sequences
// are removed, other control characters but tab and newline become "\x1b" and
// the like, bytes that are not UTF-8 become U+FFFD, and a carriage return
// within a line starts it anew, as it does on a screen. A node must not be able
// to retitle a window, or to move the cursor over what fleetd printed.
func Printable(s string) string {
	if isPrintable(s) {
		return s
	}
	out := make([]byte, 0, len(s))
	start := 0 // of the current line in out
	for i := 0; i < len(s); {
		if s[i] == 0x1b {
			i += escapeLen(s[i:])
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		switch {
		case r == '\r':
			if i < len(s) && s[i] != '\n' && s[i] != '\r' {
				out = out[:start]
			}
		case r == '\n':
			out = append(out, '\n')
			start = len(out)
		case r == '\t':
			out = append(out, '\t')
		case r < 0x20 || r == 0x7f:
			out = fmt.Appendf(out, `\x%02x`, r)
		case isUnsafe(r):
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			out = utf8.AppendRune(out, r) // U+FFFD for a bad byte
		}
	}
	return string(out)
}

func isPrintable(s string) bool {
	for i := range len(s) {
		if c := s[i]; c >= 0x80 || (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f {
			return false
		}
	}
	return true
}

// isUnsafe: C1 controls, which some terminals obey, and the characters that
// reorder text.
func isUnsafe(r rune) bool {
	return 0x80 <= r && r <= 0x9f || 0x202a <= r && r <= 0x202e || 0x2066 <= r && r <= 0x2069 || r == 0x2028 || r == 0x2029
}

// escapeLen returns the length of the escape sequence at the start of s: CSI
// up to its final byte, OSC and its like up to BEL or ST, else ESC and one
// character. A sequence that does not end is only the ESC.
func escapeLen(s string) int {
	if len(s) < 2 {
		return 1
	}
	switch s[1] {
	case '[':
		for i := 2; i < len(s); i++ {
			if c := s[i]; 0x40 <= c && c <= 0x7e {
				return i + 1
			} else if c < 0x20 || c > 0x7e {
				return i
			}
		}
		return len(s)
	case ']', 'P', 'X', '^', '_':
		for i := 2; i < len(s); i++ {
			switch {
			case s[i] == 0x07:
				return i + 1
			case s[i] == 0x1b:
				if i+1 < len(s) && s[i+1] == '\\' {
					return i + 2
				}
				return i
			case s[i] == '\n':
				return i
			}
		}
		return len(s)
	}
	i := 1
	for i < len(s) && 0x20 <= s[i] && s[i] <= 0x2f {
		i++
	}
	if i < len(s) && 0x30 <= s[i] && s[i] <= 0x7e {
		i++
	}
	return i
}
