package probe

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The tests of this file run the scripts on this machine, in the shells that nodes
// have, against servers of this process. Those are no data plane: they show what is
// made of answers, refusals and silence.

// server answers names by UDP and TCP, and HTTP, on one loopback port each, until it
// is told otherwise.
type server struct {
	dns, http int
	// silent has it take what comes and answer nothing.
	silent atomic.Bool
	mu     sync.Mutex
	conns  map[net.Conn]bool
}

func serve(t *testing.T) *server {
	t.Helper()
	s := &server{conns: map[net.Conn]bool{}}
	var tcp net.Listener
	var udp net.PacketConn
	for range 20 { // one port free for both
		var err error
		if tcp, err = net.Listen("tcp4", ":0"); err != nil {
			t.Fatal(err)
		}
		if udp, err = net.ListenPacket("udp4", tcp.Addr().String()); err == nil {
			break
		}
		_ = tcp.Close()
	}
	s.dns = tcp.Addr().(*net.TCPAddr).Port
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.http = web.Addr().(*net.TCPAddr).Port
	go func() {
		b := make([]byte, 512)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			if n == 56 && !s.silent.Load() {
				_, _ = udp.WriteTo(append([]byte("fd\x81\x83"), b[4:n]...), from)
			}
		}
	}()
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[c] = true
			s.mu.Unlock()
			go func() {
				b := make([]byte, 58)
				for {
					if _, err := io.ReadFull(c, b); err != nil {
						_ = c.Close()
						return
					}
					if !s.silent.Load() {
						_, _ = c.Write(append([]byte{0, 56, 'f', 'd', 0x81, 0x83}, b[6:]...))
					}
				}
			}()
		}
	}()
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.silent.Load() {
			<-r.Context().Done()
			return
		}
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		if r.URL.Path == "/proxied" {
			host = "198.51.100.7"
		}
		fmt.Fprintf(w, "you are %s.\n", host)
	})}
	go func() { _ = srv.Serve(web) }()
	t.Cleanup(func() { _, _, _ = tcp.Close(), udp.Close(), srv.Close() })
	return s
}

// cut ends every connection that is open, and says nothing.
func (s *server) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
	s.conns = map[net.Conn]bool{}
}

// shells are those that a node's /bin/sh may be.
var shells = [][]string{{"dash"}, {"busybox", "sh"}, {"bash", "--posix"}}

// machine is one on which the scripts run, with a folder of its own.
type machine struct {
	dir   string
	shell []string
	env   []string
}

func newMachine(t *testing.T, shell []string) machine {
	t.Helper()
	for _, need := range []string{shell[0], "bash", "curl", "timeout", "setsid"} {
		if _, err := exec.LookPath(need); err != nil {
			t.Skipf("needs %s", need)
		}
	}
	m := machine{dir: filepath.Join(t.TempDir(), "probe"), shell: shell}
	t.Cleanup(func() {
		m.run(t, Stop(false))
		eventually(t, "every process ends", func() bool { return m.processes(t) == 0 })
	})
	return m
}

func (m machine) run(t *testing.T, s Script) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := m.command(ctx, s).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func (m machine) command(ctx context.Context, s Script) *exec.Cmd {
	c := exec.CommandContext(ctx, m.shell[0], append(m.shell[1:len(m.shell):len(m.shell)], "-c", s.Text)...)
	c.Env = append(os.Environ(), m.env...)
	for k, v := range s.Env {
		if k == "dir" {
			v = m.dir
		}
		c.Env = append(c.Env, k+"="+v)
	}
	return c
}

// look is what the machine reports.
func (m machine) look(t *testing.T, s Script) Report {
	t.Helper()
	out := m.run(t, s)
	t.Log(out)
	return Parse("n1", out)
}

// processes counts those that still ask.
func (m machine) processes(t *testing.T) (n int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		b, _ := os.ReadFile(f) // it may have ended
		if strings.Contains(string(b), m.dir+"/loop.sh") {
			n++
		}
	}
	return n
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// mark begins to count, once every path has been asked and the processes know.
func (m machine) mark(t *testing.T) {
	t.Helper()
	seen := func(s Script, all func(Seen) bool) func() bool {
		return func() bool {
			r := Parse("n1", m.run(t, s))
			for _, p := range r.Seen {
				if !all(p) {
					return false
				}
			}
			return r.Silent == ""
		}
	}
	plain := Look(true, false, 1)
	eventually(t, "each path is asked", seen(plain, func(s Seen) bool { return s.OK+s.Failed > 0 }))
	m.run(t, Look(true, true, 1))
	eventually(t, "each path is counted anew", seen(plain, func(s Seen) bool { return s.OKBefore+s.FailedBefore > 0 && s.OK+s.Failed > 0 }))
}

