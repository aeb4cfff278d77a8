package node

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strings"
	"syscall"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// here runs commands on the machine that fleetd is on, for tasks of localhost and
// those that are delegated to it.
type here struct{}

// killed is how long a command's output is waited for once it was killed: a process
// that has left its group may hold it open.
const killed = 5 * time.Second

// Run runs one command as a shell on a node would. It becomes nobody else.
func (here) Run(ctx context.Context, c sshexec.Command) (sshexec.Result, error) {
	if user := cmp.Or(c.BecomeAs.User, "root"); c.Become && (os.Geteuid() != 0 || user != "root") {
		return sshexec.Result{}, &rollout.Problem{
			Message: fmt.Sprintf("cannot become %s on this machine (localhost): fleetd runs here as %s, and asks no sudo", user, whoami()),
			Hint:    "give the task become: false, or run fleetd as that user",
		}
	}
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Timeout)
		defer cancel()
	}
	argv := c.Argv
	if len(argv) == 0 {
		argv = []string{"/bin/sh", "-c", c.Script}
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // it is what the playbook says
	cmd.Env = os.Environ()
	for name, v := range c.Env {
		cmd.Env = append(cmd.Env, name+"="+v)
	}
	cmd.Stdin = c.Stdin
	// A group of its own: Ctrl-C at the terminal is for fleetd, which lets what has
	// begun come to its end.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = killed
	most := c.MaxOutput
	if most == 0 {
		most = sshexec.DefaultMaxOutput
	}
	out, complaints := &bounded{most: most}, &bounded{most: most}
	cmd.Stdout, cmd.Stderr = out, complaints
	err := cmd.Run()
	res := sshexec.Result{Stdout: out.kept(), Stderr: complaints.kept(), Truncated: out.left+complaints.left > 0}
	var ended *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return res, fmt.Errorf("the command on this machine was killed: %w", context.Cause(ctx))
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return res, nil
	case !errors.As(err, &ended):
		return res, fmt.Errorf("cannot run the command on this machine: %w", err)
	}
	res.ExitStatus = ended.ExitCode()
	if w, ok := ended.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		res.ExitStatus, res.Signal = 128+int(w.Signal()), signalName(w.Signal())
	}
	return res, nil
}

// signalName is the name without SIG, as SSH has it (RFC 4254, 6.10).
func signalName(s syscall.Signal) string {
	for name, n := range map[string]syscall.Signal{
		"ABRT": syscall.SIGABRT, "ALRM": syscall.SIGALRM, "FPE": syscall.SIGFPE, "HUP": syscall.SIGHUP, "ILL": syscall.SIGILL, "INT": syscall.SIGINT,
		"KILL": syscall.SIGKILL, "PIPE": syscall.SIGPIPE, "QUIT": syscall.SIGQUIT, "SEGV": syscall.SIGSEGV, "TERM": syscall.SIGTERM,
		"USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2,
	} {
		if n == s {
			return name
		}
	}
	return fmt.Sprint(int(s))
}

func whoami() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return fmt.Sprintf("user %d", os.Geteuid())
}

// bounded keeps the first bytes of an output and counts the others.
type bounded struct {
	bytes.Buffer
	most, left int
}

func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.most-b.Len())
	b.left += len(p) - n
	_, _ = b.Buffer.Write(p[:n]) // memory: it does not fail
	return len(p), nil
}

func (b *bounded) kept() []byte {
	if b.left > 0 {
		_, _ = fmt.Fprintf(&b.Buffer, "\n[... %d bytes left out ...]\n", b.left)
	}
	return b.Bytes()
}

// hereIdentity is what tells this machine from every other: a plan whose tasks run
// here is for it.
func hereIdentity() (map[string]string, error) {
	raw, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		return nil, fmt.Errorf("cannot tell this machine from others: %w", err)
	}
	return map[string]string{"machine_id": strings.TrimSpace(string(raw))}, nil
}
