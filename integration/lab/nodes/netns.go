package nodes

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

func netnsPath(name string) string { return "/run/netns/" + name }

// ensureNetns makes the namespace, with loopback up, if there is none; owned says that it did.
func ensureNetns(ctx context.Context, name string) (owned bool, err error) {
	if _, err := os.Stat(netnsPath(name)); err == nil {
		return false, nil
	}
	if err := run(ctx, "ip", "netns", "add", name); err != nil {
		return false, err
	}
	return true, run(ctx, "ip", "-n", name, "link", "set", "lo", "up")
}

func removeNetns(ctx context.Context, name string) error {
	if _, err := os.Stat(netnsPath(name)); err != nil {
		return nil
	}
	return run(ctx, "ip", "netns", "del", name)
}

// inNetns runs f on a thread that is in the namespace. Sockets that f opens and processes that it starts
// belong to the namespace from then on, whatever thread uses them later. f must not start goroutines
// that do so: they run elsewhere.
func inNetns(name string, f func() error) error {
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with this goroutine, instead of going back to the runtime in
		// the wrong namespace.
		runtime.LockOSThread()
		ns, err := os.Open(netnsPath(name))
		if err != nil {
			result <- fmt.Errorf("cannot enter network namespace %s: %w", name, err)
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("cannot enter network namespace %s: %w", name, err)
			return
		}
		result <- f()
	}()
	return <-result
}

// DialContext dials a TCP address, given as IP and port, inside the lab's namespace. It has the shape
// that HTTP and SSH clients take as a dialer.
func (l *Lab) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := inNetns(l.Netns, func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}
