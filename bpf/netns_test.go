//go:build linux

package bpf

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inNamespaces is set in the environment of the child that runs a test inside
// namespaces of its own.
const inNamespaces = "FLEETD_BPF_TEST_IN_NAMESPACES"

// namespaced runs the calling test a second time, in a child process with a
// network and a mount namespace of its own, and reports its result. It returns
// true in the child. A child process and not a locked thread: Go dials on
// whatever thread it likes. The mount namespace is for tracefs, which need not
// be mounted here, and hides the kernel's BTF: ELRepo's EL7 kernels have none.
func namespaced(t *testing.T) bool {
	if os.Getenv(inNamespaces) != "" {
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("loading BPF programs takes root: run this test as root")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), inNamespaces+"=1")
	// Unshareflags with CLONE_NEWNS makes the mounts private, too: nothing the
	// child mounts is seen outside, and all of it goes when the child ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Unshareflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	t.Logf("in its own namespaces:\n%s", out)
	if err != nil {
		t.Fatalf("the test failed in its own namespaces: %v", err)
	}
	if !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatal("the test did not run in its own namespaces")
	}
	return false
}

// prepare brings up loopback and tracefs in the child.
func prepare(t *testing.T) {
	t.Helper()
	if err := linkUp("lo"); err != nil {
		t.Fatalf("cannot bring up loopback: %v", err)
	}
	if _, err := os.Stat("/sys/kernel/tracing/events"); err != nil {
		if err := unix.Mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, ""); err != nil {
			t.Fatalf("cannot mount tracefs: %v", err)
		}
	}
	if _, err := os.Stat("/sys/kernel/btf"); err == nil {
		if err := unix.Mount("none", "/sys/kernel/btf", "tmpfs", unix.MS_RDONLY, ""); err != nil {
			t.Fatalf("cannot hide the kernel's BTF: %v", err)
		}
	}
}

