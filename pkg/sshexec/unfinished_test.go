package sshexec_test

import (
	"net"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/opensshtest"
)

func TestOpenSSHOutputOfWhatIsLeftBehind(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{})
	p := newPool(t, sshexec.Options{})
	res, err := p.Run(testContext(t), s.Target("web1"), sshexec.Command{Script: "echo first; (sleep 100; echo last) &"})
	if err != nil || string(res.Stdout) != "first\n" || !res.Unfinished {
		t.Errorf("%+v, %v", res, err)
	}
	if res, err = p.Run(testContext(t), s.Target("web1"), sshexec.Command{Script: "echo first; (sleep 1; echo last) &"}); err != nil || string(res.Stdout) != "first\nlast\n" || res.Unfinished {
		t.Errorf("%+v, %v", res, err)
	}
}

// TestOutputBehindASlowLine: the exit status came, the rest of the output is still
// on its way.
func TestOutputBehindASlowLine(t *testing.T) {
	t.Parallel()
	h := newHostile(t, func(c net.Conn, conf *ssh.ServerConfig) {
		conf.NoClientAuth = true
		_, chans, reqs, err := ssh.NewServerConn(c, conf)
		if err != nil {
			return
		}
		nc := <-chans
		go func() {
			for range chans {
			}
		}()
		ch, execs, err := nc.Accept()
		if err != nil {
			return
		}
		r := <-execs
		go ssh.DiscardRequests(execs)
		var m struct{ Text string }
		_ = ssh.Unmarshal(r.Payload, &m)
		_ = r.Reply(true, nil)
		answerProgram(ch, m.Text)
		_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{0}))
		for n := 1; n <= 2; n++ { // the line is slow after the first answer, too
			r, ok := <-reqs
			if !ok {
				return
			}
			if n == 2 {
				time.Sleep(3 * time.Second)
				_, _ = ch.Write([]byte("late"))
			}
			_ = r.Reply(false, nil)
		}
		ch.Close()
		for range reqs {
		}
	})
	res, err := newPool(t, sshexec.Options{}).Run(testContext(t), h.target, sshexec.Command{Script: "true"})
	if err != nil || string(res.Stdout) != "late" || res.Unfinished {
		t.Errorf("%+v, %v", res, err)
	}
}
