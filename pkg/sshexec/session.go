package sshexec

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/fleetd/fleetd/pkg/sshexec/internal/wire"
	"github.com/fleetd/fleetd/pkg/text"
)

// A session is one program on one channel, from the exec request to the exit
// status.
type session struct {
	conn *conn
	ch   ssh.Channel
	pid  int // of the shell; 0 until it has told

	exited chan struct{} // closed when status is known or the channel is gone
	status exitStatus

	errDone chan struct{} // standard error is at its end
	done    func()        // returns the session's place on the connection
	sent    bool          // the program may have arrived
	gave    bool          // and a password
	lead    *lead
}

// exitStatus is what the channel said about the end. seen is false when it
// ended without a word.
type exitStatus struct {
	seen   bool
	code   int
	signal string
}

func newNonce() string {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// A launch is what a session is to run.
type launch struct {
	target   Target
	become   bool // as another user
	program  string
	input    bool // standard input goes on after the program
	stderr   io.Writer
	harmless bool // see Command
	hurry    bool // without waiting for room on the connection
}

// begin starts a program on c, and returns when its shell runs and has got the
// program. An error is notStarted when the connection was lost, the node certainly
// has not run the program, and no password was sent; only then may the caller try
// again. When ctx ends after the program was sent, both the session, which the caller
// must kill and close, and the error are returned.
func (c *conn) begin(ctx context.Context, l launch) (*session, error) {
	if l.target.Become.user() == l.target.user() {
		// As in Ansible: nobody needs sudo to become who he is, and a node
		// with a root login may have none.
		l.become = false
	}
	settle := func(error) {}
	if l.become && l.target.Become.Password != "" {
		var err error
		if settle, err = c.claim(ctx, l.target); err != nil {
			return nil, err
		}
	}
	s, err := c.start(ctx, l)
	if err == nil {
		err = s.login(ctx, l)
	}
	settle(err)
	if err == nil || s != nil && s.pid != 0 {
		return s, err
	}
	if s != nil {
		s.close()
	}
	if errors.Is(err, errLost) && (s == nil || !s.sent && !s.gave) {
		return nil, notStarted{err}
	}
	return nil, err
}

// start opens the session and has sshd execute the constant command line.
func (c *conn) start(ctx context.Context, l launch) (*session, error) {
	line := wire.Line{Nonce: newNonce()}
	if l.become {
		b := l.target.Become
		line.Method, line.Exe, line.Flags, line.User = b.method(), b.Exe, b.Flags, b.user()
		line.Password = b.Password != ""
	}
	ch, reqs, done, err := c.openSession(ctx, l.hurry)
	if err != nil {
		return nil, err
	}
	s := &session{
		conn: c, ch: ch, done: done,
		exited: make(chan struct{}), errDone: make(chan struct{}),
		lead: newLead(line, l.stderr, l.become),
	}
	work := &c.pool.work
	work.Go(func() { s.watch(reqs) })
	work.Go(func() {
		defer close(s.errDone)
		pump(s.lead, ch.Stderr())
	})
	if err := s.exec(ctx, line.String()); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// close frees the channel. What the program still does is not touched.
func (s *session) close() {
	s.ch.Close()
	s.done()
}

func (s *session) watch(reqs <-chan *ssh.Request) {
	defer close(s.exited)
	for r := range reqs {
		switch r.Type {
		case "exit-status":
			var m struct{ Status uint32 }
			if ssh.Unmarshal(r.Payload, &m) == nil {
				s.status = exitStatus{seen: true, code: int(int32(m.Status))}
			}
		case "exit-signal":
			var m struct {
				Signal     string
				CoreDumped bool
				Error      string
				Lang       string
			}
			if ssh.Unmarshal(r.Payload, &m) == nil {
				// What a shell would report.
				s.status = exitStatus{seen: true, code: 128 + int(unix.SignalNum("SIG"+m.Signal)), signal: signalName(m.Signal)}
			}
		}
		if r.WantReply {
			_ = r.Reply(false, nil)
		}
		if s.status.seen {
			// The rest of the channel's life tells nothing more, and a child
			// that holds the output open can make it long.
			s.conn.pool.work.Go(func() { ssh.DiscardRequests(reqs) })
			return
		}
	}
}

// signalName is what the peer calls a signal, if it reads like one: it is shown as
// it stands.
func signalName(name string) string {
	if !regexp.MustCompile(`^[A-Za-z0-9@.-]{1,64}$`).MatchString(name) { // RFC 4254, 6.10
		return "unknown"
	}
	return name
}

func (s *session) exec(ctx context.Context, line string) error {
	return s.conn.do(ctx, func() error {
		ok, err := s.ch.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{line}))
		switch {
		case err != nil:
			return s.conn.lostErr()
		case !ok:
			return &Error{Kind: KindProtocol, Err: errors.New("sshd refuses to execute commands")}
		}
		return nil
	}, nil)
}

