package config

import (
	"errors"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fleetd/fleetd/pkg/sshexec"
)

var compareTargets = cmp.Options{cmpopts.IgnoreUnexported(sshexec.Target{}), cmpopts.EquateEmpty()}

func TestFromVars(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	type vars = map[string]any
	for _, tc := range []struct {
		name  string
		vars  vars
		want  sshexec.Target
		warns int
	}{
		{"nothing set", vars{}, sshexec.Target{Address: "web1"}, 0},
		{"the usual", vars{
			"ansible_host": "10.0.0.1", "ansible_port": 2222, "ansible_user": "centos",
			"ansible_ssh_private_key_file": "~/keys/k", "ansible_password": "pw", "ansible_timeout": 30,
			"ansible_become_method": "su", "ansible_become_user": "admin", "ansible_become_pass": "bp",
		}, sshexec.Target{
			Address: "10.0.0.1", Port: 2222, User: "centos", IdentityFiles: []string{home + "/keys/k"}, Password: "pw",
			ConnectTimeout: 30 * time.Second, Become: sshexec.Become{Method: "su", User: "admin", Password: "bp"},
		}, 0},
		{"old names and strings", vars{
			"ansible_ssh_host": "h", "ansible_ssh_port": "2200", "ansible_ssh_user": "u", "ansible_ssh_pass": "p", "ansible_sudo_pass": "s",
		}, sshexec.Target{Address: "h", Port: 2200, User: "u", Password: "p", Become: sshexec.Become{Password: "s"}}, 0},
		// ansible -vvv says so; remote_user of ansible.cfg comes in as ansible_user.
		{"the name with ssh is stronger", vars{
			"ansible_user": "a", "ansible_ssh_user": "u", "ansible_host": "a", "ansible_ssh_host": "h", "ansible_port": 1, "ansible_ssh_port": 2200,
			"ansible_password": "a", "ansible_ssh_pass": "p", "ansible_become_password": "a", "ansible_become_pass": "s",
		}, sshexec.Target{Address: "h", Port: 2200, User: "u", Password: "p", Become: sshexec.Become{Password: "s"}}, 0},
		{"a variable wins over common args, ssh_args over both", vars{
			"ansible_user": "var", "ansible_ssh_common_args": "-o User=common -p 2200", "ansible_ssh_args": "-o Port=2300 -C -o ControlPersist=60s",
		}, sshexec.Target{Address: "web1", User: "var", Port: 2300}, 0},
		{"jump chain", vars{"ansible_ssh_common_args": "-J ops@b1:2201,b2"}, sshexec.Target{Address: "web1", ProxyJump: []sshexec.Target{
			{Name: "b1", Address: "b1", Port: 2201, User: "ops"}, {Name: "b2", Address: "b2"},
		}}, 0},
		{"ssh as proxy is a jump host", vars{
			"ansible_ssh_common_args": `-o ProxyCommand="ssh -q -i /k/bastion -p 2022 -W %h:%p ops@bastion"`,
		}, sshexec.Target{Address: "web1", ProxyJump: []sshexec.Target{
			{Name: "bastion", Address: "bastion", Port: 2022, User: "ops", IdentityFiles: []string{"/k/bastion"}},
		}}, 0},
		{"a jump host named by the target", vars{"ansible_user": "u", "ansible_ssh_common_args": "-J %r@b-%h"}, sshexec.Target{Address: "web1", User: "u", ProxyJump: []sshexec.Target{
			{Name: "b-web1", Address: "b-web1", User: "u"},
		}}, 0},
		{"a proxy that uses another ssh's login", vars{"ansible_ssh_common_args": `-o ProxyCommand="ssh -o ControlPath=/tmp/m -W %h:%p b"`},
			sshexec.Target{Address: "web1", ProxyCommand: "ssh -o ControlPath=/tmp/m -W %h:%p b"}, 0},
		{"a proxy of another socket", vars{"ansible_ssh_common_args": `-o ProxyCommand="ssh -S /tmp/m -W %h:%p b"`},
			sshexec.Target{Address: "web1", ProxyCommand: "ssh -S /tmp/m -W %h:%p b"}, 0},
		{"a proxy with algorithms of its own", vars{"ansible_ssh_common_args": `-o ProxyCommand="ssh -c aes128-ctr -W %h:%p b"`},
			sshexec.Target{Address: "web1", ProxyCommand: "ssh -c aes128-ctr -W %h:%p b"}, 0},
		{"a proxy with an option that only ssh has", vars{"ansible_ssh_common_args": `-o ProxyCommand="ssh -o PreferredAuthentications=gssapi-with-mic -W %h:%p b"`},
			sshexec.Target{Address: "web1", ProxyCommand: "ssh -o PreferredAuthentications=gssapi-with-mic -W %h:%p b"}, 0},
		{"two proxies deep", vars{
			"ansible_ssh_common_args": `-o ProxyCommand="ssh -W %h:%p -J outer inner"`,
		}, sshexec.Target{Address: "web1", ProxyJump: []sshexec.Target{{Name: "outer", Address: "outer"}, {Name: "inner", Address: "inner"}}}, 0},
		{"another proxy stays a command", vars{
			"ansible_ssh_common_args": `-o 'ProxyCommand=nc -X 5 -x proxy:1080 %h %p'`,
		}, sshexec.Target{Address: "web1", ProxyCommand: "nc -X 5 -x proxy:1080 %h %p"}, 0},
		{"host keys cannot be switched off", vars{
			"ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null",
		}, sshexec.Target{Address: "web1", HostKeyPolicy: sshexec.AcceptNew, KnownHosts: []string{"/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"}}, 2},
		{"nor by a variable", vars{"ansible_host_key_checking": false}, sshexec.Target{Address: "web1", HostKeyPolicy: sshexec.AcceptNew}, 1},
		{"own known hosts", vars{
			"ansible_ssh_extra_args": `-oUserKnownHostsFile="/a/kh ~/kh" -o GlobalKnownHostsFile=none -o StrictHostKeyChecking=accept-new`,
		}, sshexec.Target{Address: "web1", HostKeyPolicy: sshexec.AcceptNew, KnownHosts: []string{"/a/kh", home + "/kh", "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"}}, 0},
		{"become flags", vars{"ansible_become_flags": "-H -E", "ansible_become_exe": "/opt/sudo"}, sshexec.Target{Address: "web1", Become: sshexec.Become{Flags: []string{"-H", "-E"}, Exe: "/opt/sudo"}}, 0},
		{"options in one word and by flag", vars{
			"ansible_ssh_extra_args": "-4 -l me -i /k/1 -oIdentityFile=/k/2 -oIdentitiesOnly=yes -o HostKeyAlias=node",
		}, sshexec.Target{Address: "web1", User: "me", AddressFamily: "inet", IdentityFiles: []string{"/k/1", "/k/2"}, IdentitiesOnly: true, HostKeyAlias: "node"}, 0},
		{"ciphers are ours", vars{"ansible_ssh_extra_args": "-c aes128-cbc -o Ciphers=aes128-cbc"}, sshexec.Target{Address: "web1"}, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var warned []string
			got, err := FromVars("web1", tc.vars, Options{Warn: func(s string) { warned = append(warned, s) }})
			if err != nil {
				t.Fatal(err)
			}
			tc.want.Name = "web1"
			if tc.name == "host keys cannot be switched off" {
				tc.want.KnownHosts = nil
			}
			if diff := cmp.Diff(tc.want, got, compareTargets, cmp.Transformer("reveal", func(s sshexec.Secret) string { return s.Reveal() })); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if len(warned) != tc.warns {
				t.Errorf("warnings: %q, want %d", warned, tc.warns)
			}
		})
	}
}

