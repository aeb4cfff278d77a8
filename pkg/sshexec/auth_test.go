package sshexec_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
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

// runTrue connects and runs the least there is.
func runTrue(t testing.TB, p *sshexec.Pool, target sshexec.Target) error {
	t.Helper()
	res, err := p.Run(testContext(t), target, sshexec.Command{Argv: []string{"true"}})
	if err == nil && !res.OK() {
		t.Fatalf("true: %+v", res)
	}
	return err
}

func TestOpenSSHKeys(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{Lines: []string{"MaxAuthTries 2"}})
	var authorized strings.Builder
	for typ, extra := range map[string][]string{"ed25519": nil, "ecdsa": {"-b", "384"}, "rsa": {"-b", "2048"}} {
		opensshtest.Keygen(t, s.Path(typ), typ, "", extra...)
		b, err := os.ReadFile(s.Path(typ + ".pub"))
		if err != nil {
			t.Fatal(err)
		}
		authorized.Write(b)
	}
	s.Write(t, "authorized_keys", authorized.String())
	for _, tc := range []struct{ typ, format string }{
		{"ed25519", "RFC4716"}, {"ecdsa", "RFC4716"}, {"rsa", "RFC4716"}, {"ecdsa", "PEM"}, {"rsa", "PEM"}, {"rsa", "PKCS8"},
	} {
		for _, pass := range []sshexec.Secret{"", "open sesame"} {
			t.Run(fmt.Sprintf("%s %s encrypted=%s", tc.typ, tc.format, opensshtest.YesNo(pass != "")), func(t *testing.T) {
				f := s.Path(tc.typ + tc.format + opensshtest.YesNo(pass != ""))
				opensshtest.CopyFile(t, s.Path(tc.typ), f)
				_ = os.Chmod(f, 0o600)
				if out, err := exec.Command("ssh-keygen", "-q", "-p", "-f", f, "-m", tc.format, "-P", "", "-N", pass.Reveal()).CombinedOutput(); err != nil {
					t.Fatalf("ssh-keygen: %v\n%s", err, out)
				}
				asked := 0
				p := newPool(t, sshexec.Options{Passphrase: func(_ context.Context, file string) (sshexec.Secret, error) {
					if file != f {
						t.Errorf("asked for %s", file)
					}
					if asked++; asked == 1 {
						return "a typo", nil
					}
					return pass, nil
				}})
				target := s.Target("web1")
				target.IdentityFiles = []string{f}
				err := runTrue(t, p, target)
				if tc.format == "PKCS8" && pass != "" {
					// x/crypto/ssh cannot decrypt this form. The person is told.
					if sshexec.KindOf(err) != sshexec.KindAuth || !strings.Contains(err.Error(), "ENCRYPTED PRIVATE KEY") || !strings.Contains(sshexec.HintOf(err), "ssh-keygen -p") {
						t.Errorf("got %v (%s)", err, sshexec.HintOf(err))
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if want := 2; pass != "" && asked != want {
					t.Errorf("asked %d times, want %d", asked, want)
				}
			})
		}
	}
}

func TestPassphraseIsAskedOnceForAFleet(t *testing.T) {
	t.Parallel()
	srv := sshtest.New(t)
	key := srv.Dir() + "/sealed"
	opensshtest.Keygen(t, key, "ed25519", "pw")
	pub := opensshtest.ReadPublicKey(t, key+".pub")
	typing := 6 * time.Second
	if testing.Short() {
		typing = 3 * time.Second
	}
	var asked atomic.Int32
	p := newPool(t, sshexec.Options{DialAttempts: 1, Passphrase: func(context.Context, string) (sshexec.Secret, error) {
		asked.Add(1)
		// Longer than the connect timeout: a person types slowly.
		time.Sleep(typing)
		return "pw", nil
	}})
	srv2 := sshtest.New(t, sshtest.AuthorizedKey(pub))
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			target := aliasTarget(t, srv2, i)
			target.IdentityFiles = []string{key}
			target.ConnectTimeout = typing - time.Second
			if err := runTrue(t, p, target); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}

	t.Run("not asked when the host does not want the key", func(t *testing.T) {
		asked.Store(0)
		p := newPool(t, sshexec.Options{Passphrase: func(context.Context, string) (sshexec.Secret, error) { asked.Add(1); return "pw", nil }})
		target := srv.Target("web1")
		target.IdentityFiles = []string{key, srv.ClientKeyFile()}
		if err := runTrue(t, p, target); err != nil {
			t.Fatal(err)
		}
		if asked.Load() != 0 {
			t.Error("asked in vain")
		}
	})
	t.Run("nobody to ask", func(t *testing.T) {
		p := newPool(t, sshexec.Options{})
		target := srv2.Target("web1")
		target.IdentityFiles = []string{key}
		err := runTrue(t, p, target)
		want := fmt.Sprintf("cannot log in as centos on web1: private key %s is encrypted, and there is nobody to ask for its passphrase", key)
		if err == nil || err.Error() != want || sshexec.KindOf(err) != sshexec.KindAuth || !strings.Contains(sshexec.HintOf(err), "ssh-add") {
			t.Errorf("got %v (%s)", err, sshexec.HintOf(err))
		}
	})
}