// login brings the program to its shell: it answers sudo's or su's question
// and sends the program line.
func (s *session) login(ctx context.Context, l launch) error {
	t, line := l.target, s.lead.line
	send := func() error {
		s.sent = true
		err := s.write(ctx, line.Program(l.program), !l.input)
		if err != nil && ctx.Err() != nil && s.pid == 0 {
			// It may have arrived all the same, and then it has to be killed.
			s.markedIn(ctx, l)
		}
		return err
	}
	// Nothing can ask for a password here, so nothing else reads our input: no
	// need to wait for the shell.
	if !l.become || (!line.Password && line.Method == "sudo") {
		if err := send(); err != nil {
			return err
		}
	}
	asked := 0
	// Not after the program was sent: it might run all the same.
	var late <-chan time.Time
	if !s.sent {
		timer := time.NewTimer(s.conn.pool.opts.becomeBound)
		defer timer.Stop()
		late = timer.C
	}
	for {
		select {
		case <-late:
			return becomeLate(t, line.Method, s.lead.question(), s.conn.pool.opts.becomeBound)
		case s.pid = <-s.lead.marked:
			if !s.sent {
				return send()
			}
			return nil
		case <-s.lead.asked:
			asked++
			if !line.Password || t.Become.Password == "" {
				return &Error{Kind: KindBecome, Op: becomeOp(t), Err: fmt.Errorf("%s asks for a password, and none is set", line.Method), Hint: hintBecomePassword}
			}
			if asked > 1 {
				return wrongBecomePassword(t, line.Method)
			}
			s.gave = true
			if err := s.write(ctx, t.Become.Password.Reveal()+"\n", false); err != nil {
				return err
			}
		case <-s.exited:
			return s.stillborn(t, l.become, line, asked)
		case <-s.conn.life.Done():
			// What arrived before the end may be the command's whole output.
			if s.sent && s.markedBy(s.errDone, time.Second) {
				return nil
			}
			return s.conn.lostErr()
		case <-ctx.Done():
			if s.sent {
				s.markedIn(ctx, l)
			}
			return context.Cause(ctx)
		}
	}
}

// startGrace is how long, after the context has ended, the shell of a program
// that was sent may take to tell its process group, so that it can be killed.
const startGrace = 3 * time.Second

// markedIn waits for the marker of what has to be killed because ctx has ended.
func (s *session) markedIn(ctx context.Context, l launch) {
	if !l.harmless || isLate(ctx) {
		s.markedBy(s.errDone, startGrace)
	}
}

// markedBy waits for the marker until done is closed or patience is over.
func (s *session) markedBy(done <-chan struct{}, patience time.Duration) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case s.pid = <-s.lead.marked:
		return true
	case <-done:
	case <-timer.C:
	}
	select {
	case s.pid = <-s.lead.marked:
		return true
	default:
		return false
	}
}

// stillborn explains a session that ended before the shell ran.
func (s *session) stillborn(t Target, become bool, line wire.Line, asked int) error {
	if s.markedBy(s.errDone, 2*time.Second) && s.sent {
		// It did run; it is only that the news came in another order.
		return nil
	}
	if s.conn.isDead() || !s.status.seen {
		return s.conn.lostErr()
	}
	if become && s.pid != 0 {
		return &Error{Kind: KindBecome, Op: becomeOp(t), Err: fmt.Errorf("%s asked for a password and did not read it; the shell that did has refused it", line.Method)}
	}
	said := s.lead.text()
	if become {
		return becomeFault(t, line.Method, said, s.status.code, asked)
	}
	if said == "" {
		said = s.firstOutput()
	}
	err := fmt.Errorf("the login shell ended with status %d before the command started", s.status.code)
	if said != "" {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return &Error{Kind: KindProtocol, Err: err,
		Hint: "the login needs a POSIX shell: check the user's shell and any ForceCommand"}
}

// firstOutput reads the little that a shell like nologin prints.
func (s *session) firstOutput() string {
	got := make(chan string, 1)
	s.conn.pool.work.Go(func() {
		b, _ := io.ReadAll(io.LimitReader(s.ch, 512))
		got <- text.Printable(strings.TrimSpace(string(b)))
	})
	select {
	case text := <-got:
		return text
	case <-time.After(time.Second):
		return ""
	}
}

// write sends to standard input, and ends it if it was all; a peer that stopped
// reading does not hold us beyond ctx.
func (s *session) write(ctx context.Context, text string, all bool) error {
	return s.conn.do(ctx, func() error {
		_, err := io.WriteString(s.ch, text)
		if all && err == nil {
			err = s.ch.CloseWrite()
		}
		// A command that ended before it read its input is not an error here:
		// its exit status tells.
		if err != nil && s.conn.isDead() {
			return s.conn.lostErr()
		}
		return nil
	}, nil)
}
