package sshexec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/fleetd/fleetd/pkg/sshexec/internal/wire"
	"github.com/fleetd/fleetd/pkg/text"
)

// BootIDFile is where Linux tells the ID of the boot, new at each.
const BootIDFile = "/proc/sys/kernel/random/boot_id"

// A Command is what to run. Exactly one of Argv and Script is set.
type Command struct {
	// Argv is a program and its arguments. They reach it unchanged, whatever
	// bytes but NUL they hold. Other users of the node can see them while the
	// program runs.
	Argv []string
	// Script is evaluated by /bin/sh. Nobody on the node sees it in a process
	// list.
	Script string
	// Stdin is the command's standard input; nil is an empty one. When the
	// command ends first, a Read that is blocked stays so, and its result is
	// lost.
	Stdin io.Reader
	// Env is added to the environment. Names must be shell names. Values do
	// not appear in a process list, unlike with "env A=b program".
	Env map[string]string
	// Secrets are what of Stdin, Env, the command itself or its output must not
	// be written down: who keeps a record of the command replaces them. Run itself
	// writes nothing.
	Secrets []Secret
	// Become runs the command as Target.Become says. It changes nothing when
	// the login user is that user already.
	Become bool
	// BecomeAs is what is otherwise than in Target.Become.
	BecomeAs BecomeAs
	// Timeout bounds the run from the moment at which the command's shell
	// runs. 0 means no bound but the context's. When it passes, the process
	// group is killed and the error has KindTimeout. Until the shell runs,
	// sshd and sudo get 30 seconds more than Timeout.
	Timeout time.Duration
	// MaxOutput bounds the bytes kept of each stream in Result. 0 means
	// [DefaultMaxOutput].
	MaxOutput int
	// Harmless is set for what changes nothing. When the context ends it is not killed
	// but left alone, its input and output closed: to kill it takes another session, and
	// up to 13 seconds where the host is silent. Timeout kills it all the same.
	Harmless bool
}

// A Result is how a command ended.
type Result struct {
	// ExitStatus is the exit status; 128 plus its number after a signal.
	ExitStatus int
	// Signal is the name of the signal that ended the command, such as "KILL";
	// "unknown" if what the host says is no name.
	Signal string
	// Stdout and Stderr are the bytes printed. When Truncated is set, a line
	// "[... N bytes left out ...]" stands for the middle part of at least one.
	Stdout, Stderr []byte
	Truncated      bool
	// Unfinished tells that the output was still open when it was given up, four
	// quiet seconds after the command's end, or was cut by the connection's end: a
	// process that the command left behind has it. What comes later is not here.
	Unfinished bool
	// Duration is measured from when the command's shell ran.
	Duration time.Duration
}

// OK tells that the command exited with status 0.
func (r Result) OK() bool { return r.ExitStatus == 0 && r.Signal == "" }

// Said is how a command that failed ended, and the first line of what it said of it.
func (r Result) Said() string {
	said := strings.TrimSpace(string(r.Stderr))
	if said == "" {
		said = strings.TrimSpace(string(r.Stdout))
	}
	first, _, _ := strings.Cut(text.Printable(said), "\n")
	if first == "" {
		return fmt.Sprintf("exit status %d", r.ExitStatus)
	}
	return fmt.Sprintf("exit status %d: %s", r.ExitStatus, first)
}

func (c Command) validate() error {
	switch {
	case (len(c.Argv) > 0) == (c.Script != ""):
		return errors.New("exactly one of Argv and Script must be set")
	case len(c.Argv) > 0 && (c.Argv[0] == "" || c.Argv[0][0] == '-'):
		return fmt.Errorf("%q is no name of a program", c.Argv[0])
	}
	return nil
}

// op is how errors name the command: its program, never the arguments or the
// script, which may hold secrets.
func (c Command) op() string {
	if len(c.Argv) > 0 {
		return "run " + text.Printable(c.Argv[0])
	}
	return "run a script"
}

// Run runs one command on t and waits for its end. The error is nil whenever
// the command ran to its end, whatever its exit status; otherwise it is an
// [*Error]. With KindTimeout, KindCanceled and KindLost the Result holds what
// was printed until then.
func (p *Pool) Run(ctx context.Context, t Target, cmd Command) (Result, error) {
	res, err := p.run(ctx, t, cmd)
	return res, wrap(t, cmd.op(), err)
}

