package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/fleetd/fleetd/pkg/sshexec/internal/account"
	"github.com/fleetd/fleetd/pkg/text"
)

// An agentLine is the connection to one ssh-agent, which all logins share. An agent
// does one thing at a time, and may wait for a person meanwhile, who confirms or
// touches a token: so they take turns.
type agentLine struct {
	sock string
	turn chan struct{} // holds one token; what follows is of who has it

	conn   net.Conn // nil if there is none
	client agent.ExtendedAgent
	mute   error     // the agent did not answer,
	again  time.Time // and is not asked again before
}

const (
	// mutePause is how long an agent that did not answer is left alone: a thousand
	// hosts would each wait for it in turn.
	mutePause = time.Minute
	// touchBound is how long a person may take to touch a token; sshd's own bound
	// for a login is two minutes.
	touchBound = 2 * time.Minute
)

var errNoAgent = errors.New("SSH_AUTH_SOCK is not set")

// A Mute says that an agent did not answer.
type Mute string

func (m Mute) Error() string { return string(m) }

// take waits for the login's turn, and stops its clock until done is called.
func (l *agentLine) take(clock Clock) (done func(), err error) {
	resume := clock.Hold()
	select {
	case l.turn <- struct{}{}:
		return func() { <-l.turn; resume() }, nil
	case <-clock.Context().Done():
		resume()
		return nil, context.Cause(clock.Context())
	}
}

// ask calls f, a question to the agent, and waits for at most patience. It is for
// who has the turn. That an agent was silent is remembered: the socket of one that was
// forwarded stays when the agent is gone.
func ask[T any](ctx context.Context, l *agentLine, what string, patience time.Duration, f func(agent.ExtendedAgent) (T, error)) (v T, err error) {
	if time.Now().Before(l.again) {
		return v, l.mute
	}
	mute := Mute(fmt.Sprintf("the agent at %s does not %s within %v", l.sock, what, patience))
	ctx, cancel := context.WithTimeoutCause(ctx, patience, mute)
	defer cancel()
	if l.conn == nil {
		var d net.Dialer
		var c net.Conn
		if c, err = d.DialContext(ctx, "unix", l.sock); err == nil {
			l.conn, l.client = c, agent.NewClient(c)
		}
	}
	if err == nil {
		c := l.conn
		unhook := context.AfterFunc(ctx, func() { c.Close() }) // nothing else interrupts f
		v, err = f(l.client)
		unhook()
	}
	if ctx.Err() == nil {
		return v, err
	}
	l.drop()
	if err = context.Cause(ctx); errors.Is(err, mute) {
		l.mute, l.again = mute, time.Now().Add(mutePause)
	}
	return v, err
}

func (l *agentLine) drop() {
	if l.conn != nil {
		l.conn.Close()
	}
	l.conn, l.client = nil, nil
}

// agentSigners returns the agent's keys. An agent that does not tell them in half
// of the target's time leaves the rest to the target's key files.
func (l *Login) agentSigners() ([]ssh.Signer, error) {
	sock := account.Expand(l.IdentityAgent)
	switch sock {
	case "", "SSH_AUTH_SOCK":
		sock = os.Getenv("SSH_AUTH_SOCK")
	case "none":
		sock = ""
	}
	if sock == "" {
		return nil, errNoAgent
	}
	line, ctx := l.ring.agent(sock), l.clock.Context()
	done, err := line.take(l.clock)
	if err != nil {
		return nil, err
	}
	defer done()
	list := func(a agent.ExtendedAgent) ([]ssh.Signer, error) { return a.Signers() }
	signers, err := ask(ctx, line, "answer", l.Patience/2, list)
	if _, mute := errors.AsType[Mute](err); err != nil && !mute && ctx.Err() == nil {
		// It was restarted, perhaps: one fresh connection.
		line.drop()
		signers, err = ask(ctx, line, "answer", l.Patience/2, list)
	}
	for i, s := range signers {
		signers[i] = &agentSigner{s, l, line}
	}
	return signers, err
}

func (k *Ring) agent(sock string) *agentLine {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.agents[sock] == nil {
		k.agents[sock] = &agentLine{sock: sock, turn: make(chan struct{}, 1)}
	}
	return k.agents[sock]
}

// An agentSigner signs by the agent.
type agentSigner struct {
	ssh.Signer
	login *Login
	line  *agentLine
}

func (s *agentSigner) SignWithAlgorithm(rand io.Reader, data []byte, algo string) (*ssh.Signature, error) {
	l := s.login
	done, err := s.line.take(l.clock)
	if err != nil {
		return nil, err
	}
	defer done()
	patience := l.Patience
	if strings.HasPrefix(s.PublicKey().Type(), "sk-") {
		patience = touchBound
	}
	sig, err := ask(l.clock.Context(), s.line, "sign", patience, func(agent.ExtendedAgent) (*ssh.Signature, error) {
		return sign(s.Signer, rand, data, algo)
	})
	if err != nil {
		// The login ends with this error, so another try would be the same again.
		hint := ""
		if _, mute := errors.AsType[Mute](err); mute {
			hint = "does it wait for a confirmation or a touch? Otherwise start it anew, or set IdentityAgent"
		}
		err = l.fail(text.Advise(hint, "no signature with agent key %s: %w", ssh.FingerprintSHA256(s.PublicKey()), err))
	}
	return sig, err
}

// Close ends the connections to agents, when no login is under way any more.
func (k *Ring) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, l := range k.agents {
		l.drop()
	}
}
