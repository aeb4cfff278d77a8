package sshexec_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/opensshtest"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/wire"
	"github.com/fleetd/fleetd/pkg/words"
)

// TestKillScript: who is ended together with the shell whose process id is
// known, and who is not.
func TestKillScript(t *testing.T) {
	t.Parallel()
	odd := t.TempDir() + "/a) S 1 1 1 (b"
	opensshtest.CopyFile(t, "/bin/sleep", odd)
	if err := os.Chmod(odd, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		script string // prints the shell's process id, and those of others
		groups syscall.SysProcAttr
		lives  string // what must not be ended, by its place in the output
		gone   bool   // the shell has ended
	}{
		{name: "the shell leads its session", groups: syscall.SysProcAttr{Setsid: true},
			script: "sleep 1000 & echo $$ $!; sleep 1000; echo survived >&2"},
		{name: "the shell leads a group", groups: syscall.SysProcAttr{Setpgid: true},
			script: "sleep 1000 & echo $$ $!; wait"},
		{name: "the shell is in its session's first group", groups: syscall.SysProcAttr{Setsid: true},
			script: "sh -c 'sleep 1000 & echo $$ $! $PPID; wait'; :"},
		{name: "the shell is in another's group", groups: syscall.SysProcAttr{Setpgid: true},
			script: "sh -c 'echo $$ $PPID; exec sleep 1000'; exec sleep 1000", lives: " y"},
		{name: "the program's name reads like stat", groups: syscall.SysProcAttr{Setsid: true},
			script: "sleep 1000 & echo $$ $!; exec " + words.Quote(odd) + " 1000"},
		{name: "the shell is gone", groups: syscall.SysProcAttr{Setsid: true}, gone: true,
			script: "sleep 1000 & echo $$ $!"},
		{name: "it does not listen to SIGTERM", groups: syscall.SysProcAttr{Setsid: true},
			script: "trap '' TERM; sh -c 'trap \"\" TERM; while :; do sleep 1; done' & echo $$ $!; while :; do sleep 1; done"},
	} {
		for _, sh := range sshexec.Shells() {
			t.Run(c.name+"/"+strings.Join(sh, " "), func(t *testing.T) {
				t.Parallel()
				cmd := exec.Command("/bin/sh", "-c", c.script)
				cmd.SysProcAttr = &c.groups
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				line, err := bufio.NewReader(out).ReadString('\n')
				reaped := make(chan struct{})
				go func() {
					defer close(reaped)
					_ = cmd.Wait()
				}()
				t.Cleanup(func() {
					_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
					<-reaped
				})
				if err != nil {
					t.Fatal(err)
				}
				pids := strings.Fields(line)
				if c.gone {
					<-reaped
				}
				kill := exec.Command(sh[0], append(sh[1:len(sh):len(sh)], "-c", wire.KillScript)...)
				kill.Env = append(os.Environ(), "fl_kill="+pids[0], "fl_grace=1")
				if text, err := kill.CombinedOutput(); err != nil || len(text) > 0 {
					t.Fatalf("%s, %v", text, err)
				}
				for i, pid := range pids {
					if i < len(c.lives) && c.lives[i] == 'y' {
						if ended(pid) {
							t.Errorf("process %d was ended, too", i)
						}
						continue
					}
					waitFor(t, func() bool { return ended(pid) }, func() string { return fmt.Sprintf("process %d lives", i) })
				}
			})
		}
	}
}

// ended tells that a process is gone, or dead and waited for by nobody.
func ended(pid string) bool {
	text, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH)
	}
	_, state, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')'):]), " ")
	return strings.HasPrefix(state, "Z")
}
