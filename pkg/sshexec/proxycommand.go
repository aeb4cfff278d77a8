package sshexec

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fleetd/fleetd/pkg/sshexec/internal/account"
	"github.com/fleetd/fleetd/pkg/text"
)

// A remote is the far end, "host:port", of a stream that has no deadlines. x/crypto's
// SSH client does not set them.
type remote string

func (remote) Network() string                  { return "tcp" }
func (r remote) String() string                 { return string(r) }
func (r remote) RemoteAddr() net.Addr           { return r }
func (remote) LocalAddr() net.Addr              { return remote("127.0.0.1:0") }
func (remote) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (remote) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (remote) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

// A proxyConn is a ProxyCommand whose standard input and output are the
// connection.
type proxyConn struct {
	remote
	io.Reader
	io.WriteCloser
	cmd    *exec.Cmd
	once   sync.Once
	stderr *capture
	// established: the handshake over it is done.
	established atomic.Bool
}

func startProxyCommand(t Target) (net.Conn, error) {
	line, err := t.Expand(t.ProxyCommand)
	if err != nil {
		return nil, &Error{Kind: KindUsage, Err: fmt.Errorf("ProxyCommand: %w", err)}
	}
	// exec, so that the process we signal is the command, not its shell.
	cmd := exec.Command("/bin/sh", "-c", "exec "+line)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c := &proxyConn{Reader: out, WriteCloser: in, cmd: cmd, remote: remote(t.HostPort()), stderr: newCapture(4096)}
	cmd.Stderr = c.stderr
	// A grandchild that keeps standard error open must not keep Wait.
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("ProxyCommand: %w", err)
	}
	return c, nil
}

// Close ends the command and whatever it started. One that failed to connect
// gets a moment to say why before it is signalled.
func (c *proxyConn) Close() error {
	c.once.Do(func() {
		c.WriteCloser.Close()
		grace := 500 * time.Millisecond
		if c.established.Load() {
			grace = 0
		}
		term := time.AfterFunc(grace, func() { _ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGTERM) })
		kill := time.AfterFunc(grace+2*time.Second, func() { _ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) })
		_ = c.cmd.Wait()
		term.Stop()
		kill.Stop()
	})
	return nil
}

// said returns the command's complaints, for an error.
func (c *proxyConn) said() string {
	b, _ := c.stderr.end()
	return text.Printable(strings.ReplaceAll(string(bytes.TrimSpace(b)), "\n", "; "))
}

// Expand replaces the percent tokens that OpenSSH has for ProxyCommand.
func (t Target) Expand(s string) (out string, err error) {
	home, _ := os.UserHomeDir()
	values := map[string]string{
		"%%": "%", "%h": t.host(), "%n": t.host(), "%p": strconv.Itoa(t.port()), "%r": t.user(), "%u": account.Name(), "%d": home,
	}
	out = regexp.MustCompile(`(?s)%.?`).ReplaceAllStringFunc(s, func(token string) string {
		if values[token] == "" {
			err = fmt.Errorf("token %s in %q is not supported, or nothing is known for it", token, s)
		}
		return values[token]
	})
	return out, err
}
