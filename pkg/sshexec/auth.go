package sshexec

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/fleetd/fleetd/pkg/sshexec/internal/account"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/algorithms"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/wire"
)

// defaultAuthentications are the ways to log in, in OpenSSH's order.
var defaultAuthentications = []string{"publickey", "keyboard-interactive", "password"}

// authMethods returns the ways to log in.
func (h *handshake) authMethods() []ssh.AuthMethod {
	t := h.target
	names := t.Authentications
	if names == nil {
		names = defaultAuthentications
	}
	var methods []ssh.AuthMethod
	for _, name := range names {
		switch {
		case name == "publickey":
			methods = append(methods, ssh.PublicKeysCallback(func() ([]ssh.Signer, error) {
				signers, err := h.signers()
				if err != nil {
					h.failAuth(err)
				}
				return signers, err
			}))
		case name == "keyboard-interactive" && (t.Password != "" || h.pool.opts.Challenge != nil):
			methods = append(methods, ssh.KeyboardInteractive(h.answer()))
		case name == "password" && t.Password != "":
			methods = append(methods, ssh.PasswordCallback(func() (string, error) {
				if h.asked {
					// It was refused: once more would count as a second try, and
					// lock the account (pam_faillock) after half as many runs.
					return "", errPasswordRefused
				}
				h.asked = true
				h.give("password")
				return t.Password.Reveal(), nil
			}))
		}
	}
	return methods
}

func (h *handshake) failAuth(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.authErr == nil {
		h.authErr = err
	}
}

func (h *handshake) offer(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.offered = append(h.offered, what)
}

// give is offer for what is counted where it is wrong, and perhaps where the login
// only did not end well: pam_faillock locks the account after three. So a dial
// that has given a password is not repeated.
func (h *handshake) give(what string) {
	h.offer(what)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gave = true
}

// authText says what was tried, so that nobody needs ssh -vvv to find out.
func (h *handshake) authText() error {
	if len(h.offered) == 0 {
		return errors.New("the host refuses the login, and there was no key or password to try" + h.notTried())
	}
	return fmt.Errorf("the host refuses the login (tried %s)%s", strings.Join(h.offered, ", "), h.notTried())
}

// skip records why something was not tried, for a login that fails.
func (h *handshake) skip(why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.skipped = append(h.skipped, why)
}

func (h *handshake) notTried() string {
	skipped := h.skipped
	if h.target.GSSAPI {
		skipped = append(skipped, "GSSAPIAuthentication is set, but fleetd does not log in by Kerberos")
	}
	if len(skipped) == 0 {
		return ""
	}
	return "; " + strings.Join(skipped, "; ")
}

func (h *handshake) authHint() string {
	if h.target.Password != "" {
		return "check ansible_user and ansible_password"
	}
	return "check ansible_user and ansible_ssh_private_key_file, or load the key with ssh-add"
}

// answer returns the keyboard-interactive callback: the password for the question
// for it, anything else to Options.Challenge. What is asked a second time was wrong,
// and another answer could lock the account.
func (h *handshake) answer() ssh.KeyboardInteractiveChallenge {
	answered := map[string]bool{}
	return func(_, instruction string, questions []string, echos []bool) ([]string, error) {
		answers := make([]string, len(questions))
		for i, q := range questions {
			echo := i < len(echos) && echos[i]
			isPassword := !echo && isPasswordQuestion(q)
			if answered[q] || isPassword && (h.asked || h.target.Password == "") {
				return nil, errPasswordRefused
			}
			answered[q] = true
			var a Secret
			switch {
			case isPassword:
				a, h.asked = h.target.Password, true
			case h.pool.opts.Challenge == nil:
				err := fmt.Errorf("the host asks %q, and there is nobody to answer", strings.TrimSpace(q))
				h.failAuth(&fault{kind: KindAuth, op: "log in as " + h.target.user(), err: err, hint: "run fleetd on a terminal, where it can ask for a code"})
				return nil, err
			default:
				var err error
				if a, err = h.challenge(instruction, q, echo); err != nil {
					return nil, err
				}
			}
			h.give("keyboard-interactive")
			answers[i] = a.Reveal()
		}
		return answers, nil
	}
}

// challenge asks the person, when nobody else is asked anything.
func (h *handshake) challenge(instruction, question string, echo bool) (Secret, error) {
	defer h.deadline.hold()()
	done, err := h.pool.keys.takeTurn(h.deadline.ctx)
	if err != nil {
		return "", err
	}
	defer done()
	a, err := h.pool.opts.Challenge(h.deadline.ctx, h.target, Printable(instruction), Printable(question), echo)
	if err != nil {
		h.failAuth(&fault{kind: KindAuth, op: "log in as " + h.target.user(), err: fmt.Errorf("the host asks %q, and there is no answer: %w", strings.TrimSpace(question), err)})
	}
	return a, err
}

