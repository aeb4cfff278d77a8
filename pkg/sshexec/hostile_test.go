package sshexec_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

// A hostile is an SSH server that a test makes of x/crypto's parts, to do what no
// honest one would.
type hostile struct {
	target sshexec.Target
}

// newHostile serves every connection with serve, which also gets what to
// configure the handshake with; the host key is there already.
func newHostile(t testing.TB, serve func(net.Conn, *ssh.ServerConfig)) *hostile {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	key := sshtest.NewKey()
	known := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(known, []byte(knownhosts.Line([]string{l.Addr().String()}, key.PublicKey())+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				conf := &ssh.ServerConfig{}
				conf.AddHostKey(key)
				serve(c, conf)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	addr := l.Addr().(*net.TCPAddr)
	return &hostile{target: sshexec.Target{
		Name: "web1", Address: "127.0.0.1", Port: addr.Port, User: "centos",
		IdentityFiles: []string{}, IdentitiesOnly: true, IdentityAgent: "none", KnownHosts: []string{known},
	}}
}

var errNo = errors.New("no")
