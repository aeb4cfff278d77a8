package sshexec_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

func TestAwaitReboot(t *testing.T) {
	for _, tc := range []struct {
		name    string
		down    sshtest.Down
		timeout time.Duration
		settle  time.Duration
		want    sshexec.RebootOutcome
	}{
		{"comes back", sshtest.Down{For: 200 * time.Millisecond}, 50 * time.Second, 0, sshexec.Rebooted},
		{"half-open old connection", sshtest.Down{For: 100 * time.Millisecond, HalfOpen: true}, 50 * time.Second, 0, sshexec.Rebooted},
		{"port answers before sshd", sshtest.Down{Silent: 2, Refuse: 3}, 50 * time.Second, 0, sshexec.Rebooted},
		{"only sshd was restarted", sshtest.Down{Refuse: 2, KeepBootID: true}, 4 * time.Second, 0, sshexec.DidNotHappen},
		{"did not happen, known early", sshtest.Down{Refuse: 1, KeepBootID: true}, time.Minute, 300 * time.Millisecond, sshexec.DidNotHappen},
		{"does not return", sshtest.Down{For: time.Hour}, time.Second, 0, sshexec.DidNotReturn},
		{"port answers, sshd never", sshtest.Down{Silent: 1 << 20}, 2 * time.Second, 0, sshexec.DidNotReturn},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			srv := sshtest.New(t)
			p := newPool(t, sshexec.Options{})
			target := srv.Target("web1")
			before, err := p.BootID(testContext(t), target)
			if err != nil {
				t.Fatal(err)
			}
			// Long enough for a handshake on a busy machine; a silent port costs it.
			target.ConnectTimeout = time.Second
			srv.Reboot(tc.down)
			r, err := p.AwaitReboot(testContext(t), target, before, sshexec.Await{Timeout: tc.timeout, Poll: 20 * time.Millisecond, Settle: tc.settle})
			if err != nil || r.Outcome != tc.want {
				t.Fatalf("%+v, %v", r, err)
			}
			switch tc.want {
			case sshexec.Rebooted:
				if r.BootID != srv.BootID() || r.LastError != nil {
					t.Errorf("%+v", r)
				}
				dials := srv.Dials()
				if err := runTrue(t, p, target); err != nil || srv.Dials() != dials {
					t.Errorf("the fresh connection is not used on: %v", err)
				}
			case sshexec.DidNotHappen:
				if r.BootID != before {
					t.Errorf("%+v", r)
				}
			case sshexec.DidNotReturn:
				if r.LastError == nil {
					t.Errorf("%+v", r)
				}
			}
		})
	}
}

// TestAwaitRebootThatBeginsLate: while the node still answers, each answer
// leaves a connection that the reboot then makes half-open.
func TestAwaitRebootThatBeginsLate(t *testing.T) {
	t.Parallel()
	srv := sshtest.New(t)
	p := newPool(t, sshexec.Options{})
	target := srv.Target("web1")
	before, err := p.BootID(testContext(t), target)
	if err != nil {
		t.Fatal(err)
	}
	// The probe that the reboot meets half-way waits so long.
	target.ConnectTimeout = 2 * time.Second
	time.AfterFunc(300*time.Millisecond, func() { srv.Reboot(sshtest.Down{HalfOpen: true, Refuse: 1}) })
	r, err := p.AwaitReboot(testContext(t), target, before, sshexec.Await{Timeout: 50 * time.Second, Poll: 20 * time.Millisecond})
	if err != nil || r.Outcome != sshexec.Rebooted {
		t.Fatalf("%+v, %v", r, err)
	}
}

func TestAwaitRebootWithANewAddress(t *testing.T) {
	old, now := sshtest.New(t), sshtest.New(t)
	p := newPool(t, sshexec.Options{})
	before, err := p.BootID(testContext(t), old.Target("web1"))
	if err != nil {
		t.Fatal(err)
	}
	// Another machine has the old address by now: its key is wrong.
	old.SetHostKey(sshtest.NewKey())
	old.DropConnections()
	asked := 0
	r, err := p.AwaitReboot(testContext(t), old.Target("web1"), before, sshexec.Await{
		Timeout: 20 * time.Second, Poll: 10 * time.Millisecond,
		Resolve: func(context.Context) (sshexec.Target, error) {
			switch asked++; {
			case asked < 3:
				return sshexec.Target{}, errors.New("no such host")
			case asked < 5:
				return old.Target("web1"), nil
			default:
				return now.Target("web1"), nil
			}
		},
	})
	if err != nil || r.Outcome != sshexec.Rebooted || r.BootID != now.BootID() {
		t.Fatalf("%+v, %v", r, err)
	}
}

func TestAwaitRebootFailures(t *testing.T) {
	srv := sshtest.New(t)
	p := newPool(t, sshexec.Options{})
	target := srv.Target("web1")
	before, err := p.BootID(testContext(t), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("canceled", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		if _, err := p.AwaitReboot(ctx, target, before, sshexec.Await{Poll: 10 * time.Millisecond}); sshexec.KindOf(err) != sshexec.KindTimeout {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no boot ID to compare with", func(t *testing.T) {
		if _, err := p.AwaitReboot(testContext(t), target, "", sshexec.Await{}); sshexec.KindOf(err) != sshexec.KindUsage {
			t.Errorf("got %v", err)
		}
	})
	t.Run("changed host key", func(t *testing.T) {
		srv.SetHostKey(sshtest.NewKey())
		srv.Reboot(sshtest.Down{Refuse: 1})
		_, err := p.AwaitReboot(testContext(t), target, before, sshexec.Await{Timeout: time.Minute, Poll: 10 * time.Millisecond})
		if sshexec.KindOf(err) != sshexec.KindHostKey || !strings.Contains(err.Error(), "has changed") {
			t.Errorf("got %v", err)
		}
	})
}
