package sshexec_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/opensshtest"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

// trust has known_hosts name these keys for the target, in this order.
func trust(t testing.TB, target *sshexec.Target, keys ...ssh.PublicKey) {
	t.Helper()
	var lines strings.Builder
	for _, k := range keys {
		lines.WriteString("* " + keyText(k) + "\n")
	}
	f := t.TempDir() + "/known_hosts"
	if err := os.WriteFile(f, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	target.KnownHosts = []string{f}
}

// TestAnotherMachineIsRefused: known_hosts has the keys of both machines, so
// that only the binding tells that they have changed places.
func TestAnotherMachineIsRefused(t *testing.T) {
	keyA, keyB := sshtest.NewKey(), sshtest.NewKey()
	a, b := sshtest.New(t, sshtest.HostKey(keyA)), sshtest.New(t, sshtest.HostKey(keyB))
	p := newPool(t, sshexec.Options{})
	target := a.Target("n1")
	trust(t, &target, keyA.PublicKey(), keyB.PublicKey())
	if key := p.HostKey(target); key != "" {
		t.Errorf("host key %s before a connection", key)
	}
	if err := runTrue(t, p, target); err != nil {
		t.Fatal(err)
	}
	target.HostKey = p.HostKey(target)
	if want := ssh.FingerprintSHA256(keyA.PublicKey()); target.HostKey != want {
		t.Fatalf("host key %q, want %s", target.HostKey, want)
	}
	if err := runTrue(t, p, target); err != nil {
		t.Fatal(err)
	}
	if n := a.Dials(); n != 1 {
		t.Errorf("%d connections, want 1: the one from before the binding is good", n)
	}

	refused := func(t *testing.T, target sshexec.Target, other *sshtest.Server, key ssh.Signer) {
		t.Helper()
		before, asked := other.Dials(), len(other.Requests())
		err := runTrue(t, p, target)
		if sshexec.KindOf(err) != sshexec.KindHostKey || !strings.Contains(err.Error(), target.HostKey) || !strings.Contains(err.Error(), ssh.FingerprintSHA256(key.PublicKey())) {
			t.Errorf("got %v", err)
		}
		if hint := sshexec.HintOf(err); !strings.Contains(hint, "another machine answers at "+target.HostPort()) || !strings.Contains(hint, "make a new plan") {
			t.Errorf("hint: %s", hint)
		}
		if n := other.Dials() - before; n != 1 || len(other.Requests()) != asked {
			t.Errorf("%d connections, want 1, and %d commands, want none", n, len(other.Requests())-asked)
		}
		if key := p.HostKey(target); key != "" {
			t.Errorf("host key %s of a refused host", key)
		}
	}
	swapped := b.Target("n1")
	swapped.KnownHosts, swapped.HostKey = target.KnownHosts, target.HostKey
	t.Run("ports swapped", func(t *testing.T) { refused(t, swapped, b, keyB) })
	t.Run("an open connection to the other machine", func(t *testing.T) {
		unbound := swapped
		unbound.HostKey = ""
		if err := runTrue(t, p, unbound); err != nil {
			t.Fatal(err)
		}
		refused(t, swapped, b, keyB)
	})
	t.Run("a new host is not recorded", func(t *testing.T) {
		fresh := swapped
		trust(t, &fresh)
		fresh.HostKeyPolicy = sshexec.AcceptNew
		refused(t, fresh, b, keyB)
		if text, _ := os.ReadFile(fresh.KnownHosts[0]); len(text) > 0 {
			t.Errorf("known_hosts has got %s", text)
		}
	})
	t.Run("in the middle of a run", func(t *testing.T) {
		a.SetHostKey(keyB)
		p.Forget(target)
		refused(t, target, a, keyB)
	})
	t.Run("as a jump host it is not asked for", func(t *testing.T) {
		behind := b.Target("n2")
		trust(t, &behind, keyB.PublicKey())
		behind.HostKey = ssh.FingerprintSHA256(keyB.PublicKey())
		jump := sshtest.New(t)
		behind.ProxyJump = []sshexec.Target{jump.Target("jump")}
		if err := runTrue(t, p, behind); err != nil {
			t.Error(err)
		}
	})
}

// TestBoundHostKeyIsAskedFor: a host shows one of its keys, which one depends
// on known_hosts, and may have got more lines there since.
func TestBoundHostKeyIsAskedFor(t *testing.T) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	second, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	first := sshtest.NewKey()
	srv := sshtest.New(t, sshtest.HostKey(first, second))
	for _, bound := range []ssh.PublicKey{first.PublicKey(), second.PublicKey()} {
		for _, known := range [][]ssh.PublicKey{{first.PublicKey(), second.PublicKey()}, {second.PublicKey(), first.PublicKey()}} {
			p := newPool(t, sshexec.Options{})
			target := srv.Target("web1")
			trust(t, &target, known...)
			target.HostKey = ssh.FingerprintSHA256(bound)
			if err := runTrue(t, p, target); err != nil || p.HostKey(target) != target.HostKey {
				t.Errorf("bound to %s: %v, host key %s", bound.Type(), err, p.HostKey(target))
			}
		}
	}
}

