package hostkeys

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
	"golang.org/x/sys/unix"

	"github.com/fleetd/fleetd/pkg/sshexec/internal/account"
)

// x/crypto's knownhosts package gives up on the whole file at the first line
// it cannot read, does not apply @revoked to certificates and their
// authorities, and reads every file anew for every dial. OpenSSH does not, so
// the files are read here.

// A Store holds parsed known_hosts files.
type Store struct {
	mu    sync.Mutex
	files map[string]*parsed
}

// lookup returns the lines of all files that are about name.
func (k *Store) lookup(files []string, name string) (entries, error) {
	var all []*parsed
	err := func() error {
		k.mu.Lock()
		defer k.mu.Unlock()
		for _, f := range files {
			kf, err := k.read(account.Expand(f))
			if err != nil {
				return err
			}
			all = append(all, kf)
		}
		return nil
	}()
	// Not under the lock: each hashed name has to be computed for each host.
	var out entries
	for _, kf := range all {
		out = append(out, kf.match(name)...)
	}
	return out, err
}

// read is called with k.mu held. A missing file is an empty one.
func (k *Store) read(file string) (*parsed, error) {
	st, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return &parsed{}, nil
	}
	if err != nil {
		return nil, err
	}
	if kf := k.files[file]; kf != nil && os.SameFile(kf.stat, st) && kf.stat.ModTime().Equal(st.ModTime()) && kf.stat.Size() == st.Size() {
		return kf, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	kf := parseKnownHosts(b, file)
	kf.stat = st
	if k.files == nil {
		k.files = map[string]*parsed{}
	}
	k.files[file] = kf
	return kf, nil
}

// add records a key for name, unless the file has got one meanwhile: then that
// is returned and nothing is written. The file is locked against other
// processes, and the line is appended by one write, so that neither an ssh that
// appends without a lock nor a crash loses what is there. (A rename would lose
// such an append, and would replace a file that may be a symbolic link.)
func (k *Store) add(file, name string, key ssh.PublicKey) (entries, error) {
	file = account.Expand(file)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close() // unlocks, too
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	now := parseKnownHosts(b, file)
	if found := now.match(name).keys(); len(found) > 0 {
		return found, nil
	}
	written := name
	if now.hashed {
		// The owner hides names in this file (HashKnownHosts); so do we.
		written = knownhosts.HashHostname(name)
	}
	line := written + " " + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) + "\n"
	if len(b) > 0 && b[len(b)-1] != '\n' {
		line = "\n" + line
	}
	if _, err := f.WriteString(line); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	delete(k.files, file)
	return nil, nil
}
