package sshexec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fleetd/fleetd/pkg/sshexec/auth"
	"github.com/fleetd/fleetd/pkg/sshexec/hostkeys"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/algorithms"
)

var errEOF = io.EOF

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
		return nil, &fault{kind: KindUsage, op: "connect", err: errors.New("both ProxyJump and ProxyCommand are set")}
	}
	if err := t.validateHost(); err != nil {
		return nil, &fault{kind: KindUsage, op: "connect", err: err}
	}
	if t.user() == "" {
		return nil, &fault{kind: KindUsage, op: "connect", err: fmt.Errorf("no user name is set, and the local user %d has none", os.Getuid()), hint: "set ansible_user"}
	}
	timeouts := 0
	for attempt := 1; ; attempt++ {
		c, err := p.dialInTurn(ctx, t)
		if err == nil {
			return c, nil
		}
		f, _ := errors.AsType[*fault](err)
		again := false
		if f != nil && ctx.Err() == nil && attempt < p.opts.DialAttempts {
			switch f.retry {
			case retrySoon:
				again = true
			case retryTimeout:
				timeouts++
				again = timeouts < 2
			}
		}
		if !again {
			return nil, err
		}
		pause := backoff(attempt)
		select {
		case <-time.After(pause):
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

// dialOnce makes one attempt. Errors are *fault, or the context's.
func (p *Pool) dialOnce(ctx context.Context, t Target) (*conn, error) {
	// The jump host comes first: a dial that held a place in the gate while it
	// waited for another dial could wait for ever.
	var via *conn
	if hop, ok := t.lastHop(); ok {
		var err error
		via, _, err = p.acquire(ctx, hop)
		if err != nil {
			e := errorOf(hop, "connect", err)
			return nil, &fault{kind: e.Kind, op: "connect", err: fmt.Errorf("jump host %s: %w", hop.name(), e.Err), hint: e.Hint}
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
		network := "tcp"
		switch t.AddressFamily {
		case "inet":
			network = "tcp4"
		case "inet6":
			network = "tcp6"
		}
		return d.DialContext(ctx, network, t.HostPort())
	}
}

func (p *Pool) connectFault(ctx context.Context, t Target, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if f, ok := errors.AsType[*fault](err); ok {
		return f
	}
	f := &fault{kind: KindUnreachable, op: "connect", err: err}
	var dns *net.DNSError
	switch {
	case errors.Is(err, errConnectTimeout):
		f.kind, f.retry = KindTimeout, retryTimeout
		f.err = fmt.Errorf("%s does not answer within %v", t.HostPort(), t.connectTimeout())
	case errors.Is(err, syscall.ECONNREFUSED):
		f.retry = retrySoon
		f.err = fmt.Errorf("%s refuses connections", t.HostPort())
		f.hint = "is sshd running there, and is the port right?"
	case errors.As(err, &dns):
		if dns.IsTemporary {
			f.retry = retrySoon
		}
		f.hint = "set ansible_host to an address that resolves here"
	case outOfFiles(err):
		f.err = &noFiles{err}
		f.hint = "raise the limit here: ulimit -n"
	case errors.Is(err, errLost), errors.Is(err, syscall.ECONNRESET):
		f.retry = retrySoon
	default:
		if oe, ok := errors.AsType[*ssh.OpenChannelError](err); ok {
			// What the jump host says: "Connection refused", "No route to host".
			f.err = fmt.Errorf("%s: the jump host answers: %s", t.HostPort(), strings.TrimSpace(oe.Message))
			if oe.Reason == ssh.Prohibited {
				f.hint = "AllowTcpForwarding or PermitOpen on the jump host does not allow this"
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

// A handshake is one login attempt; its fields tell afterwards how far it got.
type handshake struct {
	pool     *Pool
	target   Target
	deadline *deadline
	pass     *pass
	login    *auth.Login

	mu      sync.Mutex
	hostKey string // fingerprint of the host key that was accepted
	keyErr  error  // the host key was refused
	keyOK   bool   // the host key was accepted: key exchange is over
}

func (h *handshake) config() (*ssh.ClientConfig, error) {
	t := h.target
	check, err := h.pool.settings.Check(hostkeys.Host{
		Address: t.host(), Port: t.port(), Alias: t.HostKeyAlias,
		Files: t.KnownHosts, Revoked: t.RevokedHostKeys, AcceptNew: t.HostKeyPolicy == AcceptNew, Bound: t.HostKey,
	}, h.pool.opts.Algorithms)
	if err != nil {
		return nil, keyRefused(err)
	}
	return &ssh.ClientConfig{
		Config:            h.pool.opts.Algorithms.Config(),
		User:              t.user(),
		Auth:              h.login.Methods(),
		HostKeyAlgorithms: check.Algorithms(),
		ClientVersion:     "SSH-2.0-fleetd",
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			err := check.Verify(key)
			h.mu.Lock()
			again := h.keyOK // the keys of a connection are changed from time to time
			h.hostKey, h.keyErr, h.keyOK = algorithms.Fingerprint(key), err, err == nil
			h.mu.Unlock()
			if err != nil || again {
				return err
			}
			defer h.deadline.Hold()()
			return h.pass.toLogin(h.deadline.ctx)
		},
	}, nil
}

// credentials are what t logs in with.
func (p *Pool) credentials(t Target) auth.Credentials {
	c := auth.Credentials{
		Password:      t.Password,
		IdentityFiles: t.IdentityFiles, Certificates: t.CertificateFiles, IdentitiesOnly: t.IdentitiesOnly, IdentityAgent: t.IdentityAgent,
		Ways: t.Authentications, GSSAPI: t.GSSAPI,
		Patience: t.connectTimeout(), Policy: p.opts.Algorithms,
	}
	if ask := p.opts.Challenge; ask != nil {
		c.Challenge = func(ctx context.Context, instruction, question string, echo bool) (Secret, error) {
			return ask(ctx, t, instruction, question, echo)
		}
	}
	return c
}

// loginFault makes an error of why a login did not succeed.
func loginFault(t Target, e *auth.Error) *fault {
	f := &fault{kind: KindAuth, op: "log in as " + t.user(), err: e.Err, hint: e.Hint}
	if e.Timeout {
		f.kind = KindTimeout
	}
	return f
}

// keyRefused makes an error of why a host's key is not accepted.
func keyRefused(err error) *fault {
	f := &fault{kind: KindHostKey, op: "connect", err: err}
	if r, ok := errors.AsType[*hostkeys.Refusal](err); ok {
		f.err, f.hint = r.Err, r.Hint
	}
	return f
}

// fault explains why the handshake failed.
func (h *handshake) fault(ctx context.Context, proxy *proxyConn, err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	err = h.explain(ctx, proxy, err)
	if f, ok := errors.AsType[*fault](err); ok && h.login.Gave() && f.retry != retryNever {
		once := *f
		once.retry = retryNever
		if once.hint == "" {
			once.hint = "the password was sent, so the login is not tried again: each failure may count towards a lock of the account"
		}
		return &once
	}
	return err
}

// explain is called with h.mu held.
func (h *handshake) explain(ctx context.Context, proxy *proxyConn, err error) error {
	t := h.target
	text := strings.TrimPrefix(err.Error(), "ssh: handshake failed: ")
	switch {
	case h.keyErr != nil:
		return keyRefused(h.keyErr)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case h.login.Err() != nil:
		return loginFault(t, h.login.Err())
	case errors.Is(context.Cause(h.deadline.ctx), errConnectTimeout):
		f := &fault{kind: KindTimeout, op: "connect", retry: retryTimeout,
			err: fmt.Errorf("%s accepts connections, but sshd does not answer within %v", t.HostPort(), t.connectTimeout())}
		if h.keyOK {
			f.op = "log in as " + t.user()
			f.err = fmt.Errorf("sshd does not answer within %v", t.connectTimeout())
		}
		return f
	case strings.Contains(text, "unable to authenticate"), errors.Is(err, auth.ErrRefused):
		return loginFault(t, h.login.Refused())
	case strings.Contains(text, "oo many authentication failures"):
		return &fault{kind: KindAuth, op: "log in as " + t.user(), err: errors.New("too many authentication failures"),
			hint: "the agent holds more keys than sshd tries: name the key (ansible_ssh_private_key_file) and set IdentitiesOnly=yes"}
	case strings.Contains(text, "no common algorithm"):
		return &fault{kind: KindProtocol, op: "connect", err: errors.New(strings.TrimPrefix(text, "ssh: ")),
			hint: "the host's sshd is older or stricter than what is considered safe"}
	case h.keyOK:
		// Lost between key exchange and login: sshd gave up (LoginGraceTime,
		// pam_nologin) or the line did.
		return &fault{kind: KindLost, op: "log in as " + t.user(), retry: retrySoon, err: fmt.Errorf("connection lost during login: %s", text)}
	case isHangup(err):
		f := &fault{kind: KindUnreachable, op: "connect", retry: retrySoon,
			err:  fmt.Errorf("%s accepts connections, but hangs up before the SSH handshake is done", t.HostPort()),
			hint: "sshd may be starting, or drops connections (MaxStartups, PerSourcePenalties, hosts.deny)"}
		if proxy != nil {
			f.err, f.hint = errors.New("ProxyCommand ended before the SSH handshake was done"), ""
			if said := proxy.said(); said != "" {
				f.err = fmt.Errorf("%w: %s", f.err, said)
			}
		}
		return f
	default:
		return &fault{kind: KindProtocol, op: "connect", err: errors.New(strings.TrimPrefix(text, "ssh: "))}
	}
}

func isHangup(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) ||
		errors.Is(err, io.ErrClosedPipe)
}
