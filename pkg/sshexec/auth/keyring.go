package auth

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fleetd/fleetd/pkg/sshexec/internal/account"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/words"
)

// A Ring reads private keys once, asks for each passphrase once, and holds
// the connections to agents.
type Ring struct {
	ask func(context.Context, string) (Secret, error)

	mu     sync.Mutex
	files  map[string]*keyFile
	agents map[string]*agentLine

	asking chan struct{} // holds one token: one question at a time on the person's terminal
}

// NewRing makes a ring. ask, unless nil, asks for the passphrase of a key file, from
// one goroutine at a time, and returns when its context ends.
func NewRing(ask func(context.Context, string) (Secret, error)) *Ring {
	return &Ring{ask: ask, files: map[string]*keyFile{}, agents: map[string]*agentLine{}, asking: make(chan struct{}, 1)}
}

// A keyFile is a private key file, as far as it can be read without asking.
type keyFile struct {
	path       string
	modified   time.Time
	public     ssh.PublicKey // nil only for an encrypted key of the old PEM form
	publicOnly bool          // the file is a public key, or a FIDO key: only an agent can sign
	fido       bool
	cert       *ssh.Certificate
	sealed     []byte // the file, if it is encrypted

	mu     sync.Mutex
	signer ssh.Signer
	err    error // the passphrase was asked for, in vain
}

// load reads a key file. A file that was read is read again only when it
// changed.
func (k *Ring) load(path string) (*keyFile, error) {
	name := account.Expand(path)
	st, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("cannot read private key %s: %w", path, account.Reason(err))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if f := k.files[name]; f != nil && f.modified.Equal(st.ModTime()) {
		return f, f.checkMode(st)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("cannot read private key %s: %w", path, account.Reason(err))
	}
	f := &keyFile{path: path, modified: st.ModTime()}
	signer, err := ssh.ParsePrivateKey(b)
	switch missing, encrypted := errors.AsType[*ssh.PassphraseMissingError](err); {
	case err == nil:
		f.signer, f.public = signer, signer.PublicKey()
	case encrypted && fidoKey(b) == nil:
		f.sealed, f.public = b, missing.PublicKey
		if f.public == nil {
			f.public, _ = readPublic(name + ".pub")
		}
	case fidoKey(b) != nil:
		f.public, f.publicOnly, f.fido = fidoKey(b), true, true
	default:
		pub, _, _, _, perr := ssh.ParseAuthorizedKey(b)
		if perr != nil {
			err = fmt.Errorf("cannot read private key %s: %w", path, err)
			if bytes.Contains(b, []byte("BEGIN ENCRYPTED PRIVATE KEY")) {
				return nil, text.Advise("convert it to OpenSSH's own form: ssh-keygen -p -f "+words.Copyable(path)+"; or load it with ssh-add", "%w", err)
			}
			return nil, err
		}
		f.public, f.publicOnly = pub, true
	}
	if c, err := loadCerts([]string{name + "-cert.pub"}); err == nil {
		f.cert = c[0]
	}
	k.files[name] = f
	return f, f.checkMode(st)
}

// checkMode refuses, as ssh does, a private key of ours that others can get at.
func (f *keyFile) checkMode(st fs.FileInfo) error {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if f.publicOnly && !f.fido || st.Mode().Perm()&0o077 == 0 || !ok || int(sys.Uid) != os.Getuid() {
		return nil
	}
	return text.Advise("chmod 600 "+words.Copyable(f.path), "private key %s has mode %04o: others can read or change it", f.path, st.Mode().Perm())
}

// fidoKey is the public part of a private key file whose key is in a FIDO token,
// nil if the file is anything else. Source: OpenSSH's PROTOCOL.key.
func fidoKey(b []byte) ssh.PublicKey {
	block, _ := pem.Decode(b)
	const magic = "openssh-key-v1\x00"
	if block == nil || !bytes.HasPrefix(block.Bytes, []byte(magic)) {
		return nil
	}
	var k struct {
		Cipher, KDF, KDFOptions string
		Keys                    uint32
		Public                  []byte
		Private                 []byte `ssh:"rest"`
	}
	if ssh.Unmarshal(block.Bytes[len(magic):], &k) != nil {
		return nil
	}
	pub, err := ssh.ParsePublicKey(k.Public)
	if err != nil || !strings.HasPrefix(pub.Type(), "sk-") {
		return nil
	}
	return pub
}

// signer returns the signer of f. An encrypted key is decrypted when the host
// has accepted its public part, not before: the person is asked only for what
// is needed.
func (l *Login) signer(f *keyFile) ssh.Signer {
	if signer, _ := f.opened(); signer != nil {
		return signer
	}
	lazy := &sealedSigner{l, f}
	if f.public == nil {
		// The old PEM form hides the public part too.
		s, err := lazy.open()
		if err != nil {
			return nil
		}
		return s
	}
	return lazy
}

type sealedSigner struct {
	login *Login
	file  *keyFile
}

func (s *sealedSigner) PublicKey() ssh.PublicKey { return s.file.public }

func (s *sealedSigner) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(rand, data, "")
}

func (s *sealedSigner) SignWithAlgorithm(rand io.Reader, data []byte, algo string) (*ssh.Signature, error) {
	signer, err := s.open()
	if err != nil {
		return nil, err
	}
	return sign(signer, rand, data, algo)
}

// open asks for the passphrase, unless another dial has done so already.
func (s *sealedSigner) open() (ssh.Signer, error) {
	defer s.login.clock.Hold()()
	ring, ctx := s.login.ring, s.login.clock.Context()
	done, err := ring.takeTurn(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	f := s.file
	signer, err := f.opened()
	if signer == nil && err == nil {
		signer, err = ring.unseal(ctx, f)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx) // no answer of the person's
		}
		f.mu.Lock()
		f.signer, f.err = signer, err
		f.mu.Unlock()
	}
	if err != nil {
		err = s.login.fail(text.Advise("load the key into an agent first: ssh-add "+words.Copyable(f.path), "%w", err))
	}
	return signer, err
}

// takeTurn waits until nobody is asked anything; done must be called.
func (k *Ring) takeTurn(ctx context.Context) (done func(), err error) {
	select {
	case k.asking <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	done = func() { <-k.asking }
	if ctx.Err() != nil {
		done()
		return nil, context.Cause(ctx)
	}
	return done, nil
}

// opened returns what is known without asking. It does not wait while a person
// types: the clock of whoever calls may be running.
func (f *keyFile) opened() (ssh.Signer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.signer, f.err
}

func (k *Ring) unseal(ctx context.Context, f *keyFile) (ssh.Signer, error) {
	if k.ask == nil {
		return nil, fmt.Errorf("private key %s is encrypted, and there is nobody to ask for its passphrase", f.path)
	}
	// Three tries, as ssh allows; then the answer holds for the whole run.
	for range 3 {
		pass, err := k.ask(ctx, f.path)
		if err != nil {
			return nil, fmt.Errorf("no passphrase for private key %s: %w", f.path, err)
		}
		signer, err := ssh.ParsePrivateKeyWithPassphrase(f.sealed, []byte(pass.Reveal()))
		if err == nil {
			return signer, nil
		}
	}
	return nil, fmt.Errorf("wrong passphrase for private key %s", f.path)
}
