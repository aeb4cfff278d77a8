package sshtest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/fleetd/fleetd/pkg/sshexec"
)

// User is the login name that [Server.Target] uses; the server lets it in with
// the client key.
const User = "centos"

// A Server is a running SSH server. Its methods may be called at any time,
// also from handlers.
type Server struct {
	dir           string
	handler       func(*Request) Response
	handlesBootID bool
	clientKey     ssh.PublicKey
	userCA        ssh.PublicKey
	password      string
	twoStep       bool
	sudo          *SudoPolicy
	maxSess       int
	addr          string
	realFiles     bool
	env           []string

	mu       sync.Mutex
	listener net.Listener
	hostKeys []ssh.Signer
	fault    Fault
	faults   []Fault // one per coming connection, before fault
	bootID   string
	down     Down
	conns    map[*serverConn]bool
	dials    int
	requests []*Request
	owners   map[string]string
	procs    map[int]context.CancelFunc
	nextPID  int
	tries    int
	closed   bool
	wg       sync.WaitGroup
}

// An Option changes what New makes.
type Option func(*Server)

// Handler makes f answer every command. f may call [Request.Shell] for those
// that it leaves to a real shell.
func Handler(f func(*Request) Response) Option { return func(s *Server) { s.handler = f } }

// HandlesBootID leaves the question for the boot ID to the handler, which is a
// machine of its own then.
func HandlesBootID() Option { return func(s *Server) { s.handlesBootID = true } }

// Password also lets the user in with this password, by the methods password
// and keyboard-interactive.
func Password(pw string) Option { return func(s *Server) { s.password = pw } }

// PasswordAndKey demands the key and then the password.
func PasswordAndKey(pw string) Option {
	return func(s *Server) { s.password, s.twoStep = pw, true }
}

// UserCA also lets in users with a certificate of this authority.
func UserCA(ca ssh.PublicKey) Option { return func(s *Server) { s.userCA = ca } }

// AuthorizedKey lets the user in with this key instead of the one that Target
// names.
func AuthorizedKey(k ssh.PublicKey) Option { return func(s *Server) { s.clientKey = k } }

// A SudoPolicy is what the server's sudo and su do. Without one they let
// everybody become everybody without a password.
type SudoPolicy struct {
	// Password is what they ask for; empty means that they do not ask.
	Password string
	// Refuse, if not empty, is what they print before they refuse, after the
	// password was right.
	Refuse string
}

// Sudo sets the policy of sudo and su.
func Sudo(p SudoPolicy) Option { return func(s *Server) { s.sudo = &p } }

// MaxSessions bounds the sessions on one connection, as in sshd_config.
func MaxSessions(n int) Option { return func(s *Server) { s.maxSess = n } }

// HostKey sets the server's host keys; a signer may hold a certificate.
func HostKey(k ...ssh.Signer) Option { return func(s *Server) { s.hostKeys = k } }

// Listen sets the address to listen on. The default is 127.0.0.1:0.
func Listen(addr string) Option { return func(s *Server) { s.addr = addr } }

// RealFiles lets uploads run the script that sshexec sends, with the node's own
// sftp-server, on the real paths. Use it with paths in a temporary directory.
func RealFiles() Option { return func(s *Server) { s.realFiles = true } }

// Env adds variables to the environment of real shells.
func Env(kv ...string) Option { return func(s *Server) { s.env = append(s.env, kv...) } }

// New starts a server that ends with the test.
func New(t testing.TB, opts ...Option) *Server {
	t.Helper()
	s, err := Start(t.TempDir(), opts...)
	if err != nil {
		t.Fatalf("cannot start the SSH test server: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

// Start starts a server that keeps its keys and files in dir. Close ends it.
func Start(dir string, opts ...Option) (*Server, error) {
	s := &Server{
		dir: dir, addr: "127.0.0.1:0", maxSess: 10,
		conns: map[*serverConn]bool{}, owners: map[string]string{},
		procs: map[int]context.CancelFunc{}, nextPID: 1 << 22,
		bootID: newBootID(),
	}
	if err := os.MkdirAll(s.Root(), 0o755); err != nil {
		return nil, err
	}
	key, err := s.writeClientKey()
	if err != nil {
		return nil, err
	}
	s.clientKey = key
	for _, o := range opts {
		o(s)
	}
	if s.hostKeys == nil {
		s.hostKeys = []ssh.Signer{NewKey()}
	}
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		return nil, err
	}
	s.listener = l
	s.addr = l.Addr().String()
	if err := s.writeKnownHosts(); err != nil {
		l.Close()
		return nil, err
	}
	s.wg.Go(func() { s.accept(l) })
	return s, nil
}

// Close ends the server and everything that runs on it.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	if s.listener != nil {
		s.listener.Close()
	}
	s.mu.Unlock()
	s.DropConnections()
	s.wg.Wait()
}

