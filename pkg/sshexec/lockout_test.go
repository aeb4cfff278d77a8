package sshexec_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// TestOpenSSHFaillock: a wrong password does not lock the account in one run. For the
// login it counts once. For sudo it counts twice: sudo asks again, and takes the end of
// its input for another failure.
func TestOpenSSHFaillock(t *testing.T) {
	t.Parallel()
	faillock, err := exec.LookPath("faillock")
	if err != nil {
		t.Skip("pam_faillock is not installed (apt-get install libpam-modules-bin)")
	}
	for _, wrong := range []string{"login", "sudo"} {
		t.Run(wrong, func(t *testing.T) {
			t.Parallel()
			tally := t.TempDir()
			auth := "auth required pam_faillock.so preauth silent deny=3 dir=" + tally + "\nauth sufficient pam_unix.so\n" +
				"auth [default=die] pam_faillock.so authfail deny=3 dir=" + tally + "\n"
			rest := "account required pam_unix.so\nsession required pam_permit.so\n"
			pam := map[string]string{"sshd": auth + rest, "sudo": "auth required pam_unix.so\n" + rest}
			if wrong == "sudo" {
				pam["sshd"], pam["sudo"] = pam["sudo"], pam["sshd"]
			}
			s := opensshtest.Start(t, opensshtest.Config{Users: true, PAM: pam})
			failures := func() int {
				out, err := exec.Command(faillock, "--dir", tally, "--user", opensshtest.DeployUser).CombinedOutput()
				if err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				return strings.Count(string(out), "V\n")
			}
			p := newPool(t, sshexec.Options{})
			try := func(login, sudo sshexec.Secret) error {
				target := s.As(opensshtest.DeployUser)
				target.Authentications, target.Password, target.Become.Password = []string{"keyboard-interactive", "password"}, login, sudo
				_, err := p.Run(testContext(t), target, sshexec.Command{Argv: []string{"true"}, Become: true})
				return err
			}
			const right = opensshtest.DeployPassword
			given := map[string][2]sshexec.Secret{"login": {"wrong", right}, "sudo": {right, "wrong"}}[wrong]
			kind := map[string]sshexec.Kind{"login": sshexec.KindAuth, "sudo": sshexec.KindBecome}[wrong]
			for n := 1; n <= 3; n++ {
				if err := try(given[0], given[1]); sshexec.KindOf(err) != kind {
					t.Fatalf("try %d: %v", n, err)
				}
				if got := failures(); wrong == "login" && got != n {
					t.Fatalf("%d failures are counted after %d tries", got, n)
				}
				if n > 1 {
					continue
				}
				if err := try(right, right); err != nil {
					t.Fatalf("one try locks the account: %v", err)
				}
			}
			p.Forget(s.As(opensshtest.DeployUser))
			if err := try(right, right); sshexec.KindOf(err) != kind {
				t.Errorf("three failures lock the account, or the test shows nothing: %v", err)
			}
		})
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
