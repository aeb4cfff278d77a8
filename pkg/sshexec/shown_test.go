package sshexec_test

import (
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
	"github.com/fleetd/fleetd/pkg/view"
)

const nasty = "\x1b]0;owned\x07\x1b[2J\r\nweb2 | CHANGED | rc=0 >>\u009b31m"

// shown fails the test if a text would do more on a terminal than be read.
func shown(t *testing.T, text string) {
	t.Helper()
	if text == "" || strings.ContainsAny(text, "\x1b\x07\r\n\u009b") {
		t.Errorf("shown: %q", text)
	}
}

// TestPeersWordsAreShownAsText: wherever a peer's words get into a result or an
// error, they are one line without controls.
func TestPeersWordsAreShownAsText(t *testing.T) {
	t.Parallel()
	t.Run("signal name", func(t *testing.T) {
		h := newHostile(t, program(func(ch ssh.Channel, command string) {
			answerProgram(ch, command)
			_, _ = ch.SendRequest("exit-signal", false, ssh.Marshal(struct {
				Signal string
				Core   bool
				Error  string
				Lang   string
			}{nasty, false, "", ""}))
			ch.Close()
		}))
		res, err := newPool(t, sshexec.Options{}).Run(testContext(t), h.target, sshexec.Command{Script: "true"})
		if err != nil || res.OK() {
			t.Errorf("%+v, %v", res, err)
		}
		shown(t, res.Signal)
	})
	for name, serve := range map[string]func(net.Conn, *ssh.ServerConfig){
		"channel refused": func(c net.Conn, conf *ssh.ServerConfig) {
			conf.NoClientAuth = true
			_, chans, reqs, err := ssh.NewServerConn(c, conf)
			if err != nil {
				return
			}
			go ssh.DiscardRequests(reqs)
			for nc := range chans {
				_ = nc.Reject(ssh.ConnectionFailed, nasty)
			}
		},
		"question": func(c net.Conn, conf *ssh.ServerConfig) {
			conf.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
				_, err := ask(nasty, nasty, []string{"Password: ", nasty}, []bool{false, true})
				return nil, err
			}
			_, _, _, _ = ssh.NewServerConn(c, conf)
		},
		"version": func(c net.Conn, _ *ssh.ServerConfig) {
			_, _ = c.Write([]byte("SSH-1.5-" + nasty + "\r\n"))
		},
		"program's last words": program(func(ch ssh.Channel, _ string) {
			_, _ = ch.Write([]byte(nasty))
			_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{1}))
			ch.Close()
		}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := newHostile(t, serve).target
			target.Password = "pw"
			err := runTrue(t, newPool(t, sshexec.Options{DialAttempts: 1}), target)
			if err == nil {
				t.Fatal("no error")
			}
			shown(t, err.Error())
			shown(t, strings.ReplaceAll(view.FormatErrors([]error{err}), "\n  ", " "))
			// Behind a jump host, too.
			node := sshtest.New(t).Target("node")
			node.ProxyJump = []sshexec.Target{target}
			err = runTrue(t, newPool(t, sshexec.Options{DialAttempts: 1}), node)
			if err == nil {
				if name == "program's last words" {
					return // a jump host runs none
				}
				t.Fatal("no error")
			}
			shown(t, err.Error())
		})
	}
}

// TestKeyThatOthersCanRead: ssh does not use it.
func TestKeyThatOthersCanRead(t *testing.T) {
	srv := sshtest.New(t)
	target := srv.Target("web1")
	p := newPool(t, sshexec.Options{})
	for _, mode := range []os.FileMode{0o666, 0o640, 0o604, 0o600} {
		if err := os.Chmod(srv.ClientKeyFile(), mode); err != nil {
			t.Fatal(err)
		}
		err := runTrue(t, p, target)
		refused := sshexec.KindOf(err) == sshexec.KindAuth && strings.Contains(err.Error(), "others can read or change it") && strings.Contains(sshexec.HintOf(err), "chmod 600 ")
		if (mode == 0o600) != (err == nil) || err != nil && !refused {
			t.Errorf("%o: %v", mode, err)
		}
	}
}
