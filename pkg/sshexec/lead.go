package sshexec

import (
	"bytes"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/fleetd/fleetd/pkg/sshexec/auth"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/wire"
	"github.com/fleetd/fleetd/pkg/text"
)

// A lead reads standard error up to the marker line, and tells of the marker
// and of password prompts. What comes after it, and for a plain command what
// came before it, goes to the command's standard error.
type lead struct {
	line   wire.Line
	become bool
	out    io.Writer
	marked chan int // the shell's process id
	asked  chan struct{}

	mu   sync.Mutex
	held []byte
	seen int  // how much of held was looked at for prompts
	su   bool // su was called
	over bool
}

// maxLead bounds what a login may print before the shell runs: banners, a
// lecture of sudo.
const maxLead = 64 << 10

func newLead(line wire.Line, out io.Writer, become bool) *lead {
	return &lead{line: line, become: become, out: out, marked: make(chan int, 1), asked: make(chan struct{}, 16)}
}

func (l *lead) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return l.out.Write(b)
	}
	l.held = append(l.held, b...)
	text := string(l.held)
	prefix := wire.MarkPrefix(l.line.Nonce)
	if i := strings.Index(text, prefix); i >= 0 {
		rest := text[i+len(prefix):]
		j := strings.IndexByte(rest, '\n')
		if j < 0 {
			l.forget()
			return len(b), nil
		}
		l.over = true
		l.held = nil
		pid, _ := strconv.Atoi(rest[:j])
		l.marked <- pid
		if !l.become && i > 0 {
			_, _ = io.WriteString(l.out, text[:i])
		}
		if rest = rest[j+1:]; rest != "" {
			_, _ = io.WriteString(l.out, rest)
		}
		return len(b), nil
	}
	l.lookForPrompt(text)
	l.forget()
	return len(b), nil
}

// forget keeps what is held within its bound.
func (l *lead) forget() {
	if drop := len(l.held) - maxLead/2; drop > maxLead/2 {
		l.held = slices.Clone(l.held[drop:])
		l.seen = max(0, l.seen-drop)
	}
}

// lookForPrompt tells of a question for the password: the one that sudo was told
// to ask, or, in any language, su's, and of su's only what comes after the line
// with which our own shell calls it. It is the last thing there, because who asks
// waits: a login script may print what reads like one, or (set -x) the very
// command line that holds sudo's.
func (l *lead) lookForPrompt(text string) {
	text = text[l.seen:]
	switch p := l.line.Prompt(); l.line.Method {
	case "sudo":
		if !strings.HasSuffix(text, p) || strings.HasSuffix(text, "'"+p) {
			return
		}
	case "su":
		if !l.su {
			_, after, found := strings.Cut(text, wire.SuPrefix(l.line.Nonce))
			if !found {
				return
			}
			l.su, text = true, after
		}
		if !auth.IsPasswordPrompt(text[strings.LastIndexByte(text, '\n')+1:]) {
			return
		}
	default:
		return // nothing asks
	}
	l.seen = len(l.held)
	select {
	case l.asked <- struct{}{}:
	default:
	}
}

// question is the line that has not ended: who asks waits.
func (l *lead) question() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := string(l.held[bytes.LastIndexByte(l.held, '\n')+1:])
	return strings.TrimSpace(text.Printable(strings.ReplaceAll(line, l.line.Prompt(), "")))
}

// text returns what was said before the marker, without prompts, for an error.
func (l *lead) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	said := strings.NewReplacer(l.line.Prompt(), "", wire.SuPrefix(l.line.Nonce), "").Replace(string(l.held))
	var lines []string
	for _, s := range strings.Split(said, "\n") {
		if s = strings.TrimSpace(text.Printable(s)); s != "" {
			lines = append(lines, s)
		}
	}
	if n := len(lines); n > 3 {
		lines = lines[n-3:]
	}
	return strings.Join(lines, "; ")
}
