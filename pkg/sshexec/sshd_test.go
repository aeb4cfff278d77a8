package sshexec_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/fleetd/fleetd/pkg/sshexec"
)

// An sshd is a real OpenSSH server on a loopback port. As root it runs in a
// mount namespace of its own with its own passwd, shadow and sudoers files, so
// that it has users of its own (with passwords, shells, sudo rules) and nothing
// of the machine is changed.
type sshd struct {
	dir  string
	port int
	keys map[string]ssh.PublicKey // host keys by type
	log  *logBuffer
	pid  int
}

const (
	deployUser     = "fl-deploy" // may sudo, with his password
	nopasswdUser   = "fl-ops"    // may sudo without one
	guestUser      = "fl-guest"  // may not sudo
	fishyUser      = "fl-csh"    // has an odd login shell
	deployPassword = "deploy-pässword 1"
)

type sshdConfig struct {
	lines []string // of sshd_config
	users bool     // needs users of its own, that is, root
	keys  []string // host key types; default ed25519
	hosts []string // ListenAddress, default 127.0.0.1
}

// startSSHD starts sshd, or skips the test where there is none or where it
// needs root.
func startSSHD(t testing.TB, c sshdConfig) *sshd {
	t.Helper()
	bin, err := exec.LookPath("sshd")
	if err != nil {
		bin = "/usr/sbin/sshd"
	}
	if _, err := os.Stat(bin); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("sshd is not installed: apt-get install openssh-server")
		}
		t.Skip("OpenSSH's sshd is not installed (apt-get install openssh-server)")
	}
	root := os.Getuid() == 0
	if c.users && !root {
		t.Skip("needs root: sshd must log in users of its own")
	}
	s := &sshd{dir: t.TempDir(), keys: map[string]ssh.PublicKey{}, log: &logBuffer{}}
	// The testing package makes the parent for the owner only; sshd's users
	// must reach their keys and homes.
	os.Chmod(s.dir, 0o755)
	os.Chmod(filepath.Dir(s.dir), 0o755)
	if c.keys == nil {
		c.keys = []string{"ed25519"}
	}
	if c.hosts == nil {
		c.hosts = []string{"127.0.0.1"}
	}
	keygen(t, s.path("client"), "ed25519", "")
	copyFile(t, s.path("client.pub"), s.path("authorized_keys"))
	var conf strings.Builder
	for _, k := range c.keys {
		f := s.path("host_" + k)
		keygen(t, f, k, "")
		s.keys[k] = readPublicKey(t, f+".pub")
		fmt.Fprintf(&conf, "HostKey %s\n", f)
	}
	for _, h := range c.hosts {
		fmt.Fprintf(&conf, "ListenAddress %s\n", h)
	}
	fmt.Fprintf(&conf, "PidFile none\nStrictModes no\nLogLevel VERBOSE\nPrintMotd no\n")
	fmt.Fprintf(&conf, "%s\n", strings.Join(c.lines, "\n"))
	if !strings.Contains(conf.String(), "AuthorizedKeysFile") {
		fmt.Fprintf(&conf, "AuthorizedKeysFile %s\n", s.path("authorized_keys"))
	}
	if !strings.Contains(conf.String(), "UsePAM") {
		fmt.Fprintf(&conf, "UsePAM %s\n", yesNo(c.users))
	}
	if !strings.Contains(conf.String(), "Subsystem") {
		fmt.Fprintf(&conf, "Subsystem sftp internal-sftp\n")
	}
	s.write(t, "sshd_config", conf.String())
	if root {
		// Debian's sshd refuses to start without its privilege separation
		// directory, which systemd makes at boot.
		os.MkdirAll("/run/sshd", 0o755)
	}
	for range 10 {
		s.port = freePort(t)
		if s.start(t, bin, c.users) {
			s.writeKnownHosts(t)
			return s
		}
	}
	t.Fatalf("sshd does not start:\n%s", s.log)
	return nil
}

func (s *sshd) path(name string) string { return filepath.Join(s.dir, name) }

