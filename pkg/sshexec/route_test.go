package sshexec_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/config"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/opensshtest"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

func TestJumpHostsAreShared(t *testing.T) {
	outer, inner, node := sshtest.New(t), sshtest.New(t), sshtest.New(t)
	p := newPool(t, sshexec.Options{})
	chain := []sshexec.Target{outer.Target("outer"), inner.Target("inner")}
	var wg sync.WaitGroup
	const hosts = 30
	for i := range hosts {
		wg.Go(func() {
			target := aliasTarget(t, node, i)
			target.ProxyJump = chain
			if err := runTrue(t, p, target); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if a, b, c := outer.Dials(), inner.Dials(), node.Dials(); a != 1 || b != 1 || c != hosts {
		t.Errorf("%d, %d and %d connections, want 1, 1 and %d", a, b, c, hosts)
	}

	t.Run("forgetting a node keeps the jump hosts", func(t *testing.T) {
		target := aliasTarget(t, node, 0)
		target.ProxyJump = chain
		p.Forget(target)
		if err := runTrue(t, p, target); err != nil {
			t.Fatal(err)
		}
		if outer.Dials() != 1 || node.Dials() != hosts+1 {
			t.Errorf("%d and %d connections", outer.Dials(), node.Dials())
		}
	})
	t.Run("a lost jump host is dialed again", func(t *testing.T) {
		outer.DropConnections()
		target := aliasTarget(t, node, 1)
		target.ProxyJump = chain
		waitFor(t, func() bool { return runTrue(t, p, target) == nil }, func() string { return "still failing" })
	})
}

func TestJumpHostErrorsNameTheJumpHost(t *testing.T) {
	node := sshtest.New(t)
	for _, tc := range []struct {
		name string
		jump func() sshexec.Target
		kind sshexec.Kind
		want string
	}{
		{"down", func() sshexec.Target {
			s := sshtest.New(t)
			s.Close()
			return s.Target("b1")
		}, sshexec.KindUnreachable, "cannot connect to web1: jump host b1: 127.0.0.1:"},
		{"refuses the login", func() sshexec.Target {
			tg := sshtest.New(t).Target("b1")
			tg.IdentityFiles = []string{node.ClientKeyFile()}
			return tg
		}, sshexec.KindAuth, "cannot connect to web1: jump host b1: the host refuses the login"},
		{"wrong host key", func() sshexec.Target {
			tg := sshtest.New(t).Target("b1")
			tg.KnownHosts = []string{"/dev/null"}
			return tg
		}, sshexec.KindHostKey, "cannot connect to web1: jump host b1: host key is not known"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPool(t, sshexec.Options{DialAttempts: 1})
			target := node.Target("web1")
			target.ProxyJump = []sshexec.Target{tc.jump()}
			err := runTrue(t, p, target)
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) || sshexec.KindOf(err) != tc.kind {
				t.Errorf("got %v (%v)", err, sshexec.KindOf(err))
			}
		})
	}
	t.Run("node down behind it", func(t *testing.T) {
		s := sshtest.New(t)
		s.Close()
		target := s.Target("web1")
		target.ProxyJump = []sshexec.Target{node.Target("b1")}
		err := runTrue(t, newPool(t, sshexec.Options{DialAttempts: 1}), target)
		if sshexec.KindOf(err) != sshexec.KindUnreachable || !strings.Contains(err.Error(), "the jump host answers: Connection refused") {
			t.Errorf("got %v", err)
		}
	})
}

func TestOneDialAtATimeThroughJumpHosts(t *testing.T) {
	// A dial that held the only place while it waits for its jump host's dial
	// would wait for ever.
	jump, node := sshtest.New(t), sshtest.New(t)
	p := newPool(t, sshexec.Options{MaxDials: 1})
	target := node.Target("web1")
	target.ProxyJump = []sshexec.Target{jump.Target("b1")}
	if err := runTrue(t, p, target); err != nil {
		t.Fatal(err)
	}
}

func TestOpenSSHRoutes(t *testing.T) {
	t.Parallel()
	s, jump := opensshtest.Start(t, opensshtest.Config{}), opensshtest.Start(t, opensshtest.Config{})
	ssh := fmt.Sprintf("ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile=%s -i %s -o IdentityAgent=none -p %d -W %%h:%%p 127.0.0.1",
		jump.Path("known_hosts"), jump.Path("client"), jump.Port)
	for _, tc := range []struct {
		name string
		edit func(*sshexec.Target)
	}{
		{"jump host", func(tg *sshexec.Target) { tg.ProxyJump = []sshexec.Target{jump.Target("b1")} }},
		{"jump host twice", func(tg *sshexec.Target) {
			tg.ProxyJump = []sshexec.Target{jump.Target("b1"), s.Target("b2"), jump.Target("b3")}
		}},
		{"ProxyCommand ssh -W", func(tg *sshexec.Target) { tg.ProxyCommand = ssh }},
		{"jump host behind a ProxyCommand", func(tg *sshexec.Target) {
			b := s.Target("b1")
			b.ProxyCommand = ssh
			tg.ProxyJump = []sshexec.Target{b}
		}},
		{"from Ansible's variables", func(tg *sshexec.Target) {
			got, err := config.FromVars(tg.Name, map[string]any{
				"ansible_host": "127.0.0.1", "ansible_port": s.Port, "ansible_ssh_private_key_file": s.Path("client"),
				"ansible_ssh_common_args": fmt.Sprintf(`-o UserKnownHostsFile=%s -o ProxyCommand="%s"`, s.Path("known_hosts"), ssh),
			}, config.Options{})
			if err != nil {
				t.Error(err)
			}
			if len(got.ProxyJump) != 1 {
				t.Errorf("no jump host was made of %q", got.ProxyCommand)
			}
			*tg = got
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			target := s.Target("web1")
			tc.edit(&target)
			if err := runTrue(t, newPool(t, sshexec.Options{}), target); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestProxyCommandFailures(t *testing.T) {
	srv := sshtest.New(t)
	for _, tc := range []struct {
		command string
		kind    sshexec.Kind
		want    string
	}{
		{"echo no route via proxy >&2; exit 1", sshexec.KindUnreachable, "ProxyCommand ended before the SSH handshake was done: no route via proxy"},
		{"sleep 1000", sshexec.KindTimeout, "sshd does not answer within 300ms"},
		{"echo %Z", sshexec.KindUsage, "ProxyCommand: token %Z"},
	} {
		target := srv.Target("web1")
		target.ProxyCommand = tc.command
		target.ConnectTimeout = 300 * time.Millisecond
		if !strings.HasPrefix(tc.command, "sleep") {
			target.ConnectTimeout = 10 * time.Second
		}
		err := runTrue(t, newPool(t, sshexec.Options{DialAttempts: 1}), target)
		if err == nil || !strings.Contains(err.Error(), tc.want) || sshexec.KindOf(err) != tc.kind {
			t.Errorf("%s: got %v (%v), want %s", tc.command, err, sshexec.KindOf(err), tc.want)
		}
	}
}

// TestNoShellReadsAnInventorysNames: CVE-2023-51385, and the hints that are copied
// into a shell.
func TestNoShellReadsAnInventorysNames(t *testing.T) {
	trace := filepath.Join(t.TempDir(), "trace")
	ran := func() bool { _, err := os.Stat(trace); return err == nil }
	for _, payload := range []string{
		"$(touch TRACE)127.0.0.1", "`touch TRACE`", ";touch TRACE", "a|touch TRACE", "a&touch TRACE", "a\ntouch TRACE", "a>TRACE",
		"'$(touch TRACE)'", "\"$(touch TRACE)", "-oProxyCommand=touch TRACE", "${IFS}touch${IFS}TRACE", "a -oProxyCommand=x", "a\\",
	} {
		payload = strings.ReplaceAll(payload, "TRACE", trace)
		for _, command := range []string{"echo %h %r %n", "true %h", "true %r", "true %n"} {
			for _, target := range []sshexec.Target{{Name: payload}, {Name: "a", Address: payload}, {Name: "a", User: payload}} {
				target.ProxyCommand = command
				p := newPool(t, sshexec.Options{DialAttempts: 1})
				if err := runTrue(t, p, target); sshexec.KindOf(err) != sshexec.KindUsage {
					t.Errorf("%q in %+v: %v", payload, target, err)
				}
			}
		}
		if ran() {
			t.Fatalf("%q was run", payload)
		}
		if strings.Contains(payload, "\n") {
			continue // an alias of two lines is in no known_hosts
		}
		srv := sshtest.New(t)
		target := srv.Target("web1")
		target.HostKeyAlias = payload
		target.KnownHosts = []string{filepath.Join(t.TempDir(), payload[:1]+"$(touch "+filepath.Base(trace)+")")}
		hint := sshexec.HintOf(runTrue(t, newPool(t, sshexec.Options{}), target))
		_, command, found := strings.Cut(hint, "add it: ")
		command, _, _ = strings.Cut(command, "; or use")
		if !found {
			t.Fatalf("no command in %q", hint)
		}
		sh := exec.Command("/bin/sh", "-c", strings.Replace(command, "ssh-keyscan", "echo", 1))
		sh.Dir = filepath.Dir(trace)
		if out, err := sh.CombinedOutput(); err != nil || ran() {
			t.Errorf("%s: %v, %s", command, err, out)
		}
	}
	// A name of a Windows domain is one.
	target := sshtest.New(t).Target("web1")
	target.User, target.ProxyCommand = `CORP\deploy`, "echo %r >&2; exit 1"
	if err := runTrue(t, newPool(t, sshexec.Options{DialAttempts: 1}), target); err == nil || !strings.Contains(err.Error(), "deploy") {
		t.Error(err)
	}
}

func TestTunnel(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "got %d\n", n)
		_, _ = io.WriteString(w, strings.Repeat("z", 1<<20))
	}))
	defer web.Close()
	node := sshtest.New(t)
	p := newPool(t, sshexec.Options{})
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return p.DialContext(ctx, node.Target("web1"), network, addr)
	}}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			resp, err := client.Post(web.URL, "text/plain", strings.NewReader(strings.Repeat("y", 3<<20)))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if want := "got 3145728\n"; err != nil || len(b) != len(want)+1<<20 || !strings.HasPrefix(string(b), want) {
				t.Errorf("%d bytes, %v", len(b), err)
			}
		})
	}
	wg.Wait()
	if n := node.Dials(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}

	t.Run("deadline", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := p.DialContext(testContext(t), node.Target("web1"), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("nobody there", func(t *testing.T) {
		_, err := p.DialContext(testContext(t), node.Target("web1"), "tcp", "127.0.0.1:1")
		if want := "cannot reach 127.0.0.1:1 on web1: Connection refused"; err == nil || err.Error() != want || sshexec.KindOf(err) != sshexec.KindUnreachable {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the tunnel keeps its connection", func(t *testing.T) {
		p := newPool(t, sshexec.Options{IdleTimeout: 40 * time.Millisecond})
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				_, _ = io.Copy(c, c)
				c.Close()
			}
		}()
		c, err := p.DialContext(testContext(t), node.Target("web1"), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond)
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		c.Close()
		waitFor(t, func() bool { return node.Open() <= 1 }, func() string { return "the connection is never closed" })
	})
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	jump, node := sshtest.New(t), sshtest.New(t)
	p := newPool(t, sshexec.Options{IdleTimeout: 100 * time.Millisecond})
	target := node.Target("web1")
	target.ProxyJump = []sshexec.Target{jump.Target("b1")}
	for range 2 {
		if err := runTrue(t, p, target); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool { return node.Open() == 0 && jump.Open() == 0 }, func() string { return fmt.Sprint(node.Open(), jump.Open()) })
	}
}

