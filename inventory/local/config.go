package local

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/fleetd/fleetd/inventory/source"
	"github.com/fleetd/fleetd/pkg/text"
)

// Config is what ansible.cfg and the ANSIBLE_* environment say about reading
// inventories and reaching hosts.
type Config struct {
	File      string   // the ansible.cfg in use; "" if there is none
	Inventory []string // default sources
	Settings  source.Settings
	// Connection holds connection settings under the names of the variables
	// that override them (ansible_user, ansible_port, …): lay a host's
	// variables over it.
	Connection map[string]any
	// Warnings name settings that are present and not followed.
	Warnings []text.Warning

	digest             string // SHA-256 of File; "" if it is no regular file
	vaultIdentity      string
	vaultIdentities    []string
	vaultPasswordFiles []string
	askVaultPass       bool
}

// origin names where a setting may come from: the environment first, then
// section and key of ansible.cfg. With several, the later one wins.
type origin struct {
	env  []string
	keys []key
}

type key struct{ section, name string }

func def(name string, env ...string) origin {
	return origin{env, []key{{"defaults", name}}}
}

func in(section, name string, env ...string) origin {
	return origin{env, []key{{section, name}}}
}

// reader looks settings up.
type reader struct {
	env  func(string) (string, bool)
	file *configFile
	dir  string // paths from ansible.cfg are relative to it
	cwd  string
	errs []error
}

// get returns a setting and whether it came from ansible.cfg.
func (r *reader) get(s origin) (value string, fromFile, ok bool) {
	for _, name := range s.env {
		if v, set := r.env(name); set {
			value, ok = v, true
		}
	}
	if ok {
		return value, false, true
	}
	for _, k := range s.keys {
		if v, set := r.file.get(k.section, k.name); set {
			value, fromFile, ok = v, true, true
		}
	}
	return value, fromFile, ok
}

func (r *reader) str(s origin, into *string) {
	if v, _, ok := r.get(s); ok {
		*into = unquote(v)
	}
}

func (r *reader) boolean(s origin) (value, ok bool) {
	v, _, ok := r.get(s)
	switch strings.ToLower(v) {
	case "y", "yes", "on", "1", "true", "t", "1.0":
		return true, ok
	}
	return false, ok
}

func (r *reader) list(s origin, into *[]string) {
	if v, _, ok := r.get(s); ok {
		*into = splitList(v)
	}
}

func (r *reader) choice(name string, s origin, into *string, allowed ...string) {
	v, fromFile, ok := r.get(s)
	if !ok {
		return
	}
	for _, a := range allowed {
		if v == a {
			*into = v
			return
		}
	}
	where := "the environment"
	if fromFile {
		where = r.file.path
	}
	r.errs = append(r.errs, fmt.Errorf("cannot use the setting %s=%q from %s\nIt must be one of: %s", name, v, where, strings.Join(allowed, ", ")))
}

func (r *reader) path(p string, fromFile bool) string {
	base := r.cwd
	if fromFile {
		base = r.dir
	}
	return expandPath(strings.ReplaceAll(p, "{{CWD}}", r.cwd), base, r.env)
}

func splitList(v string) []string {
	out := []string{}
	for x := range strings.SplitSeq(v, ",") {
		out = append(out, unquote(strings.TrimSpace(x)))
	}
	return out
}

func unquote(s string) string {
	if len(s) > 1 && s[0] == s[len(s)-1] && (s[0] == '"' || s[0] == '\'') {
		return s[1 : len(s)-1]
	}
	return s
}

// ReadConfig finds ansible.cfg as Ansible does ($ANSIBLE_CONFIG, the current
// folder unless everyone may write to it, the home folder, /etc/ansible) and
// reads from it and the environment what concerns inventories and connections.
func ReadConfig(dir string, env func(string) (string, bool)) (*Config, error) {
	cfg := &Config{Connection: map[string]any{}, vaultIdentity: "default"}
	file, err := cfg.find(dir, env)
	if err != nil {
		return nil, err
	}
	r := &reader{env: env, file: file, cwd: dir, dir: filepath.Dir(file.path)}
	cfg.File = file.path
	cfg.readInventory(r)
	cfg.readVault(r)
	cfg.readConnection(r)
	cfg.nameUnsupported(r)
	return cfg, errors.Join(r.errs...)
}

