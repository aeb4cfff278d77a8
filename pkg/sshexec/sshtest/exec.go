package sshtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/wire"
	"github.com/fleetd/fleetd/pkg/words"
)

// A Request is one command.
type Request struct {
	// Server is who runs it.
	Server *Server
	// Conn numbers the connection, from 1.
	Conn int
	// User is the login name, Become the user that sudo or su was asked for
	// ("" if it was not).
	User, Become string
	// Command is the script, or the arguments quoted for a shell: "uname -r".
	Command string
	// Argv or Script is what the caller set. Both are empty for a command
	// that did not come from sshexec.
	Argv   []string
	Script string
	Env    map[string]string

	// Stdin is the command's input. Stdout and Stderr may be written to before
	// the handler returns its Response.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Context ends when the caller kills the command or the connection ends.
	Context context.Context

	wire string // what travelled
}

// A Response is how a command ends.
type Response struct {
	Stdout, Stderr string
	// Exit is the exit status, unless Signal is set.
	Exit int
	// Signal is the name of a signal that ended the command, such as "KILL".
	Signal string
	// Lost ends the channel without an exit status.
	Lost bool
}

// session serves one session channel.
func (c *serverConn) session(nc ssh.NewChannel) {
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	started := false
	done := make(chan struct{})
	for {
		select {
		case r, ok := <-reqs:
			if !ok {
				// The client closed the channel: as with sshd, the command's
				// streams break, but it lives until it notices.
				reqs = nil
				if !started {
					return
				}
				continue
			}
			var m struct{ Text string }
			switch {
			case r.Type == "exec" && !started && ssh.Unmarshal(r.Payload, &m) == nil:
				started = true
				_ = r.Reply(true, nil)
				go func() {
					defer close(done)
					c.finish(ch, c.exec(ctx, ch, m.Text))
				}()
			case r.Type == "subsystem" && !started && ssh.Unmarshal(r.Payload, &m) == nil && m.Text == "sftp":
				started = true
				_ = r.Reply(true, nil)
				go func() {
					defer close(done)
					c.srv.serveSFTP(ch)
					c.finish(ch, Response{})
				}()
			case r.WantReply:
				_ = r.Reply(r.Type == "env", nil)
			}
		case <-done:
			return
		case <-ctx.Done():
			ch.Close()
			if started {
				<-done
			}
			return
		}
	}
}

func (c *serverConn) finish(ch ssh.Channel, r Response) {
	_, _ = io.WriteString(ch, r.Stdout)
	_, _ = io.WriteString(ch.Stderr(), r.Stderr)
	switch {
	case r.Lost:
	case r.Signal != "":
		_, _ = ch.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Signal string
			Core   bool
			Msg    string
			Lang   string
		}{Signal: r.Signal}))
	default:
		_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(r.Exit)}))
	}
}

// exec runs what an exec request asked for.
func (c *serverConn) exec(ctx context.Context, ch ssh.Channel, text string) Response {
	r := &Request{
		Server: c.srv, Conn: c.id, User: c.user, Command: text, Context: ctx,
		Stdin: ch, Stdout: ch, Stderr: ch.Stderr(), wire: text,
	}
	line, ok := parseLine(text)
	if !ok {
		// From a plain SSH client.
		return c.srv.answer(r)
	}
	stdin := bufio.NewReaderSize(ch, 16)
	r.Stdin = stdin
	if line.Method != "" {
		r.Become = line.User
		if resp, ok := c.srv.becomes(line, stdin, ch.Stderr()); !ok {
			return resp
		}
	}
	s := c.srv
	procCtx, pid := s.newProc(ctx)
	defer s.endProc(pid)
	r.Context = procCtx
	c.mu.Lock()
	c.commands++
	unheard := c.raw.fault.Unheard == c.commands
	c.mu.Unlock()
	if unheard {
		defer c.raw.Close()
		r.Stdout, r.Stderr = io.Discard, io.Discard
	}
	fmt.Fprintf(r.Stderr, "%s%d\n", wire.MarkPrefix(line.Nonce), pid)
	program, err := stdin.ReadString('\n')
	if err != nil {
		return Response{Exit: 125}
	}
	program, ours := strings.CutPrefix(program, line.Nonce)
	if !ours {
		return Response{Exit: 125}
	}
	p, err := decodeProgram(program)
	if err != nil {
		return Response{Stderr: err.Error() + "\n", Exit: 2}
	}
	r.Argv, r.Script, r.Env = p.Argv, p.Script, p.Env
	r.Command = p.Script
	if p.Argv != nil {
		r.Command = words.Quote(p.Argv...)
	}
	r.wire = program
	switch p.Script {
	case wire.UploadScript:
		if !s.realFiles {
			return s.upload(r)
		}
		return r.Shell()
	case wire.KillScript:
		s.killProc(p.Env["fl_kill"])
		return Response{}
	}
	return s.answer(r)
}

