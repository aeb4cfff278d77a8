// Package local reads inventories from the machine one sits at: its files,
// its executables, its ansible.cfg and its environment, as the command line
// of ansible-inventory would. Package inventory does the reading; this is its
// bridge to the world.
package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/inventory/source"
	"github.com/fleetd/fleetd/inventory/vault"
)

// Request is what a person asked for, in the words of Ansible's options.
type Request struct {
	Dir                string   // the current folder; "" is that of the process
	Sources            []string // -i; none: ANSIBLE_INVENTORY, then ansible.cfg, then /etc/ansible/hosts
	ExtraVars          []string // -e
	PlaybookDir        string   // the playbook's folder or --playbook-dir; "" is Dir, as in Ansible
	VaultIDs           []string // --vault-id: label@file, label@prompt, or without a label
	VaultPasswordFiles []string // --vault-password-file
	AskVaultPass       bool     // --ask-vault-pass
	// Prompt asks the person for a vault password; nil: prompts are errors.
	Prompt func(prompt string) (vault.Password, error)
	// Env looks up an environment variable; nil is os.LookupEnv.
	Env    func(name string) (string, bool)
	Limits source.Limits
}

// Load reads the configuration, then the vault passwords, then the sources.
func Load(ctx context.Context, req Request) (*inventory.Inventory, *Config, error) {
	if req.Dir == "" {
		dir, err := os.Getwd()
		if err != nil {
			return nil, nil, fmt.Errorf("cannot find the current folder: %w", err)
		}
		req.Dir = dir
	}
	if req.Env == nil {
		req.Env = os.LookupEnv
	}
	cfg, err := ReadConfig(req.Dir, req.Env)
	if err != nil {
		return nil, nil, err
	}
	secrets, err := req.vaultSecrets(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	opts := inventory.Options{
		PlaybookDir: within(req.Dir),
		Options: source.Options{
			Root:         "/",
			WorkDir:      within(req.Dir),
			VaultSecrets: secrets,
			Settings:     cfg.Settings,
			Context:      ctx,
			Limits:       req.Limits,
			RunScript: func(ctx context.Context, name string, args ...string) ([]byte, string, error) {
				return program{dir: req.Dir, name: "/" + name, args: args, limit: req.Limits.OrDefault().FileSize}.run(ctx)
			},
		},
	}
	if cfg.digest != "" {
		opts.Digests = map[string]string{within(cfg.File): cfg.digest}
	}
	if req.PlaybookDir != "" {
		opts.PlaybookDir = within(req.path(req.PlaybookDir))
	}
	for _, e := range req.ExtraVars {
		if file, ok := strings.CutPrefix(e, "@"); ok {
			e = "@" + within(req.path(file))
		}
		opts.ExtraVars = append(opts.ExtraVars, e)
	}
	sources := req.Sources
	if len(sources) == 0 {
		sources = cfg.Inventory
	}
	var paths []string
	for _, s := range sources {
		if strings.Contains(s, ",") {
			// A list of hosts, unless a file happens to have that name.
			if _, err := os.Stat(req.path(s)); err != nil {
				paths = append(paths, s)
				continue
			}
		}
		paths = append(paths, within(req.path(s)))
	}
	inv, err := inventory.Load(os.DirFS("/"), paths, opts)
	return inv, cfg, err
}

// path makes a path absolute: ~ and $VARIABLES are expanded, the rest is
// relative to the current folder.
func (req Request) path(p string) string { return expandPath(p, req.Dir, req.Env) }

func expandPath(p, dir string, env func(string) (string, bool)) string {
	p = expandVariables(p, env)
	if p == "~" || strings.HasPrefix(p, "~/") {
		if home, ok := env("HOME"); ok {
			p = home + p[1:]
		}
	}
	if !filepath.IsAbs(p) {
		p = filepath.Join(dir, p)
	}
	return filepath.Clean(p)
}

// expandVariables replaces $NAME and ${NAME}; names that are not set stay.
func expandVariables(s string, env func(string) (string, bool)) string {
	if !strings.Contains(s, "$") {
		return s
	}
	return os.Expand(s, func(name string) string {
		if v, ok := env(name); ok {
			return v
		}
		return "$" + name
	})
}

// within is an absolute path as os.DirFS("/") knows it.
func within(p string) string {
	if p = strings.TrimPrefix(filepath.Clean(p), "/"); p == "" {
		return "."
	}
	return p
}
