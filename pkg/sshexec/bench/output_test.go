package bench

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fleetd/fleetd/pkg/sshexec/internal/opensshtest"
)

// BenchmarkOutput: 1,000 hosts that print 3 MB each, no two alike, must not fill the
// bastion's memory. What is kept of them until all have ended is in a file.
func BenchmarkOutput(b *testing.B) {
	if os.Getuid() != 0 {
		b.Skip("needs root: sshd must listen on all of 127.0.0.0/8 in a network namespace")
	}
	const n, size, most = 1000, 3_000_000, 300 // hosts, bytes, MB
	s := opensshtest.Start(b, opensshtest.Config{
		Users: true, Hosts: []string{"0.0.0.0"},
		Lines: []string{"MaxStartups 1000", "UsePAM no", "UseDNS no", "LogLevel ERROR"},
	})
	known := s.Write(b, "kh", fmt.Sprintf("[127.0.*]:%d %s", s.Port, ssh.MarshalAuthorizedKey(s.Keys["ed25519"])))
	var hosts strings.Builder
	for i := range n {
		fmt.Fprintf(&hosts, "127.0.%d.%d\n", 1+i/250, 1+i%250)
	}
	inventory := s.Write(b, "inventory.ini", fmt.Sprintf("%s\n[all:vars]\nansible_port=%d\nansible_user=%s\nansible_ssh_private_key_file=%s\n"+
		"ansible_ssh_common_args='-F none -o UserKnownHostsFile=%s -o IdentitiesOnly=yes -o IdentityAgent=none'\nansible_python_interpreter=/usr/bin/python3\n",
		&hosts, s.Port, opensshtest.OpsUser, s.Path("client"), known))
	fleetd := s.Path("fleetd")
	if out, err := exec.Command("go", "build", "-ldflags", "-s -w", "-o", fleetd, "github.com/fleetd/fleetd/cmd/fleetd").CombinedOutput(); err != nil {
		b.Fatalf("cannot build fleetd: %v\n%s", err, out)
	}
	script := fmt.Sprintf(`head -c %d /dev/zero | tr '\0' x; echo " $SSH_CONNECTION"`, size) // whose port no other has
	for b.Loop() {
		for _, tool := range []struct {
			name string
			args []string
		}{
			{"fleetd exec", []string{fleetd, "exec", inventory, "all", "-f", "50", "--", script}},
			{"ansible -m raw", []string{"ansible", "all", "-i", inventory, "-f", "50", "-m", "raw", "-a", script}},
		} {
			cmd := exec.Command(tool.args[0], tool.args[1:]...)
			cmd.Env = append(os.Environ(), "ANSIBLE_CONFIG="+s.Write(b, "ansible.cfg", "[defaults]\n"), "ANSIBLE_HOME="+s.Path("ansible"), "ANSIBLE_NOCOLOR=1")
			var said bytes.Buffer
			cmd.Stderr = &said
			out, err := cmd.StdoutPipe()
			if err != nil {
				b.Fatal(err)
			}
			started := time.Now()
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			got, err := io.Copy(io.Discard, out)
			if err != nil {
				b.Fatal(err)
			}
			if err := cmd.Wait(); err != nil || got < n<<20 { // fleetd shows a mebibyte of each, and says so
				b.Fatalf("%s: %d bytes, %v\n%.2000s", tool.name, got, err, &said)
			}
			peak := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
			fmt.Printf("\n%s, %d hosts of %d bytes: %.1f s, %.1f s of processor time, %d MB resident at most\n", tool.name, n, size,
				time.Since(started).Seconds(), (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(), peak/1e6)
			if tool.name == "fleetd exec" {
				fmt.Print(verdict(fmt.Sprintf("fleetd exec takes less than %d MB", most), peak < most*1e6))
			}
		}
	}
	b.ReportMetric(0, "ns/op")
}