func (s *server) paths(t *testing.T) []Path {
	t.Helper()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := closed.Addr().String()
	_ = closed.Close()
	web := "http://127.0.0.1:" + strconv.Itoa(s.http)
	out, err := OfGiven([]string{"dns://127.0.0.1:" + strconv.Itoa(s.dns), web + "/ip#client", web + "/proxied#client", web + "/plain", "tcp://127.0.0.1:" + strconv.Itoa(s.dns), "tcp://" + refused})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What answers is counted, in every shell; then nobody answers for a while, and an
// open connection is cut; then all is as before.
func TestScripts(t *testing.T) {
	for _, shell := range shells {
		t.Run(shell[0], func(t *testing.T) {
			t.Parallel()
			s := serve(t)
			m := newMachine(t, shell)
			paths := s.paths(t)
			if out := m.run(t, Start(false, paths, 1)); out != fmt.Sprintf("started %d\n", len(paths)) {
				t.Fatalf("%q", out)
			}
			m.mark(t)
			for _, p := range m.look(t, Look(true, false, 1)).Seen {
				refused := p.Protocol == TCP && p.Port != s.dns
				if refused != (p.OK == 0) || p.Stopped && !refused {
					t.Errorf("%s: %+v", p.Path, p)
				}
				want := ""
				if p.Protocol == HTTPClient {
					want = map[bool]string{true: "other", false: "kept"}[strings.Contains(p.URL, "proxied")]
				}
				if p.Client != want {
					t.Errorf("%s: the client's address is %q", p.Path, p.Client)
				}
			}

			eventually(t, "what can show nothing is asked no more", func() bool { return m.processes(t) == len(paths)-1 })

			s.silent.Store(true)
			s.cut()
			eventually(t, "silence is seen", func() bool {
				for _, p := range Parse("n1", m.run(t, Look(true, false, 1))).Seen {
					if p.Protocol != TCP && p.Bad < lostAfter {
						return false
					}
				}
				return true
			})
			e := Judge([]Report{m.look(t, Look(true, false, 1))}, "", nil, false)
			if lost := e.Lost(); len(lost) != 5 { // two of names, three of HTTP
				t.Errorf("lost: %q", lost)
			}
			s.silent.Store(false)
			eventually(t, "all answer again", func() bool {
				e = Judge([]Report{Parse("n1", m.run(t, Look(true, false, 1)))}, "", nil, false)
				return len(e.Lost()) == 0
			})
			for _, r := range e.Paths {
				switch {
				case r.Protocol == TCP && r.Port == s.dns: // taking what comes is all it has to do
				case r.Protocol == TCP:
					if r.Answered > 0 || len(r.Mute) != 1 {
						t.Errorf("what never answered is evidence: %+v", r)
					}
				case r.Protocol.Open():
					if len(r.Cut) != 1 {
						t.Errorf("not cut: %+v", r)
					}
				case r.Failed < lostAfter || r.Longest.Duration() < lostAfter*soonest:
					t.Errorf("%+v", r)
				}
			}
		})
	}
}

// Nobody comes back: all ends by itself. Another start: the earlier one's end.
func TestNothingPilesUp(t *testing.T) {
	m := newMachine(t, []string{"dash"})
	paths := serve(t).paths(t)
	for range 3 {
		m.run(t, Start(false, paths, 1))
	}
	eventually(t, "one start is left", func() bool { return m.processes(t) == len(paths) })

	short := Look(true, false, 1)
	short.Env["lease"] = "1500"
	m.run(t, short)
	eventually(t, "the lease ends them", func() bool { return m.processes(t) == 0 })
	still := Look(true, false, 1)
	still.Env["lease"] = ""
	r := m.look(t, still)
	if len(r.Seen) != len(paths) {
		t.Fatalf("%+v", r)
	}
	for _, p := range r.Seen {
		if !p.Stopped {
			t.Errorf("%s is taken for one that is still asked", p.Path)
		}
	}
	if r := m.look(t, Stop(false)); r.Silent != "" {
		t.Errorf("%+v", r)
	}
	if r := m.look(t, Stop(false)); !strings.Contains(r.Silent, "are gone") {
		t.Errorf("%+v", r)
	}
}

// A full disk: nothing runs, and the start says so. One that fills up later: what is
// not known is not told.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system takes root")
	}
	m := newMachine(t, []string{"dash"})
	small := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small).CombinedOutput(); err != nil {
		t.Skipf("cannot mount a small file system here: %s", out)
	}
	t.Cleanup(func() {
		m.run(t, Stop(false))
		eventually(t, "the folder is given back", func() bool { return exec.Command("umount", small).Run() == nil })
	})
	m.dir = filepath.Join(small, "probe")
	fill := func() {
		_ = os.WriteFile(filepath.Join(small, "full"), make([]byte, 1<<20), 0o600) // as much as fits
	}
	fill()
	paths := serve(t).paths(t)
	c := m.command(context.Background(), Start(false, paths, 1))
	if out, err := c.CombinedOutput(); err == nil || m.processes(t) > 0 {
		t.Errorf("%v %s, %d processes", err, out, m.processes(t))
	}
	if err := os.Remove(filepath.Join(small, "full")); err != nil {
		t.Fatal(err)
	}
	m.run(t, Start(false, paths, 1))
	fill()
	eventually(t, "nothing can be written", func() bool {
		e := Judge([]Report{Parse("n1", m.run(t, Look(true, false, 1)))}, "", nil, false)
		return e.Answering() == 0 && len(e.Lost()) == 0
	})
}

// A machine with nothing to ask for is no silent one.
func TestNothingToAsk(t *testing.T) {
	m := newMachine(t, []string{"dash"})
	if out := m.run(t, Start(false, nil, 1)); out != "started 0\n" {
		t.Errorf("%q", out)
	}
	if r := m.look(t, Look(true, true, 1)); r.Silent != "" || len(r.Seen) > 0 || m.processes(t) > 0 {
		t.Errorf("%+v", r)
	}
}

// A machine without bash says so, and has nothing left behind.
func TestMissingProgram(t *testing.T) {
	m := newMachine(t, []string{"dash"})
	bin := t.TempDir()
	for _, name := range []string{"curl", "timeout", "setsid"} {
		if err := os.Symlink("/bin/true", filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	m.env = []string{"PATH=" + bin}
	if r := m.look(t, Start(false, nil, 1)); r.Silent != "bash is not installed" {
		t.Errorf("%+v", r)
	}
	if r := m.look(t, Look(true, false, 1)); r.Silent != "bash is not installed" {
		t.Errorf("%+v", r)
	}
	m.env = nil
	if r := m.look(t, Look(true, false, 1)); !strings.Contains(r.Silent, "gone") {
		t.Errorf("%+v", r)
	}
}
