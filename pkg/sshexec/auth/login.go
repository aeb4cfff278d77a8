// Package auth logs in: with key files, agents and passwords, and by asking the
// person. It gives no secret to more than what asks for it, and none a second time.
package auth

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fleetd/fleetd/pkg/sshexec/internal/algorithms"
	"github.com/fleetd/fleetd/pkg/text"
)

// Ways are the ways to log in, in OpenSSH's order.
var Ways = []string{"publickey", "keyboard-interactive", "password"}

// Credentials are what a login may use.
type Credentials struct {
	Password       Secret
	IdentityFiles  []string // nil means ssh's own
	Certificates   []string
	IdentitiesOnly bool
	IdentityAgent  string
	Ways           []string // nil means all of Ways
	GSSAPI         bool     // ssh would try it
	Patience       time.Duration
	Policy         algorithms.Policy
	// Challenge, unless nil, asks the person what the host asks.
	Challenge func(ctx context.Context, instruction, question string, echo bool) (Secret, error)
}

// A Clock bounds a login. It can be held while others are waited for.
type Clock interface {
	Context() context.Context
	Hold() (resume func())
}

// A Login is one attempt; its methods tell afterwards how far it got.
type Login struct {
	Credentials
	ring  *Ring
	clock Clock
	asked bool // the password was sent; x/crypto calls one method at a time

	mu      sync.Mutex
	so      Outcome
	offered []string
	skipped []string // what was not offered, and why
}

// An Outcome is how far a login got.
type Outcome struct {
	Err    error  // why we ended it ourselves
	Gave   bool   // the host got a password, or an answer of a person
	Signed string // fingerprint of the key that signed last
}

// Outcome tells how far the login got.
func (l *Login) Outcome() Outcome {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.so
}

// NewLogin prepares an attempt.
func (k *Ring) NewLogin(c Credentials, clock Clock) *Login {
	return &Login{Credentials: c, ring: k, clock: clock}
}

// Methods returns the ways to log in.
func (l *Login) Methods() []ssh.AuthMethod {
	names := l.Ways
	if names == nil {
		names = Ways
	}
	var methods []ssh.AuthMethod
	for _, name := range names {
		switch {
		case name == "publickey":
			methods = append(methods, ssh.PublicKeysCallback(func() ([]ssh.Signer, error) {
				signers, err := l.signers()
				if err != nil {
					return nil, l.fail(err)
				}
				return signers, nil
			}))
		case name == "keyboard-interactive" && (l.Password != "" || l.Challenge != nil):
			methods = append(methods, ssh.KeyboardInteractive(l.answer()))
		case name == "password" && l.Password != "":
			methods = append(methods, ssh.PasswordCallback(func() (string, error) {
				if l.asked {
					// It was refused: once more would count as a second try, and
					// lock the account (pam_faillock) after half as many runs.
					return "", ErrRefused
				}
				l.asked = true
				l.give("password")
				return l.Password.Reveal(), nil
			}))
		}
	}
	return methods
}

// fail notes why our side cannot log in, and returns it.
func (l *Login) fail(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.so.Err == nil {
		l.so.Err = err
	}
	return err
}

func (l *Login) offer(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.offered = append(l.offered, what)
}

// give is offer for what is counted where it is wrong, and perhaps where the login
// only did not end well: pam_faillock locks the account after three. So a dial
// that has given a password is not repeated.
func (l *Login) give(what string) {
	l.offer(what)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.so.Gave = true
}

// skip records why something was not tried, for a login that fails.
func (l *Login) skip(why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.skipped = append(l.skipped, why)
}

// sign notes the key that signed: a key signs only after sshd has said that it would
// accept it.
func (l *Login) sign(key ssh.PublicKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.so.Signed = algorithms.Fingerprint(key)
}

// Refused says what the host refused, so that nobody needs ssh -vvv to find out.
func (l *Login) Refused() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	said := "the host refuses the login, and there was no key or password to try"
	if len(l.offered) > 0 {
		said = fmt.Sprintf("the host refuses the login (tried %s)", strings.Join(l.offered, ", "))
	}
	for _, why := range l.skipped {
		said += "; " + why
	}
	if l.GSSAPI {
		said += "; GSSAPIAuthentication is set, but fleetd does not log in by Kerberos"
	}
	hint := "check ansible_user and ansible_ssh_private_key_file, or load the key with ssh-add"
	if l.Password != "" {
		hint = "check ansible_user and ansible_password"
	}
	return text.Advise(hint, "%s", said)
}

// answer returns the keyboard-interactive callback: the password for the question
// for it, anything else to Challenge. What is asked a second time was wrong,
// and another answer could lock the account.
func (l *Login) answer() ssh.KeyboardInteractiveChallenge {
	answered := map[string]bool{}
	return func(_, instruction string, questions []string, echos []bool) ([]string, error) {
		answers := make([]string, len(questions))
		for i, q := range questions {
			echo := i < len(echos) && echos[i]
			isPassword := !echo && isPasswordQuestion(q)
			if answered[q] || isPassword && (l.asked || l.Password == "") {
				return nil, ErrRefused
			}
			answered[q] = true
			var a Secret
			switch {
			case isPassword:
				a, l.asked = l.Password, true
			case l.Challenge == nil:
				return nil, l.fail(text.Advise("run fleetd on a terminal, where it can ask for a code", "the host asks %q, and there is nobody to answer", strings.TrimSpace(q)))
			default:
				var err error
				if a, err = l.challenge(instruction, q, echo); err != nil {
					return nil, err
				}
			}
			l.give("keyboard-interactive")
			answers[i] = a.Reveal()
		}
		return answers, nil
	}
}

// challenge asks the person, when nobody else is asked anything.
func (l *Login) challenge(instruction, question string, echo bool) (Secret, error) {
	defer l.clock.Hold()()
	ctx := l.clock.Context()
	done, err := l.ring.takeTurn(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	a, err := l.Challenge(ctx, text.Printable(instruction), text.Printable(question), echo)
	if err != nil {
		err = l.fail(fmt.Errorf("the host asks %q, and there is no answer: %w", strings.TrimSpace(question), err))
	}
	return a, err
}

// ErrRefused ends a login whose password was sent and not accepted, or that
// has none to send.
var ErrRefused = errors.New("the password was not accepted")

// otherFactor is what asks for the code of a second factor, which may be called a
// one-time password. Whole words: a question may name the user, such as "decoder".
var otherFactor = regexp.MustCompile(`(?i)\b(one[- ]?time|t?otp|oath|token|(pass|token)?code|verification)\b`)

// isPasswordQuestion tells the question for the password from one for a code.
func isPasswordQuestion(q string) bool {
	return !otherFactor.MatchString(q) && (strings.Contains(strings.ToLower(q), "password") || IsPasswordPrompt(q))
}