func (s *sshd) write(t testing.TB, name, content string) string {
	t.Helper()
	if err := os.WriteFile(s.path(name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return s.path(name)
}

func (s *sshd) start(t testing.TB, bin string, users bool) bool {
	t.Helper()
	args := []string{bin, "-D", "-e", "-f", s.path("sshd_config"), "-p", fmt.Sprint(s.port)}
	if users {
		args = append([]string{"unshare", "--mount", "/bin/sh", "-c", s.namespace(t), "sh"}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	// sshd's children belong to sessions of their own; the group is for sshd.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.pid = cmd.Process.Pid
	ready := make(chan bool, 1)
	var reader sync.WaitGroup
	reader.Go(func() {
		sc := bufio.NewScanner(out)
		for sc.Scan() {
			s.log.add(sc.Text())
			if strings.HasPrefix(sc.Text(), "Server listening on") {
				select {
				case ready <- true:
				default:
				}
			}
		}
		select {
		case ready <- false:
		default:
		}
	})
	t.Cleanup(func() {
		cmd.Process.Kill()
		// Connections outlive the listener in processes of their own.
		for _, pid := range descendants(s.path("sshd_config")) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		cmd.Wait()
	})
	select {
	case ok := <-ready:
		return ok
	case <-time.After(20 * time.Second):
		return false
	}
}

// descendants finds nothing but processes of this sshd: their command line
// names its configuration file.
func descendants(config string) []int {
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	var out []int
	for _, p := range procs {
		b, err := os.ReadFile(p)
		var pid int
		if err == nil && strings.Contains(string(b), config) {
			fmt.Sscanf(p, "/proc/%d/", &pid)
			if pid != os.Getpid() {
				out = append(out, pid)
			}
		}
	}
	return out
}

// namespace returns a shell script that makes the sshd's own /etc and runs its
// arguments.
func (s *sshd) namespace(t testing.TB) string {
	t.Helper()
	hash, err := exec.Command("openssl", "passwd", "-6", deployPassword).Output()
	if err != nil {
		t.Fatalf("openssl passwd: %v", err)
	}
	h := strings.TrimSpace(string(hash))
	read := func(f string) string {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimRight(string(b), "\n") + "\n"
	}
	passwd, shadow, group := read("/etc/passwd"), read("/etc/shadow"), read("/etc/group")
	for i, u := range []string{deployUser, nopasswdUser, guestUser, fishyUser} {
		home := s.path("home-" + u)
		if err := os.MkdirAll(home, 0o755); err != nil {
			t.Fatal(err)
		}
		id := 48500 + i
		os.Chown(home, id, id)
		shell := "/bin/sh"
		if u == fishyUser {
			shell = s.path("oddshell")
		}
		passwd += fmt.Sprintf("%s:x:%d:%d::%s:%s\n", u, id, id, home, shell)
		shadow += fmt.Sprintf("%s:%s:19000:0:99999:7:::\n", u, h)
		group += fmt.Sprintf("%s:x:%d:\n", u, id)
	}
	// Root gets the same password, for su.
	lines := strings.Split(shadow, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, "root:") {
			lines[i] = "root:" + h + ":19000:0:99999:7:::"
		}
	}
	s.write(t, "passwd", passwd)
	os.Chmod(s.path("passwd"), 0o644)
	s.write(t, "group", group)
	os.Chmod(s.path("group"), 0o644)
	s.write(t, "shadow", strings.Join(lines, "\n"))
	s.write(t, "sudoers", "Defaults env_reset\nDefaults use_pty\nDefaults secure_path=\"/usr/sbin:/usr/bin:/sbin:/bin\"\n"+
		"Defaults timestamp_timeout=0\nDefaults !syslog\n"+
		"root ALL=(ALL:ALL) ALL\n"+deployUser+" ALL=(ALL:ALL) ALL\n"+nopasswdUser+" ALL=(ALL:ALL) NOPASSWD: ALL\n")
	os.Chmod(s.path("sudoers"), 0o440)
	os.WriteFile(s.path("oddshell"), []byte("#!/bin/sh\necho 'This account is currently not available.'\nexit 1\n"), 0o755)
	var sb strings.Builder
	sb.WriteString("set -e\nmount --make-rprivate /\n")
	for _, f := range []string{"passwd", "shadow", "group", "sudoers"} {
		if f == "sudoers" {
			if _, err := os.Stat("/etc/sudoers"); err != nil {
				continue
			}
		}
		fmt.Fprintf(&sb, "mount --bind %s /etc/%s\n", s.path(f), f)
	}
	sb.WriteString(`exec "$@"`)
	return sb.String()
}

func (s *sshd) writeKnownHosts(t testing.TB) {
	var sb strings.Builder
	for _, k := range s.keys {
		sb.WriteString(knownhosts.Line([]string{s.addr()}, k) + "\n")
	}
	s.write(t, "known_hosts", sb.String())
}

func (s *sshd) addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// target reaches the sshd with its client key, as the user who runs the test.
func (s *sshd) target(name string) sshexec.Target {
	return sshexec.Target{
		Name: name, Address: "127.0.0.1", Port: s.port,
		IdentityFiles: []string{s.path("client")}, IdentitiesOnly: true, IdentityAgent: "none",
		KnownHosts: []string{s.path("known_hosts")},
	}
}

func (s *sshd) as(user string) sshexec.Target {
	t := s.target("web1")
	t.User = user
	return t
}

type logBuffer struct {
	mu    sync.Mutex
	lines []string
}

func (l *logBuffer) add(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, s)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func keygen(t testing.TB, file, typ, passphrase string, extra ...string) {
	t.Helper()
	os.Remove(file)
	os.Remove(file + ".pub")
	args := append([]string{"-q", "-t", typ, "-f", file, "-N", passphrase, "-C", "test"}, extra...)
	if out, err := exec.Command("ssh-keygen", args...).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
}

func sign(t testing.TB, ca, id, principals, pub string, extra ...string) {
	t.Helper()
	args := append([]string{"-q", "-s", ca, "-I", id, "-n", principals}, extra...)
	args = append(args, pub)
	if out, err := exec.Command("ssh-keygen", args...).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
}

func readPublicKey(t testing.TB, file string) ssh.PublicKey {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	k, _, _, _, err := ssh.ParseAuthorizedKey(b)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

var _ io.Writer = io.Discard
