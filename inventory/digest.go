package inventory

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"sync"
)

// Files returns the SHA-256, in hex, of every file that was read, by the name
// that errors give it: relative to WorkDir if it lies below. It is taken of the
// bytes that were parsed; of a vault as it lies on the disk; and of what an
// executable source printed. What is no file is not listed: a list of hosts, and
// a pipe, which nobody can read again.
func (inv *Inventory) Files() map[string]string {
	l := inv.loader
	out := map[string]string{}
	for p, digest := range l.opts.Files {
		out[l.name(p)] = digest
	}
	l.digests.mu.Lock()
	defer l.digests.mu.Unlock()
	for p, digest := range l.digests.files {
		out[l.name(p)] = digest
	}
	for p, h := range l.digests.scripts {
		out[l.name(p)] = hex.EncodeToString(h.Sum(nil))
	}
	return out
}

// digests are those of what one Load read, by path within the file system.
type digests struct {
	mu      sync.Mutex // files of groups without hosts are read when asked for
	files   map[string]string
	scripts map[string]hash.Hash
}

// file notes the digest of a file. It is false if the file was read before, as
// one of group_vars/ is that lies beside both inventory and playbook, and had
// other bytes then.
func (d *digests) file(p string, sum []byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	digest := hex.EncodeToString(sum)
	if before, ok := d.files[p]; ok {
		return before == digest
	}
	d.files[p] = digest
	return true
}

// output notes one more output of an executable.
func (d *digests) output(p string, out []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.scripts[p] == nil {
		d.scripts[p] = sha256.New()
	}
	d.scripts[p].Write(out)
}
