package sshexec_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/opensshtest"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

func keyText(k ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))) }

type knownHostsCase struct {
	name, lines string
	ok          bool
}

// knownHostsCases are known_hosts files, and whether a server on 127.0.0.1 with
// two keys is known by them.
func knownHostsCases(port int, key1, key2 ssh.PublicKey) []knownHostsCase {
	host := fmt.Sprintf("[127.0.0.1]:%d", port)
	own, second, other := keyText(key1), keyText(key2), keyText(sshtest.NewKey().PublicKey())
	return []knownHostsCase{
		{name: "plain", lines: host + " " + own, ok: true},
		{name: "only the second key type", lines: host + " " + second, ok: true},
		{name: "unknown host", lines: "[127.0.0.2]:22 " + own},
		{name: "another port", lines: fmt.Sprintf("[127.0.0.1]:%d %s", port+1, own)},
		{name: "no port vouches for every port", lines: "127.0.0.1 " + own, ok: true},
		{name: "no port, another key", lines: "127.0.0.1 " + other},
		{name: "changed", lines: host + " " + other},
		{name: "several keys, one right", lines: host + " " + other + "\n" + host + " " + own, ok: true},
		{name: "hashed", lines: knownhosts.HashHostname(host) + " " + own, ok: true},
		{name: "hashed, another host", lines: knownhosts.HashHostname("[127.0.0.9]:22") + " " + own},
		{name: "list", lines: "a,b," + host + " " + own, ok: true},
		{name: "pattern", lines: "[127.0.0.*]:* " + own, ok: true},
		{name: "negated", lines: "[127.0.0.*]:*,!" + host + " " + own},
		{name: "revoked", lines: host + " " + own + "\n@revoked * " + own},
		{name: "revoked, another host's line", lines: host + " " + own + "\n@revoked other " + own, ok: true},
		{name: "bad lines are passed over", lines: "garbage\n" + host + " ssh-ed25519 AAAA\n\n# c\n@odd x y z\n" + host + " " + own + "\nx", ok: true},
		{name: "upper case", lines: strings.ToUpper(host) + " " + own, ok: true},
		{name: "comment after the key", lines: host + " " + own + " some words", ok: true},
		{name: "type does not fit the key", lines: host + " ssh-rsa " + strings.Fields(own)[1]},
		{name: "authority does not vouch for a plain key", lines: "@cert-authority " + host + " " + own},
	}
}