func (s *Server) answer(r *Request) Response {
	s.mu.Lock()
	s.requests = append(s.requests, r)
	s.mu.Unlock()
	if !s.handlesBootID && len(r.Argv) == 2 && r.Argv[0] == "cat" && r.Argv[1] == sshexec.BootIDFile {
		return Response{Stdout: s.BootID() + "\n"}
	}
	if s.handler == nil {
		return r.Shell()
	}
	resp := s.handler(r)
	if r.Context.Err() != nil && resp.Signal == "" {
		resp.Signal = "TERM"
	}
	return resp
}

// becomes plays sudo and su: their prompts, their three tries, their words.
func (s *Server) becomes(line wire.Line, stdin *bufio.Reader, stderr io.Writer) (Response, bool) {
	pol := s.sudo
	if pol == nil {
		return Response{}, true
	}
	if pol.Password != "" {
		if line.Method == "sudo" && !line.Password {
			return Response{Stderr: "sudo: a password is required\n", Exit: 1}, false
		}
		tries := 3
		prompt := line.Prompt()
		if line.Method == "su" {
			tries, prompt = 1, wire.SuPrefix(line.Nonce)+"Password: "
		}
		for n := 1; ; n++ {
			_, _ = io.WriteString(stderr, prompt)
			answer, err := stdin.ReadString('\n')
			if err == nil {
				s.mu.Lock()
				s.tries++
				s.mu.Unlock()
			}
			if err != nil {
				return Response{Stderr: "sudo: no password was provided\n", Exit: 1}, false
			}
			if strings.TrimSuffix(answer, "\n") == pol.Password {
				break
			}
			if n == tries {
				if line.Method == "su" {
					return Response{Stderr: "\nsu: Authentication failure\n", Exit: 1}, false
				}
				return Response{Stderr: fmt.Sprintf("sudo: %d incorrect password attempts\n", n), Exit: 1}, false
			}
			_, _ = io.WriteString(stderr, "Sorry, try again.\n")
		}
	}
	if pol.Refuse != "" {
		return Response{Stderr: pol.Refuse + "\n", Exit: 1}, false
	}
	return Response{}, true
}

// newProc gives a command a process id that a kill can name. The ids are
// beyond what Linux gives, so that none can hit a real process.
func (s *Server) newProc(ctx context.Context) (context.Context, int) {
	ctx, cancel := context.WithCancel(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextPID++
	s.procs[s.nextPID] = cancel
	return ctx, s.nextPID
}

func (s *Server) endProc(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.procs[pid]()
	delete(s.procs, pid)
}

func (s *Server) killProc(arg string) {
	pid, _ := strconv.Atoi(arg)
	s.mu.Lock()
	cancel := s.procs[pid]
	s.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// PasswordTries is how often sudo and su got an answer to their question.
func (s *Server) PasswordTries() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tries
}

// Running is how many commands run.
func (s *Server) Running() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.procs)
}

// Shell runs the request with a real /bin/sh, as the test's own user, and
// returns how it ended. When the request's context ends, its process group is
// killed.
func (r *Request) Shell() Response {
	s := r.Server
	cmd := exec.Command("/bin/sh", "-c", r.shellText())
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), s.env...)
	for k, v := range r.Env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	// sshd gives every command a session of its own.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stdout, cmd.Stderr = r.Stdout, r.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return Response{Stderr: err.Error(), Exit: 126}
	}
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return Response{Stderr: err.Error(), Exit: 127}
	}
	go func() {
		_, _ = io.Copy(in, r.Stdin)
		in.Close()
	}()
	// Until Wait has returned, the process is there, dead or alive, so its
	// number is nobody else's.
	ended := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() {
		select {
		case <-ended:
			return
		case <-r.Context.Done():
		}
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(2 * time.Second):
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
	})
	err = cmd.Wait()
	close(ended)
	killer.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return Response{}
	case errors.As(err, &exit):
		if ws := exit.Sys().(syscall.WaitStatus); ws.Signaled() {
			return Response{Signal: signalName(ws.Signal())}
		}
		return Response{Exit: exit.ExitCode()}
	default:
		return Response{Stderr: err.Error(), Exit: 126}
	}
}

func (r *Request) shellText() string {
	if r.Argv != nil {
		return "exec " + words.Quote(r.Argv...)
	}
	return r.Command
}

func signalName(s syscall.Signal) string {
	switch s {
	case syscall.SIGKILL:
		return "KILL"
	case syscall.SIGTERM:
		return "TERM"
	case syscall.SIGHUP:
		return "HUP"
	case syscall.SIGINT:
		return "INT"
	case syscall.SIGSEGV:
		return "SEGV"
	case syscall.SIGPIPE:
		return "PIPE"
	default:
		return "ABRT"
	}
}