func TestFromVarsRefuses(t *testing.T) {
	type vars = map[string]any
	for _, tc := range []struct {
		vars vars
		want string
	}{
		{vars{"ansible_port": "ssh"}, "cannot read variable ansible_port on web1: ssh is not a number from 1 to 65535"},
		{vars{"ansible_port": 70000}, "70000 is not a number from 1 to 65535"},
		{vars{"ansible_port": errors.New("no such variable")}, "ansible_port on web1: no such variable"},
		{vars{"ansible_user": "{{ deploy_user }}"}, "ansible_user on web1: the template in it is not resolved"},
		{vars{"ansible_connection": "winrm"}, `SSH only, not by "winrm"`},
		{vars{"ansible_ssh_common_args": "-o ProxyUseFdpass=yes"}, "ansible_ssh_common_args on web1: ssh's option ProxyUseFdpass is not supported"},
		{vars{"ansible_ssh_common_args": "-L 80:a:80"}, "ssh's flag -L is not supported"},
		{vars{"ansible_ssh_common_args": "-o 'User"}, "a quote is not closed"},
		{vars{"ansible_ssh_common_args": "bastion"}, `"bastion" is no option of ssh`},
		{vars{"ansible_ssh_common_args": "-o StrictHostKeyChecking=maybe"}, "StrictHostKeyChecking=maybe is not known"},
		{vars{"ansible_ssh_common_args": "-J a:0"}, "has a bad port"},
		{vars{"ansible_ssh_common_args": "-J -oProxyCommand=x"}, "is no host"},
		{vars{"ansible_host": "$(touch /tmp/x)127.0.0.1"}, "is no host name"},
		{vars{"ansible_host": "-oProxyCommand=x"}, "is no host name"},
		{vars{"ansible_host": "a\nb"}, "is no host name"},
		{vars{"ansible_ssh_common_args": "-o HostName=a`b`"}, "is no host name"},
		{vars{"ansible_user": "$(touch /tmp/x)"}, "is no user name"},
		{vars{"ansible_ssh_common_args": "-o 'User=a;b' -J b"}, "is no user name"},
		{vars{"ansible_ssh_common_args": "-J 'a|b@bastion'"}, "is no user name"},
		{vars{"ansible_become_method": "doas"}, `become method "doas" is not supported`},
		{vars{"ansible_become_user": "a'b"}, "not allowed there"},
	} {
		_, err := FromVars("web1", tc.vars, Options{})
		if err == nil || !strings.Contains(err.Error(), tc.want) || sshexec.KindOf(err) != sshexec.KindUsage {
			t.Errorf("%v:\ngot  %v\nwant %v", tc.vars, err, tc.want)
		}
	}
}

