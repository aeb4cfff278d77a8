package sshexec_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/opensshtest"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

// TestKillWithoutRoomForOneMoreSession: the session that kills must not wait
// for one of those that it is to end.
func TestKillWithoutRoomForOneMoreSession(t *testing.T) {
	t.Parallel()
	for _, allowed := range []int{1, 10} {
		t.Run(fmt.Sprintf("MaxSessions %d", allowed), func(t *testing.T) {
			t.Parallel()
			srv := sshtest.New(t, sshtest.MaxSessions(allowed), sshtest.Handler(func(r *sshtest.Request) sshtest.Response {
				<-r.Context.Done()
				return sshtest.Response{}
			}))
			p := newPool(t, sshexec.Options{})
			killAll(t, p, srv.Target("web1"), sshexec.Command{Argv: []string{"sleep", "inf"}}, allowed, func() bool { return srv.Running() == allowed })
			allEnded(t, srv)
		})
	}
}

func TestOpenSSHKillWithoutRoomForOneMoreSession(t *testing.T) {
	t.Parallel()
	for _, allowed := range []int{1, 10} {
		t.Run(fmt.Sprintf("MaxSessions %d", allowed), func(t *testing.T) {
			t.Parallel()
			s := opensshtest.Start(t, opensshtest.Config{Lines: []string{fmt.Sprintf("MaxSessions %d", allowed)}})
			p := newPool(t, sshexec.Options{})
			dir := t.TempDir()
			cmd := sshexec.Command{Script: "echo $$ >" + dir + "/$$; sleep 1000; echo survived"}
			killAll(t, p, s.Target("web1"), cmd, allowed, func() bool { return len(listDir(t, dir)) == allowed })
			for _, pid := range listDir(t, dir) {
				waitFor(t, func() bool { _, err := os.Stat("/proc/" + pid); return err != nil }, func() string { return "process " + pid + " lives" })
			}
		})
	}
}

// killAll has n commands run on one connection, and cancels them together.
func killAll(t *testing.T, p *sshexec.Pool, target sshexec.Target, cmd sshexec.Command, n int, running func() bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if _, err := p.Run(ctx, target, cmd); sshexec.KindOf(err) != sshexec.KindCanceled {
				t.Errorf("got %v", err)
			}
		})
	}
	waitFor(t, running, func() string { return "the commands do not all run" })
	cancel()
	wg.Wait()
}

// TestOpenSSHBareNode: a node with sshd, a POSIX shell, and not one program
// more; not even /proc.
func TestOpenSSHBareNode(t *testing.T) {
	t.Parallel()
	root := bareRoot(t)
	s := opensshtest.Start(t, opensshtest.Config{Users: true, Lines: []string{"ChrootDirectory " + root}})
	p := newPool(t, sshexec.Options{})
	target := s.As(opensshtest.DeployUser) // whose login shell is /bin/sh
	res, err := p.Run(testContext(t), target, sshexec.Command{
		Script: `read -r x; printf "%s\\n" "$x $Y"; echo err >&2; exit 3`, Stdin: strings.NewReader("in\n"), Env: map[string]string{"Y": "a\\nb"},
	})
	if err != nil || string(res.Stdout) != "in a\\nb\n" || string(res.Stderr) != "err\n" || res.ExitStatus != 3 {
		t.Errorf("%+v, %v", res, err)
	}
	res, err = p.Run(testContext(t), target, sshexec.Command{Argv: []string{"cat"}})
	if err != nil || res.ExitStatus != 127 {
		t.Errorf("a program that is not there: %+v, %v", res, err)
	}
	start := time.Now()
	_, err = p.Run(testContext(t), target, sshexec.Command{Script: "while :; do :; done", Timeout: time.Second})
	if sshexec.KindOf(err) != sshexec.KindTimeout {
		t.Errorf("deadline: %v after %v", err, time.Since(start))
	}
	// Without a program that computes digests nothing can be said to have
	// arrived, and nothing is left behind.
	err = p.Upload(testContext(t), target, upload("/f", "x"))
	if sshexec.KindOf(err) != sshexec.KindFile {
		t.Errorf("upload: %v", err)
	}
	if _, err := os.Stat(root + "/f"); err == nil {
		t.Error("an unchecked file was put in place")
	}
}

// bareRoot makes a root file system of /bin/sh and its libraries.
func bareRoot(t *testing.T) string {
	t.Helper()
	// sshd wants every part of the path to be root's and nobody else's to write.
	root, err := os.MkdirTemp("/run", "fleetd-bare")
	if err != nil {
		t.Skipf("needs root: sshd enters a root file system of its own: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	_ = os.Chmod(root, 0o755)
	for _, f := range append(sharedLibraries(t, "/bin/sh"), "/bin/sh") {
		to := root + f
		if err := os.MkdirAll(to[:strings.LastIndexByte(to, '/')], 0o755); err != nil {
			t.Fatal(err)
		}
		opensshtest.CopyFile(t, f, to)
		_ = os.Chmod(to, 0o755)
	}
	_ = os.Mkdir(root+"/dev", 0o755)
	if err := syscall.Mknod(root+"/dev/null", syscall.S_IFCHR|0o666, 1<<8|3); err != nil {
		t.Skipf("needs to make device nodes: %v", err)
	}
	_ = os.Chmod(root+"/dev/null", 0o666)
	return root
}

func sharedLibraries(t *testing.T, program string) []string {
	t.Helper()
	out, err := exec.Command("ldd", program).Output()
	if err != nil {
		return nil // linked statically
	}
	return regexp.MustCompile(`/\S+`).FindAllString(string(out), -1)
}
