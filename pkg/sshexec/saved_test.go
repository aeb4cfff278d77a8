package sshexec_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

// genTarget draws a target with all that it can have. Nil and empty lists are
// different things to say.
func genTarget(jumps int, secret string) *rapid.Generator[sshexec.Target] {
	text := rapid.StringMatching(`[-~./ "'%a-zé\n]{0,8}`)
	texts := rapid.OneOf(rapid.Just([]string(nil)), rapid.SliceOfN(text, 0, 3))
	password := rapid.SampledFrom([]sshexec.Secret{"", sshexec.Secret(secret)})
	return rapid.Custom(func(t *rapid.T) sshexec.Target {
		target := sshexec.Target{
			Name: text.Draw(t, "name"), Address: text.Draw(t, "address"), Port: rapid.IntRange(0, 65535).Draw(t, "port"), User: text.Draw(t, "user"),
			IdentityFiles: texts.Draw(t, "identity files"), CertificateFiles: texts.Draw(t, "certificate files"),
			IdentitiesOnly: rapid.Bool().Draw(t, "identities only"), IdentityAgent: text.Draw(t, "agent"), Password: password.Draw(t, "password"),
			Authentications: texts.Draw(t, "authentications"), GSSAPI: rapid.Bool().Draw(t, "gssapi"), RevokedHostKeys: texts.Draw(t, "revoked host keys"),
			Become: sshexec.Become{
				Method: text.Draw(t, "method"), User: text.Draw(t, "become user"), Password: password.Draw(t, "become password"),
				Exe: text.Draw(t, "exe"), Flags: texts.Draw(t, "flags"),
			},
			ProxyCommand: text.Draw(t, "proxy command"), KnownHosts: texts.Draw(t, "known hosts"),
			HostKeyPolicy: rapid.SampledFrom([]sshexec.HostKeyPolicy{sshexec.Strict, sshexec.AcceptNew}).Draw(t, "policy"),
			HostKeyAlias:  text.Draw(t, "alias"), HostKey: text.Draw(t, "host key"), AddressFamily: text.Draw(t, "family"),
			ConnectTimeout: time.Duration(rapid.Int64().Draw(t, "timeout")),
			NeedsPassword:  rapid.Bool().Draw(t, "needs password"), NeedsBecomePassword: rapid.Bool().Draw(t, "needs become password"),
		}
		if jumps > 0 {
			target.ProxyJump = rapid.SliceOfN(genTarget(jumps-1, secret), 0, 2).Draw(t, "jumps")
		}
		return target
	})
}

// withoutSecrets is what is to be left of a target.
func withoutSecrets(t sshexec.Target) sshexec.Target {
	t.NeedsPassword = t.NeedsPassword || t.Password != ""
	t.NeedsBecomePassword = t.NeedsBecomePassword || t.Become.Password != ""
	t.Password, t.Become.Password = "", ""
	if t.ProxyJump != nil {
		jumps := make([]sshexec.Target, len(t.ProxyJump))
		for i, j := range t.ProxyJump {
			jumps[i] = withoutSecrets(j)
		}
		t.ProxyJump = jumps
	}
	return t
}

var exported = cmpopts.IgnoreUnexported(sshexec.Target{})

func TestSavedTargetIsTheTargetWithoutItsSecrets(t *testing.T) {
	const secret = "Tr0ub4dor&3"
	rapid.Check(t, func(t *rapid.T) {
		target := genTarget(2, secret).Draw(t, "target")
		raw, err := json.Marshal(target)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(raw), "Tr0ub4dor") {
			t.Fatalf("a password is in %s", raw)
		}
		var got sshexec.Target
		if err := json.Unmarshal(raw, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(withoutSecrets(target), got, exported); diff != "" {
			t.Fatalf("-want +got:\n%s", diff)
		}
		again, err := json.Marshal(got)
		if err != nil || string(again) != string(raw) {
			t.Fatalf("%v\n%s\n%s", err, raw, again)
		}
	})
}

