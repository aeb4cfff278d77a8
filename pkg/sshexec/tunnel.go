package sshexec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"

	"golang.org/x/crypto/ssh"
)

// DialContext connects to addr ("host:port") from t: the name is resolved and
// the connection made there. network must be a form of "tcp". The signature,
// once t is bound, fits client-go's rest.Config.Dial and http.Transport.
func (p *Pool) DialContext(ctx context.Context, t Target, network, addr string) (net.Conn, error) {
	op := "reach " + addr
	if network != "tcp" && network != "tcp4" && network != "tcp6" {
		return nil, wrap(t, op, &Error{Kind: KindUsage, Err: fmt.Errorf("network %q is not supported", network)})
	}
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, wrap(t, op, &Error{Kind: KindUsage, Err: err})
	}
	port, err := strconv.Atoi(portText)
	if err != nil || port < 1 || port > 65535 {
		return nil, wrap(t, op, &Error{Kind: KindUsage, Err: fmt.Errorf("bad port %q", portText)})
	}
	var stream net.Conn
	err = p.onConn(ctx, t, func(c *conn) error {
		fc, err := p.forward(ctx, c, host, port)
		if errors.Is(err, errLost) {
			return notStarted{err}
		}
		if oe, ok := errors.AsType[*ssh.OpenChannelError](err); ok {
			return &Error{Kind: KindUnreachable, Err: errors.New(oe.Message)}
		}
		if err != nil {
			return err
		}
		p.hold(c)
		stream = newTunnel(fc, func() { p.release(c) })
		return nil
	})
	if err != nil {
		return nil, wrap(t, op, err)
	}
	return stream, nil
}

// hold takes one more reference to a connection that the caller holds already.
func (p *Pool) hold(c *conn) {
	p.mu.Lock()
	c.refs++
	p.mu.Unlock()
}

// forward opens a stream from c's host to host:port.
func (p *Pool) forward(ctx context.Context, c *conn, host string, port int) (*channelConn, error) {
	ch, reqs, err := c.open(ctx, "direct-tcpip", ssh.Marshal(struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}{host, uint32(port), "127.0.0.1", 0}))
	if err != nil {
		return nil, err
	}
	p.work.Go(func() { ssh.DiscardRequests(reqs) })
	return &channelConn{Channel: ch, via: c, remote: remote(net.JoinHostPort(host, strconv.Itoa(port)))}, nil
}

// A channelConn is a channel as the transport of another SSH connection. It
// has no deadlines; the SSH client above it uses none.
type channelConn struct {
	ssh.Channel
	remote
	via *conn
}

// A tunnel is a forwarded connection for any user: with deadlines, which
// net.Pipe has and a channel has not.
type tunnel struct {
	net.Conn // our end of the pipe
	far      *channelConn
}

func newTunnel(far *channelConn, done func()) net.Conn {
	near, inner := net.Pipe()
	far.via.pool.work.Go(func() {
		// What arrived and nobody reads would block for ever.
		unhook := context.AfterFunc(far.via.life, func() { inner.Close() })
		var in sync.WaitGroup
		in.Go(func() {
			_, _ = io.Copy(inner, far)
			inner.Close()
		})
		_, _ = io.Copy(far, inner)
		far.Close()
		in.Wait()
		unhook()
		done()
	})
	return &tunnel{Conn: near, far: far}
}

func (t *tunnel) LocalAddr() net.Addr  { return t.far.LocalAddr() }
func (t *tunnel) RemoteAddr() net.Addr { return t.far.remote }

func (t *tunnel) Close() error {
	err := t.Conn.Close()
	t.far.Close()
	return err
}