// TestSSHConfigIsReadOnce: hundreds of hosts ask for the same files, and a run
// must not see half of a change.
func TestSSHConfigIsReadOnce(t *testing.T) {
	dir := t.TempDir()
	config, other := dir+"/config", dir+"/other"
	for f, text := range map[string]string{config: "Host web*\n  User a\n  Include " + other + "\n", other: "Port 2201\n"} {
		if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := Options{SSHConfig: NewSSHConfig(config)}
	check := func(host string, vars map[string]any, user string, port int) {
		t.Helper()
		got, err := FromVars(host, vars, o)
		if err != nil || got.User != user || got.Port != port {
			t.Errorf("%s: %q, port %d, %v; want %q, %d", host, got.User, got.Port, err, user, port)
		}
	}
	withF := map[string]any{"ansible_ssh_common_args": "-F " + other}
	check("web1", nil, "a", 2201)
	check("web1", withF, "", 2201)
	for _, f := range []string{config, other} {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	check("web2", nil, "a", 2201)
	check("db", nil, "", 0)
	check("db", withF, "", 2201)
}

// TestSSHConfigAsSSH compares with ssh itself.
func TestSSHConfigAsSSH(t *testing.T) {
	// ssh takes the home folder from the password file, we from HOME.
	u, err := user.LookupId(strconv.Itoa(os.Getuid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", u.HomeDir)
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("ssh is not installed (apt-get install openssh-client)")
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		f := filepath.Join(dir, name)
		if err := os.WriteFile(f, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
			t.Fatal(err)
		}
		return f
	}
	for _, k := range []string{"k1", "k2", "k 3"} {
		write(k, "")
	}
	write("plain.inc", "User included\nPort 2299\n")
	write("hosts.inc", "Host web*\n  User fromhosts\n  Include DIR/plain.inc\nHost db\n  Port 2201\n")
	write("final.inc", "Match final all\n  User f\n")
	write("keys.inc", "IdentityFile DIR/k2\n")
	configs := map[string]string{
		"simple":           "Host web1\n  HostName 10.0.0.1\n  User a\n  Port 2201\nHost *\n  User b\n  Port 2202\n  IdentityFile DIR/k1\n",
		"first wins":       "Port 2200\nHost web1\n  Port 2201\n",
		"patterns":         "Host web? !web2\n  User w\nHost *.example.org,db\n  User nobody\nHost db *.example.org\n  User e\n",
		"keys add up":      "Host web1\n  IdentityFile DIR/k1\nHost *\n  IdentityFile \"DIR/k 3\"\n  IdentityFile DIR/k2\n  IdentityFile DIR/missing\n",
		"equals signs":     "Host=web1\n  Port=2201\n  User = spaced\n",
		"case and quotes":  "hOST web1\n  PORT 2201\n  user \"quoted\"\n",
		"jump":             "Host web*\n  ProxyJump ops@bastion:2200,second\nHost db\n  ProxyCommand nc -x p:1 %h %p\n",
		"command, jump":    "Host web1\n  ProxyCommand nc %h %p\nHost *\n  ProxyJump bastion\n",
		"jump, command":    "Host web1\n  ProxyJump bastion\nHost *\n  ProxyCommand nc %h %p\n",
		"jump none":        "Host web1\n  ProxyJump none\nHost *\n  ProxyJump bastion\n",
		"hostname token":   "Host web*\n  HostName %h.example.org\n",
		"rules":            "Host web*\n  StrictHostKeyChecking accept-new\n  UserKnownHostsFile DIR/kh1 DIR/kh2\n  HostKeyAlias alias\n  ConnectTimeout 7\n  IdentitiesOnly yes\n  AddressFamily inet6\n  CertificateFile DIR/k1\n",
		"include":          "Include DIR/plain.inc\nHost web1\n  HostName inc\n",
		"include in host":  "Host web1\n  Include DIR/plain.inc DIR/keys.inc\nHost *\n  User last\n",
		"include hosts":    "Include DIR/hosts.inc\nUser after\nHost db\n  HostName d\n",
		"host in include":  "Host web1 db\n  Include DIR/hosts.inc\nHost *\n  User last\n",
		"match":            "Match host web1\n  User matched\nMatch all\n  Port 2209\n",
		"match user":       "Host web1\n  User a\nMatch user a\n  Port 2209\n",
		"match all":        "Match all\n  Port 2209\nHost web1\n  User a\nMatch all\n  User b\n",
		"match final":      "Host web1\n  HostName db\nHost db\n  Port 2299\nMatch final all\n  User f\n  Include DIR/keys.inc\nHost *\n  User last\n",
		"match final, map": "Match final\n  User f\nHost web*\n  HostName %h.example.org\nHost *.example.org\n  ProxyJump bastion\n",
		"match final, no":  "Host web1\n  HostName db\nHost db\n  User second\nMatch final host nobody\n  LogLevel DEBUG\n",
		"match final name": "Match final all\n  HostName db\n",
		"no jump":          "Host web1\n  ProxyJump none\n  ProxyJump b\nHost *\n  ProxyCommand nc %h %p\n",
		"no proxy":         "Host web1\n  ProxyCommand none\nHost *\n  ProxyJump b\n",
		"match in include": "Host web1\n  Include DIR/final.inc\nHost *\n  User last\n",
		"match irrelevant": "Host web1\n  User a\nMatch final all\n  GSSAPIAuthentication yes\n",
		"signs":            "Host \"web1\" # x\n  User \"a#b\"\nHost !web1 web* db\n  User a#c\n  IdentityFile DIR/k1 # key\n",
		"jump tokens":      "Host web1\n  HostName 10.0.0.1\n  Port 2200\n  User u\n  ProxyJump %r@b-%h,%r@c\n",
		"comments":         "# Host web1\nHost web1 # trailing\n  User a # b\n",
		"glob include":     "Include DIR/*.inc\n",
	}
	for name, text := range configs {
		for _, host := range []string{"web1", "web2", "db", "x.example.org"} {
			t.Run(name+"/"+host, func(t *testing.T) {
				f := write("config", text)
				out, err := exec.Command("ssh", "-G", "-F", f, host).CombinedOutput()
				if err != nil {
					if _, err := FromVars(host, nil, Options{SSHConfig: NewSSHConfig(f)}); err == nil {
						t.Errorf("ssh refuses this, fleetd does not: %s", out)
					}
					return
				}
				asked := &sshOptions{}
				if err := asked.addAnswer(string(out), host); err != nil {
					t.Fatal(err)
				}
				want, err := asked.target(host, Options{}, 0)
				if err != nil {
					t.Fatal(err)
				}
				got, err := FromVars(host, nil, Options{SSHConfig: NewSSHConfig(f)})
				if err != nil {
					t.Fatal(err)
				}
				// The jump hosts are looked up in the file by one side only.
				names := func(ts []sshexec.Target) (out []string) {
					for _, j := range ts {
						out = append(out, j.Name)
					}
					return out
				}
				if !slices.Equal(names(want.ProxyJump), names(got.ProxyJump)) {
					t.Errorf("jump hosts %v, want %v", names(got.ProxyJump), names(want.ProxyJump))
				}
				want.ProxyJump, got.ProxyJump = nil, nil
				if diff := cmp.Diff(want, got, compareTargets); diff != "" {
					t.Errorf("(-ssh +fleetd)\n%s", diff)
				}
			})
		}
	}
}

// TestCommandsOfTheSystemAreNamed: a distribution's file may choose algorithms, but
// what says where keys come from is an administrator's.
func TestCommandsOfTheSystemAreNamed(t *testing.T) {
	ofTheSystem = t.TempDir()
	t.Cleanup(func() { ofTheSystem = "/etc/" })
	f := filepath.Join(ofTheSystem, "ssh_config")
	if err := os.WriteFile(f, []byte("Ciphers aes128-ctr\nSendEnv LANG\nKnownHostsCommand /bin/keys %H\nPKCS11Provider /lib/p.so\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var warned []string
	_, err := FromVars("web1", nil, Options{SSHConfig: NewSSHConfig(f), Warn: func(s string) { warned = append(warned, s) }})
	want := []string{"ssh_config's option knownhostscommand /bin/keys %H is not followed", "ssh_config's option pkcs11provider /lib/p.so is not followed"}
	if err != nil || !slices.Equal(warned, want) {
		t.Errorf("%q, %v", warned, err)
	}
}

// TestProxyCommandsInACircle: ssh would start itself without end.
func TestProxyCommandsInACircle(t *testing.T) {
	f := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(f, []byte("Host *\n  ProxyCommand ssh -W %h:%p bastion\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := FromVars("web1", nil, Options{SSHConfig: NewSSHConfig(f)}); err == nil || !strings.Contains(err.Error(), "jump hosts go in a circle") {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestStockConfigsNeedNoSSH: the ssh_config of EL8 and EL9 has "Match final all",
// and a process per host would be a minute for thousands.
func TestStockConfigsNeedNoSSH(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir) // no ssh there
	write := func(name, text string) string {
		f := filepath.Join(dir, name)
		if err := os.WriteFile(f, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
			t.Fatal(err)
		}
		return f
	}
	// Of openssh-clients 8.0p1 (EL8) and 8.7p1 (EL9) with crypto-policies.
	write("el8.policy", "Ciphers aes256-gcm@openssh.com\nMACs hmac-sha2-256-etm@openssh.com\nGSSAPIKexAlgorithms gss-curve25519-sha256-\n"+
		"KexAlgorithms curve25519-sha256\nPubkeyAcceptedKeyTypes ssh-ed25519\nCASignatureAlgorithms ssh-ed25519\n")
	write("el9.policy", "Ciphers aes256-gcm@openssh.com\nMACs hmac-sha2-256-etm@openssh.com\nGSSAPIKexAlgorithms gss-curve25519-sha256-\n"+
		"KexAlgorithms curve25519-sha256\nHostKeyAlgorithms ssh-ed25519\nPubkeyAcceptedAlgorithms ssh-ed25519\nCASignatureAlgorithms ssh-ed25519\nRequiredRSASize 2048\n")
	for _, el := range []string{"el8", "el9"} {
		redhat := write(el+".redhat.conf", "# The options here are in the \"Match final block\" to be applied as the last\nMatch final all\n"+
			"\t# Follow system-wide Crypto Policy, if defined:\n\tInclude DIR/"+el+".policy\n\n\tGSSAPIAuthentication yes\n\n\tForwardX11Trusted yes\n\n"+
			"\tSendEnv LANG LC_CTYPE LC_NUMERIC\n\tSendEnv XMODIFIERS\n")
		system := write(el+".conf", "# Include is first\nInclude "+redhat+"\n")
		user := write(el+".user", "Host web*\n  User deploy\n  ProxyJump bastion\n")
		got, err := FromVars("web1", nil, Options{SSHConfig: NewSSHConfig(user, system)})
		if err != nil || got.User != "deploy" || len(got.ProxyJump) != 1 || !got.GSSAPI {
			t.Errorf("%s: %+v, %v", el, got, err)
		}
	}
}
