package sshexec

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// retryClass says how often a failed dial is worth another attempt.
type retryClass int

const (
	retryNever   retryClass = iota
	retryTimeout            // once more
	retrySoon               // as often as Options.DialAttempts allows
)

// dial connects to t, through its jump hosts, and logs in.
func (p *Pool) dial(ctx context.Context, t Target) (*conn, error) {
	if len(t.ProxyJump) > 0 && t.ProxyCommand != "" {
		return nil, &Error{Kind: KindUsage, Op: "connect", Err: errors.New("both ProxyJump and ProxyCommand are set")}
	}
	if err := t.validateNames(); err != nil {
		return nil, &Error{Kind: KindUsage, Op: "connect", Err: err}
	}
	if t.user() == "" {
		return nil, &Error{Kind: KindUsage, Op: "connect", Err: fmt.Errorf("no user name is set, and the local user %d has none", os.Getuid()), Hint: "set ansible_user"}
	}
	timeouts, lastChance := 0, time.Now().Add(t.connectTimeout())
	for attempt := 1; ; attempt++ {
		c, err := p.dialOnce(ctx, t)
		f, _ := errors.AsType[*Error](err)
		switch {
		case err == nil:
			return c, nil
		case f == nil || ctx.Err() != nil:
			return nil, err
		case outOfFiles(err):
			// There is room again when a connection gives its own back.
			if p.closeIdle() {
				lastChance = time.Now().Add(t.connectTimeout())
			} else if time.Now().After(lastChance) {
				return nil, err
			}
			attempt-- // it does not count
		case attempt == p.opts.DialAttempts, f.retry == retryNever, f.retry == retryTimeout && timeouts > 0:
			return nil, err
		case f.retry == retryTimeout:
			timeouts++
		}
		select {
		case <-time.After(backoff(max(attempt, 1))):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// backoff doubles from 200 ms to 5 s. The jitter spreads a fleet whose dials
// were all dropped by one jump host at the same moment.
func backoff(attempt int) time.Duration {
	d := min(200*time.Millisecond<<min(attempt-1, 10), 5*time.Second)
	return d/2 + rand.N(d)
}

// dialOnce makes one attempt. Errors are *Error, or the context's.
func (p *Pool) dialOnce(ctx context.Context, t Target) (*conn, error) {
	// The jump host comes first: a dial that held a place in the gate while it
	// waited for another dial could wait for ever.
	var via *conn
	if hop, ok := t.lastHop(); ok {
		var err error
		via, _, err = p.acquire(ctx, hop)
		if err != nil {
			e := errorOf(hop, "connect", err)
			return nil, &Error{Kind: e.Kind, Op: "connect", Err: fmt.Errorf("jump host %s: %w", hop.name(), e.Err), Hint: e.Hint}
		}
	}
	c, err := p.dialVia(ctx, t, via)
	if err != nil && via != nil {
		p.release(via)
	}
	return c, err
}

func (p *Pool) dialVia(ctx context.Context, t Target, via *conn) (*conn, error) {
	ps, err := p.gate.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer ps.leave()

	dl := newDeadline(ctx, t.connectTimeout())
	defer dl.stop()
	raw, err := p.connect(dl.ctx, t, via)
	if err != nil {
		if errors.Is(context.Cause(dl.ctx), errConnectTimeout) {
			// net.Dialer says "operation was canceled".
			err = errConnectTimeout
		}
		return nil, p.connectFault(ctx, t, err)
	}
	proxy, _ := raw.(*proxyConn)
	raw = ps.watch(raw)

	h := &handshake{pool: p, target: t, deadline: dl, pass: ps, login: p.keys.NewLogin(p.credentials(t), dl)}
	config, err := h.config()
	if err != nil {
		raw.Close()
		return nil, err
	}
	// The connection may be a pipe or a channel, which know no deadlines:
	// closing it is what ends the handshake in time.
	unhook := context.AfterFunc(dl.ctx, func() { raw.Close() })
	sc, chans, reqs, err := ssh.NewClientConn(raw, t.HostPort(), config)
	if !unhook() && err == nil {
		sc.Close()
		err = context.Cause(dl.ctx)
	}
	if err != nil {
		raw.Close()
		return nil, h.fault(ctx, proxy, err)
	}
	if proxy != nil {
		proxy.established.Store(true)
	}
	return p.adopt(h, sc, chans, reqs, via), nil
}

// connect opens the byte stream to t's sshd.
func (p *Pool) connect(ctx context.Context, t Target, via *conn) (net.Conn, error) {
	switch {
	case via != nil:
		c, err := p.forward(ctx, via, t.host(), t.port())
		if err != nil {
			return nil, err // not c: a nil pointer in an interface is not nil
		}
		return c, nil
	case t.ProxyCommand != "" && t.ProxyCommand != "none":
		return startProxyCommand(t)
	default:
		var d net.Dialer
		network := cmp.Or(map[string]string{"inet": "tcp4", "inet6": "tcp6"}[t.AddressFamily], "tcp")
		return d.DialContext(ctx, network, t.HostPort())
	}
}

func (p *Pool) connectFault(ctx context.Context, t Target, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if f, ok := errors.AsType[*Error](err); ok {
		return f
	}
	f := &Error{Kind: KindUnreachable, Op: "connect", Err: err}
	var dns *net.DNSError
	switch {
	case errors.Is(err, errConnectTimeout):
		f.Kind, f.retry = KindTimeout, retryTimeout
		f.Err = fmt.Errorf("%s does not answer within %v", t.HostPort(), t.connectTimeout())
	case errors.Is(err, syscall.ECONNREFUSED):
		f.retry = retrySoon
		f.Err = fmt.Errorf("%s refuses connections", t.HostPort())
		f.Hint = "is sshd running there, and is the port right?"
	case errors.As(err, &dns):
		if dns.IsTemporary {
			f.retry = retrySoon
		}
		f.Hint = "set ansible_host to an address that resolves here"
	case outOfFiles(err):
		f.Err = fmt.Errorf("this machine allows no more open files: %w", err)
		f.Hint = "raise the limit here: ulimit -n"
	case errors.Is(err, errLost), errors.Is(err, syscall.ECONNRESET):
		f.retry = retrySoon
	default:
		if oe, ok := errors.AsType[*ssh.OpenChannelError](err); ok {
			// What the jump host says: "Connection refused", "No route to host".
			f.Err = fmt.Errorf("%s: the jump host answers: %s", t.HostPort(), strings.TrimSpace(oe.Message))
			if oe.Reason == ssh.Prohibited {
				f.Hint = "AllowTcpForwarding or PermitOpen on the jump host does not allow this"
			} else {
				f.retry = retrySoon
			}
		}
	}
	return f
}

var errConnectTimeout = errors.New("no answer in time")

// A deadline bounds a dial by a context that ends with errConnectTimeout, and
// can be held while a person is asked something.
type deadline struct {
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	timer *time.Timer
	until time.Time
	held  int
	left  time.Duration
}

func newDeadline(parent context.Context, d time.Duration) *deadline {
	ctx, cancel := context.WithCancelCause(parent)
	dl := &deadline{ctx: ctx, cancel: cancel, until: time.Now().Add(d)}
	dl.timer = time.AfterFunc(d, func() { cancel(errConnectTimeout) })
	return dl
}

// Context ends with the deadline.
func (d *deadline) Context() context.Context { return d.ctx }

// Hold stops the clock until the returned function is called.
func (d *deadline) Hold() (resume func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held++; d.held == 1 {
		d.timer.Stop()
		d.left = max(time.Until(d.until), time.Second)
	}
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.held--; d.held == 0 {
			d.until = time.Now().Add(d.left)
			d.timer.Reset(d.left)
		}
	}
}

func (d *deadline) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.timer.Stop()
	d.cancel(nil)
}

// outOfFiles tells that a file descriptor was lacking: CentOS 7 allows a login
// no more than 4,096, and a fleet can be larger.
func outOfFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
