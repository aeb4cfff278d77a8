package sshexec_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/opensshtest"
)

// A badLine is a loopback TCP relay in front of a real sshd: a line that is cut,
// falls silent, and leads to another machine.
type badLine struct {
	net.Listener
	dials atomic.Int32

	mu       sync.Mutex
	upstream string
	cut      [2]int64
	open     []*stretch
}

// A stretch is one connection over the line.
type stretch struct {
	near, far net.Conn
	frozen    atomic.Bool
}

// Directions of badLine.cut.
const (
	fromNode = 0
	toNode   = 1
)

func newBadLine(t testing.TB, upstream string) *badLine {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &badLine{Listener: l, upstream: upstream}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			b.dials.Add(1)
			wg.Go(func() { b.serve(near) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		b.hangUp()
		wg.Wait()
	})
	return b
}

// leadTo has coming connections go elsewhere.
func (b *badLine) leadTo(upstream string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.upstream = upstream
}

// cutAfter cuts coming connections after so many bytes of a direction; 0 heals.
func (b *badLine) cutAfter(direction int, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cut = [2]int64{}
	b.cut[direction] = bytes
}

// freeze leaves the open connections half open: what is sent is swallowed.
func (b *badLine) freeze() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.open {
		s.frozen.Store(true)
	}
}

// hangUp closes the open connections.
func (b *badLine) hangUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.open {
		s.near.Close()
		s.far.Close()
	}
	b.open = nil
}

func (b *badLine) serve(near net.Conn) {
	b.mu.Lock()
	upstream, cut := b.upstream, b.cut
	b.mu.Unlock()
	far, err := net.Dial("tcp", upstream)
	if err != nil {
		near.Close()
		return
	}
	s := &stretch{near: near, far: far}
	b.mu.Lock()
	b.open = append(b.open, s)
	b.mu.Unlock()
	var wg sync.WaitGroup
	for direction, ends := range [2][2]net.Conn{{far, near}, {near, far}} {
		wg.Go(func() {
			s.relay(ends[0], ends[1], cut[direction])
			near.Close()
			far.Close()
		})
	}
	wg.Wait()
}

func (s *stretch) relay(from, to net.Conn, cut int64) {
	buf := make([]byte, 32<<10)
	for passed := int64(0); cut == 0 || passed < cut; {
		room := int64(len(buf))
		if cut > 0 {
			room = min(room, cut-passed)
		}
		n, err := from.Read(buf[:room])
		passed += int64(n)
		if n > 0 && !s.frozen.Load() {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// over reaches s, by a name that is its own, through the line.
func (b *badLine) over(t testing.TB, s *opensshtest.Server, base sshexec.Target) sshexec.Target {
	t.Helper()
	base.Port = b.Addr().(*net.TCPAddr).Port
	base.HostKeyAlias = "node"
	base.KnownHosts = []string{s.Write(t, "known_node", "node "+keyText(s.Keys["ed25519"])+"\n")}
	return base
}

func TestOpenSSHCutAtEveryPointOfTheHandshake(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{Lines: []string{"MaxStartups 100"}})
	line := newBadLine(t, s.Addr())
	target := line.over(t, s, s.Target("web1"))
	for _, direction := range []int{fromNode, toNode} {
		var failed, succeeded int
		for n := int64(1); n < 3600; n += 113 {
			line.cutAfter(direction, n)
			p := newPool(t, sshexec.Options{DialAttempts: 1})
			err := runTrue(t, p, target)
			p.Close()
			switch kind := sshexec.KindOf(err); {
			case err == nil:
				succeeded++
			case kind == sshexec.KindUnreachable || kind == sshexec.KindLost:
				failed++
			default:
				t.Errorf("direction %d cut after %d bytes: %v (%v)", direction, n, err, kind)
			}
		}
		t.Logf("direction %d: %d failed, %d succeeded", direction, failed, succeeded)
		if failed < 10 || succeeded == 0 {
			t.Errorf("direction %d: the cuts do not cover the handshake", direction)
		}
	}
	line.cutAfter(fromNode, 0)
	if err := runTrue(t, newPool(t, sshexec.Options{}), target); err != nil {
		t.Errorf("the healed line: %v", err)
	}
}

func TestOpenSSHCutInMidOutput(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{})
	line := newBadLine(t, s.Addr())
	line.cutAfter(fromNode, 200_000)
	ran := t.TempDir() + "/ran"
	res, err := newPool(t, sshexec.Options{}).Run(testContext(t), line.over(t, s, s.Target("web1")), sshexec.Command{
		Script: "echo x >>" + ran + "; echo first; exec cat /dev/zero",
	})
	if sshexec.KindOf(err) != sshexec.KindLost || !bytes.HasPrefix(res.Stdout, []byte("first\n")) || len(res.Stdout) < 100_000 {
		t.Errorf("%d bytes, %v", len(res.Stdout), err)
	}
	if b, err := os.ReadFile(ran); string(b) != "x\n" {
		t.Errorf("it must run once: %q, %v", b, err)
	}
}

func TestOpenSSHCutInMidUpload(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{})
	line := newBadLine(t, s.Addr())
	target := line.over(t, s, s.Target("web1"))
	dir := t.TempDir()
	old := []byte("old\n")
	if err := os.WriteFile(dir+"/f", old, 0o600); err != nil {
		t.Fatal(err)
	}
	content := bytes.Repeat([]byte("x"), 4<<20)
	for _, at := range []int64{5_000, 50_000, 1 << 20, 4 << 20} {
		line.cutAfter(toNode, at)
		err := newPool(t, sshexec.Options{DialAttempts: 1}).Upload(testContext(t), target, sshexec.Upload{Path: dir + "/f", Content: bytes.NewReader(content), Size: int64(len(content)), SHA256: digestOf(content)})
		if sshexec.KindOf(err) != sshexec.KindLost {
			t.Errorf("cut after %d: %v", at, err)
		}
	}
	waitFor(t, func() bool { return slices.Equal(listDir(t, dir), []string{"f"}) }, func() string { return fmt.Sprint(listDir(t, dir)) })
	if b, _ := os.ReadFile(dir + "/f"); !bytes.Equal(b, old) {
		t.Errorf("the target is now %d bytes", len(b))
	}
}

