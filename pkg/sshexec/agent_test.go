package sshexec_test

import (
	"context"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/opensshtest"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

// signingAgent returns the socket of an agent with the server's key, which signs
// when sign returns nil.
func signingAgent(t *testing.T, srv *sshtest.Server, sign func() error) (sock string) {
	t.Helper()
	return serveAgent(t, func() agent.Agent { return slowAgent{agentOf(t, srv), sign} })
}

type slowAgent struct {
	agent.Agent
	sign func() error
}

func (a slowAgent) Sign(key ssh.PublicKey, data []byte) (*ssh.Signature, error) {
	if err := a.sign(); err != nil {
		return nil, err
	}
	return a.Agent.Sign(key, data)
}

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
	ends := make(chan struct{})
	t.Cleanup(func() { close(ends) })
	return serveAgent(t, func() agent.Agent { return muteAgent{lists, ends} })
}

func serveAgent(t *testing.T, a func() agent.Agent) (sock string) {
	t.Helper()
	sock = t.TempDir() + "/agent"
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = agent.ServeAgent(a(), c)
			}()
		}
	}()
	return sock
}

// agentOf has the key that the server lets in.
func agentOf(t *testing.T, srv *sshtest.Server) agent.Agent {
	t.Helper()
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
	return ring
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
	ring := agentOf(t, srv)
	for _, tc := range []struct {
		name  string
		lists agent.Agent
		files []string
		want  string
	}{
		{"no answer, and a key file", nil, []string{srv.ClientKeyFile()}, ""},
		{"no answer, and nothing else", nil, []string{}, "does not answer within 1s"},
		{"no signature", ring, []string{}, "does not sign within 2s"},
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

// TestDialsTakeTurnsAtTheAgent: one that waits for a person to confirm does nothing
// else, and no dial that waits for it meanwhile may fail, or hang up on it.
func TestDialsTakeTurnsAtTheAgent(t *testing.T) {
	t.Parallel()
	srv := sshtest.New(t)
	sock := signingAgent(t, srv, func() error {
		time.Sleep(3 * time.Second)
		return nil
	})
	p := newPool(t, sshexec.Options{DialAttempts: 1})
	var wg sync.WaitGroup
	for i := range 2 {
		target := aliasTarget(t, srv, i)
		target.IdentityFiles, target.IdentitiesOnly, target.IdentityAgent = []string{}, false, sock
		target.ConnectTimeout = 5 * time.Second
		wg.Go(func() {
			if err := p.Connect(testContext(t), target); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestAgentThatRefuses: a person who says no is not asked again.
func TestAgentThatRefuses(t *testing.T) {
	t.Parallel()
	srv := sshtest.New(t)
	var asked atomic.Int32
	target := srv.Target("web1")
	target.IdentityFiles, target.IdentitiesOnly = []string{}, false
	target.IdentityAgent = signingAgent(t, srv, func() error {
		asked.Add(1)
		return errNo
	})
	err := newPool(t, sshexec.Options{}).Connect(testContext(t), target)
	if sshexec.KindOf(err) != sshexec.KindAuth || !strings.Contains(err.Error(), "no signature with agent key SHA256:") || asked.Load() != 1 {
		t.Errorf("asked %d times: %v", asked.Load(), err)
	}
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
