package bench

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fleetd/fleetd/pkg/sshexec/internal/opensshtest"
)

// playbookTasks is how many tasks the playbook has, playbookForks for how many hosts
// at once.
const (
	playbookTasks = 20
	playbookForks = 50
)

// BenchmarkPlaybook carries out a playbook of 20 commands, each of which registers
// its result and has a condition on the one before, with fleetd (plan, journal and
// all) and with ansible-playbook, with pipelining and as many forks.
func BenchmarkPlaybook(b *testing.B) {
	if os.Getuid() != 0 {
		b.Skip("needs root: sshd must listen on all of 127.0.0.0/8 in a network namespace")
	}
	if _, err := exec.LookPath("ansible-playbook"); err != nil {
		// Not b.Skip: without -v nobody would see that there is nothing to compare with.
		fmt.Println("ansible-playbook is not installed: the comparison is left out")
		return
	}
	s := opensshtest.Start(b, opensshtest.Config{
		Users: true, Hosts: []string{"0.0.0.0"},
		Lines: []string{"MaxStartups 1000", "UsePAM no", "UseDNS no", "LogLevel ERROR"},
	})
	hostKey := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.Keys["ed25519"])))
	known := s.Write(b, "kh", fmt.Sprintf("[127.0.1.*]:%d %s\n", s.Port, hostKey))
	config := s.Write(b, "ssh_config", fmt.Sprintf("Host *\n  UserKnownHostsFile %s\n  GlobalKnownHostsFile none\n  IdentitiesOnly yes\n  IdentityAgent none\n", known))
	fleetd := s.Path("fleetd")
	if out, err := exec.Command("go", "build", "-ldflags", "-s -w", "-o", fleetd, "github.com/fleetd/fleetd/cmd/fleetd").CombinedOutput(); err != nil {
		b.Fatalf("cannot build fleetd: %v\n%s", err, out)
	}
	play := "- hosts: all\n  gather_facts: false\n  tasks:\n"
	for n := range playbookTasks {
		play += fmt.Sprintf("    - name: Task %d\n      command: echo %d {{ inventory_hostname }}\n      register: r%d\n", n, n, n)
		if n > 0 {
			play += fmt.Sprintf("      when: r%d.rc == 0\n", n-1)
		}
	}
	playbook := s.Write(b, "playbook.yml", play)
	for _, n := range []int{20, 50} {
		var ini strings.Builder
		for i := range n {
			fmt.Fprintf(&ini, "127.0.1.%d ansible_port=%d ansible_user=%s ansible_ssh_private_key_file=%s ansible_ssh_common_args='-F %s' ansible_python_interpreter=/usr/bin/python3\n",
				i+1, s.Port, opensshtest.OpsUser, s.Path("client"), config)
		}
		inventory := s.Write(b, fmt.Sprintf("inv%d.ini", n), ini.String())
		forks := fmt.Sprint(playbookForks)
		tools := []playbookRun{
			{name: "fleetd apply", args: []string{fleetd, "apply", inventory, "--playbook", playbook, "--yes", "-f", forks, "--state", s.Path("state")}},
			{
				name: "ansible-playbook", args: []string{"ansible-playbook", "-i", inventory, "-f", forks, playbook},
				env: []string{"ANSIBLE_CONFIG=" + s.Write(b, "ansible.cfg", "[defaults]\n"), "ANSIBLE_HOME=" + s.Path("ansible"), "ANSIBLE_PIPELINING=1", "ANSIBLE_NOCOLOR=1"},
			},
		}
		b.Run(fmt.Sprintf("hosts=%d", n), func(b *testing.B) {
			for b.Loop() {
				for i := range tools {
					tools[i].once(b, n)
				}
			}
			ours, theirs := tools[0], tools[1]
			fmt.Printf("\n%d tasks on %d hosts, %d at a time, one sshd:\n", playbookTasks, n, playbookForks)
			for _, r := range tools {
				fmt.Printf("  %-17s %6.2f s  client CPU %6.2f s  peak %d MB\n", r.name, r.wall.Seconds()/float64(r.runs), r.cpu.Seconds()/float64(r.runs), r.peak>>10)
			}
			fmt.Print(verdict("10 times faster than ansible-playbook", theirs.wall >= 10*ours.wall))
			fmt.Print(verdict("40 times less client CPU than ansible-playbook", theirs.cpu >= 40*ours.cpu))
			b.ReportMetric(float64(theirs.wall)/float64(ours.wall), "times-faster")
			b.ReportMetric(float64(theirs.cpu)/float64(ours.cpu), "times-less-cpu")
			b.ReportMetric(0, "ns/op")
		})
	}
}

type playbookRun struct {
	name      string
	args, env []string

	wall, cpu time.Duration
	peak      int64 // KiB, of the largest process
	runs      int
}

// changedAll is what either recap says of a host that did all tasks; fleetd has
// hosts with the same counts on one line.
var changedAll = regexp.MustCompile(fmt.Sprintf(`(?m)(?:\((\d+) hosts\) +changed %[1]d$|changed=%[1]d )`, playbookTasks))

func (r *playbookRun) once(b *testing.B, hosts int) {
	cmd := exec.Command(r.args[0], r.args[1:]...)
	cmd.Env = append(os.Environ(), r.env...)
	started := time.Now()
	out, err := cmd.CombinedOutput()
	r.wall += time.Since(started)
	r.runs++
	if err != nil {
		b.Fatalf("%s: %v\n%.4000s", r.name, err, out)
	}
	all := changedAll.FindAllStringSubmatch(string(out), -1)
	if len(all) != hosts && (len(all) != 1 || all[0][1] != fmt.Sprint(hosts)) {
		b.Fatalf("%s: not all of %d hosts did all tasks\n%.4000s", r.name, hosts, out[max(0, len(out)-4000):])
	}
	r.cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	r.peak = max(r.peak, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
}
