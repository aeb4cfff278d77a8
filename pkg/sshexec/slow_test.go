package sshexec_test

import (
	"crypto/rand"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/opensshtest"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

// TestSlowServer: slow is not silent; whoever answers at all is waited for.
func TestSlowServer(t *testing.T) {
	t.Parallel()
	srv := sshtest.New(t)
	srv.SetFault(sshtest.Fault{Delay: 500 * time.Millisecond, Rate: 20_000})
	p := newPool(t, sshexec.Options{MaxDials: 1})
	res, err := p.Run(testContext(t), srv.Target("web1"), sshexec.Command{Script: "head -c 20000 /dev/zero | tr '\\0' x"})
	if err != nil || string(res.Stdout) != strings.Repeat("x", 20_000) {
		t.Errorf("%d bytes, %v", len(res.Stdout), err)
	}
}

func TestUserCertificate(t *testing.T) {
	ca := sshtest.NewKey()
	srv := sshtest.New(t, sshtest.UserCA(ca.PublicKey()))
	for _, tc := range []struct {
		name string
		edit func(*ssh.Certificate)
		kind sshexec.Kind
	}{
		{"right", func(*ssh.Certificate) {}, 0},
		{"another user's", func(c *ssh.Certificate) { c.ValidPrincipals = []string{"somebody"} }, sshexec.KindAuth},
		{"expired", func(c *ssh.Certificate) { c.ValidBefore = 1 }, sshexec.KindAuth},
	} {
		t.Run(tc.name, func(t *testing.T) {
			key := t.TempDir() + "/key"
			opensshtest.Keygen(t, key, "ed25519", "")
			cert := &ssh.Certificate{Key: opensshtest.ReadPublicKey(t, key+".pub"), CertType: ssh.UserCert, KeyId: "me",
				ValidPrincipals: []string{sshtest.User}, ValidBefore: ssh.CertTimeInfinity}
			tc.edit(cert)
			if err := cert.SignCert(rand.Reader, ca); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(key+"-cert.pub", ssh.MarshalAuthorizedKey(cert), 0o600); err != nil {
				t.Fatal(err)
			}
			target := srv.Target("web1")
			target.IdentityFiles = []string{key}
			if err := runTrue(t, newPool(t, sshexec.Options{}), target); sshexec.KindOf(err) != tc.kind || (err == nil) != (tc.kind == 0) {
				t.Errorf("got %v", err)
			}
		})
	}
}
