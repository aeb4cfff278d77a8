package sshexec_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/opensshtest"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
	"github.com/fleetd/fleetd/pkg/view"
)

// TestOpenSSHSecretsStayHidden looks at the node, where every user may read the
// command line of every process: neither script nor environment nor password
// is there. What is an argument of a program is.
func TestOpenSSHSecretsStayHidden(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{Users: true})
	p := newPool(t, sshexec.Options{})
	const secret = "tr0ub4dor"
	look := "x=" + secret + "; cat /proc/[0-9]*/cmdline | tr '\\0' ' '"
	for _, tc := range []struct {
		name   string
		become sshexec.Become
		on     bool
	}{
		{"plain", sshexec.Become{}, false},
		{"sudo", sshexec.Become{Password: opensshtest.DeployPassword}, true},
		{"su", sshexec.Become{Method: "su", Password: opensshtest.DeployPassword}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			target := s.As(opensshtest.DeployUser)
			target.Become = tc.become
			res, err := p.Run(testContext(t), target, sshexec.Command{Script: look, Env: map[string]string{"TOKEN": secret}, Become: tc.on})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(res.Stdout), "fl_p") {
				t.Errorf("the processes of the command are not among those seen")
			}
			for _, s := range []string{secret, opensshtest.DeployPassword} {
				if strings.Contains(string(res.Stdout), s) {
					t.Errorf("%q is in a command line", s)
				}
			}
			// Not in Stdout: that lists the processes of the whole machine.
			if strings.Contains(string(res.Stderr), "assword:") && tc.name != "sudo" {
				t.Errorf("the prompt is in the output: %q", res.Stderr)
			}
		})
	}
}

// TestErrorsHoldNoSecret makes every failure that has a password near it.
func TestErrorsHoldNoSecret(t *testing.T) {
	const secret = "tr0ub4dor"
	srv := sshtest.New(t, sshtest.Sudo(sshtest.SudoPolicy{Password: "other"}), sshtest.PasswordAndKey("other"))
	p := newPool(t, sshexec.Options{})
	wrongLogin := srv.Target("web1")
	wrongLogin.Password = secret
	wrongBecome := srv.Target("web1")
	wrongBecome.Password = "other"
	wrongBecome.Become.Password = secret
	lost := wrongBecome
	lost.Port = 1
	for i, target := range []sshexec.Target{wrongLogin, wrongBecome, lost} {
		_, err := p.Run(testContext(t), target, sshexec.Command{Script: "echo " + secret, Env: map[string]string{"X": secret}, Become: true})
		if err == nil {
			t.Fatalf("case %d succeeds", i)
		}
		text := fmt.Sprintf("%v %+v %#v %s %q", err, err, err, sshexec.HintOf(err), view.FormatErrors([]error{err}))
		if strings.Contains(text, secret) {
			t.Errorf("case %d: %s", i, text)
		}
	}
}

func TestIPv6(t *testing.T) {
	srv, err := sshtest.Start(t.TempDir(), sshtest.Listen("[::1]:0"))
	if err != nil {
		t.Skipf("no IPv6 loopback here: %v", err)
	}
	t.Cleanup(srv.Close)
	target := srv.Target("web1")
	if target.Address != "::1" {
		t.Fatalf("address %q", target.Address)
	}
	if err := runTrue(t, newPool(t, sshexec.Options{}), target); err != nil {
		t.Error(err)
	}
	target.AddressFamily = "inet"
	if err := runTrue(t, newPool(t, sshexec.Options{DialAttempts: 1}), target); sshexec.KindOf(err) != sshexec.KindUnreachable {
		t.Errorf("over IPv4: %v", err)
	}
}

func TestNameThatDoesNotResolve(t *testing.T) {
	target := sshexec.Target{Name: "web1", Address: "web1.invalid"}
	err := runTrue(t, newPool(t, sshexec.Options{DialAttempts: 1}), target)
	if sshexec.KindOf(err) != sshexec.KindUnreachable || !strings.HasPrefix(err.Error(), "cannot connect to web1: ") || !strings.Contains(sshexec.HintOf(err), "ansible_host") {
		t.Errorf("got %v (%s)", err, sshexec.HintOf(err))
	}
}
