package sshexec_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

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

// program serves a connection whose every session runs f for its exec request.
func program(f func(ch ssh.Channel, command string)) func(net.Conn, *ssh.ServerConfig) {
	return func(c net.Conn, conf *ssh.ServerConfig) {
		conf.NoClientAuth = true
		_, chans, reqs, err := ssh.NewServerConn(c, conf)
		if err != nil {
			return
		}
		go ssh.DiscardRequests(reqs)
		for nc := range chans {
			ch, reqs, err := nc.Accept()
			if err != nil {
				return
			}
			go func() {
				for r := range reqs {
					var m struct{ Text string }
					_ = ssh.Unmarshal(r.Payload, &m)
					_ = r.Reply(r.Type == "exec", nil)
					if r.Type == "exec" {
						go f(ch, m.Text)
					}
				}
			}()
		}
	}
}

// answerProgram does what the node's shell does at the beginning of a program.
func answerProgram(ch ssh.Channel, command string) {
	fields := strings.Fields(command)
	_, _ = ch.Stderr().Write([]byte("fleetd-" + fields[len(fields)-1] + " 4711\n"))
}

// TestLoginThatPrintsBeforeAPlainCommand: what comes in pieces before the shell
// runs is no question for a password.
func TestLoginThatPrintsBeforeAPlainCommand(t *testing.T) {
	t.Parallel()
	h := newHostile(t, program(func(ch ssh.Channel, command string) {
		_, _ = ch.Stderr().Write([]byte("Loading mod"))
		time.Sleep(100 * time.Millisecond)
		_, _ = ch.Stderr().Write([]byte("ules: password:\n"))
		answerProgram(ch, command)
		_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{0}))
		ch.Close()
	}))
	res, err := newPool(t, sshexec.Options{}).Run(testContext(t), h.target, sshexec.Command{Script: "true"})
	if err != nil || string(res.Stderr) != "Loading modules: password:\n" {
		t.Errorf("%+v, %v", res, err)
	}
}

var errNo = errors.New("no")
