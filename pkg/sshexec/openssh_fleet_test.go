package sshexec_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/opensshtest"
	"github.com/fleetd/fleetd/pkg/view"
)

const (
	bootBefore = "0f5e7a52-0b4e-4a6c-9d6c-000000000001"
	bootAfter  = "0f5e7a52-0b4e-4a6c-9d6c-000000000002"
)

// TestOpenSSHAcrossAReboot has a real sshd take the place of another one, with
// the same keys and another boot ID.
func TestOpenSSHAcrossAReboot(t *testing.T) {
	t.Parallel()
	before := opensshtest.Start(t, opensshtest.Config{Users: true, BootID: bootBefore})
	after := opensshtest.Start(t, opensshtest.Config{Users: true, BootID: bootAfter, Twin: before})
	stranger := opensshtest.Start(t, opensshtest.Config{Users: true, BootID: bootAfter})
	// It accepts connections and says nothing, as a guest's port does before
	// the guest's sshd is ready.
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mute.Close() })
	closed := opensshtest.RefusingAddr(t)

	for _, tc := range []struct {
		name    string
		reboot  func(*badLine)
		wantErr string
	}{
		{"comes back", func(l *badLine) {
			l.leadTo(closed)
			l.hangUp()
			time.AfterFunc(time.Second, func() { l.leadTo(after.Addr()) })
		}, ""},
		{"half-open old connection, port that answers before sshd", func(l *badLine) {
			l.freeze()
			l.leadTo(mute.Addr().String())
			time.AfterFunc(time.Second, func() { l.leadTo(after.Addr()) })
		}, ""},
		{"comes back as a stranger", func(l *badLine) { l.leadTo(stranger.Addr()); l.hangUp() }, "host key has changed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			line := newBadLine(t, before.Addr())
			target := line.over(t, before, before.Target("web1"))
			p := newPool(t, sshexec.Options{DialAttempts: 1})
			id, err := askBoot(testContext(t), p, target)
			if err != nil || id != bootBefore {
				t.Fatalf("%q, %v", id, err)
			}
			target.ConnectTimeout = 2 * time.Second
			tc.reboot(line)
			id, err = awaitBoot(t, p, target, bootBefore)
			if (err == nil) != (tc.wantErr == "") || err == nil && id != bootAfter {
				t.Fatalf("%q, %v", id, err)
			}
			if tc.wantErr == "" {
				return
			}
			for _, want := range []string{tc.wantErr, ssh.FingerprintSHA256(before.Keys["ed25519"]), ssh.FingerprintSHA256(stranger.Keys["ed25519"])} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %s in it", err, want)
				}
			}
		})
	}
}

func TestOpenSSHTunnel(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "got %d", n)
	}))
	defer web.Close()
	s := opensshtest.Start(t, opensshtest.Config{})
	line := newBadLine(t, s.Addr())
	target := line.over(t, s, s.Target("web1"))
	p := newPool(t, sshexec.Options{})
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return p.DialContext(ctx, target, network, addr)
	}}
	defer transport.CloseIdleConnections()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			resp, err := (&http.Client{Transport: transport}).Post(web.URL, "text/plain", bytes.NewReader(make([]byte, 3<<20)))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "got 3145728" {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
	wg.Wait()
	if n := line.dials.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	_, err := p.DialContext(testContext(t), target, "tcp", opensshtest.RefusingAddr(t))
	if sshexec.KindOf(err) != sshexec.KindUnreachable || !strings.Contains(err.Error(), "refused") {
		t.Errorf("nobody there: %v", err)
	}
}

func TestOpenSSHAcceptNew(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{Keys: []string{"ed25519", "ecdsa", "rsa"}})
	target := s.Target("web1")
	target.KnownHosts = []string{t.TempDir() + "/known_hosts"}
	if err := runTrue(t, newPool(t, sshexec.Options{}), target); sshexec.KindOf(err) != sshexec.KindHostKey {
		t.Fatalf("strict: %v", err)
	}
	target.HostKeyPolicy = sshexec.AcceptNew
	if err := runTrue(t, newPool(t, sshexec.Options{}), target); err != nil {
		t.Fatal(err)
	}
	// What was written holds for a strict run, with any of the server's keys
	// that it may have been.
	target.HostKeyPolicy = sshexec.Strict
	if err := runTrue(t, newPool(t, sshexec.Options{}), target); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(target.KnownHosts[0]); err != nil || bytes.Count(b, []byte("\n")) != 1 {
		t.Errorf("%q, %v", b, err)
	}
}

