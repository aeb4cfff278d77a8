//go:build linux

package bpf

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// TestLifecycle walks a collection through its life, wrong turns included.
func TestLifecycle(t *testing.T) {
	if !namespaced(t) {
		return
	}
	o, err := Lookup(TCPConnect)
	if err != nil {
		t.Fatal(err)
	}
	// Other namespaces see no tracefs, whatever the machine has mounted.
	for _, dir := range tracefsPaths {
		if _, err := os.Stat(filepath.Join(dir, "events")); err == nil {
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := Load(o, Options{}); err == nil || !strings.Contains(err.Error(), "\nmount -t tracefs") {
		t.Fatalf("without tracefs: %v", err)
	}
	prepare(t)

	// The kernel's verifier takes both programs, though only one fits here.
	for _, l := range recordLayouts {
		c, err := load(o, l.program, 4096)
		if err != nil {
			t.Fatalf("%s: %v", l.program, err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}

	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dead := fullListener(t)
	runtime.GC() // what the runs before left to finalizers is no leak of the next
	descriptors := openDescriptors(t)
	c, err := Load(o, Options{PerCPUBuffer: 4096}) // a page, about 36 events: soon full
	if err != nil {
		t.Fatal(err)
	}
	info, err := c.program.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	// An attempt whose start is not seen has no latency: it is only counted.
	finish := pending(t, dead)
	if err := c.Attach(); err != nil {
		t.Fatal(err)
	}
	if err := c.Attach(); err == nil {
		t.Error("attached twice")
	}
	finish()
	if n, err := c.Counters(); err != nil || n.Untracked == 0 || n.Other != 0 {
		t.Errorf("an attempt from before the attach: %+v, %v", n, err)
	}
	if _, err := c.Histogram(0); err == nil {
		t.Error("a histogram of no outcome")
	}

	connect := func() {
		conn, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}

	// A loop that is left, by break or by its context, does not harm the next one.
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		connect()
		told := false
		for _, err := range c.Events(ctx) {
			fatalUnlessLost(t, err)
			told = true
			cancel()
			for _, err := range c.Events(ctx) {
				if err == nil || !strings.Contains(err.Error(), "another loop") {
					t.Errorf("two loops at a time: %v", err)
				}
			}
			break
		}
		if !told {
			t.Fatal("a connection, and no event within 30 s")
		}
		for _, err := range c.Events(ctx) { // context done: what waits, then the end
			fatalUnlessLost(t, err)
		}
	}

	// Nobody reads: the buffers run over. The gap is told, the counts are whole.
	before, err := c.Counters()
	if err != nil {
		t.Fatal(err)
	}
	const flood = 300
	for range flood {
		connect()
	}
	after, err := c.Counters()
	if err != nil {
		t.Fatal(err)
	}
	if n := after.Established - before.Established; n < flood {
		t.Errorf("counted %d connections of %d", n, flood)
	}
	if after.Unsent == before.Unsent {
		t.Error("the buffers held all of the flood: make it larger")
	}
	// The kernel reports a gap with the next event that finds room.
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var lost, events uint64
	for _, err := range c.Events(ctx) {
		var gap *LostError
		switch {
		case errors.As(err, &gap):
			lost += gap.Count
		case err != nil:
			t.Fatal(err)
		default:
			events++
		}
		if lost > 0 {
			break
		}
		if events%10 == 0 {
			connect()
		}
	}
	// The rest of the machine connects meanwhile: count again.
	after, err = c.Counters()
	if err != nil {
		t.Fatal(err)
	}
	if lost == 0 || lost > after.Unsent {
		t.Errorf("%d events reported lost, %d counted", lost, after.Unsent)
	}
	t.Logf("of %d connections %d events read, %d reported lost, %d counted as unsent", flood, events, lost, after.Unsent)

	// Close ends a loop that waits, and leaves nothing in the kernel.
	ended := make(chan error, 1)
	go func() {
		var last error
		for _, err := range c.Events(t.Context()) {
			last = err
		}
		ended <- last
	}()
	connect()
	for range 2 { // the second time does nothing
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	fatalUnlessLost(t, <-ended)
	if n := openDescriptors(t); n != descriptors {
		t.Errorf("%d descriptors open before Load, %d after Close", descriptors, n)
	}
	// The kernel frees a program a grace period after its last user.
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		p, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			break
		}
		if err == nil {
			p.Close()
		}
		if time.Now().After(deadline) {
			t.Fatalf("the program is still in the kernel: %v", err)
		}
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// fatalUnlessLost: the rest of the machine may connect faster than the test reads.
func fatalUnlessLost(t *testing.T, err error) {
	t.Helper()
	var gap *LostError
	if err != nil && !errors.As(err, &gap) {
		t.Fatal(err)
	}
}

func TestReadFormatErrors(t *testing.T) {
	empty, old := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(old, "events/tcp"), 0o755); err != nil {
		t.Fatal(err)
	}
	for want, dirs := range map[string][]string{
		"tracefs is not mounted\nmount -t tracefs":                                   {empty, filepath.Join(empty, "none")},
		"no tracepoint sock:inet_sock_set_state\nit came with Linux 4.16: boot a ne": {empty, old},
	} {
		if _, err := readFormat(dirs); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestProbeErrors(t *testing.T) {
	o, err := Lookup(TCPConnect)
	if err != nil {
		t.Fatal(err)
	}
	have := func(err error) func() error { return func() error { return err } }
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{fmt.Errorf("probe: %w", ebpf.ErrNotSupported), "cannot load tcp_connect: kernel 3.10.0-1160.el7.x86_64 has no LRU hash maps, which came with Linux 4.10\nboot a kernel of at least 4.18"},
		{fmt.Errorf("probe: %w", unix.EPERM), "cannot load tcp_connect: probe: operation not permitted\nrun it as root, or with CAP_BPF and CAP_PERFMON"},
		{unix.EIO, "cannot load tcp_connect: cannot find out whether kernel 3.10.0-1160.el7.x86_64 has LRU hash maps: input/output error"},
	} {
		got := ""
		if err := check(o, []requirement{
			{"tracepoint programs", KernelVersion{4, 7}, have(nil)},
			{"LRU hash maps", KernelVersion{4, 10}, have(c.err)},
		}, "3.10.0-1160.el7.x86_64"); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
	// No requirement asks for more than the object states.
	for _, r := range requirements {
		if r.since.Compare(o.MinimumKernel) > 0 {
			t.Errorf("%s came with Linux %s, the object says it needs %s", r.what, r.since, o.MinimumKernel)
		}
	}
}