// aliasTarget reaches srv as one of many hosts: the alias makes the connection
// its own.
func aliasTarget(t testing.TB, srv *sshtest.Server, i int) sshexec.Target {
	target := srv.Target(fmt.Sprintf("web%03d", i))
	target.HostKeyAlias = fmt.Sprintf("web%03d", i)
	target.KnownHosts = []string{aliasKnownHosts(t, srv)}
	return target
}

var aliasFiles sync.Map

func aliasKnownHosts(t testing.TB, srv *sshtest.Server) string {
	f, _ := aliasFiles.LoadOrStore(srv, sync.OnceValue(func() string {
		b, err := os.ReadFile(srv.KnownHostsFile())
		if err != nil {
			t.Error(err)
		}
		_, key, _ := strings.Cut(string(b), " ")
		name := srv.Dir() + "/known_aliases"
		if err := os.WriteFile(name, []byte("web* "+key), 0o600); err != nil {
			t.Error(err)
		}
		return name
	}))
	return f.(func() string)()
}

func TestOpenSSHAgent(t *testing.T) {
	s := opensshtest.Start(t, opensshtest.Config{Lines: []string{"MaxAuthTries 3"}})
	sock := s.Path("agent")
	startAgent(t, sock)
	add := func(files ...string) {
		cmd := exec.Command("ssh-add", append([]string{"-q"}, files...)...)
		cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+sock)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("ssh-add: %v\n%s", err, out)
		}
	}
	var authorized strings.Builder
	for _, k := range []string{"a_rsa", "a_ed25519"} {
		_, typ, _ := strings.Cut(k, "_")
		opensshtest.Keygen(t, s.Path(k), typ, "")
		b, _ := os.ReadFile(s.Path(k + ".pub"))
		authorized.Write(b)
		add(s.Path(k))
	}
	s.Write(t, "authorized_keys", authorized.String())
	p := newPool(t, sshexec.Options{})
	base := s.Target("web1")
	base.IdentityAgent = sock
	base.IdentityFiles = nil
	base.IdentitiesOnly = false
	t.Setenv("HOME", t.TempDir()) // no default keys
	for _, tc := range []struct {
		name string
		edit func(*sshexec.Target)
		kind sshexec.Kind
	}{
		{"any key of the agent", func(*sshexec.Target) {}, 0},
		{"SSH_AUTH_SOCK", func(tg *sshexec.Target) { tg.IdentityAgent = ""; t.Setenv("SSH_AUTH_SOCK", sock) }, 0},
		{"no agent", func(tg *sshexec.Target) { tg.IdentityAgent = "none" }, sshexec.KindAuth},
		{"public key file, private part in the agent", func(tg *sshexec.Target) {
			tg.IdentityFiles, tg.IdentitiesOnly = []string{s.Path("a_ed25519.pub")}, true
		}, 0},
		{"identities only", func(tg *sshexec.Target) { tg.IdentitiesOnly = true }, sshexec.KindAuth},
	} {
		t.Run(tc.name, func(t *testing.T) {
			target := base
			tc.edit(&target)
			if err := runTrue(t, p, target); sshexec.KindOf(err) != tc.kind {
				t.Errorf("got %v", err)
			}
		})
	}

	t.Run("named key first in spite of a full agent", func(t *testing.T) {
		for i := range 5 {
			k := s.Path(fmt.Sprintf("noise%d", i))
			opensshtest.Keygen(t, k, "ed25519", "")
			add(k)
		}
		s.Write(t, "authorized_keys", string(ssh.MarshalAuthorizedKey(opensshtest.ReadPublicKey(t, s.Path("client.pub")))))
		target := base
		if err := runTrue(t, newPool(t, sshexec.Options{}), target); sshexec.KindOf(err) != sshexec.KindAuth || !strings.Contains(err.Error(), "too many authentication failures") {
			t.Errorf("an agent with too many keys: %v", err)
		}
		target.IdentityFiles = []string{s.Path("client")}
		if err := runTrue(t, newPool(t, sshexec.Options{}), target); err != nil {
			t.Error(err)
		}
	})
}

