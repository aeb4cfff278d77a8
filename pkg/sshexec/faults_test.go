package sshexec_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

// handshakeBytes is more than the server sends, and receives, until a command
// has run: faults are put at every stretch of that.
const handshakeBytes = 4000

func TestCutAtEveryPointOfTheHandshake(t *testing.T) {
	t.Parallel()
	// One attempt: the error is seen. Two: the second one succeeds.
	for _, attempts := range []int{1, 2} {
		var failed, unreachable, succeeded atomic.Int32
		var wg sync.WaitGroup
		places := make(chan struct{}, 16)
		p := newPool(t, sshexec.Options{DialAttempts: attempts})
		step := int64(41)
		if testing.Short() {
			step = 211
		}
		for i, n := 0, int64(-1); n < handshakeBytes; i, n = i+1, n+step {
			wg.Add(2)
			for k, f := range []sshtest.Fault{{Cut: n}, {CutIn: n}} {
				if n == 0 {
					f = sshtest.Fault{Cut: 1}
				}
				places <- struct{}{}
				own := sshtest.New(t, sshtest.HostKey(sshtest.NewKey()))
				go func() {
					defer wg.Done()
					defer func() { <-places }()
					own.FaultNext(f)
					target := own.Target(fmt.Sprintf("web%d-%d", i, k))
					_, err := p.Run(testContext(t), target, sshexec.Command{Argv: []string{"true"}})
					switch kind := sshexec.KindOf(err); {
					case err == nil:
						succeeded.Add(1)
					case kind == sshexec.KindUnreachable:
						unreachable.Add(1)
						failed.Add(1)
					case kind == sshexec.KindLost:
						failed.Add(1)
					default:
						t.Errorf("cut after %+v: %v (%v)", f, err, kind)
					}
					own.Close()
				}()
			}
		}
		wg.Wait()
		t.Logf("attempts %d: %d failed, %d succeeded", attempts, failed.Load(), succeeded.Load())
		if attempts == 2 && unreachable.Load() > 0 {
			t.Errorf("%d hosts were not reached by the second attempt", unreachable.Load())
		}
		if attempts == 1 && (failed.Load() < 10 || succeeded.Load() == 0) {
			t.Errorf("the cuts do not cover the handshake")
		}
	}
}

func TestSilentAtEveryPointOfTheHandshake(t *testing.T) {
	p := newPool(t, sshexec.Options{DialAttempts: 1})
	var wg sync.WaitGroup
	var timeouts atomic.Int32
	for n := int64(-1); n < 2000; n += 97 {
		for _, f := range []sshtest.Fault{{Silent: n}, {Deaf: n}} {
			srv := sshtest.New(t)
			srv.FaultNext(f)
			wg.Go(func() {
				target := srv.Target("web1")
				target.ConnectTimeout = 300 * time.Millisecond
				ctx := testContext(t)
				_, err := p.Run(ctx, target, sshexec.Command{Argv: []string{"true"}})
				if err != nil && sshexec.KindOf(err) != sshexec.KindTimeout || ctx.Err() != nil {
					t.Errorf("silent after %+v: %v, and the caller's time: %v", f, err, ctx.Err())
				}
				if err != nil {
					timeouts.Add(1)
				}
			})
		}
	}
	wg.Wait()
	if timeouts.Load() < 20 {
		t.Errorf("only %d timeouts", timeouts.Load())
	}
}

func TestCutInMidOutput(t *testing.T) {
	srv := sshtest.New(t, sshtest.Handler(func(r *sshtest.Request) sshtest.Response {
		_, _ = io.WriteString(r.Stdout, "first\n")
		r.Server.DropConnections()
		<-r.Context.Done()
		return sshtest.Response{}
	}))
	p := newPool(t, sshexec.Options{})
	res, err := p.Run(testContext(t), srv.Target("web1"), sshexec.Command{Argv: []string{"yum", "-y", "update"}})
	if sshexec.KindOf(err) != sshexec.KindLost || string(res.Stdout) != "first\n" {
		t.Errorf("got %v, %q", err, res.Stdout)
	}
	if want := "cannot run yum on web1: connection lost"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	// It may have run; it must not be run again by itself.
	if n := len(srv.Requests()); n != 1 {
		t.Errorf("the command was run %d times", n)
	}
}

