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
