package sshexec_test

import (
	"bytes"
	"log/slog"
	"regexp"
	"testing"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/opensshtest"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

// connectedBy connects to t and returns the key exchange that both agreed on.
func connectedBy(t *testing.T, target sshexec.Target) (string, error) {
	t.Helper()
	var log bytes.Buffer
	p := newPool(t, sshexec.Options{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err := p.Connect(testContext(t), target); err != nil {
		return "", err
	}
	m := regexp.MustCompile(`msg=connected .*\bkex=(\S+)`).FindSubmatch(log.Bytes())
	if m == nil {
		t.Fatalf("no key exchange in the log:\n%s", log.String())
	}
	return string(m[1]), nil
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
