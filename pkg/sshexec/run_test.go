package sshexec_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

func newPool(t testing.TB, o sshexec.Options) *sshexec.Pool {
	t.Helper()
	p := sshexec.NewPool(o)
	t.Cleanup(func() { p.Close() })
	return p
}

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestRunThroughARealShell(t *testing.T) {
	srv := sshtest.New(t, sshtest.Sudo(sshtest.SudoPolicy{Password: "s3cret"}))
	p := newPool(t, sshexec.Options{})
	for _, tc := range []struct {
		name   string
		cmd    sshexec.Command
		out    string
		errOut string
		exit   int
	}{
		{"argv", sshexec.Command{Argv: []string{"printf", "%s|", "a b", "c'd", "$HOME", "é\n"}}, "a b|c'd|$HOME|é\n|", "", 0},
		{"script", sshexec.Command{Script: "echo out; echo err >&2; exit 3"}, "out\n", "err\n", 3},
		{"stdin", sshexec.Command{Script: "cat; echo end", Stdin: strings.NewReader("in\n")}, "in\nend\n", "", 0},
		{"env", sshexec.Command{Script: `printf %s "$X"`, Env: map[string]string{"X": "it's\n\\n"}}, "it's\n\\n", "", 0},
		{"become", sshexec.Command{Script: "read x; echo got $x", Stdin: strings.NewReader("input\n"), Become: true}, "got input\n", "", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res, err := p.Run(testContext(t), srv.Target("web1"), tc.cmd)
			if err != nil {
				t.Fatal(err)
			}
			if string(res.Stdout) != tc.out || string(res.Stderr) != tc.errOut || res.ExitStatus != tc.exit {
				t.Errorf("stdout %q, stderr %q, exit %d; want %q, %q, %d", res.Stdout, res.Stderr, res.ExitStatus, tc.out, tc.errOut, tc.exit)
			}
		})
	}
	if n := srv.Dials(); n != 1 {
		t.Errorf("%d connections were made, want 1 for all", n)
	}
}

func TestSudo(t *testing.T) {
	for _, tc := range []struct {
		name   string
		policy sshtest.SudoPolicy
		given  sshexec.Secret
		method string
		want   string
	}{
		{"wrong password", sshtest.SudoPolicy{Password: "right"}, "wrong", "sudo", "cannot become root on web1: sudo: wrong password"},
		{"no password given", sshtest.SudoPolicy{Password: "right"}, "", "sudo", "cannot become root on web1: sudo needs a password"},
		{"refused", sshtest.SudoPolicy{Password: "right", Refuse: "centos is not in the sudoers file."}, "right", "sudo", "cannot become root on web1: sudo refuses: centos is not in the sudoers file."},
		{"su wrong password", sshtest.SudoPolicy{Password: "right"}, "wrong", "su", "cannot become root on web1: su: wrong password"},
		{"su no password given", sshtest.SudoPolicy{Password: "right"}, "", "su", "cannot become root on web1: su asks for a password, and none is set"},
		{"su", sshtest.SudoPolicy{Password: "right"}, "right", "su", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := sshtest.New(t, sshtest.Sudo(tc.policy))
			p := newPool(t, sshexec.Options{})
			target := srv.Target("web1")
			target.Become.Password = tc.given
			target.Become.Method = tc.method
			_, err := p.Run(testContext(t), target, sshexec.Command{Argv: []string{"true"}, Become: true})
			// A wrong password is sent once: each failure may count towards a lock.
			if n := srv.PasswordTries(); tc.given != "" && n != 1 {
				t.Errorf("the password was sent %d times", n)
			}
			again, _ := p.Run(testContext(t), target, sshexec.Command{Argv: []string{"true"}, Become: true})
			if n := srv.PasswordTries(); tc.given == "wrong" && n != 1 || tc.given == "right" && n != 2 {
				t.Errorf("the password was sent %d times by two commands: %+v", n, again)
			}
			if tc.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || err.Error() != tc.want || sshexec.KindOf(err) != sshexec.KindBecome {
				t.Fatalf("got %v (%v), want %v", err, sshexec.KindOf(err), tc.want)
			}
		})
	}
}

func TestUpload(t *testing.T) {
	srv := sshtest.New(t)
	p := newPool(t, sshexec.Options{})
	const text = "object\n"
	err := p.Upload(testContext(t), srv.Target("web1"), sshexec.Upload{
		Path: "/usr/local/lib/fleetd/bpf/x.o", Content: strings.NewReader(text), Size: int64(len(text)), SHA256: digestOf([]byte(text)),
		Mode: 0o640, Owner: "root", Group: "wheel", MkdirMode: 0o755, Become: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := srv.ReadFile("/usr/local/lib/fleetd/bpf/x.o")
	if string(got) != text || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	if o := srv.Owner("/usr/local/lib/fleetd/bpf/x.o"); o != "root:wheel" {
		t.Errorf("owner %q", o)
	}
}
