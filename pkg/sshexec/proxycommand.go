package sshexec

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fleetd/fleetd/pkg/sshexec/internal/account"
)

// noDeadline answers net.Conn's deadline methods for streams that have none.
// x/crypto's SSH client does not call them.
type noDeadline struct{}

func (noDeadline) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (noDeadline) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (noDeadline) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

// A proxyConn is a ProxyCommand whose standard input and output are the
// connection.
type proxyConn struct {
	noDeadline
	io.Reader
	io.WriteCloser
	cmd    *exec.Cmd
	addr   string
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
	c := &proxyConn{Reader: out, WriteCloser: in, cmd: cmd, addr: t.HostPort(), stderr: newCapture(4096)}
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
	return Printable(strings.ReplaceAll(string(bytes.TrimSpace(b)), "\n", "; "))
}

func (c *proxyConn) LocalAddr() net.Addr  { return tunnelAddr("127.0.0.1:0") }
func (c *proxyConn) RemoteAddr() net.Addr { return tunnelAddr(c.addr) }

// Expand replaces the percent tokens that OpenSSH has for ProxyCommand.
func (t Target) Expand(s string) (string, error) {
	var sb strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			sb.WriteByte(s[i])
			continue
		}
		i++
		if i == len(s) {
			return "", fmt.Errorf("%q ends in a single %%", s)
		}
		switch s[i] {
		case '%':
			sb.WriteByte('%')
		case 'h':
			sb.WriteString(t.host())
		case 'n':
			sb.WriteString(t.host())
		case 'p':
			sb.WriteString(strconv.Itoa(t.port()))
		case 'r':
			sb.WriteString(t.user())
		case 'u':
			if account.Name() == "" {
				return "", fmt.Errorf("%%u in %q: the local user has no name", s)
			}
			sb.WriteString(account.Name())
		case 'd':
			home, err := os.UserHomeDir()
			if err != nil {
				return "", err
			}
			sb.WriteString(home)
		default:
			return "", fmt.Errorf("token %%%c in %q is not supported", s[i], s)
		}
	}
	return sb.String(), nil
}
