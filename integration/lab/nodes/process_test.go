package nodes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestProcessWithThreads: a process whose first thread has ended is there as long as
// another one is, which still holds its locks.
func TestProcessWithThreads(t *testing.T) {
	// 60 is exit on x86-64: it ends the thread that calls it alone.
	cmd := exec.Command("python3", "-c", "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(3,)).start(); ctypes.CDLL(None).syscall(60, 0)")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := procFile(filepath.Join(t.TempDir(), "process"))
	if err := p.write(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		if err == nil && strings.Contains(string(stat), ") Z ") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("its first thread does not end: %q, %v", stat, err)
		}
	}
	if p.pid() == 0 {
		t.Error("it is taken for gone while a thread of it sleeps")
	}
	for end := time.Now().Add(time.Minute); p.pid() != 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it is never taken for gone")
		}
	}
	_ = cmd.Wait()
}
