// Package opensshtest starts real OpenSSH servers for the tests and benchmarks
// of sshexec.
package opensshtest

import (
	"bufio"
	"fmt"
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

// A Server is a real OpenSSH server on a loopback port. As root it runs in a
// mount namespace of its own with its own passwd, shadow and sudoers files, so
// that it has users of its own (with passwords, shells, sudo rules) and nothing
// of the machine is changed.
type Server struct {
	Dir  string
	Port int
	Keys map[string]ssh.PublicKey // host keys by type
	Log  *Log
	PID  int
}

// The server's own users. All have DeployPassword.
const (
	DeployUser     = "fl-deploy" // may sudo, with his password
	OpsUser        = "fl-ops"    // may sudo without one
	GuestUser      = "fl-guest"  // may not sudo
	OddUser        = "fl-csh"    // has an odd login shell
	DeployPassword = "deploy-pässword 1"
)

// Config is what a test wants of its server.
type Config struct {
	Lines []string // of sshd_config
	Users bool     // needs users of its own, that is, root
	Keys  []string // host key types; default ed25519
	Hosts []string // ListenAddress, default 127.0.0.1
	// Twin gives the server another one's keys: the same machine after a
	// reboot, or at another address.
	Twin *Server
	// BootID, with Users, is what the server's kernel tells as its boot ID.
	BootID string
	// PAM, with Users, has the contents of files of /etc/pam.d, by their names.
	PAM map[string]string
	// Smoke marks a server that is worth its time in short tests, too.
	Smoke bool
}

// Start starts sshd, or skips the test where there is none or where it
// needs root.
func Start(t testing.TB, c Config) *Server {
	t.Helper()
	if testing.Short() && !c.Smoke {
		t.Skip("starts a real sshd: left out of short tests")
	}
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
	if c.Users && !root {
		t.Skip("needs root: sshd must log in users of its own")
	}
	s := &Server{Dir: t.TempDir(), Keys: map[string]ssh.PublicKey{}, Log: &Log{}}
	// The testing package makes the parent for the owner only; sshd's users
	// must reach their keys and homes.
	_ = os.Chmod(s.Dir, 0o755)
	_ = os.Chmod(filepath.Dir(s.Dir), 0o755)
	if c.Keys == nil {
		c.Keys = []string{"ed25519"}
	}
	if c.Hosts == nil {
		c.Hosts = []string{"127.0.0.1"}
	}
	key := func(name, typ string) {
		if c.Twin == nil {
			Keygen(t, s.Path(name), typ, "")
			return
		}
		for _, f := range []string{name, name + ".pub"} {
			CopyFile(t, c.Twin.Path(f), s.Path(f))
			_ = os.Chmod(s.Path(f), 0o600)
		}
	}
	key("client", "ed25519")
	CopyFile(t, s.Path("client.pub"), s.Path("authorized_keys"))
	var conf strings.Builder
	for _, k := range c.Keys {
		f := s.Path("host_" + k)
		key("host_"+k, k)
		s.Keys[k] = ReadPublicKey(t, f+".pub")
		fmt.Fprintf(&conf, "HostKey %s\n", f)
	}
	for _, h := range c.Hosts {
		fmt.Fprintf(&conf, "ListenAddress %s\n", h)
	}
	fmt.Fprintf(&conf, "PidFile none\nStrictModes no\nLogLevel VERBOSE\nPrintMotd no\n")
	fmt.Fprintf(&conf, "%s\n", strings.Join(c.Lines, "\n"))
	if !strings.Contains(conf.String(), "AuthorizedKeysFile") {
		fmt.Fprintf(&conf, "AuthorizedKeysFile %s\n", s.Path("authorized_keys"))
	}
	if !strings.Contains(conf.String(), "UsePAM") {
		fmt.Fprintf(&conf, "UsePAM %s\n", YesNo(c.Users))
	}
	if !strings.Contains(conf.String(), "Subsystem") {
		fmt.Fprintf(&conf, "Subsystem sftp internal-sftp\n")
	}
	s.Write(t, "sshd_config", conf.String())
	if root {
		// Debian's sshd refuses to start without its privilege separation
		// directory, which systemd makes at boot.
		_ = os.MkdirAll("/run/sshd", 0o755)
	}
	for range 10 {
		s.Port = freePort(t)
		if s.start(t, bin, c) {
			s.writeKnownHosts(t)
			return s
		}
	}
	t.Fatalf("sshd does not start:\n%s", s.Log)
	return nil
}

// Path is the path of a file of the server's.
func (s *Server) Path(name string) string { return filepath.Join(s.Dir, name) }

// Write writes a file of the server's and returns its path.
func (s *Server) Write(t testing.TB, name, content string) string {
	t.Helper()
	if err := os.WriteFile(s.Path(name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return s.Path(name)
}

func (s *Server) start(t testing.TB, bin string, c Config) bool {
	t.Helper()
	args := []string{bin, "-D", "-e", "-f", s.Path("sshd_config"), "-p", fmt.Sprint(s.Port)}
	if c.Users {
		args = append([]string{"unshare", "--mount", "/bin/sh", "-c", s.namespace(t, c), "sh"}, args...)
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
	s.PID = cmd.Process.Pid
	ready := make(chan bool, 1)
	var reader sync.WaitGroup
	reader.Go(func() {
		sc := bufio.NewScanner(out)
		for sc.Scan() {
			s.Log.add(sc.Text())
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
		_ = cmd.Process.Kill()
		// Connections outlive the listener in processes of their own.
		for _, pid := range descendants(s.Path("sshd_config")) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		_ = cmd.Wait()
	})
	select {
	case ok := <-ready:
		return ok
	case <-time.After(time.Minute):
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
			_, _ = fmt.Sscanf(p, "/proc/%d/", &pid)
			if pid != os.Getpid() {
				out = append(out, pid)
			}
		}
	}
	return out
}

// namespace returns a shell script that makes the sshd's own /etc and runs its
// arguments.
func (s *Server) namespace(t testing.TB, c Config) string {
	t.Helper()
	// Not as an argument: a test beside this one looks for it in the command
	// lines of the machine.
	openssl := exec.Command("openssl", "passwd", "-6", "-stdin")
	openssl.Stdin = strings.NewReader(DeployPassword + "\n")
	hash, err := openssl.Output()
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
	for i, u := range []string{DeployUser, OpsUser, GuestUser, OddUser} {
		home := s.Path("home-" + u)
		if err := os.MkdirAll(home, 0o755); err != nil {
			t.Fatal(err)
		}
		id := 48500 + i
		_ = os.Chown(home, id, id)
		shell := "/bin/sh"
		if u == OddUser {
			shell = s.Path("oddshell")
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
	s.Write(t, "passwd", passwd)
	_ = os.Chmod(s.Path("passwd"), 0o644)
	s.Write(t, "group", group)
	_ = os.Chmod(s.Path("group"), 0o644)
	s.Write(t, "shadow", strings.Join(lines, "\n"))
	s.Write(t, "sudoers", "Defaults env_reset\nDefaults use_pty\nDefaults secure_path=\"/usr/sbin:/usr/bin:/sbin:/bin\"\n"+
		"Defaults timestamp_timeout=0\nDefaults !syslog\n"+
		"root ALL=(ALL:ALL) ALL\n"+DeployUser+" ALL=(ALL:ALL) ALL\n"+OpsUser+" ALL=(ALL:ALL) NOPASSWD: ALL\n")
	_ = os.Chmod(s.Path("sudoers"), 0o440)
	_ = os.WriteFile(s.Path("oddshell"), []byte("#!/bin/sh\necho 'This account is currently not available.'\nexit 1\n"), 0o755)
	var sb strings.Builder
	sb.WriteString("set -e\nmount --make-rprivate /\n")
	for _, f := range []string{"passwd", "shadow", "group", "sudoers"} {
		if f == "sudoers" {
			if _, err := os.Stat("/etc/sudoers"); err != nil {
				continue
			}
		}
		fmt.Fprintf(&sb, "mount --bind %s /etc/%s\n", s.Path(f), f)
	}
	for name, content := range c.PAM {
		fmt.Fprintf(&sb, "mount --bind %s /etc/pam.d/%s\n", s.Write(t, "pam-"+name, content), name)
	}
	if c.BootID != "" {
		fmt.Fprintf(&sb, "mount --bind %s %s\n", s.Write(t, "boot_id", c.BootID+"\n"), sshexec.BootIDFile)
	}
	sb.WriteString(`exec "$@"`)
	return sb.String()
}

func (s *Server) writeKnownHosts(t testing.TB) {
	var sb strings.Builder
	for _, k := range s.Keys {
		sb.WriteString(knownhosts.Line([]string{s.Addr()}, k) + "\n")
	}
	s.Write(t, "known_hosts", sb.String())
}

// Addr is where the server listens.
func (s *Server) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.Port) }

// Target reaches the sshd with its client key, as the user who runs the test.
func (s *Server) Target(name string) sshexec.Target {
	return sshexec.Target{
		Name: name, Address: "127.0.0.1", Port: s.Port,
		IdentityFiles: []string{s.Path("client")}, IdentitiesOnly: true, IdentityAgent: "none",
		KnownHosts: []string{s.Path("known_hosts")},
	}
}

// As reaches the server as another user.
func (s *Server) As(user string) sshexec.Target {
	t := s.Target("web1")
	t.User = user
	return t
}

// A Log is what sshd wrote.
type Log struct {
	mu    sync.Mutex
	lines []string
}

func (l *Log) add(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, s)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

// YesNo writes a boolean as sshd_config has it.
func YesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// RefusingAddr is a loopback address that refuses connections until the test
// ends: it is bound, so that no other test can come to listen there.
func RefusingAddr(t testing.TB) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	a, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", a.(*syscall.SockaddrInet4).Port)
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
