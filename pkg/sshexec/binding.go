package sshexec

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
