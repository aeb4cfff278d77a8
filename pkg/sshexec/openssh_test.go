package sshexec_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/opensshtest"
)

func TestOpenSSHAsOneself(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{Smoke: true})
	p := newPool(t, sshexec.Options{})
	res, err := p.Run(testContext(t), s.Target("web1"), sshexec.Command{Script: "cat; echo $((6*7)); exit 4", Stdin: strings.NewReader("in\n")})
	if err != nil || string(res.Stdout) != "in\n42\n" || res.ExitStatus != 4 {
		t.Errorf("%+v, %v", res, err)
	}
	file := t.TempDir() + "/f"
	if err := p.Upload(testContext(t), s.Target("web1"), upload(file, "text")); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "text" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestOpenSSHRun(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{Users: true})
	p := newPool(t, sshexec.Options{})
	for _, tc := range []struct {
		name   string
		user   string
		become sshexec.Become
		cmd    sshexec.Command
		out    string
		errOut string
		exit   int
	}{
		{"argv", "root", sshexec.Become{}, sshexec.Command{Argv: []string{"printf", "%s|", "a b", "c'd", "$HOME", "é\n"}}, "a b|c'd|$HOME|é\n|", "", 0},
		{"script", "root", sshexec.Become{}, sshexec.Command{Script: "echo out; echo err >&2; exit 3"}, "out\n", "err\n", 3},
		{"stdin", opensshtest.DeployUser, sshexec.Become{}, sshexec.Command{Script: "cat; id -un", Stdin: strings.NewReader("in\n")}, "in\n" + opensshtest.DeployUser + "\n", "", 0},
		{"signal", "root", sshexec.Become{}, sshexec.Command{Script: "kill -KILL $$"}, "", "", 137},
		{"sudo with a password", opensshtest.DeployUser, sshexec.Become{Password: opensshtest.DeployPassword}, sshexec.Command{Script: `id -un; cat; printf %s "$X"`, Stdin: strings.NewReader("in\n"), Become: true, Env: map[string]string{"X": "kept"}}, "root\nin\nkept", "", 0},
		{"sudo without a password", opensshtest.OpsUser, sshexec.Become{}, sshexec.Command{Script: "id -un; exit 7", Become: true}, "root\n", "", 7},
		{"sudo that does not ask", opensshtest.OpsUser, sshexec.Become{Password: "not needed"}, sshexec.Command{Script: "id -un; cat", Stdin: strings.NewReader("in\n"), Become: true}, "root\nin\n", "", 0},
		{"Ansible's own flags", opensshtest.DeployUser, sshexec.Become{Password: opensshtest.DeployPassword, Flags: []string{"-H", "-S", "-n"}}, sshexec.Command{Script: "id -un", Become: true}, "root\n", "", 0},
		{"flags in one word", opensshtest.DeployUser, sshexec.Become{Password: opensshtest.DeployPassword, Flags: []string{"-HSn", "-g", "nogroup"}}, sshexec.Command{Script: "id -un; id -gn", Become: true}, "root\nnogroup\n", "", 0},
		{"sudo -i", opensshtest.DeployUser, sshexec.Become{Password: opensshtest.DeployPassword, Flags: []string{"-i"}, User: opensshtest.GuestUser}, sshexec.Command{Script: "pwd; cat; printf %s \"$X\"", Stdin: strings.NewReader("in\n"), Become: true, Env: map[string]string{"X": "$HOME `id`\n\\"}}, s.Path("home-"+opensshtest.GuestUser) + "\nin\n$HOME `id`\n\\", "", 0},
		{"sudo -s", opensshtest.OpsUser, sshexec.Become{Flags: []string{"-Hs"}}, sshexec.Command{Argv: []string{"printf", "%s|", "a b", "$HOME"}, Become: true}, "a b|$HOME|", "", 0},
		{"sudo su -", opensshtest.OpsUser, sshexec.Become{Method: "su", Exe: "sudo su -"}, sshexec.Command{Script: "id -un; cat", Stdin: strings.NewReader("in\n"), Become: true}, "root\nin\n", "", 0},
		{"sudo to another user", opensshtest.OpsUser, sshexec.Become{User: opensshtest.GuestUser}, sshexec.Command{Argv: []string{"id", "-un"}, Become: true}, opensshtest.GuestUser + "\n", "", 0},
		{"nobody to become", "root", sshexec.Become{Exe: "/nonexistent/sudo"}, sshexec.Command{Argv: []string{"id", "-un"}, Become: true}, "root\n", "", 0},
		{"another method for one command", opensshtest.GuestUser, sshexec.Become{Exe: "nothing-like-sudo", Password: opensshtest.DeployPassword}, sshexec.Command{Script: "id -un", Become: true, BecomeAs: sshexec.BecomeAs{Method: "su"}}, "root\n", "", 0},
		{"another user and options for one command", opensshtest.OpsUser, sshexec.Become{}, sshexec.Command{Script: "id -un; echo $HOME", Become: true, BecomeAs: sshexec.BecomeAs{User: "nobody", Flags: "-H -n"}}, "nobody\n/nonexistent\n", "", 0},
		{"su", opensshtest.GuestUser, sshexec.Become{Method: "su", Password: opensshtest.DeployPassword}, sshexec.Command{Script: "id -un; cat", Stdin: strings.NewReader("in\n"), Become: true}, "root\nin\n", "", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			target := s.As(tc.user)
			target.Become = tc.become
			res, err := p.Run(testContext(t), target, tc.cmd)
			if err != nil {
				t.Fatal(err)
			}
			if string(res.Stdout) != tc.out || string(res.Stderr) != tc.errOut || res.ExitStatus != tc.exit {
				t.Errorf("stdout %q, stderr %q, exit %d; want %q, %q, %d", res.Stdout, res.Stderr, res.ExitStatus, tc.out, tc.errOut, tc.exit)
			}
		})
	}
}