// TestOpenSSHCutDuringSudo: whatever of sudo's conversation is cut, the error
// speaks of the line, not of the password.
func TestOpenSSHCutDuringSudo(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{Users: true})
	line := newBadLine(t, s.Addr())
	target := line.over(t, s, s.As(opensshtest.DeployUser))
	target.Become.Password = opensshtest.DeployPassword
	var lost, ok int
	for _, direction := range []int{fromNode, toNode} {
		for n := int64(1500); n < 3600; n += 70 {
			line.cutAfter(direction, n)
			p := newPool(t, sshexec.Options{DialAttempts: 1})
			_, err := p.Run(testContext(t), target, sshexec.Command{Argv: []string{"true"}, Become: true})
			p.Close()
			switch kind := sshexec.KindOf(err); {
			case err == nil:
				ok++
			case kind == sshexec.KindLost || kind == sshexec.KindUnreachable:
				lost++
			default:
				t.Errorf("direction %d cut after %d: %v (%v)", direction, n, err, kind)
			}
		}
	}
	t.Logf("%d lost, %d ok", lost, ok)
	if lost == 0 || ok == 0 {
		t.Errorf("%d lost, %d ok: the cuts do not cover sudo", lost, ok)
	}
}

func TestOpenSSHHalfOpenConnection(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{})
	line := newBadLine(t, s.Addr())
	target := line.over(t, s, s.Target("web1"))
	p := newPool(t, sshexec.Options{KeepAlive: 500 * time.Millisecond})
	if err := runTrue(t, p, target); err != nil {
		t.Fatal(err)
	}
	// Without the keepalive both would wait for TCP's retransmissions. Nothing
	// was started on the idle connection, so another takes its place.
	line.freeze()
	if err := runTrue(t, p, target); err != nil || line.dials.Load() != 2 {
		t.Errorf("an idle connection: %v, %d connections", err, line.dials.Load())
	}
	started := t.TempDir() + "/started"
	go func() {
		untilThere(t, started)
		line.freeze()
	}()
	_, err := p.Run(testContext(t), target, sshexec.Command{Script: "touch " + started + "; exec sleep 30"})
	if sshexec.KindOf(err) != sshexec.KindLost || !strings.Contains(err.Error(), "no sign of life") {
		t.Errorf("a connection in use: %v", err)
	}
}

// TestOpenSSHPeerThatStopsReading: the command never reads what it is sent; its
// deadline ends it all the same, and the connection serves on.
func TestOpenSSHPeerThatStopsReading(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{})
	line := newBadLine(t, s.Addr())
	target := line.over(t, s, s.Target("web1"))
	p := newPool(t, sshexec.Options{})
	pidFile := t.TempDir() + "/pid"
	_, err := p.Run(testContext(t), target, sshexec.Command{
		Script: "echo $$ >" + pidFile + "; exec sleep 1000", Stdin: bytes.NewReader(make([]byte, 16<<20)), Timeout: 2 * time.Second,
	})
	if sshexec.KindOf(err) != sshexec.KindTimeout {
		t.Errorf("got %v", err)
	}
	pid, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { _, err := os.Stat("/proc/" + strings.TrimSpace(string(pid))); return err != nil }, func() string { return "the command lives" })
	if err := runTrue(t, p, target); err != nil || line.dials.Load() != 1 {
		t.Errorf("afterwards: %v, %d connections", err, line.dials.Load())
	}
}

func TestOpenSSHKeyChangedWhileConnected(t *testing.T) {
	t.Parallel()
	s, other := opensshtest.Start(t, opensshtest.Config{}), opensshtest.Start(t, opensshtest.Config{})
	line := newBadLine(t, s.Addr())
	target := line.over(t, s, s.Target("web1"))
	p := newPool(t, sshexec.Options{})
	if err := runTrue(t, p, target); err != nil {
		t.Fatal(err)
	}
	line.leadTo(other.Addr())
	// The open connection goes on: its host was proven.
	if err := runTrue(t, p, target); err != nil {
		t.Errorf("the open connection: %v", err)
	}
	line.hangUp()
	err := runTrue(t, p, target)
	for _, fingerprint := range []string{ssh.FingerprintSHA256(s.Keys["ed25519"]), ssh.FingerprintSHA256(other.Keys["ed25519"])} {
		if err == nil || !strings.Contains(err.Error(), fingerprint) || sshexec.KindOf(err) != sshexec.KindHostKey {
			t.Errorf("got %v, want it to show %s", err, fingerprint)
		}
	}
}
