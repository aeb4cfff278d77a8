package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/inventory/local"
	"github.com/fleetd/fleetd/inventory/vault"
	"github.com/fleetd/fleetd/pkg/playbook"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/playbooks"
)

// readInventory reads the inventory as Ansible would from here. Without sources
// it is the one that cfg.Inventory names.
func readInventory(c *cobra.Command, f *fleetFlags, sources []string, playbookDir string) (*inventory.Inventory, *local.Config, error) {
	inv, cfg, err := local.Load(c.Context(), local.Request{
		Sources: sources, ExtraVars: f.extraVars, PlaybookDir: playbookDir,
		VaultIDs: f.vaultIDs, VaultPasswordFiles: f.vaultFiles, AskVaultPass: f.askVaultPass,
		Prompt: func(prompt string) (vault.Password, error) {
			s, err := askSecret(c, prompt)
			return vault.Password(s), err
		},
	})
	if len(sources) == 0 && (err != nil || len(cfg.Inventory) == 0) {
		return nil, nil, errors.Join(errors.New("which inventory? Give its file as the argument or with -i, or name it in ANSIBLE_INVENTORY or ansible.cfg"), err)
	}
	if err != nil {
		return nil, nil, err
	}
	for _, w := range append(cfg.Warnings, inv.Warnings()...) {
		fmt.Fprintln(c.ErrOrStderr(), "warning: "+w.String())
	}
	return inv, cfg, nil
}

// used are the sources that were read: those given, else the configured ones.
func used(sources []string, cfg *local.Config) []string {
	if len(sources) == 0 {
		return cfg.Inventory
	}
	return sources
}

// needHosts refuses an inventory with which nothing can be done.
func needHosts(inv *inventory.Inventory, sources []string) error {
	if len(inv.Hosts()) > 0 {
		return nil
	}
	return fmt.Errorf("the inventory %s has no hosts; name them below all: hosts: (fleetd inventory %s --graph shows what was read)",
		strings.Join(sources, " + "), arguments(sources))
}

// besidePlaybook is where group_vars/ and host_vars/ beside the playbook are
// looked for; "" for the playbooks that are built in.
func besidePlaybook(file string) string {
	if !exists(file) {
		return ""
	}
	return filepath.Dir(file)
}

// readPlaybook reads a playbook from the disk or, if there is no such file and
// the name is one of those that fleetd brings, from fleetd itself.
func readPlaybook(file string, modules map[string]rollout.Params) (*playbook.Playbook, error) {
	if exists(file) {
		abs, err := filepath.Abs(file)
		if err != nil {
			return nil, fmt.Errorf("cannot find the playbook %s: %w", file, err)
		}
		dir, err := os.Getwd()
		if err != nil {
			return nil, fmt.Errorf("cannot find the current folder: %w", err)
		}
		return playbook.Load(os.DirFS("/"), strings.TrimPrefix(abs, "/"), playbook.Options{Dir: "/", WorkDir: strings.TrimPrefix(dir, "/"), Modules: modules})
	}
	if name, ok := strings.CutPrefix(filepath.ToSlash(file), "playbooks/"); ok {
		if _, err := fs.Stat(playbooks.FS, name); err == nil {
			return playbook.Load(playbooks.FS, name, playbook.Options{Dir: "playbooks", Modules: modules})
		}
	}
	return nil, fmt.Errorf("cannot find the playbook %s\n  fleetd itself brings: %s", file, strings.Join(builtin(), ", "))
}

// builtin lists the playbooks that fleetd brings.
func builtin() []string {
	entries, err := fs.Glob(playbooks.FS, "*.yml")
	if err != nil {
		return nil // the pattern is constant and well-formed
	}
	var out []string
	for _, e := range entries {
		out = append(out, path.Join("playbooks", e))
	}
	return out
}

// exists reports whether a file is there.
func exists(file string) bool {
	_, err := os.Stat(file)
	return !errors.Is(err, fs.ErrNotExist)
}

// readLine reads one line and not a byte more: the next may be the answer to
// another question.
func readLine(r io.Reader) (string, error) {
	var line []byte
	for b := make([]byte, 1); ; {
		n, err := r.Read(b)
		switch {
		case n == 1 && b[0] != '\n':
			line = append(line, b[0])
		case n == 1, errors.Is(err, io.EOF) && len(line) > 0:
			return strings.TrimSuffix(string(line), "\r"), nil
		case err != nil:
			return "", err
		}
	}
}
