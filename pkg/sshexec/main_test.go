package sshexec_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Every test closes its pool; whatever it started must be gone then:
// goroutines, file descriptors, child processes.
func TestMain(m *testing.M) {
	if job := os.Getenv("FLEETD_TEST_LEARN"); job != "" {
		os.Exit(learnHostKeys(job))
	}
	if os.Getenv("FLEETD_TEST_NAMELESS") != "" {
		os.Exit(connectNameless())
	}
	goleak.VerifyTestMain(leakCheck{m})
}

type leakCheck struct{ *testing.M }

func (l leakCheck) Run() int {
	before := held()
	if code := l.M.Run(); code != 0 {
		return code
	}
	if left := leftOf(before); left != nil {
		fmt.Fprintf(os.Stderr, "left behind:\n%s\n", strings.Join(left, "\n"))
		return 1
	}
	return 0
}

// held is what this process holds: its descriptors and its children.
func held() map[string]bool {
	// The runtime's own poller has descriptors, from the first socket on.
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		l.Close()
	}
	out := map[string]bool{}
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		// One that is gone by now was Glob's.
		if to, err := os.Readlink(fd); err == nil {
			out["descriptor "+filepath.Base(fd)+" "+to] = true
		}
	}
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, list := range lists {
		b, _ := os.ReadFile(list)
		for _, pid := range strings.Fields(string(b)) {
			line, _ := os.ReadFile("/proc/" + pid + "/cmdline")
			out["child "+pid+" "+strings.ReplaceAll(string(line), "\x00", " ")] = true
		}
	}
	return out
}

// leftOf is what is held now and was not before; what is just ending gets a
// moment.
func leftOf(before map[string]bool) []string {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		var left []string
		for h := range held() {
			if !before[h] {
				left = append(left, h)
			}
		}
		if left == nil || time.Now().After(end) {
			return left
		}
	}
}

// untilThere waits for a file that a command makes.
func untilThere(t testing.TB, name string) {
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(name); err == nil {
			return
		}
		if time.Now().After(end) {
			t.Errorf("%s is not made", name)
			return
		}
	}
}