func TestOpenSSHBecomeFailures(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{Users: true})
	p := newPool(t, sshexec.Options{})
	for _, tc := range []struct {
		name   string
		user   string
		become sshexec.Become
		want   string
	}{
		{"wrong password", opensshtest.DeployUser, sshexec.Become{Password: "wrong"}, "sudo: wrong password"},
		{"no password", opensshtest.DeployUser, sshexec.Become{}, "sudo needs a password"},
		{"not allowed", opensshtest.GuestUser, sshexec.Become{Password: opensshtest.DeployPassword}, "sudo refuses: " + opensshtest.GuestUser + " is not in the sudoers file."},
		{"su wrong password", opensshtest.GuestUser, sshexec.Become{Method: "su", Password: "wrong"}, "su: wrong password"},
		{"su no password", opensshtest.GuestUser, sshexec.Become{Method: "su"}, "su asks for a password, and none is set"},
		{"no such program", opensshtest.GuestUser, sshexec.Become{Exe: "/nonexistent/sudo"}, "sudo is not installed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel() // sudo and su wait for seconds after a wrong password
			target := s.As(tc.user)
			target.Become = tc.become
			_, err := p.Run(testContext(t), target, sshexec.Command{Argv: []string{"true"}, Become: true})
			if want := "cannot become root on web1: " + tc.want; err == nil || err.Error() != want || sshexec.KindOf(err) != sshexec.KindBecome {
				t.Fatalf("got %v (%v), want %v", err, sshexec.KindOf(err), want)
			}
		})
	}
	t.Run("odd login shell", func(t *testing.T) {
		_, err := p.Run(testContext(t), s.As(opensshtest.OddUser), sshexec.Command{Argv: []string{"true"}})
		const want = "cannot run true on web1: the login shell ended with status 1 before the command started: This account is currently not available."
		if err == nil || err.Error() != want {
			t.Fatalf("got %v, want %v", err, want)
		}
	})
}

// TestOpenSSHLoginScriptIsNotGivenThePassword: what a login prints may read like a
// prompt, and may read what is sent.
func TestOpenSSHLoginScriptIsNotGivenThePassword(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{Users: true})
	stolen := s.Write(t, "stolen", "")
	if err := os.Chmod(stolen, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"su", "sudo"} {
		for _, says := range []string{"Loading modules:", "Password: ", "[sudo] password for x: "} {
			shell := fmt.Sprintf("#!/bin/sh\nprintf '%s' >&2\ntimeout 1 head -n 1 >>%s\nexec /bin/sh \"$@\"\n", says, stolen)
			if err := os.WriteFile(s.Path("oddshell"), []byte(shell), 0o755); err != nil {
				t.Fatal(err)
			}
			p := newPool(t, sshexec.Options{})
			target := s.As(opensshtest.OddUser)
			target.Become = sshexec.Become{Method: method, Password: opensshtest.DeployPassword}
			res, err := p.Run(testContext(t), target, sshexec.Command{Argv: []string{"id", "-un"}, Become: true})
			if method == "su" && (err != nil || string(res.Stdout) != "root\n") {
				t.Errorf("%s, %q: %+v, %v", method, says, res, err)
			}
			// The user may not sudo; she is asked all the same.
			if method == "sudo" && (err == nil || !strings.Contains(err.Error(), "is not in the sudoers file")) {
				t.Errorf("%s, %q: %v", method, says, err)
			}
			if b, err := os.ReadFile(stolen); err != nil || len(b) > 0 {
				t.Fatalf("%s, %q: the login script was sent %q, %v", method, says, b, err)
			}
		}
	}
}

