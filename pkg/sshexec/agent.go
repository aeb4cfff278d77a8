package sshexec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// An agentConn is a connection to an ssh-agent, shared by all dials.
type agentConn struct {
	agent.ExtendedAgent
	conn net.Conn
}

var errNoAgent = errors.New("SSH_AUTH_SOCK is not set")

// within waits for f, which nothing can interrupt, until ctx ends: the socket of
// an agent that was forwarded stays when the agent is out of reach. What then
// still waits ends with the connection to the agent.
func within[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// agentSigners returns the agent's keys. An agent that does not tell them in half
// of t's time leaves the other half to t's key files.
func (k *keyring) agentSigners(ctx context.Context, t Target) ([]ssh.Signer, error) {
	sock := expandHome(t.IdentityAgent)
	switch sock {
	case "", "SSH_AUTH_SOCK":
		sock = os.Getenv("SSH_AUTH_SOCK")
	case "none":
		sock = ""
	}
	if sock == "" {
		return nil, errNoAgent
	}
	patience := t.connectTimeout() / 2
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("the agent at %s does not answer within %v", sock, patience))
	defer cancel()
	for attempt := 0; ; attempt++ {
		a, err := k.agent(ctx, sock)
		if err != nil {
			return nil, err
		}
		signers, err := within(ctx, a.Signers)
		if err == nil {
			return signers, nil
		}
		// The agent was restarted, perhaps: one fresh connection.
		k.mu.Lock()
		if k.agents[sock] == a {
			delete(k.agents, sock)
		}
		k.mu.Unlock()
		a.conn.Close()
		if attempt > 0 || ctx.Err() != nil {
			return nil, err
		}
	}
}

func (k *keyring) agent(ctx context.Context, sock string) (*agentConn, error) {
	k.mu.Lock()
	a := k.agents[sock]
	k.mu.Unlock()
	if a != nil {
		return a, nil
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", sock)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if a := k.agents[sock]; a != nil { // another dial was faster
		c.Close()
		return a, nil
	}
	a = &agentConn{agent.NewClient(c), c}
	k.agents[sock] = a
	return a, nil
}

// An agentSigner signs by the agent, as long as the dial lasts.
type agentSigner struct {
	ssh.Signer
	handshake *handshake
}

func (s *agentSigner) SignWithAlgorithm(rand io.Reader, data []byte, algo string) (*ssh.Signature, error) {
	ctx := s.handshake.deadline.ctx
	sig, err := within(ctx, func() (*ssh.Signature, error) {
		if as, ok := s.Signer.(ssh.AlgorithmSigner); ok {
			return as.SignWithAlgorithm(rand, data, algo)
		}
		return s.Sign(rand, data)
	})
	if errors.Is(err, errConnectTimeout) {
		t := s.handshake.target
		s.handshake.failAuth(&fault{kind: KindTimeout, op: "log in as " + t.user(), err: fmt.Errorf("the agent does not sign within %v", t.connectTimeout()),
			hint: "does it wait for a confirmation or a touch? Otherwise start it anew, or set IdentityAgent"})
	}
	return sig, err
}

func (k *keyring) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for s, a := range k.agents {
		a.conn.Close()
		delete(k.agents, s)
	}
}
