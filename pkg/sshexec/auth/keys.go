package auth

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/crypto/ssh"

	"github.com/fleetd/fleetd/pkg/sshexec/internal/account"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/algorithms"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/words"
)

// signers returns the keys to try: certificates and files of the target first,
// then the agent's other keys. OpenSSH tries the agent's first; with the named
// file first, a full agent cannot use up sshd's MaxAuthTries.
func (l *Login) signers() ([]ssh.Signer, error) {
	agentKeys, agentErr := l.agentSigners()
	if agentErr != nil && !errors.Is(agentErr, errNoAgent) {
		l.skip(agentErr.Error())
	}
	files := l.IdentityFiles
	explicit := len(files) > 0
	if !explicit {
		files = account.Keys()
	}
	certs, err := loadCerts(l.Certificates)
	if err != nil {
		return nil, err
	}

	var out []ssh.Signer
	seen := map[string]bool{}
	add := func(s ssh.Signer, label string) {
		id := string(s.PublicKey().Marshal())
		if seen[id] || !l.Policy.Allows(s.PublicKey().Type()) {
			return
		}
		seen[id] = true
		out = append(out, &announced{Signer: s, tried: func() { l.offer(label) }, signed: l.sign})
	}
	addKey := func(s ssh.Signer, label string, fileCert *ssh.Certificate) {
		for _, c := range append(slices.Clone(certs), fileCert) {
			if c == nil {
				continue
			}
			if cs, err := ssh.NewCertSigner(c, s); err == nil {
				add(cs, "certificate for "+label)
			}
		}
		add(s, label)
	}
	inAgent := func(pub ssh.PublicKey) ssh.Signer {
		for _, a := range agentKeys {
			if string(a.PublicKey().Marshal()) == string(pub.Marshal()) {
				return a
			}
		}
		return nil
	}

	for _, f := range files {
		k, err := l.ring.load(f)
		if err != nil {
			if explicit {
				return nil, keyError(err)
			}
			continue
		}
		var s ssh.Signer
		if k.public != nil {
			// The agent knows the key without its passphrase.
			s = inAgent(k.public)
		}
		if s == nil {
			if k.fido {
				// Another key may do, as with ssh.
				l.skip(f + " is a FIDO key, which is used through an agent: ssh-add " + words.Copyable(f))
				continue
			}
			if k.publicOnly {
				if agentErr != nil {
					return nil, fmt.Errorf("%s is a public key, and there is no agent: %w", f, agentErr)
				}
				continue
			}
			s = l.signer(k)
			if s == nil {
				continue
			}
		}
		addKey(s, f, k.cert)
	}
	for _, a := range agentKeys {
		if l.IdentitiesOnly {
			break
		}
		label := "agent key " + ssh.FingerprintSHA256(a.PublicKey())
		if _, ok := a.PublicKey().(*ssh.Certificate); ok {
			add(a, "certificate "+label)
			continue
		}
		addKey(a, label, nil)
	}
	return out, nil
}

// announced records that a key was offered and that it signed, and gives every
// signer the full interface: without it x/crypto would sign with SHA-1 for an
// RSA key.
type announced struct {
	ssh.Signer
	tried  func()
	signed func(ssh.PublicKey)
}

// Algorithms implements [ssh.MultiAlgorithmSigner]. x/crypto calls it just
// before it offers the key.
func (a *announced) Algorithms() []string {
	if a.tried != nil {
		a.tried()
		a.tried = nil
	}
	own := algorithms.Of(a.PublicKey())
	if m, ok := a.Signer.(ssh.MultiAlgorithmSigner); ok {
		return slices.DeleteFunc(slices.Clone(m.Algorithms()), func(algo string) bool { return !slices.Contains(own, algo) })
	}
	return own
}

func (a *announced) SignWithAlgorithm(rand io.Reader, data []byte, algo string) (*ssh.Signature, error) {
	sig, err := sign(a.Signer, rand, data, algo)
	if err == nil {
		a.signed(a.PublicKey())
	}
	return sig, err
}

// sign has a signer use an algorithm, if it has a choice.
func sign(s ssh.Signer, rand io.Reader, data []byte, algo string) (*ssh.Signature, error) {
	if a, ok := s.(ssh.AlgorithmSigner); ok {
		return a.SignWithAlgorithm(rand, data, algo)
	}
	return s.Sign(rand, data)
}

func loadCerts(files []string) ([]*ssh.Certificate, error) {
	var out []*ssh.Certificate
	for _, f := range files {
		pub, err := readPublic(f)
		c, ok := pub.(*ssh.Certificate)
		if err == nil && !ok {
			err = errors.New("a public key, not a certificate")
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read certificate %s: %w", f, err)
		}
		out = append(out, c)
	}
	return out, nil
}

func readPublic(file string) (ssh.PublicKey, error) {
	b, err := os.ReadFile(account.Expand(file))
	if err != nil {
		return nil, account.Reason(err)
	}
	pub, _, _, _, err := ssh.ParseAuthorizedKey(b)
	if err != nil {
		return nil, errors.New("not an OpenSSH certificate or public key")
	}
	return pub, nil
}

// keyError is the error of a key file that was named and cannot be used.
func keyError(err error) error {
	if text.HintOf(err) != "" {
		return err
	}
	return text.Advise("check ansible_ssh_private_key_file", "%w", err)
}
