package sshexec_test

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/opensshtest"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

// A muteAgent does not answer; what it lists, if anything, it does not sign with.
type muteAgent struct {
	agent.Agent
	ends <-chan struct{}
}

func (m muteAgent) Sign(ssh.PublicKey, []byte) (*ssh.Signature, error) {
	<-m.ends
	return nil, errNo
}

func (m muteAgent) List() ([]*agent.Key, error) {
	if m.Agent == nil {
		<-m.ends
		return nil, errNo
	}
	return m.Agent.List()
}

func serveMute(t *testing.T, lists agent.Agent) (sock string) {
	t.Helper()
	sock = t.TempDir() + "/agent"
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	ends := make(chan struct{})
	t.Cleanup(func() {
		l.Close()
		close(ends)
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = agent.ServeAgent(muteAgent{lists, ends}, c)
			}()
		}
	}()
	return sock
}

// soon fails the test if f hangs.
func soon(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("it hangs")
	}
}

// TestDeadAgent: the socket of a forwarded agent stays when the agent is gone.
func TestDeadAgent(t *testing.T) {
	t.Parallel()
	srv := sshtest.New(t)
	raw, err := os.ReadFile(srv.ClientKeyFile())
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.ParseRawPrivateKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		lists agent.Agent
		files []string
		want  string
	}{
		{"no answer, and a key file", nil, []string{srv.ClientKeyFile()}, ""},
		{"no answer, and nothing else", nil, []string{}, "does not answer within 1s"},
		{"no signature", ring, []string{}, "the agent does not sign within 2s"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			target := srv.Target("web1")
			target.IdentityFiles, target.IdentitiesOnly, target.IdentityAgent = tc.files, false, serveMute(t, tc.lists)
			target.ConnectTimeout = 2 * time.Second
			p := sshexec.NewPool(sshexec.Options{DialAttempts: 1})
			soon(t, func() {
				err := runTrue(t, p, target)
				if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
					t.Errorf("got %v, want %q", err, tc.want)
				}
				p.Close()
			})
		})
	}
	t.Run("the caller gives up", func(t *testing.T) {
		target := srv.Target("web1")
		target.IdentityFiles, target.IdentitiesOnly, target.IdentityAgent = []string{}, false, serveMute(t, nil)
		p := sshexec.NewPool(sshexec.Options{})
		ctx, cancel := context.WithCancel(testContext(t))
		time.AfterFunc(50*time.Millisecond, cancel)
		soon(t, func() {
			if err := p.Connect(ctx, target); sshexec.KindOf(err) != sshexec.KindCanceled {
				t.Error(err)
			}
			p.Close()
		})
	})
}

// TestPassphrasePromptEndsWithTheCaller: Ctrl-C at the prompt, for which others
// wait.
func TestPassphrasePromptEndsWithTheCaller(t *testing.T) {
	t.Parallel()
	key := t.TempDir() + "/key"
	opensshtest.Keygen(t, key, "ed25519", "pw")
	srv := sshtest.New(t, sshtest.AuthorizedKey(opensshtest.ReadPublicKey(t, key+".pub")))
	ctx, cancel := context.WithCancel(testContext(t))
	p := sshexec.NewPool(sshexec.Options{Passphrase: func(ctx context.Context, _ string) (sshexec.Secret, error) {
		cancel()
		<-ctx.Done()
		return "", context.Cause(ctx)
	}})
	var targets []sshexec.Target
	for i := range 3 {
		target := aliasTarget(t, srv, i)
		target.IdentityFiles = []string{key}
		targets = append(targets, target)
	}
	soon(t, func() {
		p.RunAll(ctx, targets, sshexec.Command{Argv: []string{"true"}}, 0, func(r sshexec.HostResult) {
			if sshexec.KindOf(r.Err) != sshexec.KindCanceled {
				t.Error(r.Err)
			}
		})
		p.Close()
	})
}