func (cfg *Config) find(dir string, env func(string) (string, bool)) (*configFile, error) {
	var candidates []string
	if p, ok := env("ANSIBLE_CONFIG"); ok {
		p = expandPath(p, dir, env)
		if info, err := os.Stat(p); err == nil && info.IsDir() {
			p = filepath.Join(p, "ansible.cfg")
		}
		candidates = append(candidates, p)
	}
	local := filepath.Join(dir, "ansible.cfg")
	if info, err := os.Stat(dir); err == nil && info.Mode()&0o002 != 0 {
		if _, err := os.Stat(local); err == nil {
			cfg.Warnings = append(cfg.Warnings, text.Warning{Place: text.Place{File: local},
				Message: "ansible.cfg is ignored, because everyone may write to the current folder"})
		}
	} else {
		candidates = append(candidates, local)
	}
	candidates = append(candidates, expandPath("~/.ansible.cfg", dir, env), "/etc/ansible/ansible.cfg")
	for _, c := range candidates {
		data, err := os.ReadFile(c)
		if err == nil {
			// ANSIBLE_CONFIG=/dev/null is a way to have none.
			if info, err := os.Stat(c); err != nil || info.Mode().IsRegular() {
				sum := sha256.Sum256(data)
				cfg.digest = hex.EncodeToString(sum[:])
			}
			return parseConfig(c, data)
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("cannot read the configuration: %w", err)
		}
	}
	return &configFile{}, nil
}

func (cfg *Config) readInventory(r *reader) {
	s := &cfg.Settings
	cfg.Inventory = []string{"/etc/ansible/hosts"}
	if v, fromFile, ok := r.get(def("inventory", "ANSIBLE_INVENTORY")); ok {
		cfg.Inventory = nil
		for p := range strings.SplitSeq(v, ",") {
			if p = strings.TrimSpace(p); p != "" {
				cfg.Inventory = append(cfg.Inventory, r.path(p, fromFile))
			}
		}
	}
	hash := "replace"
	r.choice("hash_behaviour", def("hash_behaviour", "ANSIBLE_HASH_BEHAVIOUR"), &hash, "replace", "merge")
	s.HashMerge = hash == "merge"
	r.choice("duplicate_dict_key", def("duplicate_dict_key", "ANSIBLE_DUPLICATE_YAML_DICT_KEY"), &s.DuplicateKeys, "warn", "ignore", "error")
	r.choice("force_valid_group_names", def("force_valid_group_names", "ANSIBLE_TRANSFORM_INVALID_GROUP_CHARS"), &s.GroupNames, "never", "ignore", "always", "silently")
	r.choice("host_pattern_mismatch", in("inventory", "host_pattern_mismatch", "ANSIBLE_HOST_PATTERN_MISMATCH"), &s.PatternMismatch, "warning", "error", "ignore")
	r.list(def("precedence", "ANSIBLE_PRECEDENCE"), &s.Precedence)
	r.list(in("inventory", "enable_plugins", "ANSIBLE_INVENTORY_ENABLED"), &s.Plugins)
	r.list(origin{[]string{"ANSIBLE_INVENTORY_IGNORE"}, []key{{"defaults", "inventory_ignore_extensions"}, {"inventory", "ignore_extensions"}}}, &s.IgnoreExtensions)
	r.list(origin{[]string{"ANSIBLE_INVENTORY_IGNORE_REGEX"}, []key{{"defaults", "inventory_ignore_patterns"}, {"inventory", "ignore_patterns"}}}, &s.IgnorePatterns)
	r.list(def("yaml_valid_extensions", "ANSIBLE_YAML_FILENAME_EXT"), &s.VarsExtensions)
	var plugins []string
	r.list(def("vars_plugins_enabled", "ANSIBLE_VARS_ENABLED"), &plugins)
	if plugins != nil {
		s.NoGroupVars = true
		for _, p := range plugins {
			if p == "host_group_vars" || p == "ansible.builtin.host_group_vars" {
				s.NoGroupVars = false
			} else {
				cfg.unsupported(r, "vars_plugins_enabled", "the vars plugin "+p+" is not run")
			}
		}
	}
	// Ansible's default is to go on without the source; only somebody who
	// says so gets that here.
	if v, ok := r.boolean(in("inventory", "any_unparsed_is_failed", "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED")); ok && !v {
		s.AllowUnparsed = true
	}
}

