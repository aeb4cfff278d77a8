package sshexec

import (
	"golang.org/x/crypto/ssh"

	"github.com/fleetd/fleetd/pkg/sshexec/internal/algorithms"
)

// A plan is made for machines, and reaches them by names. Between the plan and
// its end a name may come to mean another machine: DNS is changed, two ports are
// swapped. A machine is told by its host key.

// HostKey returns the fingerprint of the host key of the open connection to t,
// "" if none is open.
func (p *Pool) HostKey(t Target) string {
	if c := p.opened(t); c != nil {
		return c.hostKey
	}
	return ""
}

// LoginKey returns the fingerprint of the public key that opened the connection
// to t: "" for a password, and if no connection is open. Where the host wanted
// both, it is the key's.
func (p *Pool) LoginKey(t Target) string {
	if c := p.opened(t); c != nil {
		return c.loginKey
	}
	return ""
}

// opened returns the connection that a command on t would go over.
func (p *Pool) opened(t Target) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.slotOf(t.key(), t)
	if s == nil || s.conn == nil || s.conn.isDead() {
		return nil
	}
	return s.conn
}

// unbound is t with whatever host key known_hosts allows.
func (t Target) unbound() Target {
	t.HostKey = ""
	return t
}

// sign notes the key that signed for the login: a key signs only after sshd has
// said that it would accept it.
func (h *handshake) sign(key ssh.PublicKey) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.signed = algorithms.Fingerprint(key)
}

// keys returns the fingerprints of the host key and of the login's.
func (h *handshake) keys() (host, login string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hostKey, h.signed
}
