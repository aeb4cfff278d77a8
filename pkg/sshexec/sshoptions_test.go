package sshexec_test

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/config"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

func writeFile(t testing.TB, text string) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// fromVars is a target of variables and an ssh_config, and what was warned of.
func fromVars(t testing.TB, vars map[string]any, text string) (target sshexec.Target, warned []string, err error) {
	t.Helper()
	target, err = config.FromVars("web1", vars, config.Options{
		SSHConfig: config.NewSSHConfig(writeFile(t, text)),
		Warn:      func(s string) { warned = append(warned, s) },
	})
	return target, warned, err
}

// TestAuthenticationsOfOptions: a password goes by no way that the options do not
// leave, and by those that they leave in their order, once.
func TestAuthenticationsOfOptions(t *testing.T) {
	for _, tc := range []struct{ options, ways string }{
		{"", "keyboard-interactive"},
		{"PasswordAuthentication=no", "keyboard-interactive"},
		{"KbdInteractiveAuthentication=no", "password"},
		{"ChallengeResponseAuthentication=no", "password"},
		{"PasswordAuthentication=no KbdInteractiveAuthentication=no", ""},
		{"PreferredAuthentications=publickey", ""},
		{"PreferredAuthentications=gssapi-with-mic,password,keyboard-interactive", "password"},
		{"PreferredAuthentications=publickey,password PasswordAuthentication=no", ""},
	} {
		for _, where := range []string{"arguments", "ssh_config"} {
			t.Run(where+" "+tc.options, func(t *testing.T) {
				t.Parallel()
				var mu sync.Mutex
				var ways []string
				got := func(way string) (*ssh.Permissions, error) {
					mu.Lock()
					defer mu.Unlock()
					ways = append(ways, way)
					return nil, errNo
				}
				h := newHostile(t, func(c net.Conn, conf *ssh.ServerConfig) {
					conf.PasswordCallback = func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) { return got("password") }
					conf.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
						if _, err := ask("", "", []string{"Password: "}, []bool{false}); err != nil {
							return nil, err
						}
						return got("keyboard-interactive")
					}
					_, _, _, _ = ssh.NewServerConn(c, conf)
				})
				vars := map[string]any{"ansible_password": "pw"}
				config := strings.Join(strings.Fields(tc.options), "\n")
				if where == "arguments" {
					vars["ansible_ssh_common_args"], config = strings.Join(append([]string{"-C"}, strings.Fields(tc.options)...), " -o "), ""
				}
				read, warned, err := fromVars(t, vars, config)
				if err != nil || warned != nil {
					t.Fatal(err, warned)
				}
				target := h.target
				target.Password, target.Authentications = read.Password, read.Authentications
				if err := runTrue(t, newPool(t, sshexec.Options{}), target); sshexec.KindOf(err) != sshexec.KindAuth {
					t.Error(err)
				}
				if s := strings.Join(ways, " "); s != tc.ways {
					t.Errorf("the password was sent by %q, want %q", s, tc.ways)
				}
			})
		}
	}
}

func TestRevokedHostKeys(t *testing.T) {
	key := sshtest.NewKey()
	srv := sshtest.New(t, sshtest.HostKey(key))
	for _, tc := range []struct{ text, want string }{
		{"# none\n" + keyText(sshtest.NewKey().PublicKey()) + "\n", ""},
		{keyText(sshtest.NewKey().PublicKey()) + "\n" + keyText(key.PublicKey()) + " comment\n", "is revoked (FILE:2)"},
		{"SSHKRL\n\x00\x00", "RevokedHostKeys FILE is a KRL, which fleetd does not read"},
		{"ssh-ed25519 AAAA", "RevokedHostKeys FILE:1 is no public key"},
		{"missing", "cannot read RevokedHostKeys FILE: no such file"},
	} {
		f := writeFile(t, tc.text)
		if tc.text == "missing" {
			os.Remove(f)
		}
		read, _, err := fromVars(t, nil, "Host web*\n  RevokedHostKeys "+f)
		if err != nil {
			t.Fatal(err)
		}
		target := srv.Target("web1")
		target.RevokedHostKeys = read.RevokedHostKeys
		target.HostKeyPolicy = sshexec.AcceptNew
		err = runTrue(t, newPool(t, sshexec.Options{}), target)
		want := strings.ReplaceAll(tc.want, "FILE", f)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), want) || sshexec.KindOf(err) != sshexec.KindHostKey) {
			t.Errorf("%q: %v, want %s", tc.text, err, want)
		}
	}
}

