package controlplane

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fleetd/fleetd/integration/lab/controlplane/netns"
)

// A Process is one program of a running lab.
type Process struct {
	Name string `json:"name"`
	PID  int    `json:"pid"`
	// StartTime is field 22 of /proc/PID/stat, in clock ticks since the host's
	// boot. A pid alone may belong to somebody else by the time it is killed.
	StartTime uint64 `json:"startTime"`
	Log       string `json:"log"`
}

// startProcess runs a program of the lab in the background: in the namespace,
// in a session of its own so that it outlives whoever started it, with its
// output in dir/log/NAME.log.
func startProcess(ns, dir string, c component) (Process, error) {
	logPath := filepath.Join(dir, "log", c.name+".log")
	out, err := os.OpenFile(logPath, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return Process{}, fmt.Errorf("cannot start %s: %w", c.name, err)
	}
	defer out.Close()
	cmd := exec.Command(c.path, c.args...)
	if c.socket != nil {
		cmd = exec.Command("/bin/sh", append([]string{"-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@"`, c.path}, c.args...)...)
		cmd.ExtraFiles = []*os.File{c.socket}
	}
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = out, out
	// A proxy variable of the caller would send the lab's own requests away.
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + dir}, c.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := netns.Do(ns, cmd.Start); err != nil {
		return Process{}, fmt.Errorf("cannot start %s: %w", c.name, err)
	}
	// A child that nobody waits for stays a zombie as long as we live.
	go func() { _ = cmd.Wait() }() // reaps it
	started, _, err := processStat(cmd.Process.Pid)
	if err != nil {
		return Process{}, fmt.Errorf("cannot start %s: it ended at once\n%s", c.name, tailFile(logPath))
	}
	return Process{Name: c.name, PID: cmd.Process.Pid, StartTime: started, Log: logPath}, nil
}

// Alive says whether this very process still runs.
func (p Process) Alive() bool {
	started, state, err := processStat(p.PID)
	return err == nil && started == p.StartTime && state != 'Z' && state != 'X'
}

// ResidentBytes is the memory that the process holds, 0 when it has ended.
func (p Process) ResidentBytes() int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.PID))
	if err != nil {
		return 0
	}
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize())
}

// stop asks the process to end, insists after grace, and returns once it is gone.
func (p Process) stop(grace time.Duration) error {
	for _, s := range []struct {
		signal unix.Signal
		wait   time.Duration
	}{{unix.SIGTERM, grace}, {unix.SIGKILL, 10 * time.Second}} {
		if !p.Alive() {
			return nil
		}
		if err := unix.Kill(p.PID, s.signal); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("cannot stop %s (pid %d): %w", p.Name, p.PID, err)
		}
		for deadline := time.Now().Add(s.wait); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			if !p.Alive() {
				return nil
			}
		}
	}
	return fmt.Errorf("cannot stop %s: pid %d does not end", p.Name, p.PID)
}

// processStat reads when a process started and its state letter.
func processStat(pid int) (startTime uint64, state byte, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	// The second field is the program's name in parentheses and may itself
	// hold blanks and parentheses: count from the last one.
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return 0, 0, fs.ErrInvalid
	}
	fields := bytes.Fields(b[i+1:])
	if len(fields) < 20 {
		return 0, 0, fs.ErrInvalid
	}
	startTime, err = strconv.ParseUint(string(fields[19]), 10, 64)
	return startTime, fields[0][0], err
}

func tailFile(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return lastLines(string(b), 15)
}
