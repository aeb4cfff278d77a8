package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fleetd/fleetd/pkg/sshexec/internal/opensshtest"
)

// A tool is a way to run uname -rv on all hosts.
type tool struct {
	name   string
	bin    string // what must be installed
	args   []string
	env    []string
	job    bool // this binary, with the job on standard input
	rounds int  // of maxRounds, in how many it runs; 0 is 1
}

func BenchmarkFleet(b *testing.B) {
	if os.Getuid() != 0 {
		b.Skip("needs root: sshd must listen on all of 127.0.0.0/8 in a network namespace")
	}
	s := opensshtest.Start(b, opensshtest.Config{
		Users: true, Hosts: []string{"0.0.0.0"},
		Lines: []string{"MaxStartups 1000", "UsePAM no", "UseDNS no", "LogLevel ERROR"},
	})
	hostKey := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.Keys["ed25519"])))
	known := s.Write(b, "kh", fmt.Sprintf("[127.0.1.*]:%d %s\n", s.Port, hostKey))
	config := s.Write(b, "ssh_config", fmt.Sprintf("Host *\n  Port %d\n  User %s\n  IdentityFile %s\n  IdentitiesOnly yes\n  IdentityAgent none\n"+
		"  UserKnownHostsFile %s\n  GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n  LogLevel ERROR\n  ControlMaster no\n",
		s.Port, opensshtest.OpsUser, s.Path("client"), known))
	// Algorithms of a file outside of /etc would be warned of.
	policy := s.Write(b, "openssh.config", "GSSAPIKexAlgorithms gss-curve25519-sha256-,gss-nistp256-sha256-\n")
	redhat := s.Write(b, "50-redhat.conf", "Match final all\n\tInclude "+policy+"\n\tGSSAPIAuthentication yes\n\tForwardX11Trusted yes\n")
	el9 := s.Write(b, "ssh_config_el9", "Include "+redhat+"\nInclude "+config+"\n")
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	fleetd := os.Getenv("FLEETD")
	if fleetd == "" {
		fleetd = s.Path("fleetd")
		if out, err := exec.Command("go", "build", "-ldflags", "-s -w", "-o", fleetd, "github.com/fleetd/fleetd/cmd/fleetd").CombinedOutput(); err != nil {
			b.Logf("cannot build fleetd: %v\n%s", err, out)
		}
	}
	for _, n := range counts() {
		j := job{Port: s.Port, User: opensshtest.OpsUser, Key: s.Path("client"), KnownHosts: known, HostKey: hostKey}
		var ini, hosts strings.Builder
		for i := 1; i <= n; i++ {
			h := fmt.Sprintf("127.0.1.%d", i)
			j.Hosts = append(j.Hosts, h)
			fmt.Fprintf(&hosts, "%s\n", h)
			fmt.Fprintf(&ini, "%s ansible_port=%d ansible_user=%s ansible_ssh_private_key_file=%s ansible_ssh_common_args='-F %s' ansible_python_interpreter=/usr/bin/python3\n",
				h, s.Port, opensshtest.OpsUser, s.Path("client"), config)
		}
		inventory := s.Write(b, fmt.Sprintf("inv%d.ini", n), ini.String())
		inventoryEL9 := s.Write(b, fmt.Sprintf("inv%d-el9.ini", n), strings.ReplaceAll(ini.String(), config, el9))
		list := s.Write(b, fmt.Sprintf("hosts%d", n), hosts.String())
		ansible := []string{"ANSIBLE_CONFIG=" + s.Write(b, "ansible.cfg", "[defaults]\n"), "ANSIBLE_HOME=" + s.Path("ansible"), "ANSIBLE_SSH_ARGS=-F " + config, "ANSIBLE_NOCOLOR=1"}
		f := fmt.Sprint(forks)
		tools := []tool{
			{name: "bare-loop", bin: self, env: []string{"FLEETD_BENCH_ROLE=bare"}, job: true, rounds: maxRounds},
			{name: "sshexec", bin: self, env: []string{"FLEETD_BENCH_ROLE=pool"}, job: true, rounds: maxRounds},
			{name: "fleetd-exec", bin: fleetd, args: []string{"exec", inventory, "all", "-f", f, "--", "uname", "-rv"}, rounds: maxRounds},
			{name: "fleetd-exec-el9", bin: fleetd, args: []string{"exec", inventoryEL9, "all", "-f", f, "--", "uname", "-rv"}, rounds: maxRounds},
			{name: "pdsh", bin: "pdsh", args: []string{"-R", "ssh", "-f", f, "-w", "^" + list, "uname -rv"}, env: []string{"PDSH_SSH_ARGS_APPEND=-F " + config}},
			{name: "clush", bin: "clush", args: []string{"-f", f, "--hostfile", list, "-o", "-F " + config, "uname -rv"}},
			{name: "parallel-ssh", bin: "parallel-ssh", args: []string{"-i", "-p", f, "-h", list, "-x", "-F " + config, "uname -rv"}},
			{name: "ansible-raw", bin: "ansible", args: []string{"all", "-i", inventory, "-f", f, "-m", "raw", "-a", "uname -rv"}, env: ansible, rounds: 5},
			{name: "ansible-shell", bin: "ansible", args: []string{"all", "-i", inventory, "-f", f, "-m", "shell", "-a", "uname -rv"}, env: ansible},
		}
		b.Run(fmt.Sprintf("hosts=%d", n), func(b *testing.B) {
			printTable(b, n, measure(b, chosen(tools), j, s.PID))
		})
	}
}

