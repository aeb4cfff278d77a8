// Package account is what OpenSSH takes from the account it runs under: the name,
// and the files in its home directory.
package account

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// Name is the name of who runs fleetd, "" if the user has none: then nobody can tell
// as whom to log in, and ssh refuses as well. id(1) is asked, which knows a
// directory's users too: package os/user of a static program takes the name of a
// user without one from $USER, which is inherited and counts for nothing.
var Name = sync.OnceValue(func() string {
	name, err := exec.Command("id", "-un").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(name))
})

// Expand puts the home directory in place of a leading "~/".
func Expand(file string) string {
	if rest, ok := strings.CutPrefix(file, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, rest)
		}
	}
	return file
}

// KnownHosts are the files that ssh looks host keys up in: the user's, then the
// system's.
func KnownHosts() (user, system []string) {
	if home, err := os.UserHomeDir(); err == nil {
		user = []string{filepath.Join(home, ".ssh", "known_hosts"), filepath.Join(home, ".ssh", "known_hosts2")}
	}
	return user, []string{"/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"}
}

// Keys are the private keys that ssh tries where none is named, as far as they
// exist.
func Keys() []string {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil
	}
	var out []string
	for _, n := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
		f := filepath.Join(home, ".ssh", n)
		if _, err := os.Stat(f); err == nil {
			out = append(out, f)
		}
	}
	return out
}

// Reason drops "open FILE:" from an error whose text names the file already.
func Reason(err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Err
	}
	return err
}
