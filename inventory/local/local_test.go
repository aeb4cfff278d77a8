package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/inventory/source"
	"github.com/fleetd/fleetd/inventory/vault"
	"github.com/fleetd/fleetd/pkg/value"
)

// folder makes a folder with files; a name that ends in "*" is executable.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		mode := os.FileMode(0o644)
		if n, ok := strings.CutSuffix(name, "*"); ok {
			name, mode = n, 0o755
		}
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func environment(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := vars[name]
		return v, ok
	}
}

func TestReadConfig(t *testing.T) {
	dir := folder(t, map[string]string{"ansible.cfg": `
# comment
[defaults]
inventory = hosts, more/inv.yml ,
remote_user: centos ; the user
private_key_file = ~/.ssh/id
host_key_checking = False
remote_port = 2222
forks = 50
transport = smart

[ssh_connection]
ssh_args = -o ProxyJump=bastion
    -o ServerAliveInterval=5
ssh_executable = /opt/ssh

[privilege_escalation]
become = yes
become_method = sudo

[sudo_become_plugin]
user = overridden
password = not told

[paramiko_connection]
proxy_command = nc

[inventory]
enable_plugins = ini, yaml
`})
	cfg, err := ReadConfig(dir, environment(map[string]string{"HOME": "/home/me", "ANSIBLE_REMOTE_PORT": "2200", "ANSIBLE_BECOME_USER": "admin", "ANSIBLE_PLAYBOOK_DIR": "/p", "ANSIBLE_INVENTORY_EXPORT": "1"}))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"ansible_user": "centos", "ansible_port": 2200, "ansible_ssh_private_key_file": "/home/me/.ssh/id",
		"ansible_ssh_args": "-o ProxyJump=bastion\n-o ServerAliveInterval=5",
		"ansible_become":   true, "ansible_become_method": "sudo", "ansible_become_user": "admin",
	}
	if d := cmp.Diff(want, cfg.Connection); d != "" {
		t.Errorf("connection (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{filepath.Join(dir, "hosts"), filepath.Join(dir, "more/inv.yml")}, cfg.Inventory); d != "" {
		t.Errorf("inventory (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"ini", "yaml"}, cfg.Settings.Plugins); d != "" {
		t.Errorf("plugins (-want +got):\n%s", d)
	}
	var warned []string
	for _, w := range cfg.Warnings {
		warned = append(warned, w.Message)
	}
	if d := cmp.Diff([]string{
		"the setting host_key_checking is not followed: host keys are always checked",
		"the setting playbook_dir is not followed: give --playbook-dir",
		"the setting export is not followed: give --export",
		"the setting ssh_executable is not followed: no ssh program is run",
		"the setting proxy_command is not followed: set ansible_ssh_common_args",
		"the setting become password is not followed: set the variable ansible_become_password, in a vault",
	}, warned); d != "" {
		t.Errorf("warnings (-want +got):\n%s", d)
	}
}

func TestReadConfigErrors(t *testing.T) {
	for text, want := range map[string]string{
		"[defaults\n":                       "ansible.cfg:1: the section header is not closed by ]",
		"x = 1\n":                           "ansible.cfg:1: a setting stands before the first [section]",
		"[defaults]\njunk\n":                "ansible.cfg:2: key = value is expected",
		"[defaults]\na=1\na=2\n":            "ansible.cfg:3: a stands twice in section [defaults]",
		"[a]\n[a]\n":                        "ansible.cfg:2: section [a] stands twice",
		"[defaults]\nhash_behaviour=both\n": `cannot use the setting hash_behaviour="both"`,
		"[defaults]\nremote_port=ssh\n":     `"ssh" is not a whole number`,
	} {
		dir := folder(t, map[string]string{"ansible.cfg": text})
		_, err := ReadConfig(dir, environment(nil))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func TestFindConfig(t *testing.T) {
	cfg := "[defaults]\nremote_user = %s\n"
	home := folder(t, map[string]string{".ansible.cfg": fmt.Sprintf(cfg, "home")})
	here := folder(t, map[string]string{"ansible.cfg": fmt.Sprintf(cfg, "here")})
	named := folder(t, map[string]string{"ansible.cfg": fmt.Sprintf(cfg, "named")})
	open := folder(t, map[string]string{"ansible.cfg": fmt.Sprintf(cfg, "open")})
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dir  string
		env  map[string]string
		want any
	}{
		{here, map[string]string{"HOME": home}, "here"},
		{t.TempDir(), map[string]string{"HOME": home}, "home"},
		{here, map[string]string{"ANSIBLE_CONFIG": named}, "named"},
		{open, map[string]string{"HOME": home}, "home"},
	} {
		got, err := ReadConfig(c.dir, environment(c.env))
		if err != nil {
			t.Fatal(err)
		}
		if got.Connection["ansible_user"] != c.want {
			t.Errorf("%s: got %v from %s, want %v", c.dir, got.Connection["ansible_user"], got.File, c.want)
		}
		if c.dir == open && len(got.Warnings) != 1 {
			t.Errorf("no warning of a folder that everyone may write to")
		}
	}
}

func TestSources(t *testing.T) {
	dir := folder(t, map[string]string{
		"hosts": "a\n", "odd,name": "b\n", "sub/c.yml": "all: {hosts: {c: }}\n",
	})
	env := environment(map[string]string{"D": dir, "HOME": dir})
	for _, c := range []struct {
		sources []string
		want    []string
	}{
		{[]string{"hosts"}, []string{"a"}},
		{[]string{"~/hosts"}, []string{"a"}},
		{[]string{"$D/hosts", "${D}/sub/../sub/c.yml"}, []string{"c", "a"}}, // all's own hosts come first
		{[]string{filepath.Join(dir, "hosts")}, []string{"a"}},
		{[]string{"odd,name"}, []string{"b"}},
		{[]string{"x,y"}, []string{"x", "y"}},
		{[]string{"hosts", "x,"}, []string{"a", "x"}},
	} {
		inv, _, err := Load(context.Background(), Request{Dir: dir, Sources: c.sources, Env: env})
		if err != nil {
			t.Errorf("%v: %v", c.sources, err)
			continue
		}
		if d := cmp.Diff(c.want, inv.Hosts()); d != "" {
			t.Errorf("%v (-want +got):\n%s", c.sources, d)
		}
	}
	inv, _, err := Load(context.Background(), Request{Dir: filepath.Join(dir, "sub"), Sources: []string{"../hosts"}, Env: env})
	if err != nil {
		t.Fatal(err)
	}
	all, err := inv.Vars("a")
	if err != nil {
		t.Fatal(err)
	}
	vars := value.Plain(all).(map[string]any)
	if vars["inventory_dir"] != dir || vars["inventory_file"] != filepath.Join(dir, "hosts") || vars["playbook_dir"] != filepath.Join(dir, "sub") {
		t.Errorf("got %v, %v, %v", vars["inventory_dir"], vars["inventory_file"], vars["playbook_dir"])
	}
}

// TestFiles: the digests are of all that a plan depends on, and of no password.
func TestFiles(t *testing.T) {
	files := map[string]string{
		"work/ansible.cfg":     "[defaults]\ninventory = inv.sh, hosts\nvault_password_file = password\n",
		"work/inv.sh*":         "#!/bin/sh\necho '{\"web\": [\"a\"], \"_meta\": {\"hostvars\": {}}}'\n",
		"work/hosts":           "b\n",
		"work/group_vars/all":  "x: 1\n",
		"work/password":        "secret\n",
		"shared/extra.yml":     "e: 1\n",
		"work/.ansible.cfg":    "[defaults]\nremote_user = nobody\n",
		"work/host_vars/other": "x: 1\n",
	}
	dir := folder(t, files)
	digest := func(text string) string {
		sum := sha256.Sum256([]byte(text))
		return hex.EncodeToString(sum[:])
	}
	req := Request{Dir: filepath.Join(dir, "work"), ExtraVars: []string{"@../shared/extra.yml"}, Env: environment(map[string]string{"HOME": filepath.Join(dir, "work")})}
	inv, _, err := Load(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]string{
		"ansible.cfg": digest(files["work/ansible.cfg"]), "hosts": digest(files["work/hosts"]), "group_vars/all": digest(files["work/group_vars/all"]),
		"inv.sh": digest("{\"web\": [\"a\"], \"_meta\": {\"hostvars\": {}}}\n"), filepath.Join(dir, "shared/extra.yml"): digest(files["shared/extra.yml"]),
	}, inv.Files()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	// No configuration is no file.
	req.Env = environment(map[string]string{"ANSIBLE_CONFIG": os.DevNull})
	req.Sources = []string{"hosts"}
	if inv, _, err = Load(context.Background(), req); err != nil {
		t.Fatal(err)
	}
	for name := range inv.Files() {
		if strings.Contains(name, "null") || strings.Contains(name, "cfg") {
			t.Errorf("%s is listed", name)
		}
	}
}

func TestVaultPasswords(t *testing.T) {
	dir := folder(t, map[string]string{
		"file":          " secret \n",
		"script*":       "#!/bin/sh\necho from-script\n",
		"my-client.sh*": "#!/bin/sh\necho \"$1 $2\"\n",
		"empty":         "\n",
		"fails*":        "#!/bin/sh\necho nope >&2\nexit 3\n",
		"noscript*":     "no interpreter line\n",
	})
	prompt := func(p string) (vault.Password, error) { return vault.Password("typed:" + p), nil }
	for _, c := range []struct {
		req  Request
		want string
		err  string
	}{
		{Request{VaultPasswordFiles: []string{"file"}}, "default=secret", ""},
		{Request{VaultIDs: []string{"prod@script", "file"}}, "prod=from-script default=secret", ""},
		{Request{VaultIDs: []string{"prod@my-client.sh"}}, "prod=--vault-id prod", ""},
		{Request{VaultIDs: []string{"dev@prompt"}, Prompt: prompt}, "dev=typed:Vault password (dev): ", ""},
		{Request{AskVaultPass: true, Prompt: prompt}, "default=typed:Vault password: ", ""},
		{Request{VaultPasswordFiles: []string{"file"}, VaultIDs: []string{"x@script"}}, "x=from-script default=secret", ""},
		{Request{AskVaultPass: true}, "", "there is no terminal"},
		{Request{VaultPasswordFiles: []string{"missing"}}, "", "cannot read the vault password file missing: no such file"},
		{Request{VaultPasswordFiles: []string{"empty"}}, "", "the vault password from empty is empty"},
		{Request{VaultPasswordFiles: []string{"fails"}}, "", "cannot get a vault password from fails: exit status 3: nope"},
		{Request{VaultPasswordFiles: []string{"noscript"}}, "", "take its executable bit away"},
	} {
		c.req.Dir, c.req.Env = dir, environment(nil)
		got, err := c.req.vaultSecrets(context.Background(), &Config{vaultIdentity: "default"})
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%+v: got %v, want %q", c.req, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", c.req, err)
			continue
		}
		var parts []string
		for _, s := range got {
			parts = append(parts, s.ID+"="+string(s.Password))
		}
		if s := strings.Join(parts, " "); s != c.want {
			t.Errorf("got %q, want %q", s, c.want)
		}
	}
}