func startAgent(t testing.TB, sock string) {
	t.Helper()
	cmd := exec.Command("ssh-agent", "-D", "-a", sock)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for range 500 {
		if c, err := net.Dial("unix", sock); err == nil {
			c.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("ssh-agent does not start")
}

func TestAgentIsAskedAgainAfterARestart(t *testing.T) {
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
	sock := t.TempDir() + "/agent"
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conns := make(chan net.Conn, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns <- c
			go func() { _ = agent.ServeAgent(ring, c) }()
		}
	}()
	p := newPool(t, sshexec.Options{})
	for range 2 {
		target := srv.Target("web1")
		target.IdentityFiles, target.IdentitiesOnly, target.IdentityAgent = nil, false, sock
		if err := runTrue(t, p, target); err != nil {
			t.Fatal(err)
		}
		p.Forget(target)
		(<-conns).Close()
	}
}

func TestOpenSSHUserCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	opensshtest.Keygen(t, dir+"/ca", "ed25519", "")
	s := opensshtest.Start(t, opensshtest.Config{Users: true, Lines: []string{"TrustedUserCAKeys " + dir + "/ca.pub", "AuthorizedKeysFile none"}})
	for _, typ := range []string{"ed25519", "rsa", "ecdsa"} {
		t.Run(typ, func(t *testing.T) {
			key := dir + "/" + typ
			opensshtest.Keygen(t, key, typ, "")
			p := newPool(t, sshexec.Options{})
			target := s.As(opensshtest.GuestUser)
			target.IdentityFiles = []string{key}
			if err := runTrue(t, p, target); sshexec.KindOf(err) != sshexec.KindAuth {
				t.Errorf("without a certificate: %v", err)
			}
			opensshtest.Sign(t, dir+"/ca", "me", opensshtest.GuestUser, key+".pub")
			if err := runTrue(t, newPool(t, sshexec.Options{}), target); err != nil {
				t.Errorf("certificate beside the key: %v", err)
			}
			if err := os.Rename(key+"-cert.pub", dir+"/elsewhere-"+typ); err != nil {
				t.Fatal(err)
			}
			target.CertificateFiles = []string{dir + "/elsewhere-" + typ}
			if err := runTrue(t, newPool(t, sshexec.Options{}), target); err != nil {
				t.Errorf("certificate named by CertificateFiles: %v", err)
			}
			other := target
			other.User = opensshtest.DeployUser
			if err := runTrue(t, newPool(t, sshexec.Options{}), other); sshexec.KindOf(err) != sshexec.KindAuth {
				t.Errorf("another user's name: %v", err)
			}
		})
	}
}

func TestOpenSSHPasswords(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		lines []string
		key   bool
		given sshexec.Secret
		kind  sshexec.Kind
	}{
		{"password", []string{"PasswordAuthentication yes", "KbdInteractiveAuthentication no"}, false, opensshtest.DeployPassword, 0},
		{"keyboard-interactive", []string{"PasswordAuthentication no", "KbdInteractiveAuthentication yes"}, false, opensshtest.DeployPassword, 0},
		{"key and password", []string{"AuthenticationMethods publickey,password", "PasswordAuthentication yes"}, true, opensshtest.DeployPassword, 0},
		{"key and keyboard-interactive", []string{"AuthenticationMethods publickey,keyboard-interactive", "KbdInteractiveAuthentication yes"}, true, opensshtest.DeployPassword, 0},
		{"wrong password", []string{"PasswordAuthentication yes", "KbdInteractiveAuthentication yes"}, false, "wrong", sshexec.KindAuth},
		{"no password set", []string{"PasswordAuthentication yes"}, false, "", sshexec.KindAuth},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := opensshtest.Start(t, opensshtest.Config{Users: true, Lines: tc.lines})
			p := newPool(t, sshexec.Options{})
			target := s.As(opensshtest.DeployUser)
			target.Password = tc.given
			if !tc.key {
				target.IdentityFiles = []string{s.Path("host_ed25519")} // a key, but not his
			}
			err := runTrue(t, p, target)
			if sshexec.KindOf(err) != tc.kind || (tc.kind == 0) != (err == nil) {
				t.Fatalf("got %v", err)
			}
			if tc.given == "wrong" {
				tries := func() int {
					return strings.Count(s.Log.String(), "PAM: Authentication failure") + strings.Count(s.Log.String(), "Failed password")
				}
				waitFor(t, func() bool { return tries() > 0 }, s.Log.String)
				if tries() != 1 {
					t.Errorf("a wrong password was sent %d times:\n%s", tries(), s.Log)
				}
			}
			if err != nil && tc.given != "" && strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), string(tc.given)+" ") {
				t.Errorf("the error tells the password: %#v", err)
			}
		})
	}
}

func TestUnreadableKey(t *testing.T) {
	srv := sshtest.New(t)
	p := newPool(t, sshexec.Options{})
	bad := srv.Dir() + "/bad"
	if err := os.WriteFile(bad, []byte("not a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		srv.Dir() + "/missing": "cannot read private key " + srv.Dir() + "/missing: no such file or directory",
		bad:                    "cannot read private key " + bad + ": ssh: no key found",
	} {
		target := srv.Target("web1")
		target.IdentityFiles = []string{file}
		err := runTrue(t, p, target)
		if err == nil || err.Error() != "cannot log in as centos on web1: "+want || sshexec.KindOf(err) != sshexec.KindAuth {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
