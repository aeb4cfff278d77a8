package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

// TestExecScript runs fleetd exec on three SSH servers: two whose kernel is new
// and one whose kernel is old.
func TestExecScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/exec",
		RequireExplicitExec: true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("XDG_STATE_HOME", e.WorkDir+"/state")
			var known strings.Builder
			var hanging atomic.Int32
			for i, kernel := range []string{"6.1.4-1.el7.elrepo.x86_64", "6.1.4-1.el7.elrepo.x86_64", "3.10.0-1160.el7.x86_64"} {
				srv, err := sshtest.Start(fmt.Sprintf("%s/node%d", e.WorkDir, i+1), sshtest.Sudo(sshtest.SudoPolicy{Password: "s3cret"}), sshtest.Handler(answers(e.WorkDir, kernel, &hanging)))
				if err != nil {
					return err
				}
				e.Defer(srv.Close)
				target := srv.Target("")
				e.Setenv(fmt.Sprintf("PORT%d", i+1), strconv.Itoa(target.Port))
				e.Setenv(fmt.Sprintf("KEY%d", i+1), target.IdentityFiles[0])
				b, err := os.ReadFile(srv.KnownHostsFile())
				if err != nil {
					return err
				}
				known.Write(b)
				_, key, _ := strings.Cut(string(b), " ")
				fmt.Fprintf(&known, "many%d-* %s", i+1, key) // for many hosts that are one server
			}
			if err := os.Mkdir(e.WorkDir+"/.ssh", 0o700); err != nil {
				return err
			}
			return os.WriteFile(e.WorkDir+"/.ssh/known_hosts", []byte(known.String()), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"await": await, "expand": expand},
	})
}

// TestErrorsAreShownAsText: what an error names may be anybody's.
func TestErrorsAreShownAsText(t *testing.T) {
	var stdout, stderr bytes.Buffer
	code := run([]string{"exec", "x", "all", "-o", "\x1b]0;owned\x07yaml", "--", "true"}, strings.NewReader(""), &stdout, &stderr)
	if code != exitError || !strings.Contains(stderr.String(), "yaml: the output is text or json") || strings.ContainsAny(stderr.String(), "\x1b\x07") {
		t.Errorf("exit %d, %q", code, stderr.String())
	}
}

// TestPromptEndsWithItsContext: Ctrl-C at a question, whose line does not become
// another's answer.
func TestPromptEndsWithItsContext(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	c := &cobra.Command{}
	c.SetIn(r)
	c.SetErr(io.Discard)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	done := make(chan error, 1)
	go func() {
		_, err := askSecretUntil(ctx, c, "Passphrase: ", false)
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the prompt hangs")
	}
	if _, err := io.WriteString(w, "lost\nanswer\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := askSecretUntil(t.Context(), c, "Code: ", false); err != nil || got.Reveal() != "answer" {
		t.Errorf("%q, %v", got.Reveal(), err)
	}
}

// TestChallengeNamesItsHost: on every line, so that none reads like fleetd's own.
func TestChallengeNamesItsHost(t *testing.T) {
	for _, tc := range [][3]string{
		{"", "Code: ", "web1: Code: "},
		{"Open the app.\n", "Code: ", "web1: Open the app.\nweb1: Code: "},
		{"a\nPassphrase of ~/.ssh/id_rsa: ", "\n", "web1: a\nweb1: Passphrase of ~/.ssh/id_rsa:\nweb1: \nweb1: "},
	} {
		if got := challenge("web1", tc[0], tc[1]); got != tc[2] {
			t.Errorf("%q, want %q", got, tc[2])
		}
	}
}

// answers plays a machine with the given kernel; what it does not know goes
// to a real shell.
func answers(dir, kernel string, hanging *atomic.Int32) func(*sshtest.Request) sshtest.Response {
	return func(r *sshtest.Request) sshtest.Response {
		switch r.Command {
		case "uname -rv":
			return sshtest.Response{Stdout: kernel + " #1 SMP\n"}
		case "whoami":
			return sshtest.Response{Stdout: r.User + " " + r.Become + "\n"}
		case "hang":
			_ = os.WriteFile(dir+"/hanging-"+strconv.Itoa(int(hanging.Add(1))), nil, 0o600)
			<-r.Context.Done()
			_ = os.WriteFile(dir+"/killed", nil, 0o600)
			return sshtest.Response{}
		}
		return r.Shell()
	}
}

// await waits until a file is there.
func await(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: await file")
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%s does not appear", args[0])
		}
	}
}

// expand replaces $VARIABLES in a file.
func expand(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: expand file")
	}
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}