func TestRunBounds(t *testing.T) {
	dir := folder(t, map[string]string{"endless*": "#!/bin/sh\nwhile :; do echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; done\n", "loud*": "#!/bin/sh\nhead -c 3000000 /dev/zero | tr '\\0' x\n"})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := (program{dir: dir, name: filepath.Join(dir, "endless"), limit: 1 << 40}).run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want it cancelled", err)
	}
	// Who prints without end is ended, and the run does not wait for it.
	for _, name := range []string{"endless", "loud"} {
		_, _, err := program{dir: dir, name: filepath.Join(dir, name), limit: 1000}.run(context.Background())
		if err == nil || err.Error() != "it printed more than 1000 bytes" {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, _, err := Load(context.Background(), Request{Dir: dir, Sources: []string{"loud"}, Env: environment(nil), Limits: source.Limits{FileSize: 1000}})
	if err == nil || !strings.Contains(err.Error(), "loud: cannot run the inventory script with --list: it printed more than 1000 bytes") {
		t.Errorf("got %v", err)
	}
}

// TestComplaints: what a script says on standard error is heard though it ends
// well.
func TestComplaints(t *testing.T) {
	dir := folder(t, map[string]string{"inv.sh*": "#!/bin/sh\necho '{\"web\": [\"a\"], \"_meta\": {\"hostvars\": {}}}'\necho region eu-3 does not answer >&2\n"})
	inv, _, err := Load(context.Background(), Request{Dir: dir, Sources: []string{"inv.sh"}, Env: environment(nil)})
	if err != nil {
		t.Fatal(err)
	}
	if w := inv.Warnings(); len(w) != 1 || w[0].String() != "inv.sh --list: the script complains: region eu-3 does not answer" {
		t.Errorf("got %v", w)
	}
}