func TestCutDuringSudo(t *testing.T) {
	srv := sshtest.New(t, sshtest.Sudo(sshtest.SudoPolicy{Password: "pw"}))
	target := srv.Target("web1")
	p := newPool(t, sshexec.Options{})
	if err := runTrue(t, p, target); err != nil {
		t.Fatal(err)
	}
	p.Forget(target)
	var lost, ok int
	for n := int64(2000); n < handshakeBytes; n += 40 {
		srv.FaultNext(sshtest.Fault{Cut: n})
		_, err := newPool(t, sshexec.Options{DialAttempts: 1}).Run(testContext(t), target, sshexec.Command{Argv: []string{"true"}, Become: true})
		switch kind := sshexec.KindOf(err); {
		case err == nil:
			ok++
		case kind == sshexec.KindLost || kind == sshexec.KindUnreachable:
			lost++
		default:
			t.Errorf("cut after %d: %v (%v)", n, err, kind)
		}
	}
	if lost == 0 || ok == 0 {
		t.Errorf("%d lost, %d ok: the cuts do not cover sudo", lost, ok)
	}
}

func TestStaleConnectionIsReplaced(t *testing.T) {
	srv := sshtest.New(t)
	p := newPool(t, sshexec.Options{})
	target := srv.Target("web1")
	for range 3 {
		if err := runTrue(t, p, target); err != nil {
			t.Fatal(err)
		}
		srv.DropConnections()
	}
	if n := srv.Dials(); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}
}

// TestCommandThatMayHaveRunIsNotRepeated: the connection was open before, so a
// loss before anything was sent would be repaired; here the program was sent.
func TestCommandThatMayHaveRunIsNotRepeated(t *testing.T) {
	srv := sshtest.New(t)
	srv.SetFault(sshtest.Fault{Unheard: 2})
	p := newPool(t, sshexec.Options{})
	target := srv.Target("web1")
	if err := runTrue(t, p, target); err != nil {
		t.Fatal(err)
	}
	_, err := p.Run(testContext(t), target, sshexec.Command{Argv: []string{"yum", "-y", "update"}})
	if sshexec.KindOf(err) != sshexec.KindLost {
		t.Errorf("got %v", err)
	}
	if n := len(srv.Requests()); n != 2 {
		t.Errorf("the server ran %d commands, want 2", n)
	}
}

func TestPeerThatStopsReading(t *testing.T) {
	srv := sshtest.New(t)
	// Deaf some way into the command's input.
	srv.FaultNext(sshtest.Fault{Deaf: 200_000})
	p := newPool(t, sshexec.Options{KeepAlive: 50 * time.Millisecond})
	done := make(chan error, 1)
	go func() {
		_, err := p.Run(testContext(t), srv.Target("web1"), sshexec.Command{Script: "cat >/dev/null", Stdin: bytes.NewReader(make([]byte, 8<<20))})
		done <- err
	}()
	select {
	case err := <-done:
		if sshexec.KindOf(err) != sshexec.KindLost || !strings.Contains(err.Error(), "no sign of life") {
			t.Errorf("got %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the keepalive does not notice")
	}
}

func TestHalfOpenConnection(t *testing.T) {
	srv := sshtest.New(t)
	p := newPool(t, sshexec.Options{KeepAlive: 300 * time.Millisecond})
	target := srv.Target("web1")
	if err := runTrue(t, p, target); err != nil {
		t.Fatal(err)
	}
	srv.Reboot(sshtest.Down{HalfOpen: true})
	// Without the keepalive this would wait for TCP's retransmissions.
	_, err := p.Run(testContext(t), target, sshexec.Command{Argv: []string{"true"}})
	if err != nil && sshexec.KindOf(err) != sshexec.KindLost {
		t.Errorf("got %v", err)
	}
	if err := runTrue(t, p, target); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestDeadlineOnAChannelThatDoesNotOpen(t *testing.T) {
	srv := sshtest.New(t)
	srv.SetFault(sshtest.Fault{NoChannels: true})
	p := newPool(t, sshexec.Options{})
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	_, err := p.Run(ctx, srv.Target("web1"), sshexec.Command{Argv: []string{"true"}})
	if sshexec.KindOf(err) != sshexec.KindTimeout {
		t.Errorf("got %v", err)
	}
}

func TestCommandTimeout(t *testing.T) {
	srv := sshtest.New(t)
	p := newPool(t, sshexec.Options{})
	res, err := p.Run(testContext(t), srv.Target("web1"), sshexec.Command{
		Script: "echo begun; sleep 300 & sleep 300; echo never", Timeout: time.Second,
	})
	if want := "cannot run a script on web1: it did not end within 1s"; err == nil || err.Error() != want || sshexec.KindOf(err) != sshexec.KindTimeout || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v (%v)", err, sshexec.KindOf(err))
	}
	if string(res.Stdout) != "begun\n" || res.Duration < time.Second {
		t.Errorf("result %+v", res)
	}
	allEnded(t, srv)
	if err := runTrue(t, p, srv.Target("web1")); err != nil || srv.Dials() != 1 {
		t.Errorf("the connection is not used on: %v, %d dials", err, srv.Dials())
	}
}

func TestCanceledCommandIsKilled(t *testing.T) {
	running := make(chan struct{})
	srv := sshtest.New(t, sshtest.Handler(func(r *sshtest.Request) sshtest.Response {
		close(running)
		<-r.Context.Done()
		return sshtest.Response{}
	}))
	p := newPool(t, sshexec.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-running
		cancel()
	}()
	_, err := p.Run(ctx, srv.Target("web1"), sshexec.Command{Argv: []string{"sleep", "inf"}})
	if sshexec.KindOf(err) != sshexec.KindCanceled {
		t.Errorf("got %v", err)
	}
	allEnded(t, srv)
}

// TestHarmlessCommandIsLeftAlone: no session is opened to kill what changes nothing,
// unless it takes too long.
func TestHarmlessCommandIsLeftAlone(t *testing.T) {
	running := make(chan struct{}, 1)
	srv := sshtest.New(t, sshtest.Handler(func(r *sshtest.Request) sshtest.Response {
		running <- struct{}{}
		<-r.Context.Done()
		return sshtest.Response{}
	}))
	p := newPool(t, sshexec.Options{})
	ctx, cancel := context.WithCancel(testContext(t))
	go func() {
		<-running
		cancel()
	}()
	look := sshexec.Command{Argv: []string{"find", "/"}, Harmless: true}
	if _, err := p.Run(ctx, srv.Target("web1"), look); sshexec.KindOf(err) != sshexec.KindCanceled {
		t.Errorf("got %v", err)
	}
	if n := srv.Running(); n != 1 {
		t.Errorf("%d commands run, want 1", n)
	}
	p.Forget(srv.Target("web1")) // sshtest ends what runs
	allEnded(t, srv)
	look.Timeout = time.Millisecond
	if _, err := p.Run(testContext(t), srv.Target("web1"), look); sshexec.KindOf(err) != sshexec.KindTimeout {
		t.Errorf("got %v", err)
	}
	allEnded(t, srv)
}

// allEnded waits until the server runs no command any more: it was told to kill
// them before Run returned, and does so a moment later.
func allEnded(t *testing.T, srv *sshtest.Server) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); srv.Running() != 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d commands still run", srv.Running())
		}
	}
}

