package sshexec_test

import (
	"context"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

// TestNothingIsLeftAfterClose looks at what Close leaves while the servers are
// still there: after a healthy run, and after every sort of end that is not one.
func TestNothingIsLeftAfterClose(t *testing.T) {
	srv, jump, dead := sshtest.New(t), sshtest.New(t), sshtest.New(t)
	dead.SetFault(sshtest.Fault{Silent: -1, Deaf: -1})
	// A finalizer must not close what was forgotten.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for _, tc := range []struct {
		name string
		use  func(t *testing.T, p *sshexec.Pool, target sshexec.Target)
	}{
		{"commands and files", func(t *testing.T, p *sshexec.Pool, target sshexec.Target) {
			if err := runTrue(t, p, target); err != nil {
				t.Error(err)
			}
			if err := p.Upload(testContext(t), target, upload("/etc/f", "x")); err != nil {
				t.Error(err)
			}
		}},
		{"jump host", func(t *testing.T, p *sshexec.Pool, target sshexec.Target) {
			target.ProxyJump = []sshexec.Target{jump.Target("b1")}
			if err := runTrue(t, p, target); err != nil {
				t.Error(err)
			}
		}},
		{"proxy command", func(t *testing.T, p *sshexec.Pool, target sshexec.Target) {
			target.ProxyCommand = "exec sleep 1000"
			target.ConnectTimeout = 300 * time.Millisecond
			if err := runTrue(t, p, target); err == nil {
				t.Error("connected")
			}
		}},
		{"tunnel left open", func(t *testing.T, p *sshexec.Pool, target sshexec.Target) {
			if _, err := p.DialContext(testContext(t), target, "tcp", srv.Addr()); err != nil {
				t.Error(err)
			}
		}},
		{"silent host", func(t *testing.T, p *sshexec.Pool, _ sshexec.Target) {
			ctx, cancel := context.WithTimeout(testContext(t), 300*time.Millisecond)
			defer cancel()
			if _, err := p.Run(ctx, dead.Target("dead"), sshexec.Command{Argv: []string{"true"}}); sshexec.KindOf(err) != sshexec.KindTimeout {
				t.Error(err)
			}
			p.Close()
			dead.DropConnections() // it does not notice by itself that we hang up
		}},
		{"cut in the handshake", func(t *testing.T, p *sshexec.Pool, target sshexec.Target) {
			srv.FaultNext(sshtest.Fault{Cut: 500}, sshtest.Fault{CutIn: 700}, sshtest.Fault{Cut: 1500})
			_ = runTrue(t, p, target)
		}},
		{"command that is still running", func(t *testing.T, p *sshexec.Pool, target sshexec.Target) {
			started := t.TempDir() + "/started"
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = p.Run(testContext(t), target, sshexec.Command{Script: "touch " + started + "; exec sleep 1000"})
			}()
			untilThere(t, started)
			p.Close()
			<-done
		}},
		{"key changed", func(t *testing.T, p *sshexec.Pool, target sshexec.Target) {
			target.KnownHosts = []string{jump.KnownHostsFile()}
			if err := runTrue(t, p, target); err == nil {
				t.Error("connected")
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := sshexec.NewPool(sshexec.Options{DialAttempts: 4})
			before := held()
			tc.use(t, p, srv.Target("web1"))
			p.Close()
			if left := leftOf(before); left != nil {
				t.Errorf("left after Close:\n%s", strings.Join(left, "\n"))
			}
		})
	}
}
