// Package netns puts the lab's programs and connections into a network
// namespace of their own.
//
// The namespace has a loopback interface and nothing else, so what runs in it
// can reach what else runs in it and nothing beyond. All of 10.0.0.0/8 is local
// there: an address of a node, a pod or a Service that an API server or an
// operator dials by itself meets a listener of the lab or a refusal, never the
// machine's own network.
//
// Every function needs CAP_SYS_ADMIN (root). Names are those of ip-netns(8):
// a namespace NAME is the file /run/netns/NAME.
package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const dir = "/run/netns"

// Path is the file that stands for the namespace.
func Path(name string) string { return filepath.Join(dir, name) }

// Exists says whether a namespace of that name is there.
func Exists(name string) bool {
	_, err := os.Stat(Path(name))
	return err == nil
}

// Ensure creates the namespace unless it is there, brings its loopback up and
// makes 10.0.0.0/8 local. created says whether this call made it, so that a
// caller can leave alone what was somebody else's.
func Ensure(ctx context.Context, name string) (created bool, err error) {
	if name == "" || strings.ContainsAny(name, "/ \t\n") || name[0] == '-' {
		return false, fmt.Errorf("cannot create a network namespace: %q is no valid name", name)
	}
	if !Exists(name) {
		if err := ip(ctx, "netns", "add", name); err != nil {
			return false, fmt.Errorf("cannot create network namespace %s: %w", name, err)
		}
		created = true
	}
	for _, args := range [][]string{
		{"-n", name, "link", "set", "lo", "up"},
		// replace, not add: the namespace may have been prepared before.
		{"-n", name, "route", "replace", "local", "10.0.0.0/8", "dev", "lo"},
	} {
		if err := ip(ctx, args...); err != nil {
			if created {
				err = errors.Join(err, Delete(ctx, name))
			}
			return false, fmt.Errorf("cannot prepare network namespace %s: %w", name, err)
		}
	}
	return created, nil
}

// Delete removes the namespace's name; the kernel frees the namespace with the
// last process in it. A namespace that is not there is no error.
func Delete(ctx context.Context, name string) error {
	if !Exists(name) {
		return nil
	}
	if err := ip(ctx, "netns", "del", name); err != nil {
		return fmt.Errorf("cannot delete network namespace %s: %w", name, err)
	}
	return nil
}

func ip(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Do runs f in the namespace and returns its error. f runs on a goroutine and
// an OS thread of its own; sockets and processes that f itself makes belong to
// the namespace and may be used from anywhere afterwards. Goroutines that f
// starts do not.
func Do(name string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		back, err := enter(name)
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		err = f()
		if err := back(); err == nil {
			runtime.UnlockOSThread()
		}
		// Else the thread stays locked: the runtime then throws it away with
		// this goroutine instead of handing a thread in the wrong namespace
		// to somebody else.
		done <- err
	}()
	return <-done
}

func enter(name string) (back func() error, err error) {
	target, err := os.Open(Path(name))
	if err != nil {
		return nil, fmt.Errorf("cannot enter network namespace %s: %w", name, err)
	}
	defer target.Close()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("cannot enter network namespace %s: %w", name, err)
	}
	if err := unix.Setns(int(target.Fd()), unix.CLONE_NEWNET); err != nil {
		home.Close()
		return nil, fmt.Errorf("cannot enter network namespace %s: %w", name, err)
	}
	return func() error {
		defer home.Close()
		return unix.Setns(int(home.Fd()), unix.CLONE_NEWNET)
	}, nil
}

// Dialer returns a dial function whose connections start in the namespace,
// for a process that is outside of it. It takes IP addresses, not names: a
// name would be looked up by goroutines that are not in the namespace.
func Dialer(name string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, fmt.Errorf("cannot dial %s in network namespace %s: %w", addr, name, err)
		}
		if net.ParseIP(host) == nil {
			return nil, fmt.Errorf("cannot dial %s in network namespace %s: not an IP address", addr, name)
		}
		var conn net.Conn
		err = Do(name, func() (err error) {
			// Without a fallback delay net.Dialer may race two address
			// families on goroutines of its own, which are outside.
			d := net.Dialer{FallbackDelay: -1}
			conn, err = d.DialContext(ctx, network, addr)
			return err
		})
		return conn, err
	}
}

// Command is exec.CommandContext for a program that shall run in the namespace.
// The process that is started becomes the program itself, so its pid, its
// signals and its exit status are the program's.
//
// It uses nsenter, not `ip netns exec`: the latter mounts a fresh /sys over
// /sys/fs/cgroup and /sys/fs/bpf.
func Command(ctx context.Context, name, program string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + Path(name), "--", program}, args...)...)
}

// Processes lists the pids of all processes in the namespace.
func Processes(name string) ([]int, error) {
	var want, have unix.Stat_t
	if err := unix.Stat(Path(name), &want); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, fmt.Errorf("cannot look into network namespace %s: %w", name, err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("cannot list processes: %w", err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// A process may end between the two calls: then it is in no namespace.
		if unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &have) == nil && have.Ino == want.Ino && have.Dev == want.Dev {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