func (p *Pool) run(ctx context.Context, t Target, cmd Command) (Result, error) {
	if err := cmd.validate(); err != nil {
		return Result{}, &Error{Kind: KindUsage, Err: err}
	}
	program, err := wire.Program{Env: cmd.Env, Argv: cmd.Argv, Script: cmd.Script}.Encode()
	if err != nil {
		return Result{}, &Error{Kind: KindUsage, Err: err}
	}
	if cmd.Become {
		if t.Become, err = t.Become.as(cmd.BecomeAs); err == nil {
			err = t.Become.validate()
		}
		if err != nil {
			return Result{}, &Error{Kind: KindUsage, Err: err}
		}
	}
	out, errOut := newCapture(cmd.MaxOutput), newCapture(cmd.MaxOutput)

	r := &runner{pool: p, target: t, cmd: cmd, out: out, errOut: errOut}
	err = p.onConn(ctx, t, func(c *conn) error { return r.run(ctx, c, program) })

	var res Result
	var cutOut, cutErr bool
	res.Stdout, cutOut = out.end()
	res.Stderr, cutErr = errOut.end()
	res.Truncated = cutOut || cutErr
	if !r.started.IsZero() {
		res.Duration = time.Since(r.started)
	}
	res.Unfinished = r.unfinished
	res.ExitStatus, res.Signal = r.status.code, r.status.signal
	return res, err
}

// onConn calls f with a connection to t. A connection that was open before and
// turns out to be dead before anything was started on it is replaced once: it
// is no fault of the host's that its sshd was restarted since the last step.
func (p *Pool) onConn(ctx context.Context, t Target, f func(*conn) error) error {
	leave, err := p.enter()
	if err != nil {
		return err
	}
	defer leave()
	for again := false; ; again = true {
		c, reused, err := p.acquire(ctx, t)
		if err != nil {
			return err
		}
		err = f(c)
		p.release(c)
		if reused && !again && errors.Is(err, errNotStarted) && ctx.Err() == nil {
			c.close(errLost)
			continue
		}
		return err
	}
}

// errNotStarted marks the loss of a connection before the node can have started
// what was asked for: only then is it safe to ask again.
var errNotStarted = errors.New("not started")

type notStarted struct{ error }

func (e notStarted) Unwrap() error        { return e.error }
func (e notStarted) Is(target error) bool { return target == errNotStarted }

// startBound is what the start of a shell may take beyond Command.Timeout.
const startBound = 30 * time.Second

type runner struct {
	pool        *Pool
	target      Target
	cmd         Command
	out, errOut *capture
	started     time.Time
	status      exitStatus
	unfinished  bool
}

func (r *runner) run(ctx context.Context, c *conn, program string) error {
	// sshd, PAM and sudo may take their time, but not for ever.
	startCtx, cancelStart := ctx, context.CancelFunc(func() {})
	if r.cmd.Timeout > 0 {
		startCtx, cancelStart = context.WithTimeoutCause(ctx, r.cmd.Timeout+startBound, timedOut(r.cmd.Timeout+startBound))
	}
	s, err := c.begin(startCtx, launch{
		target: r.target, become: r.cmd.Become, program: program, input: r.cmd.Stdin != nil, stderr: r.errOut, harmless: r.cmd.Harmless,
	})
	cancelStart()
	if err != nil {
		if s != nil {
			r.kill(startCtx, s)
			s.close()
		}
		return err
	}
	defer s.close()
	r.started = time.Now()
	if r.cmd.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, r.cmd.Timeout, timedOut(r.cmd.Timeout))
		defer cancel()
	}

	outDone := make(chan struct{})
	work := &r.pool.work
	work.Go(func() {
		defer close(outDone)
		pump(r.out, s.ch)
	})
	if r.cmd.Stdin != nil {
		go feed(s, r.cmd.Stdin)
	}

	select {
	case <-s.exited:
	case <-c.life.Done():
	case <-ctx.Done():
		r.kill(ctx, s)
		return context.Cause(ctx)
	}
	r.drain(ctx, s, outDone)
	switch {
	case s.isExited() && s.status.seen:
		r.status = s.status
		return nil
	case c.isDead():
		return c.lostErr()
	case ctx.Err() != nil:
		return context.Cause(ctx)
	default:
		select {
		case <-c.life.Done():
		case <-time.After(200 * time.Millisecond):
			// The channel closed, the connection lives.
			return &Error{Kind: KindProtocol, Err: errors.New("sshd closed the channel without an exit status")}
		}
		return c.lostErr()
	}
}