func TestKnownHosts(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	second, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	first := sshtest.NewKey()
	srv := sshtest.New(t, sshtest.HostKey(first, second))
	target := srv.Target("web1")
	for _, tc := range knownHostsCases(target.Port, first.PublicKey(), second.PublicKey()) {
		t.Run(tc.name, func(t *testing.T) {
			f := t.TempDir() + "/kh"
			if err := os.WriteFile(f, []byte(tc.lines+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			target := target
			target.KnownHosts = []string{f}
			err := runTrue(t, newPool(t, sshexec.Options{}), target)
			if (err == nil) != tc.ok || (err != nil && sshexec.KindOf(err) != sshexec.KindHostKey) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestOpenSSHKnownHosts compares what ssh and fleetd make of the same
// known_hosts file.
func TestOpenSSHKnownHosts(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{Keys: []string{"ed25519", "ecdsa"}})
	for _, tc := range knownHostsCases(s.Port, s.Keys["ed25519"], s.Keys["ecdsa"]) {
		t.Run(tc.name, func(t *testing.T) {
			f := s.Write(t, "kh", tc.lines+"\n")
			cmd := exec.Command("ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "GlobalKnownHostsFile=none",
				"-o", "UserKnownHostsFile="+f, "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-i", s.Path("client"), "-p", fmt.Sprint(s.Port), "127.0.0.1", "true")
			out, err := cmd.CombinedOutput()
			if (err == nil) != tc.ok {
				t.Errorf("ssh itself: %v\n%s", err, out)
			}
			target := s.Target("web1")
			target.KnownHosts = []string{f}
			err = runTrue(t, newPool(t, sshexec.Options{}), target)
			if (err == nil) != tc.ok || (err != nil && sshexec.KindOf(err) != sshexec.KindHostKey) {
				t.Errorf("fleetd: %v", err)
			}
		})
	}
}

func TestOpenSSHHostCertificate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name       string
		principals string
		validity   string
		lines      func(ca, cert, host string) string
		want       string
	}{
		{"right", "127.0.0.1,web1", "always:forever", func(ca, _, _ string) string { return "@cert-authority * " + ca }, ""},
		{"authority for a pattern", "127.0.0.1", "always:forever", func(ca, _, _ string) string { return "@cert-authority [127.0.0.*]:* " + ca }, ""},
		{"authority for the host without a port", "127.0.0.1", "always:forever", func(ca, _, _ string) string { return "@cert-authority 127.0.0.1 " + ca }, ""},
		{"principals are no patterns", "127.0.0.*", "always:forever", func(ca, _, _ string) string { return "@cert-authority * " + ca }, `host certificate "h" is for 127.0.0.*`},
		{"another host's", "10.0.0.1", "always:forever", func(ca, _, _ string) string { return "@cert-authority * " + ca }, `host certificate "h" is for 10.0.0.1, not for 127.0.0.1`},
		{"expired", "127.0.0.1", "20200101:20200201", func(ca, _, _ string) string { return "@cert-authority * " + ca }, `host certificate "h": cert has expired`},
		{"authority revoked", "127.0.0.1", "always:forever", func(ca, _, _ string) string { return "@cert-authority * " + ca + "\n@revoked * " + ca }, "is revoked"},
		{"key revoked", "127.0.0.1", "always:forever", func(ca, key, _ string) string { return "@cert-authority * " + ca + "\n@revoked * " + key }, "is revoked"},
		{"unknown authority, known key", "127.0.0.1", "always:forever", func(_, key, host string) string { return host + " " + key }, ""},
		{"unknown authority", "127.0.0.1", "always:forever", func(string, string, string) string { return "" }, "host key is not known"},
		{"authority of other hosts", "127.0.0.1", "always:forever", func(ca, _, _ string) string { return "@cert-authority *.example.org " + ca }, "host key is not known"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			opensshtest.Keygen(t, dir+"/ca", "ed25519", "")
			// The host key exists only when sshd has started with it; so sign
			// a key of our own and have sshd use that.
			opensshtest.Keygen(t, dir+"/hk", "ecdsa", "")
			opensshtest.Sign(t, dir+"/ca", "h", tc.principals, dir+"/hk.pub", "-h", "-V", tc.validity)
			s := opensshtest.Start(t, opensshtest.Config{Lines: []string{"HostKey " + dir + "/hk", "HostCertificate " + dir + "/hk-cert.pub", "HostKeyAlgorithms ecdsa-sha2-nistp256-cert-v01@openssh.com,ecdsa-sha2-nistp256"}})
			host := fmt.Sprintf("[127.0.0.1]:%d", s.Port)
			f := s.Write(t, "kh", tc.lines(keyText(opensshtest.ReadPublicKey(t, dir+"/ca.pub")), keyText(opensshtest.ReadPublicKey(t, dir+"/hk.pub")), host)+"\n")
			target := s.Target("web1")
			target.KnownHosts = []string{f}
			err := runTrue(t, newPool(t, sshexec.Options{}), target)
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || sshexec.KindOf(err) != sshexec.KindHostKey):
				t.Errorf("got %v, want %s", err, tc.want)
			}
			out, sshErr := exec.Command("ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "GlobalKnownHostsFile=none",
				"-o", "UserKnownHostsFile="+f, "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-i", s.Path("client"), "-p", fmt.Sprint(s.Port), "127.0.0.1", "true").CombinedOutput()
			if (sshErr == nil) != (tc.want == "") {
				t.Errorf("ssh itself: %v\n%s", sshErr, out)
			}
		})
	}
}

func TestChangedHostKeyShowsBothFingerprints(t *testing.T) {
	srv := sshtest.New(t)
	p := newPool(t, sshexec.Options{})
	target := srv.Target("web1")
	if err := runTrue(t, p, target); err != nil {
		t.Fatal(err)
	}
	known, err := os.ReadFile(srv.KnownHostsFile())
	if err != nil {
		t.Fatal(err)
	}
	_, _, old, _, _, err := ssh.ParseKnownHosts(known)
	if err != nil {
		t.Fatal(err)
	}
	now := sshtest.NewKey()
	srv.SetHostKey(now)
	// The open connection goes on: its host was proven.
	if err := runTrue(t, p, target); err != nil {
		t.Fatal(err)
	}
	p.Forget(target)
	for _, policy := range []sshexec.HostKeyPolicy{sshexec.Strict, sshexec.AcceptNew} {
		target.HostKeyPolicy = policy
		err = runTrue(t, p, target)
		want := fmt.Sprintf("cannot connect to web1: host key has changed: known ssh-ed25519 %s (%s:1), offered ssh-ed25519 %s",
			ssh.FingerprintSHA256(old), srv.KnownHostsFile(), ssh.FingerprintSHA256(now.PublicKey()))
		if err == nil || err.Error() != want || sshexec.KindOf(err) != sshexec.KindHostKey {
			t.Errorf("%v:\ngot  %v\nwant %s", policy, err, want)
		}
		if !strings.Contains(sshexec.HintOf(err), "ssh-keygen -R '[127.0.0.1]:") {
			t.Errorf("hint: %s", sshexec.HintOf(err))
		}
	}
	if n := srv.Dials(); n != 3 {
		t.Errorf("%d connections, want 3: a wrong key is not retried", n)
	}
	after, _ := os.ReadFile(srv.KnownHostsFile())
	if string(after) != string(known) {
		t.Error("known_hosts was written")
	}
}

