package sshexec_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/opensshtest"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

// TestFloodCostsBoundedMemory has a command print far more than is kept.
func TestFloodCostsBoundedMemory(t *testing.T) {
	size := int64(256 << 20)
	if testing.Short() {
		size = 16 << 20
	}
	line := []byte(strings.Repeat("0123456789abcde\n", 4096))
	srv := sshtest.New(t, sshtest.Handler(func(r *sshtest.Request) sshtest.Response {
		_, _ = io.WriteString(r.Stdout, "head\n")
		for n := int64(0); n < size; n += int64(len(line)) {
			if _, err := r.Stdout.Write(line); err != nil {
				return sshtest.Response{Exit: 1}
			}
		}
		return sshtest.Response{Stdout: "tail\n"}
	}))
	p := newPool(t, sshexec.Options{})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var peak atomic.Uint64
	stop := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				if m.HeapInuse > peak.Load() {
					peak.Store(m.HeapInuse)
				}
			}
		}
	})
	res, err := p.Run(testContext(t), srv.Target("web1"), sshexec.Command{
		Argv: []string{"yes"}, MaxOutput: 100_000,
	})
	close(stop)
	watcher.Wait()
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	cut := fmt.Sprintf("\n[... %d bytes left out ...]\n", size+10-100_000)
	if !res.Truncated || len(res.Stdout) != 100_000+len(cut) || !bytes.HasPrefix(res.Stdout, []byte("head\n")) ||
		!bytes.HasSuffix(res.Stdout, []byte("tail\n")) || !bytes.Contains(res.Stdout, []byte(cut)) {
		t.Errorf("truncated %v, %d bytes", res.Truncated, len(res.Stdout))
	}
	grown := int64(peak.Load()) - int64(before.HeapInuse)
	t.Logf("%d MiB printed, heap grew by %d KiB at most", size>>20, grown>>10)
	if grown > 64<<20 {
		t.Errorf("heap grew by %d MiB", grown>>20)
	}
}

// TestHangingHostsDoNotSlowTheOthers: 1,000 hosts of which each tenth accepts
// connections and says nothing.
func TestHangingHostsDoNotSlowTheOthers(t *testing.T) {
	hosts := 1000
	if testing.Short() {
		hosts = 200
	}
	good := sshtest.New(t, sshtest.Handler(func(*sshtest.Request) sshtest.Response { return sshtest.Response{Stdout: "6.1\n"} }))
	dead := sshtest.New(t)
	dead.SetFault(sshtest.Fault{Silent: -1, Deaf: -1})
	compareWithHanging(t, hosts,
		func(i int) sshexec.Target { return aliasTarget(t, good, i) },
		func(int) sshexec.Target { return dead.Target("") })
}

// TestOpenSSHHangingHosts is the same with sshd; the one that hangs is stopped,
// as on a machine that swaps or waits for its disk: the kernel takes the
// connections, as far as its queue goes, and nobody answers.
func TestOpenSSHHangingHosts(t *testing.T) {
	quick := []string{"MaxStartups 2000", "UsePAM no", "UseDNS no", "LogLevel ERROR"}
	good := opensshtest.Start(t, opensshtest.Config{Users: true, Lines: quick})
	dead := opensshtest.Start(t, opensshtest.Config{Users: true})
	if err := syscall.Kill(dead.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	target := func(s *opensshtest.Server) func(int) sshexec.Target {
		known := s.Write(t, "known_nodes", "web* "+keyText(s.Keys["ed25519"])+"\n")
		return func(int) sshexec.Target {
			to := s.As(opensshtest.OpsUser)
			to.KnownHosts = []string{known}
			return to
		}
	}
	compareWithHanging(t, 1000, target(good), target(dead))
}

// compareWithHanging runs a command on good hosts only, and on as many of which
// each tenth is a dead one.
func compareWithHanging(t *testing.T, hosts int, good, dead func(i int) sshexec.Target) {
	t.Helper()
	const timeout = 5 * time.Minute // of one dial: far more than all the rest takes
	measure := func(hang bool) (last time.Duration) {
		p := newPool(t, sshexec.Options{MaxDials: 16})
		defer p.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 2*timeout)
		defer cancel()
		var targets []sshexec.Target
		slow := 0
		for i := range hosts {
			target := good(i)
			if hang && i%10 == 0 {
				target = dead(i)
				slow++
			}
			target.Name = fmt.Sprintf("web%04d", i)
			target.HostKeyAlias = target.Name // a connection of its own
			target.ConnectTimeout = timeout
			targets = append(targets, target)
		}
		start := time.Now()
		done := 0
		p.RunAll(ctx, targets, sshexec.Command{Argv: []string{"uname", "-r"}}, 16, func(r sshexec.HostResult) {
			if r.Err != nil {
				if done < hosts-slow {
					t.Errorf("%v", r.Err)
				}
				return
			}
			if done++; done == hosts-slow {
				last = time.Since(start)
				cancel() // the hanging ones have nothing to add
			}
		})
		if done != hosts-slow {
			t.Errorf("%d of %d hosts answered", done, hosts-slow)
		}
		return last
	}
	alone := measure(false)
	with := measure(true)
	t.Logf("%d hosts: %v; a tenth of them hanging: %v", hosts, alone, with)
	// No timed assertion but this: nowhere near one connect timeout more.
	if with > alone+timeout/2 {
		t.Errorf("%v with hanging hosts, %v without", with, alone)
	}
}