// TestSavedForm holds what a journal of today says to what it will be read as. A
// field that is new has to be given here and drawn above.
func TestSavedForm(t *testing.T) {
	full := sshexec.Target{
		Name: "n", Address: "a", Port: 1, User: "u", IdentityFiles: []string{}, CertificateFiles: []string{}, IdentitiesOnly: true, IdentityAgent: "a",
		Authentications: []string{}, GSSAPI: true, RevokedHostKeys: []string{},
		Become:    sshexec.Become{Method: "su", User: "u", Exe: "e", Flags: []string{}},
		ProxyJump: []sshexec.Target{}, ProxyCommand: "c", KnownHosts: []string{}, HostKeyPolicy: sshexec.AcceptNew, HostKeyAlias: "a", HostKey: "SHA256:k",
		AddressFamily: "inet", ConnectTimeout: time.Second, NeedsPassword: true, NeedsBecomePassword: true,
	}
	for _, v := range []reflect.Value{reflect.ValueOf(full), reflect.ValueOf(full.Become)} {
		for f, field := range v.Fields() {
			if f.IsExported() && field.IsZero() && f.Name != "Password" {
				t.Errorf("%s.%s is not looked at", v.Type(), f.Name)
			}
		}
	}
	raw, err := json.Marshal(full)
	const want = `{"name":"n","address":"a","port":1,"user":"u","identity_files":[],"certificate_files":[],"identities_only":true,"identity_agent":"a","authentications":[],"gssapi":true,` +
		`"become":{"method":"su","user":"u","exe":"e","flags":[]},"proxy_jump":[],"proxy_command":"c","known_hosts":[],"revoked_host_keys":[],"host_key_policy":"accept-new",` +
		`"host_key_alias":"a","host_key":"SHA256:k","address_family":"inet","connect_timeout":1000000000,"needs_password":true,"needs_become_password":true}`
	if err != nil || string(raw) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, raw, want)
	}
	var target sshexec.Target
	if err := json.Unmarshal([]byte(`{"host_key_policy":"off"}`), &target); err == nil {
		t.Error("an unknown policy is read")
	}
}

// TestSavedTargetFromElsewhere goes on in another directory with what was saved
// in this one.
func TestSavedTargetFromElsewhere(t *testing.T) {
	home, dir := t.TempDir(), t.TempDir()
	jump, node := sshtest.New(t), sshtest.New(t)
	t.Setenv("HOME", home)
	t.Chdir(dir)
	copyTo := func(from, to string) {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	copyTo(node.ClientKeyFile(), dir+"/key")
	copyTo(node.KnownHostsFile(), home+"/known")
	copyTo(jump.ClientKeyFile(), dir+"/jumpkey")
	target, via := node.Target("n1"), jump.Target("bastion")
	target.IdentityFiles, target.KnownHosts = []string{"./key"}, []string{"~/known"}
	via.IdentityFiles = []string{"jumpkey"}
	target.ProxyJump = []sshexec.Target{via}

	abs, err := target.Absolute()
	if err != nil {
		t.Fatal(err)
	}
	if target.IdentityFiles[0] != "./key" || target.ProxyJump[0].IdentityFiles[0] != "jumpkey" {
		t.Errorf("the target itself was changed: %+v", target)
	}
	raw, err := json.Marshal(abs)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	t.Setenv("HOME", "/nonexistent")
	var got sshexec.Target
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if err := runTrue(t, newPool(t, sshexec.Options{}), got); err != nil {
		t.Error(err)
	}
}

func TestAbsolute(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("HOME", "/home/op")
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ in, want sshexec.Target }{
		{sshexec.Target{}, sshexec.Target{}},
		{sshexec.Target{KnownHosts: []string{}}, sshexec.Target{KnownHosts: []string{}}},
		{sshexec.Target{IdentityAgent: "none"}, sshexec.Target{IdentityAgent: "none"}},
		{sshexec.Target{IdentityAgent: "SSH_AUTH_SOCK"}, sshexec.Target{IdentityAgent: "SSH_AUTH_SOCK"}},
		{sshexec.Target{IdentityAgent: "agent.sock"}, sshexec.Target{IdentityAgent: dir + "/agent.sock"}},
		{
			sshexec.Target{IdentityFiles: []string{"k", "~/.ssh/id", "/etc/k"}, CertificateFiles: []string{"../c"}, ProxyCommand: "./proxy %h"},
			sshexec.Target{IdentityFiles: []string{dir + "/k", "/home/op/.ssh/id", "/etc/k"}, CertificateFiles: []string{filepath.Dir(dir) + "/c"}, ProxyCommand: "./proxy %h"},
		},
	} {
		got, err := tc.in.Absolute()
		if diff := cmp.Diff(tc.want, got, exported); err != nil || diff != "" {
			t.Errorf("%v\n-want +got:\n%s", err, diff)
		}
	}
}

func TestSecretsOfATarget(t *testing.T) {
	target := sshexec.Target{
		Password: "a", Become: sshexec.Become{Password: "b"},
		ProxyJump: []sshexec.Target{{Password: "c"}, {Become: sshexec.Become{Password: "d"}, ProxyJump: []sshexec.Target{{Password: "e"}}}},
	}
	var got []string
	for _, s := range target.Secrets() {
		got = append(got, s.Reveal())
	}
	if want := []string{"a", "b", "c", "d", "e"}; !cmp.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