// TestOpenSSHFlood has a command print more than is kept, through sshd's flow
// control.
func TestOpenSSHFlood(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{})
	res, err := newPool(t, sshexec.Options{}).Run(testContext(t), s.Target("web1"), sshexec.Command{
		Script:    "echo head; yes 0123456789abcde | head -n 2000000; echo tail; head -c 3000000 /dev/zero >&2",
		MaxOutput: 100_000,
	})
	if err != nil {
		t.Fatal(err)
	}
	cut := fmt.Sprintf("\n[... %d bytes left out ...]\n", 32_000_000+10-100_000)
	if !res.Truncated || len(res.Stdout) != 100_000+len(cut) || !bytes.HasPrefix(res.Stdout, []byte("head\n")) ||
		!bytes.HasSuffix(res.Stdout, []byte("tail\n")) || !bytes.Contains(res.Stdout, []byte(cut)) {
		t.Errorf("truncated %v, %d bytes", res.Truncated, len(res.Stdout))
	}
	if len(res.Stderr) > 100_100 {
		t.Errorf("%d bytes of standard error", len(res.Stderr))
	}
}

func TestOpenSSHIdleConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{})
	line := newBadLine(t, s.Addr())
	p := newPool(t, sshexec.Options{IdleTimeout: 100 * time.Millisecond})
	for n := int32(1); n <= 2; n++ {
		if err := runTrue(t, p, line.over(t, s, s.Target("web1"))); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool { return strings.Count(s.Log.String(), "Closing connection to") >= int(n) }, s.Log.String)
		if line.dials.Load() != n {
			t.Errorf("%d connections, want %d", line.dials.Load(), n)
		}
	}
}

// TestOpenSSHFleet: what 12 hosts of which some fail are told as.
func TestOpenSSHFleet(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{Users: true})
	opensshtest.Keygen(t, s.Path("other"), "ed25519", "")
	_, closed, _ := net.SplitHostPort(opensshtest.RefusingAddr(t))
	line := newBadLine(t, s.Addr())
	var targets []sshexec.Target
	for i := range 12 {
		target := line.over(t, s, s.As(opensshtest.OpsUser))
		target.Name = fmt.Sprintf("web%02d", i+1)
		switch {
		case i < 3:
			target.IdentityFiles = []string{s.Path("other")}
			// Connections of their own.
			target.HostKeyAlias = fmt.Sprintf("node%d", i)
			target.KnownHosts = []string{s.Write(t, "known_nodes", "node* "+keyText(s.Keys["ed25519"])+"\n")}
		case i == 7:
			_, _ = fmt.Sscan(closed, &target.Port)
		}
		targets = append(targets, target)
	}
	p := newPool(t, sshexec.Options{DialAttempts: 2})
	var errs []error
	same := 0
	p.RunAll(testContext(t), targets, sshexec.Command{Script: "echo same"}, 2, func(r sshexec.HostResult) {
		if string(r.Result.Stdout) == "same\n" {
			same++
		}
		errs = append(errs, r.Err)
	})
	got := view.FleetError(errs...).Error()
	want := fmt.Sprintf(`auth failed: 3 hosts: web[01:03]
  cannot log in as %s: the host refuses the login (tried %s)
  next: check ansible_user and ansible_ssh_private_key_file, or load the key with ssh-add
unreachable: 1 host: web08
  cannot connect: the host refuses connections
  next: is sshd running there, and is the port right?`, opensshtest.OpsUser, s.Path("other"))
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if same != 8 {
		t.Errorf("%d hosts answered", same)
	}
	// The others share one connection; a failed login is tried once.
	if n := strings.Count(s.Log.String(), "Connection from"); n != 4 {
		t.Errorf("%d connections, want one good and three refused", n)
	}
}