// NewKey returns a new ed25519 key.
func NewKey() ssh.Signer {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err) // the system has no randomness
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		panic(err)
	}
	return signer
}

func newBootID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func (s *Server) writeClientKey() (ssh.PublicKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(key, "sshtest")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(s.ClientKeyFile(), pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	return ssh.NewPublicKey(key.Public())
}

func (s *Server) writeKnownHosts() error {
	var sb strings.Builder
	for _, k := range s.hostKeys {
		pub := k.PublicKey()
		if c, ok := pub.(*ssh.Certificate); ok {
			sb.WriteString("@cert-authority " + knownhosts.Line([]string{s.addr}, c.SignatureKey) + "\n")
			continue
		}
		sb.WriteString(knownhosts.Line([]string{s.addr}, pub) + "\n")
	}
	return os.WriteFile(s.KnownHostsFile(), []byte(sb.String()), 0o600)
}

// Addr is the address that the server listens on.
func (s *Server) Addr() string { return s.addr }

// Dir is the directory of the server's real shells.
func (s *Server) Dir() string { return s.dir }

// Root is the directory that stands for "/" in uploads.
func (s *Server) Root() string { return filepath.Join(s.dir, "root") }

// ClientKeyFile is the private key that the server lets in.
func (s *Server) ClientKeyFile() string { return filepath.Join(s.dir, "client_key") }

// KnownHostsFile is a known_hosts file with the keys that the server started
// with.
func (s *Server) KnownHostsFile() string { return filepath.Join(s.dir, "known_hosts") }

// Target returns how to reach the server, under the given name. No agent and
// no file of the person who runs the test is used.
func (s *Server) Target(name string) sshexec.Target {
	host, port, _ := net.SplitHostPort(s.addr)
	t := sshexec.Target{
		Name: name, Address: host, User: User,
		IdentityFiles: []string{s.ClientKeyFile()}, IdentitiesOnly: true, IdentityAgent: "none",
		KnownHosts: []string{s.KnownHostsFile()},
	}
	_, _ = fmt.Sscan(port, &t.Port)
	if s.sudo != nil {
		t.Become.Password = sshexec.Secret(s.sudo.Password)
	}
	return t
}

// Requests returns the commands that were run so far, in order. Uploads and
// what sshexec does for itself are not among them.
func (s *Server) Requests() []*Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Request(nil), s.requests...)
}

// Dials is how many connections were accepted.
func (s *Server) Dials() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dials
}

// Open is how many connections are open.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// BootID is the ID of the server's current boot, which "cat
// /proc/sys/kernel/random/boot_id" prints.
func (s *Server) BootID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bootID
}

// SetHostKey changes the host keys for coming connections. The known_hosts
// file stays as it is.
func (s *Server) SetHostKey(k ...ssh.Signer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hostKeys = k
}

// DropConnections cuts every open connection.
func (s *Server) DropConnections() {
	s.mu.Lock()
	var all []*serverConn
	for c := range s.conns {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		c.raw.Close()
	}
}

// Down is how a rebooting server is away.
type Down struct {
	// Refuse closes so many connections right after they were accepted.
	Refuse int
	// Silent then accepts so many connections and says nothing on them, like
	// a user-mode network in front of a guest that is down.
	Silent int
	// For closes the port for so long, before the two above: connections are
	// refused by the kernel.
	For time.Duration
	// KeepBootID makes it a restart of sshd, or a reboot that did not happen.
	KeepBootID bool
	// HalfOpen leaves the old connections without a word: no FIN, no RST, and
	// nothing that is sent on them arrives.
	HalfOpen bool
}

// Reboot takes the server down as d says and gives it a new boot ID.
func (s *Server) Reboot(d Down) {
	s.mu.Lock()
	if !d.KeepBootID {
		s.bootID = newBootID()
	}
	s.down = d
	var all []*serverConn
	for c := range s.conns {
		all = append(all, c)
	}
	l := s.listener
	s.mu.Unlock()
	for _, c := range all {
		if d.HalfOpen {
			c.raw.freeze()
		} else {
			c.raw.Close()
		}
	}
	if d.For > 0 {
		l.Close()
		s.wg.Go(func() { s.relisten(d.For) })
	}
}

func (s *Server) relisten(after time.Duration) {
	for end := time.Now().Add(after); time.Now().Before(end); {
		s.mu.Lock()
		closed := s.closed
		s.mu.Unlock()
		if closed {
			return
		}
		time.Sleep(min(10*time.Millisecond, after))
	}
	for range 500 {
		l, err := net.Listen("tcp", s.addr)
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			l.Close()
			return
		}
		s.listener = l
		s.wg.Go(func() { s.accept(l) })
		s.mu.Unlock()
		return
	}
}