func (cfg *Config) readVault(r *reader) {
	r.str(def("vault_identity", "ANSIBLE_VAULT_IDENTITY"), &cfg.vaultIdentity)
	if v, fromFile, ok := r.get(def("vault_identity_list", "ANSIBLE_VAULT_IDENTITY_LIST")); ok {
		for _, id := range splitList(v) {
			label, file, found := strings.Cut(id, "@")
			if found && !strings.HasPrefix(file, "prompt") {
				id = label + "@" + r.path(file, fromFile)
			}
			if id != "" {
				cfg.vaultIdentities = append(cfg.vaultIdentities, id)
			}
		}
	}
	if v, fromFile, ok := r.get(def("vault_password_file", "ANSIBLE_VAULT_PASSWORD_FILE")); ok && v != "" {
		cfg.vaultPasswordFiles = append(cfg.vaultPasswordFiles, r.path(v, fromFile))
	}
	cfg.Settings.VaultIDMatch, _ = r.boolean(def("vault_id_match", "ANSIBLE_VAULT_ID_MATCH"))
	cfg.askVaultPass, _ = r.boolean(def("ask_vault_pass", "ANSIBLE_ASK_VAULT_PASS"))
}

func (cfg *Config) readConnection(r *reader) {
	ssh := func(name string, env ...string) origin { return in("ssh_connection", name, env...) }
	become := func(name string, env ...string) origin { return in("privilege_escalation", name, env...) }
	for variable, s := range map[string]origin{
		"ansible_user":                 def("remote_user", "ANSIBLE_REMOTE_USER"),
		"ansible_port":                 def("remote_port", "ANSIBLE_REMOTE_PORT"),
		"ansible_ssh_private_key_file": def("private_key_file", "ANSIBLE_PRIVATE_KEY_FILE"),
		"ansible_ssh_args":             ssh("ssh_args", "ANSIBLE_SSH_ARGS"),
		"ansible_ssh_common_args":      ssh("ssh_common_args", "ANSIBLE_SSH_COMMON_ARGS"),
		"ansible_ssh_extra_args":       ssh("ssh_extra_args", "ANSIBLE_SSH_EXTRA_ARGS"),
		"ansible_timeout":              {[]string{"ANSIBLE_TIMEOUT", "ANSIBLE_SSH_TIMEOUT"}, []key{{"defaults", "timeout"}, {"ssh_connection", "timeout"}}},
		"ansible_ssh_retries":          {[]string{"ANSIBLE_SSH_RETRIES"}, []key{{"connection", "retries"}, {"ssh_connection", "retries"}}},
		"ansible_become_method":        become("become_method", "ANSIBLE_BECOME_METHOD"),
		"ansible_become_user":          {[]string{"ANSIBLE_BECOME_USER", "ANSIBLE_SUDO_USER"}, []key{{"privilege_escalation", "become_user"}, {"sudo_become_plugin", "user"}}},
		"ansible_become_exe":           {[]string{"ANSIBLE_BECOME_EXE", "ANSIBLE_SUDO_EXE"}, []key{{"privilege_escalation", "become_exe"}, {"sudo_become_plugin", "executable"}}},
		"ansible_become_flags":         {[]string{"ANSIBLE_BECOME_FLAGS", "ANSIBLE_SUDO_FLAGS"}, []key{{"privilege_escalation", "become_flags"}, {"sudo_become_plugin", "flags"}}},
		"ansible_connection":           def("transport", "ANSIBLE_TRANSPORT"),
	} {
		v, fromFile, ok := r.get(s)
		if !ok || v == "" {
			continue
		}
		v = unquote(v)
		switch variable {
		case "ansible_ssh_private_key_file":
			cfg.Connection[variable] = r.path(v, fromFile)
		case "ansible_port", "ansible_timeout", "ansible_ssh_retries":
			n, err := strconv.Atoi(v)
			if err != nil {
				r.errs = append(r.errs, fmt.Errorf("cannot use the setting for %s: %q is not a whole number", variable, v))
				continue
			}
			cfg.Connection[variable] = n
		case "ansible_connection":
			if v != "smart" {
				cfg.Connection[variable] = v
			}
		default:
			cfg.Connection[variable] = v
		}
	}
	if v, ok := r.boolean(become("become", "ANSIBLE_BECOME")); ok {
		cfg.Connection["ansible_become"] = v
	}
	checking := origin{[]string{"ANSIBLE_HOST_KEY_CHECKING", "ANSIBLE_SSH_HOST_KEY_CHECKING"},
		[]key{{"defaults", "host_key_checking"}, {"ssh_connection", "host_key_checking"}}}
	if v, ok := r.boolean(checking); ok && !v {
		cfg.unsupported(r, "host_key_checking", "host keys are always checked")
	}
}

