package sshexec

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fleetd/fleetd/pkg/words"
)

const hintBecomePassword = "set ansible_become_password, or give it with --ask-become-pass"

func becomeOp(t Target) string { return "become " + t.Become.user() }

// A password is what is known of one by which to become another user on one host.
type password struct {
	turn    chan struct{} // of who finds out whether it is right
	right   atomic.Bool
	refused atomic.Pointer[Error]
}

// claim gives the right to have sudo or su ask for t's password. A wrong one counts as
// two failures, since sudo asks again and takes the end of its input for another, and so
// does a question without an answer: so none is asked once a password was refused, and
// until it is known to be right one asks at a time. settle must be told how that ended.
// What has another reason than the password is tried again: a host that has only just
// come up may not let anybody be root yet.
func (c *conn) claim(ctx context.Context, t Target) (settle func(error), err error) {
	k := c.pool.passwordOf(t)
	select {
	case k.turn <- struct{}{}:
	case <-c.life.Done():
		return nil, c.lostErr()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	free := sync.OnceFunc(func() { <-k.turn })
	if first := k.refused.Load(); first != nil {
		free()
		again := *first
		again.Err = fmt.Errorf("%w; the password is not sent again in this run", first.Err)
		return nil, &again
	}
	if k.right.Load() {
		free()
	}
	return func(err error) {
		if err == nil {
			k.right.Store(true)
		} else if e, ok := errors.AsType[*Error](err); ok && errors.Is(err, errWrongPassword) {
			k.refused.Store(e)
		}
		free()
	}, nil
}

// passwordOf finds what is known of t's become password. sudo asks for the one of who
// logs in, whoever he becomes.
func (p *Pool) passwordOf(t Target) *password {
	h := sha256.New()
	t.spare = false
	t.unbound().hashTo(h)
	if t.Become.method() == "su" {
		_, _ = io.WriteString(h, t.Become.user())
	}
	_, _ = io.WriteString(h, "\x00"+t.Become.Password.Reveal())
	key := [sha256.Size]byte(h.Sum(nil))
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.passwords[key]
	if k == nil {
		k = &password{turn: make(chan struct{}, 1)}
		p.passwords[key] = k
	}
	return k
}

var errWrongPassword = errors.New("wrong password")

func wrongBecomePassword(t Target, method string) error {
	return &Error{Kind: KindBecome, Op: becomeOp(t), Err: fmt.Errorf("%s: %w", method, errWrongPassword),
		Hint: "check ansible_become_password; one wrong password may count as two failures, and three lock an account (faillock --user " + words.Copyable(t.user()) + " on the host)"}
}

// becomeLate explains a become that neither came to our shell nor asked what it was
// told to ask: PAM modules such as pam_sss have questions of their own.
func becomeLate(t Target, method, question string, after time.Duration) error {
	f := &Error{Kind: KindBecome, Op: becomeOp(t), Err: fmt.Errorf("%s did not come to an end within %v", method, after)}
	if question != "" {
		f.Err = fmt.Errorf("%s asks %q, which is not the question for the password", method, question)
		f.Hint = "for sudo put \"Defaults passprompt_override\" into the host's sudoers"
	}
	return f
}

// becomeFault explains why sudo or su ended before our shell ran. asked is how
// often it asked for the password.
func becomeFault(t Target, method, said string, code, asked int) error {
	low := strings.ToLower(said)
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(low, p) {
				return true
			}
		}
		return false
	}
	detail := func(what string) error {
		if said == "" {
			return errors.New(what)
		}
		return fmt.Errorf("%s: %s", what, said)
	}
	op := becomeOp(t)
	switch {
	case code == 127 || has("sudo: not found", "su: not found", "sudo: command not found", "su: command not found"):
		return &Error{Kind: KindBecome, Op: op, Err: fmt.Errorf("%s is not installed", method), Hint: "log in as root, or install " + method}
	case asked > 0 && has("incorrect password", "authentication failure", "sorry, try again"):
		return wrongBecomePassword(t, method)
	case has("must have a tty", "a terminal is required", "no tty present", "must be run from a terminal"):
		if has("password") {
			return &Error{Kind: KindBecome, Op: op, Err: detail(method + " needs a password"), Hint: hintBecomePassword}
		}
		return &Error{Kind: KindBecome, Op: op, Err: detail(method + " wants a terminal"), Hint: "remove requiretty from sudoers for this user"}
	case has("a password is required"):
		return &Error{Kind: KindBecome, Op: op, Err: errors.New(method + " needs a password"), Hint: hintBecomePassword}
	case has("account has expired", "account expired", "password has expired", "password expired", "account validation failure"):
		return &Error{Kind: KindBecome, Op: op, Err: detail(method + ": the account or its password has expired")}
	default:
		return &Error{Kind: KindBecome, Op: op, Err: detail(method + " refuses"),
			Hint: fmt.Sprintf("check what %s allows the user %s (sudo -l)", method, words.Copyable(t.user()))}
	}
}