// maxRounds is how often those tools run whose times are held against a limit,
// or take but a second or two. Single runs differ by a fifth, and the machine is
// faster at one time than at another: so the tools take turns.
const maxRounds = 20

// chosen are the tools that FLEETD_BENCH_TOOLS names, for a quick look; else all.
func chosen(tools []tool) []tool {
	names := strings.Fields(os.Getenv("FLEETD_BENCH_TOOLS"))
	if len(names) == 0 {
		return tools
	}
	return slices.DeleteFunc(tools, func(tl tool) bool { return !slices.Contains(names, tl.name) })
}

// counts are the numbers of hosts; FLEETD_BENCH_HOSTS has other ones, for a
// quick look.
func counts() []int {
	var out []int
	for _, f := range strings.Fields(os.Getenv("FLEETD_BENCH_HOSTS")) {
		if n, err := strconv.Atoi(f); err == nil && n > 0 && n < 255 {
			out = append(out, n)
		}
	}
	if out == nil {
		return []int{50, 200}
	}
	return out
}

// measure runs the tools turn by turn.
func measure(b *testing.B, tools []tool, j job, sshd int) []row {
	rows := make([]row, len(tools))
	for i, tl := range tools {
		rows[i] = row{tool: tl.name}
		if _, err := exec.LookPath(tl.bin); err != nil {
			// Not b.Skip: without -v nobody would see that a peer is missing.
			fmt.Printf("%s is not installed: it is left out\n", tl.bin)
			rows[i].missing = true
		}
	}
	for b.Loop() {
		for round := range maxRounds {
			for i, tl := range tools {
				often := max(tl.rounds, 1)
				due := (round+1)*often/maxRounds > round*often/maxRounds // spread over all rounds
				if due && !rows[i].missing {
					tl.once(b, j, sshd, &rows[i])
				}
			}
		}
	}
	for i := range rows {
		r := &rows[i]
		if r.runs == 0 {
			continue
		}
		r.wall /= time.Duration(r.runs)
		r.cpu /= time.Duration(r.runs * len(j.Hosts))
		r.node /= time.Duration(r.runs * len(j.Hosts))
		b.ReportMetric(float64(r.cpu)/float64(time.Millisecond), r.tool+"-cpu-ms/host")
		b.ReportMetric(r.wall.Seconds(), r.tool+"-s/run")
	}
	b.ReportMetric(0, "ns/op")
	return rows
}

// once runs the tool and adds what that took to r.
func (tl tool) once(b *testing.B, j job, sshd int, r *row) {
	cmd := exec.Command(tl.bin, tl.args...)
	cmd.Env = append(os.Environ(), tl.env...)
	if tl.job {
		text, err := json.Marshal(j)
		if err != nil {
			b.Fatal(err)
		}
		cmd.Stdin = bytes.NewReader(text)
	}
	time.Sleep(500 * time.Millisecond) // the logouts of the tool before are not this one's
	started, before := time.Now(), nodeTime(b, sshd)
	out, err := cmd.CombinedOutput()
	r.wall += time.Since(started)
	r.runs++
	r.node += nodeTime(b, sshd) - before
	if err != nil {
		b.Fatalf("%s: %v\n%.2000s", tl.name, err, out)
	}
	if got := tl.answers(string(out)); got != len(j.Hosts) {
		b.Fatalf("%s: %d of %d hosts answered\n%.2000s", tl.name, got, len(j.Hosts), out)
	}
	r.cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	r.peak = max(r.peak, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
}

// nodeTime is the processor time of the connections that sshd has served: what
// a tool costs the nodes. Source: proc(5), cutime and cstime in /proc/PID/stat.
func nodeTime(b *testing.B, sshd int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", sshd))
	if err != nil {
		b.Fatal(err)
	}
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, _ := strconv.Atoi(f[13])
	system, _ := strconv.Atoi(f[14])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

// answers counts the hosts whose answer is shown. fleetd exec folds equal ones
// into a block that tells how many they are.
func (tl tool) answers(out string) int {
	if m := folded.FindStringSubmatch(out); strings.HasPrefix(tl.name, "fleetd-exec") && m != nil {
		n, _ := strconv.Atoi(m[1])
		return n
	}
	return strings.Count(out, " SMP ")
}

var folded = regexp.MustCompile(`\((\d+) hosts\) \| CHANGED`)