// TestOptionsAreNotIgnored: what is not followed is refused or warned of, in the
// arguments, in ssh_config and among the variables.
func TestOptionsAreNotIgnored(t *testing.T) {
	type vars = map[string]any
	args := func(s string) vars { return vars{"ansible_ssh_common_args": "-o " + s} }
	for _, tc := range []struct {
		vars   vars
		config string
		err    string
		warned string
	}{
		{args("ProxyUseFdpass=yes"), "", "ssh's option ProxyUseFdpass is not supported", ""},
		{args("ProxyUseFdpass=no"), "", "", ""},
		{args("PKCS11Provider=/lib/p.so"), "", "", "ssh's option PKCS11Provider=/lib/p.so is not followed"},
		{args("CanonicalizeHostname=yes"), "", "ssh's option CanonicalizeHostname is not supported", ""},
		{args("NoSuchOption=yes"), "", "ssh's option NoSuchOption is not supported", ""},
		{args("PubkeyAuthentication=no -o PreferredAuthentications=publickey"), "", "leave no way to log in", ""},
		{nil, "PreferredAuthentications gssapi-with-mic,hostbased", "leave no way to log in", ""},
		{nil, "Host web*\n  ProxyUseFdpass yes", "ssh_config's option proxyusefdpass yes is not supported", ""},
		{nil, "Host web*\n  BindAddress 10.0.0.1", "ssh_config's option bindaddress 10.0.0.1 is not supported", ""},
		{nil, "Host db\n  ProxyUseFdpass yes\n  Ciphers aes128-cbc", "", ""},
		{nil, "PKCS11Provider /lib/p.so", "", "ssh_config's option pkcs11provider /lib/p.so is not followed"},
		{nil, "Ciphers aes128-cbc\nLocalForward 80 a:80\nSetEnv A=b", "", "ssh_config's option ciphers aes128-cbc is not followed; ssh_config's option setenv A=b is not followed"},
		{nil, "UseKeychain yes", "", "ssh_config's option usekeychain yes is not followed"},
		{vars{"ansible_ssh_executable": "/opt/bin/tsh-ssh"}, "", `cannot call "/opt/bin/tsh-ssh"`, ""},
		{vars{"ansible_ssh_executable": "/usr/bin/ssh"}, "", "", ""},
		{vars{"ansible_ssh_pkcs11_provider": "/lib/p.so"}, "", "", "ansible_ssh_pkcs11_provider is not followed: load the key into an agent (ssh-add, or ssh-add -s for a token's)"},
		{vars{"ansible_private_key": "-----BEGIN"}, "", "", "ansible_private_key is not followed: load the key into an agent (ssh-add, or ssh-add -s for a token's)"},
	} {
		_, warned, err := fromVars(t, tc.vars, tc.config)
		if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%v %q: %v, want %s", tc.vars, tc.config, err, tc.err)
		}
		if s := strings.Join(slices.Compact(warned), "; "); s != tc.warned {
			t.Errorf("%v %q: warned %q, want %q", tc.vars, tc.config, s, tc.warned)
		}
	}
}

// TestGSSAPIIsNamed: where ssh would have gone on with Kerberos, the person is told
// that fleetd has not.
func TestGSSAPIIsNamed(t *testing.T) {
	read, _, err := fromVars(t, nil, "GSSAPIAuthentication yes")
	if err != nil {
		t.Fatal(err)
	}
	target := sshtest.New(t).Target("web1")
	target.GSSAPI, target.IdentityFiles = read.GSSAPI, []string{}
	if err := runTrue(t, newPool(t, sshexec.Options{}), target); err == nil || !strings.Contains(err.Error(), "GSSAPIAuthentication is set") {
		t.Error(err)
	}
}

// TestBecomeVariablesOfAMethod: those of another method say nothing, and its
// password goes to nobody.
func TestBecomeVariablesOfAMethod(t *testing.T) {
	vars := map[string]any{
		"ansible_become_user": "any", "ansible_sudo_user": "of-sudo", "ansible_su_user": "of-su",
		"ansible_sudo_exe": "/opt/sudo", "ansible_su_pass": "pw-su", "ansible_sudo_flags": "-E",
	}
	for method, want := range map[string]string{"sudo": "of-sudo /opt/sudo  [-E]", "su": "of-su  pw-su []", "": "of-sudo /opt/sudo  [-E]"} {
		vars["ansible_become_method"] = method
		target, _, err := fromVars(t, vars, "")
		b := target.Become
		if got := strings.Join([]string{b.User, b.Exe, b.Password.Reveal(), "[" + strings.Join(b.Flags, " ") + "]"}, " "); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", method, got, err, want)
		}
	}
}
