package config

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fleetd/fleetd/pkg/sshexec"
)

// blockLines and optionLines are what random configurations are made of. A quoted
// list of files is not among them: ssh -G prints it without its quotes. Nor is a jump
// host that would be reached through itself.
var (
	blockLines = []string{
		"Host web1", "Host web*", "Host !web1 w*", "Host db 10.0.0.1", "Host * !b1", "Host *.example.org", `Host "web2" db # x`, "Host web?", "Host d?", "Host db # c",
		"Match final all", "Match final", "Match host web1", "Match final host db",
	}
	optionLines = []string{
		"User a", "User=b", `user "c d"`, "User a#b", "User x # y", "Port 2200", "Port = 2205", "HostName 10.0.0.1", "HostName %h.example.org", "HostName db",
		"IdentityFile DIR/k1", "IdentityFile DIR/k2", `IdentityFile "DIR/k 3"`, "IdentityFile DIR/%n-missing", "IdentityFile none",
		"ProxyJump b1", "ProxyJump none", "ProxyCommand nc %h %p # x", "ProxyCommand none",
		"StrictHostKeyChecking yes", "StrictHostKeyChecking no", "StrictHostKeyChecking accept-new", "UserKnownHostsFile DIR/kh1 DIR/kh2", "UserKnownHostsFile DIR/kh3", "GlobalKnownHostsFile DIR/g",
		"HostKeyAlias al", "ConnectTimeout 5", "ConnectTimeout 7", "AddressFamily inet", "AddressFamily any", "IdentitiesOnly yes", "IdentitiesOnly no",
		"IdentityAgent none", "IdentityAgent DIR/ag", "IdentityAgent SSH_AUTH_SOCK", "CertificateFile DIR/c", "RevokedHostKeys DIR/rev",
		"PasswordAuthentication yes", "PasswordAuthentication no", "KbdInteractiveAuthentication no", "ChallengeResponseAuthentication yes", "PreferredAuthentications password,publickey",
		"GSSAPIAuthentication yes", "PubkeyAuthentication yes", "LogLevel DEBUG", "Ciphers aes128-ctr", "Compression yes", "# comment", "",
	}
)

// TestRandomSSHConfigsAsSSH: whatever stands in a configuration, fleetd reads it as ssh
// does.
func TestRandomSSHConfigsAsSSH(t *testing.T) {
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("ssh is not installed (apt-get install openssh-client)")
	}
	u, err := user.LookupId(strconv.Itoa(os.Getuid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", u.HomeDir)
	dir := t.TempDir()
	for _, key := range []string{"k1", "k2", "k 3"} {
		if err := os.WriteFile(filepath.Join(dir, key), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := filepath.Join(dir, "config")
	rapid.Check(t, func(t *rapid.T) {
		line := rapid.OneOf(rapid.SampledFrom(blockLines), rapid.SampledFrom(optionLines), rapid.SampledFrom(optionLines), rapid.SampledFrom(optionLines))
		text := strings.ReplaceAll(strings.Join(rapid.SliceOfN(line, 0, 14).Draw(t, "lines"), "\n"), "DIR", dir)
		if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		host := rapid.SampledFrom([]string{"web1", "web2", "db"}).Draw(t, "host")
		out, err := exec.Command("ssh", "-G", "-F", f, host).CombinedOutput()
		got, gotErr := FromVars(host, nil, Options{SSHConfig: NewSSHConfig(f)})
		if err != nil {
			if gotErr == nil {
				t.Fatalf("ssh refuses this, fleetd does not: %s", out)
			}
			return
		}
		asked := &sshOptions{}
		if err := asked.addAnswer(string(out), host); err != nil {
			t.Fatal(err)
		}
		want, wantErr := asked.target(host, Options{}, 0)
		if gotErr != nil && strings.Contains(gotErr.Error(), "jumphost loop") {
			return // of the jump host, which only one side looks up in the file
		}
		if (gotErr == nil) != (wantErr == nil) {
			t.Fatalf("%v, with ssh %v", gotErr, wantErr)
		}
		names := func(ts []sshexec.Target) (out []string) {
			for _, j := range ts {
				out = append(out, j.Name)
			}
			return out
		}
		if !slices.Equal(names(got.ProxyJump), names(want.ProxyJump)) {
			t.Errorf("jump hosts %v, want %v", names(got.ProxyJump), names(want.ProxyJump))
		}
		got.ProxyJump, want.ProxyJump = nil, nil
		if diff := cmp.Diff(want, got, compareTargets); diff != "" {
			t.Errorf("(-ssh +fleetd)\n%s", diff)
		}
	})
}
