package sshexec_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

// askBoot asks a host for its boot ID over a fresh connection. An old one may be
// half open after a reboot, and an open port proves nothing: a load balancer, or
// a hypervisor's user-mode network, accepts connections for a guest that is down.
func askBoot(ctx context.Context, p *sshexec.Pool, t sshexec.Target) (string, error) {
	p.Forget(t)
	res, err := p.Run(ctx, t, sshexec.Command{Argv: []string{"cat", sshexec.BootIDFile}, Timeout: 2 * time.Second})
	if err == nil && !res.OK() {
		err = fmt.Errorf("exit status %d", res.ExitStatus)
	}
	return strings.TrimSpace(string(res.Stdout)), err
}

// awaitBoot asks until the host tells another boot ID than before. A wrong host
// key is not waited out.
func awaitBoot(t *testing.T, p *sshexec.Pool, target sshexec.Target, before string) (string, error) {
	ctx := testContext(t)
	for {
		id, err := askBoot(ctx, p, target)
		if err == nil && id != before || ctx.Err() != nil || sshexec.KindOf(err) == sshexec.KindHostKey {
			return id, err
		}
	}
}

// TestAskedAcrossAReboot: no way of going down makes a host that has come back
// unreachable, or a question hang.
func TestAskedAcrossAReboot(t *testing.T) {
	for name, down := range map[string]sshtest.Down{
		"comes back":                {For: 200 * time.Millisecond},
		"half-open old connection":  {For: 100 * time.Millisecond, HalfOpen: true},
		"port answers before sshd":  {Silent: 2, Refuse: 3},
		"port answers, then nobody": {Silent: 1, Refuse: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := sshtest.New(t)
			p := newPool(t, sshexec.Options{DialAttempts: 1})
			target := srv.Target("web1")
			before, err := askBoot(testContext(t), p, target)
			if err != nil {
				t.Fatal(err)
			}
			// Long enough for a handshake on a busy machine; a silent port costs it.
			target.ConnectTimeout = time.Second
			srv.Reboot(down)
			id, err := awaitBoot(t, p, target, before)
			if err != nil || id != srv.BootID() {
				t.Fatalf("%q, %v", id, err)
			}
			dials := srv.Dials()
			if err := runTrue(t, p, target); err != nil || srv.Dials() != dials {
				t.Errorf("the fresh connection is not used on: %v", err)
			}
		})
	}
	// While the node still answers, each answer leaves a connection that the
	// reboot then makes half-open.
	t.Run("begins late", func(t *testing.T) {
		t.Parallel()
		srv := sshtest.New(t)
		p := newPool(t, sshexec.Options{DialAttempts: 1})
		target := srv.Target("web1")
		before, err := askBoot(testContext(t), p, target)
		if err != nil {
			t.Fatal(err)
		}
		target.ConnectTimeout = 2 * time.Second
		time.AfterFunc(300*time.Millisecond, func() { srv.Reboot(sshtest.Down{HalfOpen: true, Refuse: 1}) })
		if id, err := awaitBoot(t, p, target, before); err != nil || id != srv.BootID() {
			t.Fatalf("%q, %v", id, err)
		}
	})
	t.Run("comes back with another key", func(t *testing.T) {
		t.Parallel()
		srv := sshtest.New(t)
		p := newPool(t, sshexec.Options{DialAttempts: 1})
		target := srv.Target("web1")
		before, err := askBoot(testContext(t), p, target)
		if err != nil {
			t.Fatal(err)
		}
		srv.SetHostKey(sshtest.NewKey())
		srv.Reboot(sshtest.Down{Refuse: 1})
		if _, err := awaitBoot(t, p, target, before); sshexec.KindOf(err) != sshexec.KindHostKey || !strings.Contains(err.Error(), "has changed") {
			t.Errorf("got %v", err)
		}
	})
}
