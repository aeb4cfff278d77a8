//go:build lab

package netns

import (
	"context"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
)

const testName = "fleetd-netns-test"

func TestNamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("network namespaces need root")
	}
	ctx := t.Context()
	created, err := Ensure(ctx, testName)
	if err != nil || !created {
		t.Fatalf("created %v, error %v", created, err)
	}
	t.Cleanup(func() {
		if err := Delete(context.Background(), testName); err != nil || Exists(testName) {
			t.Errorf("delete: %v", err)
		}
	})
	if created, err := Ensure(ctx, testName); err != nil || created {
		t.Errorf("a second time: created %v, error %v", created, err)
	}

	// A server inside is reached by the dialer, at any address of 10/8, and is
	// not there outside.
	var listener net.Listener
	if err := Do(testName, func() (err error) {
		listener, err = net.Listen("tcp", "0.0.0.0:0")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	for _, host := range []string{"127.0.0.1", "10.96.0.1"} {
		conn, err := Dialer(testName)(ctx, "tcp", net.JoinHostPort(host, port))
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		conn.Close()
	}
	if conn, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
		conn.Close()
		t.Error("the server inside answers outside")
	}
	if _, err := Dialer(testName)(ctx, "tcp", "localhost:"+port); err == nil || !strings.Contains(err.Error(), "not an IP address") {
		t.Errorf("a name: %v", err)
	}

	// Nobody is left in the wrong namespace.
	home, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if err := Do(testName, func() error { return nil }); err != nil {
				t.Error(err)
			}
			if now, _ := os.Readlink("/proc/thread-self/ns/net"); now != home {
				t.Errorf("a thread is left in %s", now)
			}
		})
	}
	wg.Wait()

	cmd := Command(ctx, testName, "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	}()
	for range 500 {
		pids, err := Processes(testName)
		if err != nil {
			t.Fatal(err)
		}
		if len(pids) == 1 && pids[0] == cmd.Process.Pid {
			return
		}
	}
	t.Error("the program that runs inside is not listed")
}

func TestNames(t *testing.T) {
	for _, name := range []string{"", "a/b", "-n", "a b"} {
		if _, err := Ensure(t.Context(), name); err == nil {
			t.Errorf("%q is taken for a name", name)
		}
	}
	if err := Do("fleetd-no-such-netns", func() error { return nil }); err == nil {
		t.Error("entered a namespace that is not there")
	}
}