// nameUnsupported warns of what is set and not followed.
func (cfg *Config) nameUnsupported(r *reader) {
	ssh := func(name string, env ...string) origin { return in("ssh_connection", name, env...) }
	for _, u := range []struct {
		name, why string
		s         origin
	}{
		{"yaml_valid_extensions of the yaml plugin", "set yaml_valid_extensions in [defaults]", in("inventory_plugin_yaml", "yaml_valid_extensions", "ANSIBLE_INVENTORY_PLUGIN_EXTS")},
		{"playbook_dir", "give --playbook-dir", def("playbook_dir", "ANSIBLE_PLAYBOOK_DIR")},
		{"export", "give --export", in("inventory", "export", "ANSIBLE_INVENTORY_EXPORT")},
		{"ssh_executable", "no ssh program is run", ssh("ssh_executable", "ANSIBLE_SSH_EXECUTABLE")},
		{"pkcs11_provider", "use an ssh agent with the token", ssh("pkcs11_provider", "ANSIBLE_PKCS11_PROVIDER")},
		{"ask_pass", "give the option instead", def("ask_pass", "ANSIBLE_ASK_PASS")},
		{"become_ask_pass", "give the option instead", in("privilege_escalation", "become_ask_pass", "ANSIBLE_BECOME_ASK_PASS")},
		{"proxy_command", "set ansible_ssh_common_args", in("paramiko_connection", "proxy_command", "ANSIBLE_PARAMIKO_PROXY_COMMAND")},
		{"become password", "set the variable ansible_become_password, in a vault",
			origin{[]string{"ANSIBLE_BECOME_PASS", "ANSIBLE_SUDO_PASS"}, []key{{"sudo_become_plugin", "password"}}}},
		{"connection_password_file", "set the variable ansible_password, in a vault", def("connection_password_file", "ANSIBLE_CONNECTION_PASSWORD_FILE")},
		{"become_password_file", "set the variable ansible_become_password, in a vault", def("become_password_file", "ANSIBLE_BECOME_PASSWORD_FILE")},
	} {
		if v, _, ok := r.get(u.s); ok && v != "" && !strings.EqualFold(v, "false") && !strings.EqualFold(v, "no") {
			cfg.unsupported(r, u.name, u.why)
		}
	}
}

func (cfg *Config) unsupported(r *reader, name, why string) {
	cfg.Warnings = append(cfg.Warnings, text.Warning{Place: text.Place{File: r.file.path},
		Message: fmt.Sprintf("the setting %s is not followed: %s", name, why)})
}
