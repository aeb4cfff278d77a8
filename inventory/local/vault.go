package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/fleetd/fleetd/inventory/vault"
)

// vaultSecrets collects passwords in Ansible's order: those of ansible.cfg's
// vault_identity_list, --vault-id, --vault-password-file and ansible.cfg's
// vault_password_file, --ask-vault-pass.
func (req Request) vaultSecrets(ctx context.Context, cfg *Config) ([]vault.Secret, error) {
	type wanted struct{ label, source string }
	var list []wanted
	split := func(id string) {
		label, source, ok := strings.Cut(id, "@")
		if !ok {
			label, source = "", id
		}
		list = append(list, wanted{label, source})
	}
	for _, id := range cfg.vaultIdentities {
		split(id)
	}
	for _, id := range req.VaultIDs {
		split(id)
	}
	for _, f := range append(append([]string(nil), req.VaultPasswordFiles...), cfg.vaultPasswordFiles...) {
		list = append(list, wanted{cfg.vaultIdentity, f})
	}
	if req.AskVaultPass || (cfg.askVaultPass && len(list) == 0) {
		list = append(list, wanted{cfg.vaultIdentity, askVaultPass})
	}
	var secrets []vault.Secret
	for _, w := range list {
		id := w.label
		if id == "" {
			id = cfg.vaultIdentity
		}
		var pw vault.Password
		var err error
		switch w.source {
		case "prompt":
			pw, err = req.ask(fmt.Sprintf("Vault password (%s): ", id))
		case askVaultPass:
			pw, err = req.ask("Vault password: ")
		default:
			pw, err = req.readPassword(ctx, w.label, w.source, secrets)
		}
		if err != nil {
			return nil, err
		}
		secrets = append(secrets, vault.Secret{ID: id, Password: pw})
	}
	return secrets, nil
}

// askVaultPass is the source that --ask-vault-pass stands for.
const askVaultPass = "prompt_ask_vault_pass"

func (req Request) ask(prompt string) (vault.Password, error) {
	if req.Prompt == nil {
		return "", errors.New("cannot ask for the vault password: there is no terminal\nGive it in a file: --vault-password-file FILE")
	}
	pw, err := req.Prompt(prompt)
	if err != nil {
		return "", fmt.Errorf("cannot read the vault password: %w", err)
	}
	if pw == "" {
		return "", errors.New("the vault password is empty")
	}
	return pw, nil
}

// readPassword reads a password file or, if it is executable, what it prints.
// One named …-client is told which label is wanted. The file may itself be a
// vault that an earlier password opens.
func (req Request) readPassword(ctx context.Context, label, source string, earlier []vault.Secret) (vault.Password, error) {
	file := req.path(source)
	info, err := os.Stat(file)
	if err != nil {
		return "", fmt.Errorf("cannot read the vault password file %s: %w", source, errors.Unwrap(err))
	}
	var data []byte
	if info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
		var args []string
		if name := strings.TrimSuffix(file, filepath.Ext(file)); strings.HasSuffix(name, "-client") && label != "" {
			args = []string{"--vault-id", label}
		}
		if data, _, err = (program{dir: req.Dir, name: file, args: args, limit: 1 << 20, terminal: true}).run(ctx); err != nil {
			return "", fmt.Errorf("cannot get a vault password from %s: %w\nIf it is no script, take its executable bit away", source, err)
		}
	} else {
		if data, err = os.ReadFile(file); err != nil {
			return "", fmt.Errorf("cannot read the vault password file %s: %w", source, errors.Unwrap(err))
		}
		data = bytes.TrimSpace(data)
		if vault.Is(string(data)) {
			if data, err = vault.New(earlier, false).Decrypt(data); err != nil {
				return "", fmt.Errorf("cannot read the vault password file %s: %w", source, err)
			}
		}
	}
	if data = bytes.Trim(data, "\r\n"); len(data) == 0 {
		return "", fmt.Errorf("the vault password from %s is empty", source)
	}
	return vault.Password(data), nil
}
