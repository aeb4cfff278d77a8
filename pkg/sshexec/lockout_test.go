package sshexec_test

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fleetd/fleetd/pkg/sshexec"
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