// hostCert returns a signer for a host certificate.
func hostCert(t testing.TB, ca ssh.Signer, edit func(*ssh.Certificate)) ssh.Signer {
	t.Helper()
	key := sshtest.NewKey()
	c := &ssh.Certificate{Key: key.PublicKey(), CertType: ssh.HostCert, KeyId: "h", ValidPrincipals: []string{"127.0.0.1"}, ValidBefore: ssh.CertTimeInfinity}
	edit(c)
	if err := c.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewCertSigner(c, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestHostCertificate(t *testing.T) {
	ca, other := sshtest.NewKey(), sshtest.NewKey()
	trust := "@cert-authority * " + keyText(ca.PublicKey()) + "\n"
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaCA, err := ssh.NewSignerFromKey(rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	signedBy := func(algorithm string) ssh.Signer {
		s, err := ssh.NewSignerWithAlgorithms(rsaCA.(ssh.AlgorithmSigner), []string{algorithm})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	trustRSA := "@cert-authority * " + keyText(rsaCA.PublicKey()) + "\n"
	for _, tc := range []struct {
		name   string
		signer ssh.Signer
		lines  string
		want   string
	}{
		{"right", hostCert(t, ca, func(*ssh.Certificate) {}), trust, ""},
		{"another authority's", hostCert(t, other, func(*ssh.Certificate) {}), trust, "which no @cert-authority line names"},
		{"a user's", hostCert(t, ca, func(c *ssh.Certificate) { c.CertType = ssh.UserCert }), trust, "certificate for users"},
		{"another host's", hostCert(t, ca, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"x"} }), trust, "is for x, not for 127.0.0.1"},
		{"for every host", hostCert(t, ca, func(c *ssh.Certificate) { c.ValidPrincipals = nil }), trust, ""},
		{"expired", hostCert(t, ca, func(c *ssh.Certificate) { c.ValidBefore = 1 }), trust, "cert has expired"},
		{"signed with SHA-2", hostCert(t, signedBy(ssh.KeyAlgoRSASHA256), func(*ssh.Certificate) {}), trustRSA, ""},
		{"signed with SHA-1", hostCert(t, signedBy(ssh.KeyAlgoRSA), func(*ssh.Certificate) {}), trustRSA, "is signed by the algorithm ssh-rsa"},
		{"revoked authority", hostCert(t, ca, func(*ssh.Certificate) {}), trust + "@revoked * " + keyText(ca.PublicKey()) + "\n", "is revoked"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := sshtest.New(t, sshtest.HostKey(tc.signer))
			target := srv.Target("web1")
			if err := os.WriteFile(srv.KnownHostsFile(), []byte(tc.lines), 0o600); err != nil {
				t.Fatal(err)
			}
			err := runTrue(t, newPool(t, sshexec.Options{}), target)
			if tc.want == "" && err != nil {
				t.Error(err)
			}
			if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || sshexec.KindOf(err) != sshexec.KindHostKey) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

// TestAnotherPortsKeyIsNoChange: on one machine several sshd, in containers,
// may have keys of their own.
func TestAnotherPortsKeyIsNoChange(t *testing.T) {
	srv := sshtest.New(t)
	target := srv.Target("web1")
	line := "127.0.0.1 " + keyText(sshtest.NewKey().PublicKey()) + "\n"
	if err := os.WriteFile(srv.KnownHostsFile(), []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	target.HostKeyPolicy = sshexec.AcceptNew
	if err := runTrue(t, newPool(t, sshexec.Options{}), target); err != nil {
		t.Error(err)
	}
}