func (s *session) isExited() bool {
	select {
	case <-s.exited:
		return true
	default:
		return false
	}
}

// pumps holds the buffers of pump. Most commands print a line or two, for which
// io.Copy would make and clear 64 KB each.
var pumps = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// pump moves a command's output until its end.
func pump(to io.Writer, from io.Reader) {
	buf := pumps.Get().(*[32 << 10]byte)
	defer pumps.Put(buf)
	_, _ = io.CopyBuffer(to, from, buf[:])
}

// feed is not waited for: nobody can interrupt a Read of the caller's reader.
func feed(s *session, stdin io.Reader) {
	_, _ = io.Copy(s.ch, stdin)
	_ = s.ch.CloseWrite()
}

// drainQuiet is how long output may be silent, after the exit status came, until
// the host is asked for a sign of life, behind which nothing can be on its way; and
// once more until the output is given up. A daemon that the command left behind can
// hold it open for ever.
const drainQuiet = 2 * time.Second

func (r *runner) drain(ctx context.Context, s *session, outDone <-chan struct{}) {
	before := int64(-1)
	errDone := s.errDone
	for outDone != nil || errDone != nil {
		quiet := time.NewTimer(drainQuiet)
		select {
		case <-outDone:
			outDone = nil
		case <-errDone:
			errDone = nil
		case <-ctx.Done():
			quiet.Stop()
			r.unfinished = true
			return
		case <-quiet.C:
			// The answer comes behind what the host had sent before.
			err := s.conn.do(ctx, s.conn.ping, nil)
			now := r.out.size() + r.errOut.size()
			if err != nil || now == before {
				r.unfinished = true
				return
			}
			before = now
		}
		quiet.Stop()
	}
}

// timedOut is the cause of a context that Command.Timeout ended.
func timedOut(after time.Duration) error { return &Error{Kind: KindTimeout, Err: late(after)} }

type late time.Duration

func (d late) Error() string { return fmt.Sprintf("it did not end within %v", time.Duration(d)) }

// Is makes errors.Is(err, context.DeadlineExceeded) true.
func (late) Is(target error) bool { return target == context.DeadlineExceeded }

// isLate tells that Command.Timeout has ended ctx.
func isLate(ctx context.Context) bool {
	_, is := errors.AsType[late](context.Cause(ctx))
	return is
}

// killGrace is the time between SIGTERM and SIGKILL.
const killGrace = 3 * time.Second

// kill ends the process group of a started command, whose context has ended, with the
// privileges it has. SSH's own signal request would not do: OpenSSH before 7.9 (EL7) ignores
// it, and it cannot signal what sudo started.
func (r *runner) kill(ended context.Context, s *session) {
	if s.pid <= 1 || r.cmd.Harmless && !isLate(ended) {
		return
	}
	ctx, cancel := context.WithTimeout(r.pool.ctx, 10*time.Second+killGrace)
	defer cancel()
	program, err := wire.Program{
		Env:    map[string]string{"fl_kill": fmt.Sprint(s.pid), "fl_grace": fmt.Sprint(int(killGrace / time.Second))},
		Script: wire.KillScript,
	}.Encode()
	if err != nil {
		return
	}
	l := launch{target: r.target, become: r.cmd.Become, program: program, stderr: io.Discard, hurry: true}
	killer, err := s.conn.begin(ctx, l)
	if errors.Is(err, errNoRoom) {
		// All sessions are taken, this one among them, or MaxSessions is 1: to
		// wait for one would be to wait for what is to be killed.
		l.target.spare, l.hurry = true, false
		var c *conn
		if c, _, err = r.pool.acquire(ctx, l.target); err == nil {
			defer r.pool.release(c)
			killer, err = c.begin(ctx, l)
		}
	}
	if err != nil {
		if killer != nil {
			killer.close()
		}
		return
	}
	defer killer.close()
	select {
	case <-s.exited:
		// It is gone; the killer only sleeps.
	case <-killer.exited:
		select {
		case <-s.exited:
		case <-time.After(time.Second):
		}
	case <-s.conn.life.Done():
	case <-ctx.Done():
	}
}