// TestOpenSSHPasswordThatNobodyAskedFor: the program that stands for su takes no
// password; the shell that reads one in its place shows and runs none of it.
func TestOpenSSHPasswordThatNobodyAskedFor(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{})
	su := s.Write(t, "su", "#!/bin/sh\nprintf 'Password: ' >&2\nsleep 1\nexec /bin/sh -c \"$4\"\n")
	if err := os.Chmod(su, 0o755); err != nil {
		t.Fatal(err)
	}
	p := newPool(t, sshexec.Options{})
	target := s.Target("web1")
	target.Become = sshexec.Become{Method: "su", User: "nobody", Exe: su, Password: "echo s3cr3t"}
	res, err := p.Run(testContext(t), target, sshexec.Command{Argv: []string{"true"}, Become: true})
	if text := fmt.Sprintf("%s%s%v", res.Stdout, res.Stderr, err); strings.Contains(text, "s3cr3t") || res.ExitStatus != 125 && sshexec.KindOf(err) != sshexec.KindBecome {
		t.Errorf("%s, %+v", text, res)
	}
}

// TestOpenSSHQuestionThatNobodyAnswers: pam_sss asks in its own words, whatever -p
// says, and no timeout is set.
func TestOpenSSHQuestionThatNobodyAnswers(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{})
	for _, tc := range []struct{ program, want string }{
		{"printf 'First Factor: \\033[2J' >&2; head -n 1 >&2; sleep 1", `sudo asks "First Factor:", which is not the question for the password`},
		{"read x", "sudo did not come to an end within 2s"},
	} {
		sudo := s.Write(t, "sudo", "#!/bin/sh\n"+tc.program+"\n")
		if err := os.Chmod(sudo, 0o755); err != nil {
			t.Fatal(err)
		}
		var o sshexec.Options
		sshexec.BecomeWithin(&o, 2*time.Second)
		target := s.Target("web1")
		target.Become = sshexec.Become{User: "nobody", Exe: sudo, Password: "s3cr3t"}
		_, err := newPool(t, o).Run(testContext(t), target, sshexec.Command{Argv: []string{"true"}, Become: true})
		if err == nil || sshexec.KindOf(err) != sshexec.KindBecome || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", tc.program, err)
		}
	}
}

func TestOpenSSHKillsTheProcessGroup(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{Users: true})
	p := newPool(t, sshexec.Options{})
	for i, tc := range []struct {
		name   string
		user   string
		become sshexec.Become
		cmd    sshexec.Command
	}{
		{"plain", "root", sshexec.Become{}, sshexec.Command{}},
		{"sudo", opensshtest.DeployUser, sshexec.Become{Password: opensshtest.DeployPassword}, sshexec.Command{Become: true}},
		{"su", opensshtest.GuestUser, sshexec.Become{Method: "su", Password: opensshtest.DeployPassword}, sshexec.Command{Become: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			target := s.As(tc.user)
			target.Become = tc.become
			cmd := tc.cmd
			// A child of a child, which the death of the shell alone would not
			// end. Its argument is nobody else's on this machine.
			nap := fmt.Sprintf("987.%d%d", os.Getpid(), i)
			cmd.Script = "echo started; sh -c 'sleep " + nap + " & sleep " + nap + "'; echo survived"
			cmd.Timeout = 2 * time.Second
			res, err := p.Run(testContext(t), target, cmd)
			if sshexec.KindOf(err) != sshexec.KindTimeout || string(res.Stdout) != "started\n" {
				t.Fatalf("%v, %q", err, res.Stdout)
			}
			left, err := p.Run(testContext(t), s.As("root"), sshexec.Command{Script: "grep -lazZ '^sleep." + nap + "' /proc/[0-9]*/cmdline | tr '\\0' ' '"})
			if err != nil || len(left.Stdout) > 0 {
				t.Fatalf("still there: %s %v", left.Stdout, err)
			}
		})
	}
}