func TestMaxSessions(t *testing.T) {
	for _, allowed := range []int{1, 3, 10} {
		srv := sshtest.New(t, sshtest.MaxSessions(allowed))
		p := newPool(t, sshexec.Options{})
		var wg sync.WaitGroup
		for range 25 {
			wg.Go(func() {
				if err := runTrue(t, p, srv.Target("web1")); err != nil {
					t.Errorf("MaxSessions %d: %v", allowed, err)
				}
			})
		}
		wg.Wait()
		if n := srv.Dials(); n != 1 {
			t.Errorf("%d connections", n)
		}
	}
	t.Run("counted after their end", func(t *testing.T) {
		srv := sshtest.New(t, sshtest.MaxSessions(2))
		srv.SetFault(sshtest.Fault{Linger: 50 * time.Millisecond})
		p := newPool(t, sshexec.Options{})
		var wg sync.WaitGroup
		for range 25 {
			wg.Go(func() {
				if err := runTrue(t, p, srv.Target("web1")); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
	t.Run("none", func(t *testing.T) {
		srv := sshtest.New(t, sshtest.MaxSessions(0))
		err := runTrue(t, newPool(t, sshexec.Options{}), srv.Target("web1"))
		if sshexec.KindOf(err) != sshexec.KindProtocol {
			t.Errorf("got %v", err)
		}
	})
}

func TestOpenSSHLimits(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{Lines: []string{"MaxStartups 2:100:2", "MaxSessions 2", "ClientAliveInterval 1", "ClientAliveCountMax 1"}})
	b, err := os.ReadFile(s.Path("known_hosts"))
	if err != nil {
		t.Fatal(err)
	}
	_, key, _ := strings.Cut(string(b), " ")
	file := s.Write(t, "aliases", "web* "+key)
	p := newPool(t, sshexec.Options{DialAttempts: 12})
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			target := s.Target(fmt.Sprintf("web%d", i/3))
			target.HostKeyAlias, target.KnownHosts = target.Name, []string{file}
			if err := runTrue(t, p, target); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	// sshd asks for signs of life as well, and hangs up after some seconds
	// without an answer.
	time.Sleep(6 * time.Second)
	if log := s.Log.String(); strings.Contains(log, "Timeout, client not responding") {
		t.Errorf("sshd's question was not answered:\n%s", log)
	}
}

func TestRefusedIsRetried(t *testing.T) {
	t.Parallel()
	srv := sshtest.New(t)
	srv.Reboot(sshtest.Down{For: 300 * time.Millisecond, Refuse: 2, KeepBootID: true})
	if err := runTrue(t, newPool(t, sshexec.Options{DialAttempts: 10}), srv.Target("web1")); err != nil {
		t.Fatal(err)
	}
	srv.Close()
	err := runTrue(t, newPool(t, sshexec.Options{DialAttempts: 2}), srv.Target("web1"))
	if want := fmt.Sprintf("cannot connect to web1: %s refuses connections", srv.Addr()); err == nil || err.Error() != want || sshexec.KindOf(err) != sshexec.KindUnreachable {
		t.Errorf("got %v", err)
	}
}

func TestFailedLoginIsNotRetried(t *testing.T) {
	srv := sshtest.New(t)
	target := srv.Target("web1")
	target.IdentityFiles = []string{sshtest.New(t).ClientKeyFile()}
	err := runTrue(t, newPool(t, sshexec.Options{}), target)
	if sshexec.KindOf(err) != sshexec.KindAuth || srv.Dials() != 1 {
		t.Errorf("got %v after %d connections", err, srv.Dials())
	}
}
