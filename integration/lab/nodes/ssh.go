package nodes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// client is the lab's own connection to a node, as root. The lab does not use fleetd's transport: what a
// test looks at a node with must not be what it tests.
type client struct {
	once sync.Mutex // one dial at a time
	ssh  *ssh.Client
}

// Run runs a shell command on node i as root and returns its standard output, without the last newline.
// An exit status other than 0 is an error that carries standard error and an [ssh.ExitError]. A node that
// cannot be reached is tried for a minute: QEMU resets a connection now and then.
func (l *Lab) Run(ctx context.Context, i int, command string) (string, error) {
	for deadline := time.Now().Add(time.Minute); ; {
		out, err := l.run(ctx, i, command, time.Minute)
		if !errors.Is(err, errNotConnected) || ctx.Err() != nil || time.Now().After(deadline) {
			return out, err
		}
		time.Sleep(300 * time.Millisecond)
	}
}

var errNotConnected = errors.New("cannot connect")

// run is one attempt of Run, with a limit for getting connected beside the limit that ctx sets for all.
func (l *Lab) run(ctx context.Context, i int, command string, connect time.Duration) (string, error) {
	name := l.Node(i).Name
	for attempt := 1; ; attempt++ {
		c, fresh, err := l.connect(ctx, i, connect)
		if err != nil {
			return "", fmt.Errorf("%w to node %s: %w", errNotConnected, name, err)
		}
		// Nothing in a session knows of ctx, and a frozen node answers nothing: the connection's end is what
		// ends them all.
		stop := context.AfterFunc(ctx, func() { l.forget(i); c.Close() })
		out, err := execute(c, command)
		stop()
		switch {
		case err == nil:
			return out, nil
		case ctx.Err() != nil:
			return "", fmt.Errorf("%q on node %s: %w", command, name, context.Cause(ctx))
		case errors.As(err, new(*ssh.ExitError)):
			return out, fmt.Errorf("%q on node %s: %w", command, name, err)
		}
		l.forget(i)
		if errors.Is(err, errNotStarted) && !fresh && attempt == 1 { // a connection from before a reboot
			continue
		}
		return out, fmt.Errorf("%q on node %s: %w", command, name, err)
	}
}

// errNotStarted is a command that the node never heard of.
var errNotStarted = errors.New("cannot open a session")

func execute(c *ssh.Client, command string) (string, error) {
	session, err := c.NewSession()
	if err != nil {
		return "", fmt.Errorf("%w: %w", errNotStarted, err)
	}
	defer session.Close()
	var stdout, stderr bytes.Buffer
	session.Stdout, session.Stderr = &stdout, &stderr
	err = session.Run(command)
	out := strings.TrimSuffix(stdout.String(), "\n")
	if err != nil {
		return out, fmt.Errorf("%w\n%s", err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

func (l *Lab) connect(ctx context.Context, i int, limit time.Duration) (c *ssh.Client, fresh bool, err error) {
	l.mu.Lock()
	slot := l.clients[i]
	if slot == nil {
		slot = &client{}
		l.clients[i] = slot
	}
	l.mu.Unlock()
	slot.once.Lock()
	defer slot.once.Unlock()
	if slot.ssh != nil {
		return slot.ssh, false, nil
	}
	c, err = l.dial(ctx, i, limit)
	if err != nil {
		return nil, true, err
	}
	slot.ssh = c
	return c, true, nil
}

func (l *Lab) forget(i int) {
	l.mu.Lock()
	slot := l.clients[i]
	delete(l.clients, i)
	l.mu.Unlock()
	if slot == nil {
		return
	}
	slot.once.Lock()
	defer slot.once.Unlock()
	if slot.ssh != nil {
		slot.ssh.Close()
	}
}

func (l *Lab) dial(ctx context.Context, i int, limit time.Duration) (*ssh.Client, error) {
	n := l.Node(i)
	identity, err := os.ReadFile(l.IdentityFile)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(identity)
	if err != nil {
		return nil, err
	}
	hostKey, _, _, _, err := ssh.ParseAuthorizedKey([]byte(n.HostKey))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no SSH session within %s", limit))
	defer cancel()
	addr := fmt.Sprintf("%s:%d", n.Address, n.Port)
	conn, err := l.DialContext(ctx, "tcp4", addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	// QEMU's network accepts a connection while the guest is still in GRUB, and asks it again ever more
	// slowly. Giving up early and dialling anew finds a booted guest sooner.
	banner := &impatient{Conn: conn, first: limit / 3}
	c, chans, reqs, err := ssh.NewClientConn(banner, addr, &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(hostKey),
	})
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			err = errors.Join(context.Cause(ctx), err)
		}
		return nil, err
	}
	return ssh.NewClient(c, chans, reqs), nil
}

// impatient is a connection whose first read has a time limit, and no other.
type impatient struct {
	net.Conn
	first time.Duration
}

func (c *impatient) Read(p []byte) (int, error) {
	if c.first == 0 {
		return c.Conn.Read(p)
	}
	_ = c.Conn.SetReadDeadline(time.Now().Add(c.first))
	n, err := c.Conn.Read(p)
	_ = c.Conn.SetReadDeadline(time.Time{})
	c.first = 0
	return n, err
}
