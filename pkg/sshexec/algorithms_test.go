package sshexec_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/opensshtest"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

// connectedBy connects to t and returns the key exchange that both agreed on.
func connectedBy(t *testing.T, target sshexec.Target) (string, error) {
	t.Helper()
	p := newPool(t, sshexec.Options{})
	if err := p.Connect(testContext(t), target); err != nil {
		return "", err
	}
	return p.KeyExchange(target), nil
}

// TestOpenSSHKeyExchange: what is agreed on with nodes that know more or less,
// in whatever order they prefer it.
func TestOpenSSHKeyExchange(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ node, want string }{
		{"curve25519-sha256,ecdh-sha2-nistp256", "ecdh-sha2-nistp256"},
		{"curve25519-sha256,diffie-hellman-group14-sha256", "curve25519-sha256"},
		{"curve25519-sha256@libssh.org", "curve25519-sha256@libssh.org"}, // EL7
		{"ecdh-sha2-nistp521,ecdh-sha2-nistp384", "ecdh-sha2-nistp384"},
		{"diffie-hellman-group14-sha256", "diffie-hellman-group14-sha256"},
	} {
		t.Run(c.node, func(t *testing.T) {
			t.Parallel()
			s := opensshtest.Start(t, opensshtest.Config{Lines: []string{"KexAlgorithms " + c.node}})
			if got, err := connectedBy(t, s.Target("web1")); got != c.want {
				t.Errorf("%s, %v; want %s", got, err, c.want)
			}
		})
	}
	t.Run("nothing in common", func(t *testing.T) {
		t.Parallel()
		s := opensshtest.Start(t, opensshtest.Config{Lines: []string{"KexAlgorithms sntrup761x25519-sha512@openssh.com"}})
		if got, err := connectedBy(t, s.Target("web1")); sshexec.KindOf(err) != sshexec.KindProtocol || sshexec.HintOf(err) == "" {
			t.Errorf("%s, %v", got, err)
		}
	})
}

// TestPostQuantumKeyExchangeComesFirst: OpenSSH has it from 9.9 on.
func TestPostQuantumKeyExchangeComesFirst(t *testing.T) {
	t.Parallel()
	if got, err := connectedBy(t, sshtest.New(t).Target("web1")); got != "mlkem768x25519-sha256" {
		t.Errorf("%s, %v", got, err)
	}
}

// TestOpenSSHAlgorithms: nothing with SHA-1 is agreed on, and under FIPS nothing
// that is not approved.
func TestOpenSSHAlgorithms(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		node   string
		policy sshexec.AlgorithmPolicy
		ok     bool
	}{
		{"KexAlgorithms diffie-hellman-group14-sha1", sshexec.Modern, false},
		{"KexAlgorithms diffie-hellman-group16-sha512", sshexec.Modern, true},
		{"Ciphers aes128-ctr\nMACs hmac-sha1", sshexec.Modern, false},
		{"Ciphers aes128-ctr\nMACs hmac-sha1-96", sshexec.Modern, false},
		{"Ciphers aes128-ctr\nMACs hmac-sha2-256", sshexec.Modern, true},
		{"Ciphers chacha20-poly1305@openssh.com", sshexec.Modern, true},
		{"Ciphers chacha20-poly1305@openssh.com", sshexec.FIPS, false},
		{"KexAlgorithms curve25519-sha256", sshexec.FIPS, false},
		{"HostKeyAlgorithms ssh-ed25519", sshexec.FIPS, false},
		{"HostKeyAlgorithms rsa-sha2-512", sshexec.FIPS, true},
		{"HostKeyAlgorithms ssh-rsa", sshexec.Modern, false},
		{"PubkeyAcceptedAlgorithms ssh-rsa", sshexec.Modern, false},
		{"PubkeyAcceptedAlgorithms ssh-ed25519", sshexec.FIPS, false},
		{"PubkeyAcceptedAlgorithms rsa-sha2-256", sshexec.FIPS, true},
	} {
		t.Run(fmt.Sprint(c.node, c.policy), func(t *testing.T) {
			t.Parallel()
			s := opensshtest.Start(t, opensshtest.Config{Lines: strings.Split(c.node, "\n"), Keys: []string{"ed25519", "rsa"}})
			opensshtest.Keygen(t, s.Path("rsa"), "rsa", "")
			for _, k := range []string{"client.pub", "rsa.pub"} {
				b, err := os.ReadFile(s.Path(k))
				if err != nil {
					t.Fatal(err)
				}
				had, _ := os.ReadFile(s.Path("authorized_keys"))
				s.Write(t, "authorized_keys", string(had)+string(b))
			}
			target := s.Target("web1")
			target.IdentityFiles = []string{s.Path("rsa")}
			if strings.HasSuffix(c.node, "ed25519") {
				target.IdentityFiles = []string{s.Path("client")}
			}
			p := newPool(t, sshexec.Options{DialAttempts: 1, Algorithms: c.policy})
			if err := p.Connect(testContext(t), target); (err == nil) != c.ok {
				t.Errorf("%v", err)
			}
		})
	}
}
