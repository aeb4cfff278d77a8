package sshexec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/crypto/ssh"

	"github.com/fleetd/fleetd/pkg/sshexec/auth"
	"github.com/fleetd/fleetd/pkg/sshexec/hostkeys"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/algorithms"
	"github.com/fleetd/fleetd/pkg/text"
)

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
func loginFault(t Target, err error) *Error {
	f := &Error{Kind: KindAuth, Op: "log in as " + t.user(), Err: err, Hint: text.HintOf(err)}
	if _, mute := errors.AsType[auth.Mute](err); mute {
		f.Kind = KindTimeout
	}
	return f
}

// keyRefused makes an error of why a host's key is not accepted.
func keyRefused(err error) *Error {
	return &Error{Kind: KindHostKey, Op: "connect", Err: err, Hint: text.HintOf(err)}
}

// fault explains why the handshake failed.
func (h *handshake) fault(ctx context.Context, proxy *proxyConn, err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	err = h.explain(ctx, proxy, err)
	if f, ok := errors.AsType[*Error](err); ok && h.login.Outcome().Gave && f.retry != retryNever {
		once := *f
		once.retry = retryNever
		if once.Hint == "" {
			once.Hint = "the password was sent, so the login is not tried again: each failure may count towards a lock of the account"
		}
		return &once
	}
	return err
}

// explain is called with h.mu held.
func (h *handshake) explain(ctx context.Context, proxy *proxyConn, err error) error {
	t := h.target
	said := strings.TrimPrefix(err.Error(), "ssh: handshake failed: ")
	switch {
	case h.keyErr != nil:
		return keyRefused(h.keyErr)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case h.login.Outcome().Err != nil:
		return loginFault(t, h.login.Outcome().Err)
	case errors.Is(context.Cause(h.deadline.ctx), errConnectTimeout):
		f := &Error{Kind: KindTimeout, Op: "connect", retry: retryTimeout,
			Err: fmt.Errorf("%s accepts connections, but sshd does not answer within %v", t.HostPort(), t.connectTimeout())}
		if h.keyOK {
			f.Op = "log in as " + t.user()
			f.Err = fmt.Errorf("sshd does not answer within %v", t.connectTimeout())
		}
		return f
	case strings.Contains(said, "unable to authenticate"), errors.Is(err, auth.ErrRefused):
		return loginFault(t, h.login.Refused())
	case strings.Contains(said, "oo many authentication failures"):
		return &Error{Kind: KindAuth, Op: "log in as " + t.user(), Err: errors.New("too many authentication failures"),
			Hint: "the agent holds more keys than sshd tries: name the key (ansible_ssh_private_key_file) and set IdentitiesOnly=yes"}
	case strings.Contains(said, "no common algorithm"):
		return &Error{Kind: KindProtocol, Op: "connect", Err: errors.New(strings.TrimPrefix(said, "ssh: ")),
			Hint: "the host's sshd is older or stricter than what is considered safe"}
	case h.keyOK:
		// Lost between key exchange and login: sshd gave up (LoginGraceTime,
		// pam_nologin) or the line did.
		return &Error{Kind: KindLost, Op: "log in as " + t.user(), retry: retrySoon, Err: fmt.Errorf("connection lost during login: %s", said)}
	case isHangup(err):
		f := &Error{Kind: KindUnreachable, Op: "connect", retry: retrySoon,
			Err:  fmt.Errorf("%s accepts connections, but hangs up before the SSH handshake is done", t.HostPort()),
			Hint: "sshd may be starting, or drops connections (MaxStartups, PerSourcePenalties, hosts.deny)"}
		if proxy != nil {
			f.Err, f.Hint = errors.New("ProxyCommand ended before the SSH handshake was done"), ""
			if why := proxy.said(); why != "" {
				f.Err = fmt.Errorf("%w: %s", f.Err, why)
			}
		}
		return f
	default:
		return &Error{Kind: KindProtocol, Op: "connect", Err: errors.New(strings.TrimPrefix(said, "ssh: "))}
	}
}

func isHangup(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) ||
		errors.Is(err, io.ErrClosedPipe)
}
