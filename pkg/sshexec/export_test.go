package sshexec

import (
	"time"

	"golang.org/x/crypto/ssh"
)

// KeyExchange is the one that the open connection to t has used.
func (p *Pool) KeyExchange(t Target) string {
	return p.opened(t).ssh.(ssh.AlgorithmsConnMetadata).Algorithms().KeyExchange
}

// BecomeWithin bounds sudo and su.
func BecomeWithin(o *Options, d time.Duration) { o.becomeBound = d }

// WithoutSFTP has uploads go the way of a node that has no sftp-server.
func WithoutSFTP(o *Options) { o.noSFTP = "yes" }

// CloseIdle is what a dial does that lacks a file descriptor.
func (p *Pool) CloseIdle() bool { return p.closeIdle() }

// Shells are the ones found here that may be /bin/sh somewhere.
var Shells = shells
