package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestExecOpenSSH runs fleetd exec on three addresses of a real sshd.
func TestExecOpenSSH(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a real sshd: left out of short tests")
	}
	const sshd = "/usr/sbin/sshd"
	if _, err := os.Stat(sshd); err != nil {
		t.Skip("OpenSSH's sshd is not installed (apt-get install openssh-server)")
	}
	dir := t.TempDir()
	for _, key := range []string{"host", "client"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", dir+"/"+key).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v\n%s", err, out)
		}
	}
	port := startSSHD(t, sshd, dir)
	pub, err := os.ReadFile(dir + "/host.pub")
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir + "/" + name
	}
	known := write("known_hosts", fmt.Sprintf("[127.0.0.*]:%d %s", port, pub))
	var hosts strings.Builder
	for i := 1; i <= 3; i++ {
		fmt.Fprintf(&hosts, "web%d ansible_host=127.0.0.%d\n", i, i)
	}
	inventory := write("hosts", fmt.Sprintf("%s[all:vars]\nansible_port=%d\nansible_ssh_private_key_file=%s\nansible_ssh_common_args=-o UserKnownHostsFile=%s\n",
		&hosts, port, dir+"/client", known))
	t.Setenv("HOME", dir) // not the developer's ssh_config
	t.Setenv("SSH_AUTH_SOCK", "")
	for _, tc := range []struct {
		args []string
		exit int
		want string
	}{
		{[]string{"all", "--", "uname", "-s"}, 0, "web[1:3] (3 hosts) | CHANGED | rc=0 >>\nLinux\n"},
		{[]string{"web2", "--", `set -- $SSH_CONNECTION; echo "$3"; exit 5`}, 1, "web2 | FAILED | rc=5 >>\n127.0.0.2\n"},
		{[]string{"all", "-o", "json", "--limit", "web3", "--", "echo out; echo err >&2; kill -KILL $$"}, 1, `"rc":137,"signal":"KILL","stdout":"out\n","stderr":"err\n"`},
	} {
		var stdout, stderr bytes.Buffer
		code := run(append([]string{"exec", inventory}, tc.args...), strings.NewReader(""), &stdout, &stderr)
		if code != tc.exit || !strings.Contains(stdout.String(), tc.want) || stderr.Len() > 0 {
			t.Errorf("%q: exit %d\n%s%s\nwant %d and\n%s", tc.args, code, &stdout, &stderr, tc.exit, tc.want)
		}
	}
}

// startSSHD returns the port on which sshd listens, on three addresses.
func startSSHD(t *testing.T, sshd, dir string) int {
	t.Helper()
	if os.Getuid() == 0 {
		// Debian's sshd refuses to start without it; systemd makes it at boot.
		_ = os.MkdirAll("/run/sshd", 0o755)
	}
	conf := fmt.Sprintf("HostKey %s/host\nAuthorizedKeysFile %s/client.pub\nStrictModes no\nPidFile none\nListenAddress 127.0.0.1\nListenAddress 127.0.0.2\nListenAddress 127.0.0.3\n", dir, dir)
	if err := os.WriteFile(dir+"/sshd_config", []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	for range 10 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		l.Close()
		cmd := exec.Command(sshd, "-D", "-e", "-f", dir+"/sshd_config", "-p", fmt.Sprint(port))
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		listening := 0
		for sc := bufio.NewScanner(out); listening < 3 && sc.Scan(); {
			log.WriteString(sc.Text() + "\n")
			if strings.HasPrefix(sc.Text(), "Server listening on") {
				listening++
			}
		}
		if listening == 3 {
			return port
		}
	}
	t.Fatalf("sshd does not start:\n%s", &log)
	return 0
}