// TestHostCertificateIsBoundByItsKey: the certificate is renewed, the key stays.
func TestHostCertificateIsBoundByItsKey(t *testing.T) {
	ca := sshtest.NewKey()
	cert := hostCert(t, ca, func(*ssh.Certificate) {})
	srv := sshtest.New(t, sshtest.HostKey(cert))
	p := newPool(t, sshexec.Options{})
	target := srv.Target("web1")
	if err := runTrue(t, p, target); err != nil {
		t.Fatal(err)
	}
	want := ssh.FingerprintSHA256(cert.PublicKey().(*ssh.Certificate).Key)
	if got := p.HostKey(target); got != want {
		t.Errorf("host key %s, want %s", got, want)
	}
	p.Forget(target)
	target.HostKey = want
	if err := runTrue(t, p, target); err != nil {
		t.Error(err)
	}
	p.Forget(target)
	srv.SetHostKey(hostCert(t, ca, func(*ssh.Certificate) {}))
	if err := runTrue(t, p, target); sshexec.KindOf(err) != sshexec.KindHostKey || !strings.Contains(err.Error(), want) {
		t.Errorf("the same authority's certificate for another key: %v", err)
	}
}

func TestLoginKey(t *testing.T) {
	write := func(key any) (file string, fingerprint string) {
		block, err := ssh.MarshalPrivateKey(key, "")
		if err != nil {
			t.Fatal(err)
		}
		file = t.TempDir() + "/key"
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.NewSignerFromKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return file, ssh.FingerprintSHA256(signer.PublicKey())
	}
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, _ := write(priv)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaFile, rsaPrint := write(rsaKey)
	rsaSigner, err := ssh.NewSignerFromKey(rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	ca := sshtest.NewKey()
	own := func(s *sshtest.Server) string {
		b, err := os.ReadFile(s.ClientKeyFile())
		if err != nil {
			t.Fatal(err)
		}
		k, err := ssh.ParsePrivateKey(b)
		if err != nil {
			t.Fatal(err)
		}
		return ssh.FingerprintSHA256(k.PublicKey())
	}
	for _, tc := range []struct {
		name string
		opts []sshtest.Option
		edit func(*sshexec.Target)
		want func(*sshtest.Server) string
	}{
		{"key", nil, func(*sshexec.Target) {}, own},
		{"the second of two", nil, func(t *sshexec.Target) { t.IdentityFiles = append([]string{other}, t.IdentityFiles...) }, own},
		{"RSA", []sshtest.Option{sshtest.AuthorizedKey(rsaSigner.PublicKey())}, func(t *sshexec.Target) { t.IdentityFiles = []string{rsaFile} }, func(*sshtest.Server) string { return rsaPrint }},
		{"certificate", []sshtest.Option{sshtest.UserCA(ca.PublicKey()), sshtest.AuthorizedKey(ca.PublicKey())}, func(target *sshexec.Target) {
			cert := &ssh.Certificate{Key: rsaSigner.PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{sshtest.User}, ValidBefore: ssh.CertTimeInfinity}
			if err := cert.SignCert(rand.Reader, ca); err != nil {
				t.Fatal(err)
			}
			file := t.TempDir() + "/cert"
			if err := os.WriteFile(file, ssh.MarshalAuthorizedKey(cert), 0o600); err != nil {
				t.Fatal(err)
			}
			target.IdentityFiles, target.CertificateFiles = []string{rsaFile}, []string{file}
		}, func(*sshtest.Server) string { return rsaPrint }},
		{"password", []sshtest.Option{sshtest.Password("pw")}, func(t *sshexec.Target) { t.IdentityFiles, t.Password = []string{other}, "pw" }, func(*sshtest.Server) string { return "" }},
		{"key and password", []sshtest.Option{sshtest.PasswordAndKey("pw")}, func(t *sshexec.Target) { t.Password = "pw" }, own},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := sshtest.New(t, tc.opts...)
			target := srv.Target("web1")
			tc.edit(&target)
			p := newPool(t, sshexec.Options{})
			if key := p.LoginKey(target); key != "" {
				t.Errorf("login key %s before a login", key)
			}
			if err := runTrue(t, p, target); err != nil {
				t.Fatal(err)
			}
			if got, want := p.LoginKey(target), tc.want(srv); got != want {
				t.Errorf("login key %q, want %q", got, want)
			}
		})
	}
}

// TestOpenSSHFingerprints: fingerprints are as ssh-keygen prints them.
func TestOpenSSHFingerprints(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{Smoke: true})
	p := newPool(t, sshexec.Options{})
	target := s.Target("web1")
	if err := runTrue(t, p, target); err != nil {
		t.Fatal(err)
	}
	scan := t.TempDir() + "/host.pub"
	if err := os.WriteFile(scan, []byte(keyText(s.Keys["ed25519"])+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, got := range map[string]string{scan: p.HostKey(target), s.Path("client.pub"): p.LoginKey(target)} {
		out, err := exec.Command("ssh-keygen", "-lf", file).Output()
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.Fields(string(out))[1]; got != want {
			t.Errorf("%s: %q, ssh-keygen says %s", file, got, want)
		}
	}
	target.HostKey = p.LoginKey(target)
	if err := runTrue(t, p, target); sshexec.KindOf(err) != sshexec.KindHostKey {
		t.Errorf("with another key: %v", err)
	}
}