func linkUp(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// start loads and attaches the object and collects the events of this process:
// the tracepoint tells of the whole machine.
func start(t *testing.T) (*Collection, func() []ConnectEvent) {
	t.Helper()
	o, err := Lookup(TCPConnect)
	if err != nil {
		t.Fatal(err)
	}
	// Room enough that what the rest of the machine does meanwhile displaces nothing.
	c, err := Load(o, Options{PerCPUBuffer: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := c.Attach(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var mine []ConnectEvent
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e, err := range c.Events(ctx) {
			if err != nil {
				t.Errorf("event: %v", err)
				continue
			}
			if e.PID == uint32(os.Getpid()) {
				mine = append(mine, e)
			}
		}
	}()
	return c, func() []ConnectEvent {
		cancel()
		<-done
		return mine
	}
}

func TestRealConnections(t *testing.T) {
	if !namespaced(t) {
		return
	}
	prepare(t)
	t.Logf("kernel %s", release())
	c, events := start(t)

	const each = 20
	type want struct {
		outcome     Outcome
		destination netip.AddrPort
		ipv6        bool
		count       int
	}
	var wants []want
	sources := map[netip.AddrPort]bool{}
	for _, network := range []struct{ network, listen, dial string }{
		{"tcp4", "127.0.0.3:0", ""}, // from 127.0.0.1: source and destination differ
		{"tcp6", "[::1]:0", ""},
		{"tcp4", "127.0.0.9:0", "mapped"},
	} {
		l, err := net.Listen(network.network, network.listen)
		if err != nil {
			t.Fatal(err)
		}
		to := netip.MustParseAddrPort(l.Addr().String())
		for range each {
			if network.dial == "mapped" {
				dialMapped(t, to)
				continue
			}
			conn, err := net.Dial(network.network, to.String())
			if err != nil {
				t.Fatal(err)
			}
			sources[netip.MustParseAddrPort(conn.LocalAddr().String())] = true
			conn.Close()
		}
		ipv6 := network.network == "tcp6" || network.dial == "mapped"
		wants = append(wants, want{Established, to, ipv6, each})
		// The listener goes: from now on the same address refuses.
		l.Close()
		for range each {
			if conn, err := net.Dial(network.network, to.String()); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Fatalf("dial of a closed port: %v, %v", conn, err)
			}
		}
		wants = append(wants, want{ConnectFailed, to, network.network == "tcp6", each})
	}
	// An attempt that nobody answers is given up by the program.
	dead := fullListener(t)
	least, most := giveUp(t, dead)
	wants = append(wants, want{Established, dead, false, 1}, want{ConnectFailed, dead, false, 1})

	// The counts are in the maps before the events are read. Others connect at
	// the same time, so these are minima.
	hist, err := c.Histogram(Established)
	if err != nil {
		t.Fatal(err)
	}
	failed, err := c.Histogram(ConnectFailed)
	if err != nil {
		t.Fatal(err)
	}
	counters, err := c.Counters()
	if err != nil {
		t.Fatal(err)
	}
	got := events()
	t.Logf("established:\n%sfailed:\n%s%+v", hist, failed, counters)

	// Every connection has its event, told by the source address and port that
	// the kernel gave it.
	for _, e := range got {
		if e.Outcome == Established {
			delete(sources, e.Source)
		}
	}
	if len(sources) > 0 {
		t.Errorf("no event for the connections from %v", slices.Collect(maps.Keys(sources)))
	}
	total := 0
	for _, w := range wants {
		n := 0
		for _, e := range got {
			if e.Outcome == w.outcome && e.Destination == w.destination && e.IPv6 == w.ipv6 {
				n++
			}
		}
		total += n
		if n != w.count {
			t.Errorf("%d events %s → %s (IPv6 socket: %t), want %d", n, w.outcome, w.destination, w.ipv6, w.count)
		}
	}
	if total != len(got) {
		t.Errorf("%d events of this process, %d expected: %v", len(got), total, got)
	}
	var slots [3]Histogram
	for _, e := range got {
		if e.Source.Port() == 0 || e.Latency <= 0 || e.Monotonic < e.Latency || e.UID != 0 || e.TID == 0 {
			t.Errorf("odd event: %+v", e)
		}
		if !e.Source.Addr().IsLoopback() {
			t.Errorf("source of %v is not loopback", e)
		}
		if e.Comm == "" || strings.ContainsRune(e.Comm, 0) {
			t.Errorf("comm of %+v", e)
		}
		slots[e.Outcome][SlotOf(e.Latency)]++
		if e.Destination == dead && e.Outcome == ConnectFailed && (e.Latency < least || e.Latency > most) {
			t.Errorf("gave up after %s to %s, event says %s", least, most, e.Latency)
		}
	}
	// The kernel and the decoder agree in which slot a latency falls.
	for i := range hist {
		if hist[i] < slots[Established][i] || failed[i] < slots[ConnectFailed][i] {
			t.Errorf("slot %d: the kernel counted %d and %d, the events %d and %d", i, hist[i], failed[i], slots[Established][i], slots[ConnectFailed][i])
		}
	}
	if counters.Established != hist.Count() || counters.Failed != failed.Count() || counters.Established < 3*each+1 || counters.Failed < 3*each+1 || counters.Unsent != 0 {
		t.Errorf("counters %+v, histograms of %d and %d", counters, hist.Count(), failed.Count())
	}
}

// dialMapped connects an IPv6 socket to an IPv4 address.
func dialMapped(t *testing.T, to netip.AddrPort) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}); err != nil {
		t.Fatal(err)
	}
}

// fullListener listens with room for one connection that is not accepted and
// takes that room: every further SYN is dropped, as on a dead host.
func fullListener(t *testing.T) netip.AddrPort {
	t.Helper()
	fd := tcpSocket(t)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 2}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(tcpSocket(t), name); err != nil {
		t.Fatal(err)
	}
	in4 := name.(*unix.SockaddrInet4)
	return netip.AddrPortFrom(netip.AddrFrom4(in4.Addr), uint16(in4.Port))
}

func tcpSocket(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// pending starts to connect to an address that does not answer. The returned
// function closes the socket.
func pending(t *testing.T, to netip.AddrPort) func() {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
	if !errors.Is(err, unix.EINPROGRESS) {
		t.Fatalf("connect to a host that does not answer: %v", err)
	}
	return func() {
		t.Helper()
		if err := unix.Close(fd); err != nil {
			t.Fatal(err)
		}
	}
}

// giveUp connects to an address that does not answer, and closes the socket after
// a while. It returns bounds for how long the attempt lasted.
func giveUp(t *testing.T, to netip.AddrPort) (least, most time.Duration) {
	t.Helper()
	began := time.Now()
	finish := pending(t, to)
	under := time.Now()
	time.Sleep(20 * time.Millisecond)
	least = time.Since(under)
	finish()
	return least, time.Since(began)
}
