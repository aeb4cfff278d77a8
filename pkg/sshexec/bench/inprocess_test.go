package bench

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/opensshtest"
)

// startNodes starts the in-process server in another process, so that its
// memory and processor time are not counted here.
func startNodes(b *testing.B) job {
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "FLEETD_BENCH_ROLE=server")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	var j job
	if err := json.NewDecoder(out).Decode(&j); err != nil {
		b.Fatal(err)
	}
	return j
}

// nodes returns n targets that are one server under n names, each with a
// connection of its own.
func (j job) nodes(n int) []sshexec.Target {
	var out []sshexec.Target
	for i := range n {
		j.Hosts = []string{"127.0.0.1"}
		t := j.targets()[0]
		t.Name = fmt.Sprintf("node%04d", i)
		t.HostKeyAlias = t.Name
		out = append(out, t)
	}
	return out
}

func connectAll(b *testing.B, p *sshexec.Pool, targets []sshexec.Target) {
	var wg sync.WaitGroup
	for _, t := range targets {
		wg.Go(func() {
			if err := p.Connect(context.Background(), t); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
}

func BenchmarkConnections(b *testing.B) {
	const n = 1000
	j := startNodes(b)
	var heap, rss float64
	for b.Loop() {
		p := sshexec.NewPool(sshexec.Options{})
		before, beforeRSS := inUse(), residentBytes(b)
		connectAll(b, p, j.nodes(n))
		heap += float64(inUse()-before) / n
		rss += float64(residentBytes(b)-beforeRSS) / n
		p.Close()
	}
	fmt.Printf("\n%d open connections:\n  %.0f KiB of memory in use each, %.0f KiB resident\n", n, heap/float64(b.N)/1024, rss/float64(b.N)/1024)
	fmt.Print(verdict(fmt.Sprintf("an open connection takes less than %d KiB", maxKiBPerConn), max(heap, rss)/float64(b.N)/1024 < maxKiBPerConn))
	b.ReportMetric(heap/float64(b.N)/1024, "KiB-inuse/conn")
	b.ReportMetric(rss/float64(b.N)/1024, "KiB-rss/conn")
	b.ReportMetric(0, "ns/op")
}

// inUse is the memory of live objects and stacks.
func inUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

func residentBytes(b *testing.B) int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip("no /proc")
	}
	var size, resident int64
	_, _ = fmt.Sscan(string(text), &size, &resident)
	return resident * int64(os.Getpagesize())
}

func BenchmarkCPUPerHost(b *testing.B) {
	j := startNodes(b)
	for _, n := range []int{100, 1000, 5000} {
		b.Run(fmt.Sprintf("hosts=%d", n), func(b *testing.B) {
			targets := j.nodes(n)
			var cpu time.Duration
			for b.Loop() {
				before := processorTime(b)
				p := sshexec.NewPool(sshexec.Options{MaxDials: forks})
				p.RunAll(context.Background(), targets, sshexec.Command{Argv: []string{"uname", "-rv"}}, forks, func(r sshexec.HostResult) {
					if r.Err != nil {
						b.Error(r.Err)
					}
				})
				p.Close()
				cpu += processorTime(b) - before
			}
			b.ReportMetric(float64(cpu)/float64(time.Millisecond)/float64(b.N*n), "cpu-ms/host")
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/run")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkUpload(b *testing.B) {
	const size = 100_000_000
	s := opensshtest.Start(b, opensshtest.Config{Lines: []string{"Subsystem sftp /usr/lib/openssh/sftp-server"}})
	content := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{}).Read(content)
	source := filepath.Join(b.TempDir(), "object")
	if err := os.WriteFile(source, content, 0o600); err != nil {
		b.Fatal(err)
	}
	remote := b.TempDir()
	p := sshexec.NewPool(sshexec.Options{})
	defer p.Close()
	sum := sha256.Sum256(content)
	ours := func() (wall, cpu time.Duration) {
		start, before := time.Now(), processorTime(b)
		if err := p.Upload(context.Background(), s.Target("node"), sshexec.Upload{Path: remote + "/a", Content: bytes.NewReader(content), Size: size, SHA256: hex.EncodeToString(sum[:])}); err != nil {
			b.Fatal(err)
		}
		p.Forget(s.Target("node")) // sftp connects each time
		return time.Since(start), processorTime(b) - before
	}
	theirs := func() (wall, cpu time.Duration) {
		start := time.Now()
		cmd := exec.Command("sftp", append([]string{"-q", "-b", "-"}, opensshArgs(s)...)...)
		// -f has it flush to disk, as sshexec does.
		cmd.Stdin = strings.NewReader(fmt.Sprintf("put -f %s %s/b\n", source, remote))
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		return time.Since(start), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	// Turn by turn: whatever else the machine does meets both.
	var ourWall, ourCPU, theirWall, theirCPU []time.Duration
	for b.Loop() {
		w, c := ours()
		ourWall, ourCPU = append(ourWall, w), append(ourCPU, c)
		w, c = theirs()
		theirWall, theirCPU = append(theirWall, w), append(theirCPU, c)
	}
	median := func(d []time.Duration) float64 {
		slices.Sort(d)
		return float64(d[len(d)/2]) / float64(time.Millisecond)
	}
	b.ReportMetric(median(ourWall), "ms-sshexec")
	b.ReportMetric(median(theirWall), "ms-sftp")
	b.ReportMetric(median(ourCPU), "cpu-ms-sshexec")
	b.ReportMetric(median(theirCPU), "cpu-ms-sftp")
	b.ReportMetric(0, "ns/op")
}

// opensshArgs are the arguments with which OpenSSH's own clients reach s.
func opensshArgs(s *opensshtest.Server) []string {
	return []string{"-F", "none", "-o", fmt.Sprintf("Port=%d", s.Port), "-i", s.Path("client"), "-o", "IdentitiesOnly=yes",
		"-o", "UserKnownHostsFile=" + s.Path("known_hosts"), "127.0.0.1"}
}

// BenchmarkFlood: a command that prints 10 GB must not take the bastion down.
func BenchmarkFlood(b *testing.B) {
	const size = 10 << 30
	const most = 32 // MiB
	s := opensshtest.Start(b, opensshtest.Config{})
	script := fmt.Sprintf("yes 0123456789abcde | head -c %d", int64(size))
	p := sshexec.NewPool(sshexec.Options{})
	defer p.Close()
	var peak int64
	var wall, cpu, theirs time.Duration
	for b.Loop() {
		debug.FreeOSMemory() // what earlier benchmarks left would hide it
		before, beforeCPU, start := residentBytes(b), processorTime(b), time.Now()
		stop := make(chan struct{})
		var watcher sync.WaitGroup
		watcher.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Millisecond):
					peak = max(peak, residentBytes(b)-before)
				}
			}
		})
		res, err := p.Run(context.Background(), s.Target("node"), sshexec.Command{Script: script})
		close(stop)
		watcher.Wait()
		if err != nil || !res.Truncated {
			b.Fatalf("truncated %v, %v", res.Truncated, err)
		}
		wall, cpu = wall+time.Since(start), cpu+processorTime(b)-beforeCPU
		start = time.Now()
		if err := exec.Command("ssh", append(opensshArgs(s), script)...).Run(); err != nil {
			b.Fatal(err)
		}
		theirs += time.Since(start)
	}
	n := time.Duration(b.N)
	fmt.Printf("\n10 GB of output: %.1f s, %.1f s of processor time, %d MiB more resident at most; ssh takes %.1f s\n",
		(wall / n).Seconds(), (cpu / n).Seconds(), peak>>20, (theirs / n).Seconds())
	fmt.Print(verdict(fmt.Sprintf("10 GB of output cost less than %d MiB", most), peak>>20 < most))
	b.ReportMetric(float64(peak>>20), "MiB-peak")
	b.ReportMetric((wall / n).Seconds(), "s-sshexec")
	b.ReportMetric((theirs / n).Seconds(), "s-ssh")
	b.ReportMetric(0, "ns/op")
}