// errPasswordRefused ends a login whose password was sent and not accepted, or that
// has none to send.
var errPasswordRefused = errors.New("the password was not accepted")

// otherFactor is what asks for the code of a second factor, which may be called a
// one-time password. Whole words: a question may name the user, such as "decoder".
var otherFactor = regexp.MustCompile(`(?i)\b(one[- ]?time|t?otp|oath|token|(pass|token)?code|verification)\b`)

// isPasswordQuestion tells the question for the password from one for a code.
func isPasswordQuestion(q string) bool {
	return !otherFactor.MatchString(q) && (strings.Contains(strings.ToLower(q), "password") || isPasswordPrompt(q))
}

// signers returns the keys to try: certificates and files of the target first,
// then the agent's other keys. OpenSSH tries the agent's first; with the named
// file first, a full agent cannot use up sshd's MaxAuthTries.
func (h *handshake) signers() ([]ssh.Signer, error) {
	t := h.target
	agentKeys, agentErr := h.agentSigners()
	if agentErr != nil && !errors.Is(agentErr, errNoAgent) {
		h.skip(agentErr.Error())
	}
	files := t.IdentityFiles
	explicit := len(files) > 0
	if !explicit {
		files = account.Keys()
	}
	certs, err := loadCerts(t.CertificateFiles)
	if err != nil {
		return nil, &fault{kind: KindAuth, op: "log in as " + t.user(), err: err}
	}

	var out []ssh.Signer
	seen := map[string]bool{}
	add := func(s ssh.Signer, label string) {
		id := string(s.PublicKey().Marshal())
		if seen[id] || !h.pool.opts.Algorithms.Allows(s.PublicKey().Type()) {
			return
		}
		seen[id] = true
		out = append(out, &announced{Signer: s, tried: func() { h.offer(label) }, signed: h.sign})
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
		k, err := h.pool.keys.load(f)
		if err != nil {
			if explicit {
				return nil, keyFault(t, err)
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
				h.skip(f + " is a FIDO key, which is used through an agent: ssh-add " + wire.Word(f))
				continue
			}
			if k.publicOnly {
				if agentErr != nil {
					return nil, &fault{kind: KindAuth, op: "log in as " + t.user(), err: fmt.Errorf("%s is a public key, and there is no agent: %w", f, agentErr)}
				}
				continue
			}
			s = h.pool.keys.signer(h.deadline.ctx, k, h.deadline.hold, h.failAuth)
			if s == nil {
				continue
			}
		}
		addKey(s, f, k.cert)
	}
	for _, a := range agentKeys {
		if t.IdentitiesOnly {
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
	sig, err := a.sign(rand, data, algo)
	if err == nil {
		a.signed(a.PublicKey())
	}
	return sig, err
}

func (a *announced) sign(rand io.Reader, data []byte, algo string) (*ssh.Signature, error) {
	if s, ok := a.Signer.(ssh.AlgorithmSigner); ok {
		return s.SignWithAlgorithm(rand, data, algo)
	}
	return a.Sign(rand, data)
}

func loadCerts(files []string) ([]*ssh.Certificate, error) {
	var out []*ssh.Certificate
	for _, f := range files {
		c, err := loadCert(f)
		if err != nil {
			return nil, fmt.Errorf("cannot read certificate %s: %w", f, err)
		}
		out = append(out, c)
	}
	return out, nil
}

func loadCert(file string) (*ssh.Certificate, error) {
	b, err := os.ReadFile(account.Expand(file))
	if err != nil {
		return nil, account.Reason(err)
	}
	pub, _, _, _, err := ssh.ParseAuthorizedKey(b)
	if err != nil {
		return nil, errors.New("not an OpenSSH certificate")
	}
	c, ok := pub.(*ssh.Certificate)
	if !ok {
		return nil, errors.New("a public key, not a certificate")
	}
	return c, nil
}

// keyFault is the error of a key file that was named and cannot be used.
func keyFault(t Target, err error) error {
	f := &fault{kind: KindAuth, op: "log in as " + t.user(), err: err, hint: "check ansible_ssh_private_key_file"}
	if inner, ok := errors.AsType[*fault](err); ok {
		f.err, f.hint = inner.err, inner.hint
	}
	return f
}
