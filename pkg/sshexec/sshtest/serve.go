package sshtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

type serverConn struct {
	srv      *Server
	raw      *faultyConn
	ctx      context.Context
	id       int
	user     string
	mu       sync.Mutex
	sessions int
	commands int
}

func (s *Server) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.dials++
		id := s.dials
		f := s.fault
		if len(s.faults) > 0 {
			f, s.faults = s.faults[0], s.faults[1:]
		}
		switch {
		case s.down.Refuse > 0:
			s.down.Refuse--
			s.mu.Unlock()
			c.Close()
			continue
		case s.down.Silent > 0:
			s.down.Silent--
			f = Fault{Silent: -1, Deaf: -1}
		}
		ctx, cancel := context.WithCancel(context.Background())
		sc := &serverConn{srv: s, raw: newFaultyConn(c, f), ctx: ctx, id: id}
		s.conns[sc] = true
		closed := s.closed
		s.mu.Unlock()
		if closed {
			c.Close()
		}
		s.wg.Go(func() {
			defer cancel()
			sc.serve()
			sc.raw.Close()
			s.mu.Lock()
			delete(s.conns, sc)
			s.mu.Unlock()
		})
	}
}

func (c *serverConn) serve() {
	if c.raw.fault.Cut < 0 {
		return
	}
	conn, chans, reqs, err := ssh.NewServerConn(c.raw, c.srv.config())
	if err != nil {
		return
	}
	c.user = conn.User()
	go ssh.DiscardRequests(reqs)
	// The context ends with the connection, not with the last channel: what a
	// command does then is up to its context.
	ctx, cancel := context.WithCancel(c.ctx)
	c.ctx = ctx
	go func() {
		_ = conn.Wait()
		cancel()
	}()
	var wg sync.WaitGroup
	for nc := range chans {
		if c.raw.fault.NoChannels {
			continue
		}
		switch nc.ChannelType() {
		case "session":
			c.mu.Lock()
			full := c.sessions >= c.srv.maxSess
			if !full {
				c.sessions++
			}
			c.mu.Unlock()
			if full {
				_ = nc.Reject(ssh.ConnectionFailed, "open failed")
				continue
			}
			wg.Go(func() {
				c.session(nc)
				time.Sleep(c.raw.fault.Linger)
				c.mu.Lock()
				c.sessions--
				c.mu.Unlock()
			})
		case "direct-tcpip":
			wg.Go(func() { c.forward(nc) })
		default:
			_ = nc.Reject(ssh.UnknownChannelType, "not served")
		}
	}
	cancel()
	wg.Wait()
}

func (s *Server) config() *ssh.ServerConfig {
	conf := &ssh.ServerConfig{MaxAuthTries: 6}
	afterKey := func() error {
		if !s.twoStep {
			return nil
		}
		return &ssh.PartialSuccessError{Next: ssh.ServerAuthCallbacks{
			PasswordCallback:            s.checkPassword,
			KeyboardInteractiveCallback: s.askPassword,
		}}
	}
	certs := ssh.CertChecker{IsUserAuthority: func(k ssh.PublicKey) bool { return s.userCA != nil && sameKey(k, s.userCA) }}
	conf.PublicKeyCallback = func(m ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		if m.User() != User && m.User() != "root" {
			return nil, errors.New("no such user")
		}
		if c, ok := k.(*ssh.Certificate); ok {
			if _, err := certs.Authenticate(m, c); err != nil {
				return nil, err
			}
			return nil, afterKey()
		}
		if !sameKey(k, s.clientKey) {
			return nil, errors.New("unknown key")
		}
		return nil, afterKey()
	}
	if s.password != "" && !s.twoStep {
		conf.PasswordCallback = s.checkPassword
		conf.KeyboardInteractiveCallback = s.askPassword
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.hostKeys {
		conf.AddHostKey(k)
	}
	return conf
}

func sameKey(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }

func (s *Server) checkPassword(_ ssh.ConnMetadata, pw []byte) (*ssh.Permissions, error) {
	if string(pw) != s.password {
		return nil, errors.New("wrong password")
	}
	return nil, nil
}

func (s *Server) askPassword(m ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
	answers, err := ask("", "", []string{"Password: "}, []bool{false})
	if err != nil {
		return nil, err
	}
	if len(answers) != 1 {
		return nil, errors.New("no answer")
	}
	return s.checkPassword(m, []byte(answers[0]))
}

func (c *serverConn) forward(nc ssh.NewChannel) {
	var m struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	if err := ssh.Unmarshal(nc.ExtraData(), &m); err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, "bad request")
		return
	}
	var d net.Dialer
	far, err := d.DialContext(c.ctx, "tcp", net.JoinHostPort(m.Host, strconv.Itoa(int(m.Port))))
	if err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, "Connection refused")
		return
	}
	ch, reqs, err := nc.Accept()
	if err != nil {
		far.Close()
		return
	}
	go ssh.DiscardRequests(reqs)
	stop := context.AfterFunc(c.ctx, func() { far.Close() })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(far, ch); _ = far.(*net.TCPConn).CloseWrite() })
	wg.Go(func() { _, _ = io.Copy(ch, far); _ = ch.CloseWrite() })
	wg.Wait()
	far.Close()
	ch.Close()
}