func TestUploadCutLeavesNothing(t *testing.T) {
	for _, real := range []bool{false, true} {
		t.Run(fmt.Sprintf("real=%v", real), func(t *testing.T) {
			opts := []sshtest.Option{}
			if real {
				opts = append(opts, sshtest.RealFiles())
			}
			srv := sshtest.New(t, opts...)
			dir, onDisk := "/etc", srv.Path("/etc")
			if real {
				dir = t.TempDir()
				onDisk = dir
			}
			_ = os.MkdirAll(onDisk, 0o755)
			old := []byte("old\n")
			if err := os.WriteFile(onDisk+"/f", old, 0o600); err != nil {
				t.Fatal(err)
			}
			content := bytes.Repeat([]byte("x"), 1<<20)
			for _, at := range []int64{3_000, 20_000, 300_000, 1_000_000} {
				srv.FaultNext(sshtest.Fault{CutIn: at})
				p := newPool(t, sshexec.Options{DialAttempts: 1})
				err := p.Upload(testContext(t), srv.Target("web1"), sshexec.Upload{Path: dir + "/f", Content: bytes.NewReader(content), Size: int64(len(content)), SHA256: digestOf(content)})
				if k := sshexec.KindOf(err); k != sshexec.KindLost && k != sshexec.KindUnreachable {
					t.Errorf("cut after %d: %v", at, err)
				}
			}
			waitFor(t, func() bool { return slices.Equal(listDir(t, onDisk), []string{"f"}) }, func() string { return fmt.Sprint(listDir(t, onDisk)) })
			if b, _ := os.ReadFile(onDisk + "/f"); !bytes.Equal(b, old) {
				t.Errorf("the target is now %d bytes", len(b))
			}
		})
	}
}

func listDir(t testing.TB, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(dir + "/*")
	hidden, _ := filepath.Glob(dir + "/.[!.]*")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range append(found, hidden...) {
		out = append(out, filepath.Base(f))
	}
	return out
}

func waitFor(t testing.TB, done func() bool, describe func() string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("not within 20 s: %s", describe())
}
