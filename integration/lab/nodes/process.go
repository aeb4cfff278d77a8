package nodes

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// procFile is a file that names a process this lab started, by process ID and start time. Both, because
// the file may outlive the process, and its ID may by then be another's.
type procFile string

func (p procFile) write(pid int) error {
	start, _, err := procStat(pid)
	if err != nil {
		return err
	}
	return os.WriteFile(string(p), fmt.Appendf(nil, "%d %s\n", pid, start), 0o644)
}

// pid is the process, if it still runs; else 0.
func (p procFile) pid() int {
	content, err := os.ReadFile(string(p))
	if err != nil {
		return 0
	}
	id, start, _ := strings.Cut(strings.TrimSpace(string(content)), " ")
	pid, err := strconv.Atoi(id)
	if err != nil || pid <= 1 {
		return 0
	}
	if now, zombie, err := procStat(pid); err != nil || now != start || zombie {
		return 0
	}
	return pid
}

// kill ends the process and waits until it is gone. No process is no error.
func (p procFile) kill() error {
	pid := p.pid()
	if pid == 0 {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("cannot kill process %d: %w", pid, err)
	}
	for range 200 {
		if p.pid() == 0 {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("cannot kill process %d: it is still there after 10 s", pid)
}

// procStat reads a process's start time, in clock ticks since boot, and whether it is only waited for. A
// process whose first thread has ended is a zombie as well, while its other threads still hold its files
// and their locks: it is over when those are gone (proc(5), num_threads).
func procStat(pid int) (start string, zombie bool, err error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", false, err
	}
	// The second field is the program's name in brackets, which may hold spaces and brackets.
	text := string(content)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 {
		return "", false, fmt.Errorf("/proc/%d/stat: %w", pid, fs.ErrInvalid)
	}
	threads, err := strconv.Atoi(fields[17])
	return fields[19], fields[0] == "Z" && threads <= 1, err
}

// inheritNothing keeps the files that this process was itself started with from the processes that it
// starts. Machines and mirror live on for hours: with an inherited lock, or make's job pipe, somebody
// would wait for them for ever.
func inheritNothing() {
	// An older kernel than 5.11 cannot; nothing worse follows than the wait.
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
}
