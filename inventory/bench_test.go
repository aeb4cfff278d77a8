package inventory_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fleetd/fleetd/inventory/export"
	"github.com/fleetd/fleetd/inventory/local"
)

// writeFleet writes an inventory of n hosts in groups below 20 sites, with
// group_vars for every group, and returns its path.
func writeFleet(t testing.TB, n, groups int, format string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "group_vars"), 0o755); err != nil {
		t.Fatal(err)
	}
	const sites = 20
	for g := range groups {
		vars := fmt.Sprintf("rack: r%03d\nntp_servers: [10.0.%d.1, 10.0.%d.2]\nmtu: %d\nlabels: {rack: r%03d, pool: general}\n", g, g%256, g%256, 1400+g%100, g)
		if err := os.WriteFile(filepath.Join(dir, "group_vars", fmt.Sprintf("rack%03d.yml", g)), []byte(vars), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	all := "ansible_user: centos\nkernel_package: kernel-ml\nkernel_repo: elrepo-kernel\ncalico_api_host: 10.1.2.3\ncalico_api_port: 6443\n"
	if err := os.WriteFile(filepath.Join(dir, "group_vars", "all.yml"), []byte(all), 0o644); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "hosts"+map[string]string{"ini": "", "yaml": ".yml", "script": ".sh"}[format])
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(f)
	host := func(i int) (string, string) {
		return fmt.Sprintf("node%06d.example.org", i), fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)
	}
	switch format {
	case "ini":
		for g := range groups {
			fmt.Fprintf(w, "[rack%03d]\n", g)
			for i := g; i < n; i += groups {
				h, a := host(i)
				fmt.Fprintf(w, "%s ansible_host=%s slot=%d\n", h, a, i/groups)
			}
		}
		for s := range sites {
			fmt.Fprintf(w, "[site%02d:children]\n", s)
			for g := s; g < groups; g += sites {
				fmt.Fprintf(w, "rack%03d\n", g)
			}
		}
	case "yaml":
		fmt.Fprint(w, "all:\n  children:\n")
		for s := range sites {
			fmt.Fprintf(w, "    site%02d:\n      children:\n", s)
			for g := s; g < groups; g += sites {
				fmt.Fprintf(w, "        rack%03d:\n          hosts:\n", g)
				for i := g; i < n; i += groups {
					h, a := host(i)
					fmt.Fprintf(w, "            %s:\n              ansible_host: %s\n              slot: %d\n", h, a, i/groups)
				}
			}
		}
	case "script": // JSON on one line, as most scripts print it
		fmt.Fprint(w, "#!/bin/sh\ncat <<'END'\n{\"_meta\": {\"hostvars\": {")
		for i := range n {
			h, a := host(i)
			fmt.Fprintf(w, "%s%q: {\"ansible_host\": %q, \"slot\": %d}", map[bool]string{true: ", "}[i > 0], h, a, i/groups)
		}
		fmt.Fprint(w, "}}")
		for g := range groups {
			var names []string
			for i := g; i < n; i += groups {
				h, _ := host(i)
				names = append(names, strconv.Quote(h))
			}
			fmt.Fprintf(w, ", \"rack%03d\": {\"hosts\": [%s]}", g, strings.Join(names, ", "))
		}
		for s := range sites {
			var names []string
			for g := s; g < groups; g += sites {
				names = append(names, fmt.Sprintf("%q", fmt.Sprintf("rack%03d", g)))
			}
			fmt.Fprintf(w, ", \"site%02d\": {\"children\": [%s]}", s, strings.Join(names, ", "))
		}
		fmt.Fprint(w, "}\nEND\n")
		if err := f.Chmod(0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

func list(source string, w io.Writer) error {
	inv, _, err := local.Load(context.Background(), local.Request{Sources: []string{source}, Dir: filepath.Dir(source)})
	if err != nil {
		return err
	}
	return export.List(w, inv, export.Options{})
}

// BenchmarkList is what `fleetd inventory --list` does, within this process.
func BenchmarkList(b *testing.B) {
	for _, format := range []string{"ini", "yaml", "script"} {
		for _, n := range []int{1000, 10000, 100000} {
			b.Run(fmt.Sprintf("%s/hosts=%d", format, n), func(b *testing.B) {
				source := writeFleet(b, n, 500, format)
				b.ReportAllocs()
				for b.Loop() {
					if err := list(source, io.Discard); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/host")
			})
		}
	}
}

// TestListForScale is no test: TestScale runs it in a process of its own.
func TestListForScale(t *testing.T) {
	source := os.Getenv("FLEETD_SCALE_SOURCE")
	if source == "" {
		t.Skip("only TestScale runs this, in a process of its own")
	}
	out, err := os.Create(os.Getenv("FLEETD_SCALE_OUT"))
	if err != nil {
		t.Fatal(err)
	}
	if err := list(source, out); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestScale lists fleets of 10,000 and 100,000 hosts with the real
// ansible-inventory and with this package, each in a process of its own and with
// memory managed as in cmd/fleetd, and compares output, time and memory. It takes minutes, nearly all of them
// Ansible's: make bench runs it, with FLEETD_BENCH=1. FLEETD_BENCH_HOSTS
// bounds the fleet.
func TestScale(t *testing.T) {
	if os.Getenv("FLEETD_BENCH") == "" {
		t.Skip("takes minutes; set FLEETD_BENCH=1")
	}
	tool, err := exec.LookPath("ansible-inventory")
	if err != nil {
		t.Skip("ansible-inventory is not installed: apt-get install ansible-core")
	}
	most := 100000
	if s := os.Getenv("FLEETD_BENCH_HOSTS"); s != "" {
		if most, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%-6s %8s %12s %10s %12s %10s %8s", "", "hosts", "ansible", "", "fleetd", "", "faster")
	for _, format := range []string{"ini", "yaml", "script"} {
		for _, n := range []int{10000, 100000} {
			if n > most {
				continue
			}
			source := writeFleet(t, n, 500, format)
			theirs, ours := filepath.Join(t.TempDir(), "ansible.json"), filepath.Join(t.TempDir(), "fleetd.json")
			at, am := measure(t, source, []string{"HOME=" + t.TempDir()}, tool, "-i", source, "--list", "--output", theirs)
			ft, fm := measure(t, source, []string{"FLEETD_SCALE_SOURCE=" + source, "FLEETD_SCALE_OUT=" + ours, "GOGC=400", "GOMEMLIMIT=448MiB"},
				os.Args[0], "-test.run=^TestListForScale$", "-test.count=1")
			t.Logf("%-6s %8d %12s %7d MB %12s %7d MB %7.0fx", format, n, at.Round(time.Millisecond), am, ft.Round(time.Millisecond), fm, float64(at)/float64(ft))
			if float64(at)/float64(ft) < 50 {
				t.Errorf("%s, %d hosts: less than 50 times faster", format, n)
			}
			if fm > 500 {
				t.Errorf("%s, %d hosts: more than 500 MB", format, n)
			}
			if !sameButLastNewline(t, theirs, ours) {
				t.Errorf("%s, %d hosts: the outputs differ", format, n)
			}
		}
	}
}

// TestFlatCost measures processor time per host for 1,000, 10,000 and 100,000
// hosts, always 200 in a group: no size may cost a fifth more than the smallest.
// Processor time, not wall time: other work on the machine counts for less.
func TestFlatCost(t *testing.T) {
	if os.Getenv("FLEETD_BENCH") == "" {
		t.Skip("takes a while; set FLEETD_BENCH=1")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // as in cmd/fleetd
	for _, format := range []string{"ini", "yaml", "script"} {
		var smallest float64
		for _, n := range []int{1000, 10000, 100000} {
			source := writeFleet(t, n, n/200, format)
			best := 0.0
			for range 5 {
				runs := max(1, 100000/n)
				var spent time.Duration
				for range runs {
					// Every run starts with fresh memory, small ones too.
					debug.FreeOSMemory()
					before := processorTime(t)
					if err := list(source, io.Discard); err != nil {
						t.Fatal(err)
					}
					spent += processorTime(t) - before
				}
				perHost := float64(spent) / float64(runs) / float64(n)
				if best == 0 || perHost < best {
					best = perHost
				}
			}
			t.Logf("%-6s %7d hosts: %5.1f µs of processor time per host", format, n, best/1000)
			switch {
			case smallest == 0:
				smallest = best
			case best > 1.2*smallest:
				t.Errorf("%s: cost per host is not flat: %.1f µs for %d hosts, %.1f for 1,000", format, best/1000, n, smallest/1000)
			default:
				t.Logf("%-6s %+.0f %%", format, 100*(best/smallest-1))
			}
		}
	}
}

func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// sameButLastNewline compares files piece by piece: the kernel counts this
// process's memory as the peak of those it starts.
func sameButLastNewline(t *testing.T, a, b string) bool {
	t.Helper()
	open := func(name string) *bufio.Reader {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return bufio.NewReader(f)
	}
	x, y := open(a), open(b)
	for {
		l, errX := x.ReadString('\n')
		m, errY := y.ReadString('\n')
		if strings.TrimSuffix(l, "\n") != strings.TrimSuffix(m, "\n") {
			return false
		}
		if errX != nil || errY != nil {
			rest, _ := x.ReadString('\n')
			more, _ := y.ReadString('\n')
			return rest == "" && more == ""
		}
	}
}

// measure runs a command and returns its wall time and peak memory in MB.
func measure(t *testing.T, source string, env []string, name string, args ...string) (time.Duration, int64) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = filepath.Dir(source)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8"}, env...)
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	took := time.Since(start)
	return took, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss / 1024
}
