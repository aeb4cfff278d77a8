package sshexec_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/opensshtest"
)

// TestPasswordIsSentOnce: whatever a peer does once it has a password, it does not
// get it again: three failures may lock the account (pam_faillock deny=3).
func TestPasswordIsSentOnce(t *testing.T) {
	t.Parallel()
	for _, then := range []string{"hangs up", "is slow", "refuses"} {
		for _, method := range []string{"password", "keyboard-interactive"} {
			t.Run(method+" "+then, func(t *testing.T) {
				t.Parallel()
				var got atomic.Int32
				h := newHostile(t, func(c net.Conn, conf *ssh.ServerConfig) {
					react := func() (*ssh.Permissions, error) {
						got.Add(1)
						switch then {
						case "hangs up":
							c.Close()
						case "is slow":
							time.Sleep(2 * time.Second)
						}
						return nil, errNo
					}
					if method == "password" {
						conf.PasswordCallback = func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) { return react() }
					} else {
						conf.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
							if _, err := ask("", "", []string{"Password: "}, []bool{false}); err != nil {
								return nil, err
							}
							return react()
						}
					}
					_, _, _, _ = ssh.NewServerConn(c, conf)
				})
				target := h.target
				target.Password, target.ConnectTimeout = "pw", 500*time.Millisecond
				if err := runTrue(t, newPool(t, sshexec.Options{}), target); err == nil {
					t.Error("it was let in")
				}
				if n := got.Load(); n != 1 {
					t.Errorf("the password was sent %d times", n)
				}
			})
		}
	}
}

// faillocked starts an sshd whose service locks DeployUser's account after three
// failures, and returns how many are counted.
func faillocked(t *testing.T, service string) (s *opensshtest.Server, failures func() int) {
	t.Helper()
	faillock, err := exec.LookPath("faillock")
	if err != nil {
		t.Skip("pam_faillock is not installed (apt-get install libpam-modules-bin)")
	}
	tally := t.TempDir()
	const rest = "account required pam_unix.so\nsession required pam_permit.so\n"
	pam := map[string]string{"sshd": "auth required pam_unix.so\n" + rest, "sudo": "auth required pam_unix.so\n" + rest}
	pam[service] = "auth required pam_faillock.so preauth silent deny=3 dir=" + tally + "\nauth sufficient pam_unix.so\n" +
		"auth [default=die] pam_faillock.so authfail deny=3 dir=" + tally + "\n" + rest
	s = opensshtest.Start(t, opensshtest.Config{Users: true, PAM: pam})
	ours, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", s.PID))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // a sudo that was left at its question counts, too, and then writes
		waitFor(t, func() bool {
			all, _ := filepath.Glob("/proc/[0-9]*/comm")
			return !slices.ContainsFunc(all, func(f string) bool {
				name, _ := os.ReadFile(f)
				ns, _ := os.Readlink(filepath.Dir(f) + "/ns/mnt")
				return string(name) == "sudo\n" && ns == ours
			})
		}, func() string { return "sudo runs on" })
	})
	return s, func() int {
		out, err := exec.Command(faillock, "--dir", tally, "--user", opensshtest.DeployUser).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.Count(string(out), "V\n")
	}
}

// tryPasswords logs in as DeployUser, and becomes root.
func tryPasswords(t *testing.T, p *sshexec.Pool, s *opensshtest.Server, login, sudo sshexec.Secret) error {
	target := s.As(opensshtest.DeployUser)
	target.Authentications, target.Password, target.Become.Password = []string{"keyboard-interactive", "password"}, login, sudo
	_, err := p.Run(testContext(t), target, sshexec.Command{Argv: []string{"true"}, Become: true})
	return err
}

// TestOpenSSHFaillock: a login with a wrong password counts once.
func TestOpenSSHFaillock(t *testing.T) {
	t.Parallel()
	s, failures := faillocked(t, "sshd")
	p := newPool(t, sshexec.Options{})
	const right = opensshtest.DeployPassword
	for n := 1; n <= 3; n++ {
		if err := tryPasswords(t, p, s, "wrong", right); sshexec.KindOf(err) != sshexec.KindAuth || failures() != n {
			t.Fatalf("%d failures are counted after %d tries: %v", failures(), n, err)
		}
		if n > 1 {
			continue
		}
		if err := tryPasswords(t, p, s, right, right); err != nil {
			t.Fatalf("one try locks the account: %v", err)
		}
	}
	p.Forget(s.As(opensshtest.DeployUser))
	if err := tryPasswords(t, p, s, right, right); sshexec.KindOf(err) != sshexec.KindAuth {
		t.Errorf("three failures lock the account, or the test shows nothing: %v", err)
	}
}

// TestOpenSSHBecomePasswordIsSentOnce: sudo counts a wrong password twice, asking again
// and taking the end of its input for another failure. However often a run becomes
// another user, and however often at once, it sends it once.
func TestOpenSSHBecomePasswordIsSentOnce(t *testing.T) {
	t.Parallel()
	s, failures := faillocked(t, "sudo")
	p := newPool(t, sshexec.Options{})
	const right = opensshtest.DeployPassword
	try := func() error {
		err := tryPasswords(t, p, s, right, "wrong")
		if sshexec.KindOf(err) != sshexec.KindBecome || !strings.Contains(err.Error(), "cannot become root on web1: sudo: wrong password") {
			t.Error(err)
		}
		return err
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { _ = try() })
	}
	wg.Wait()
	// A connection that comes after it is of the same run.
	p.Forget(s.As(opensshtest.DeployUser))
	if err := try(); err == nil || !strings.Contains(err.Error(), "not sent again") {
		t.Error(err)
	}
	waitFor(t, func() bool { return failures() >= 2 }, func() string { return fmt.Sprintf("%d failures are counted", failures()) })
	if n := failures(); n != 2 {
		t.Errorf("%d failures are counted, want sudo's two for one wrong password", n)
	}
	for range 4 { // another password is not the one that was refused
		wg.Go(func() {
			if err := tryPasswords(t, p, s, right, right); err != nil {
				t.Errorf("the account is locked: %v", err)
			}
		})
	}
	wg.Wait()
	if err := tryPasswords(t, newPool(t, sshexec.Options{}), s, right, "wrong"); sshexec.KindOf(err) != sshexec.KindBecome {
		t.Error(err)
	}
	if err := tryPasswords(t, newPool(t, sshexec.Options{}), s, right, right); sshexec.KindOf(err) != sshexec.KindBecome {
		t.Errorf("three failures lock the account, or the test shows nothing: %v", err)
	}
}

// TestUserWithoutAName: ssh says "No user exists for uid", and does not log in as
// somebody else.
func TestUserWithoutAName(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: it becomes a user that does not exist")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	opensshtest.CopyFile(t, self, dir+"/test")
	if err := os.Chmod(dir+"/test", 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(dir + "/test")
	cmd.Dir = "/"
	cmd.Env = []string{"FLEETD_TEST_NAMELESS=1", "USER=root", "HOME=/", "PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 48599, Gid: 48599}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "cannot connect to web1: no user name is set, and the local user 48599 has none") {
		t.Errorf("%v: %s", err, out)
	}
}

func connectNameless() int {
	p := sshexec.NewPool(sshexec.Options{DialAttempts: 1})
	defer p.Close()
	err := p.Connect(context.Background(), sshexec.Target{Name: "web1", Address: "127.0.0.1", Port: 9})
	fmt.Println(err)
	return 0
}