// TestRunAllHoldsNoMoreThanForks: while a slow caller takes one result, no others pile
// up. What each holds is a mebibyte.
func TestRunAllHoldsNoMoreThanForks(t *testing.T) {
	const forks = 2
	var started atomic.Int64
	srv := sshtest.New(t, sshtest.Handler(func(*sshtest.Request) sshtest.Response {
		started.Add(1)
		return sshtest.Response{}
	}))
	p := newPool(t, sshexec.Options{})
	var targets []sshexec.Target
	for i := range 20 {
		targets = append(targets, aliasTarget(t, srv, i))
	}
	taken := 0
	p.RunAll(testContext(t), targets, sshexec.Command{Argv: []string{"true"}}, forks, func(r sshexec.HostResult) {
		time.Sleep(20 * time.Millisecond) // in which the others would end, had they begun
		if held := int(started.Load()) - taken; r.Err != nil || held > forks {
			t.Errorf("%d commands began that are not taken, %v", held, r.Err)
		}
		taken++
	})
	if taken != len(targets) {
		t.Errorf("%d results of %d", taken, len(targets))
	}
}

// TestRunAllClosesWhatItUsed: connections end with their commands, so that the
// nodes' logouts are not all left to the end; one that somebody else uses stays.
func TestRunAllClosesWhatItUsed(t *testing.T) {
	srv := sshtest.New(t, sshtest.Handler(untilEOF))
	p := newPool(t, sshexec.Options{})
	var targets []sshexec.Target
	for i := range 20 {
		targets = append(targets, aliasTarget(t, srv, i))
	}
	end := runUntilEOF(t, p, srv, targets[3])
	p.RunAll(testContext(t), targets, sshexec.Command{Argv: []string{"true"}}, 4, func(r sshexec.HostResult) {
		if r.Err != nil {
			t.Error(r.Err)
		}
	})
	waitFor(t, func() bool { return srv.Open() == 1 }, func() string { return fmt.Sprintf("%d connections stay open", srv.Open()) })
	if n := srv.Dials(); n != len(targets) {
		t.Errorf("%d dials for %d hosts", n, len(targets))
	}
	end()
}

// TestCloseIdle: who lacks a file descriptor takes it from the connection that
// was idle for longest, never from one in use.
func TestCloseIdle(t *testing.T) {
	srv := sshtest.New(t, sshtest.Handler(untilEOF))
	p := newPool(t, sshexec.Options{})
	if p.CloseIdle() {
		t.Error("there is a connection in a new pool")
	}
	end := runUntilEOF(t, p, srv, aliasTarget(t, srv, 0))
	for i := range 2 {
		if err := p.Connect(testContext(t), aliasTarget(t, srv, 1+i)); err != nil {
			t.Fatal(err)
		}
	}
	for left := 2; left >= 1; left-- {
		if !p.CloseIdle() {
			t.Error("there is no connection")
		}
		waitFor(t, func() bool { return srv.Open() == left }, func() string { return fmt.Sprintf("%d connections are open, want %d", srv.Open(), left) })
		if left == 2 {
			// The first of the two went: the second one is still good.
			if err := p.Connect(testContext(t), aliasTarget(t, srv, 2)); err != nil || srv.Dials() != 3 {
				t.Errorf("%d dials, %v", srv.Dials(), err)
			}
		}
	}
	if !p.CloseIdle() || srv.Open() != 1 {
		t.Errorf("%d connections are open, want the one in use", srv.Open())
	}
	end()
}

// untilEOF plays a node whose command "wait" runs until its input ends.
func untilEOF(r *sshtest.Request) sshtest.Response {
	if r.Script == "wait" {
		_, _ = io.Copy(io.Discard, r.Stdin)
	}
	return sshtest.Response{}
}

// runUntilEOF keeps a command running on an untilEOF node. end ends it, and
// checks that nothing has happened to it meanwhile.
func runUntilEOF(t *testing.T, p *sshexec.Pool, srv *sshtest.Server, target sshexec.Target) (end func()) {
	t.Helper()
	in, out := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := p.Run(testContext(t), target, sshexec.Command{Script: "wait", Stdin: in})
		done <- err
	}()
	waitFor(t, func() bool { return srv.Running() == 1 }, func() string { return "the command does not start" })
	return func() {
		out.Close()
		if err := <-done; err != nil {
			t.Errorf("the command that was running: %v", err)
		}
	}
}
