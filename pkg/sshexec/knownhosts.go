package sshexec

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
	"golang.org/x/sys/unix"
)

// x/crypto's knownhosts package gives up on the whole file at the first line
// it cannot read, does not apply @revoked to certificates and their
// authorities, and reads every file anew for every dial. OpenSSH does not, so
// the files are read here.

// known holds parsed known_hosts files.
type known struct {
	mu    sync.Mutex
	files map[string]*knownFile
}

// A knownFile is one parsed file, valid while the file's stamp is the same.
type knownFile struct {
	stamp   stamp
	byName  map[string]hostEntries // lines that name hosts plainly
	scanned hostEntries            // hashed names, patterns, negations
	marked  hostEntries            // @revoked and @cert-authority
	hashed  bool                   // the file has hashed names
}

type stamp struct {
	modified time.Time
	size     int64
	inode    uint64
}

type marker int

const (
	markNone marker = iota
	markAuthority
	markRevoked
	// markOtherPort is no marker in a file: the line is for the host's port 22.
	markOtherPort
)

// A hostEntry is one line.
type hostEntry struct {
	mark     marker
	patterns []string // lower case
	salt     []byte   // of a hashed name
	hash     []byte
	key      ssh.PublicKey
	file     string
	line     int
}

type hostEntries []*hostEntry

func (e *hostEntry) where() string { return fmt.Sprintf("%s:%d", e.file, e.line) }

// lookup returns the lines of all files that are about name.
func (k *known) lookup(files []string, name string) (hostEntries, error) {
	var parsed []*knownFile
	err := func() error {
		k.mu.Lock()
		defer k.mu.Unlock()
		for _, f := range files {
			kf, err := k.read(expandHome(f))
			if err != nil {
				return err
			}
			parsed = append(parsed, kf)
		}
		return nil
	}()
	// Not under the lock: each hashed name has to be computed for each host.
	var out hostEntries
	for _, kf := range parsed {
		out = append(out, kf.match(name)...)
	}
	return out, err
}

func (kf *knownFile) match(name string) hostEntries {
	out := append(hostEntries(nil), kf.byName[name]...)
	for _, e := range kf.scanned {
		if e.matches(name) {
			out = append(out, e)
		}
	}
	for _, e := range kf.marked {
		if e.matches(name) {
			out = append(out, e)
		}
	}
	return out
}

// read is called with k.mu held. A missing file is an empty one.
func (k *known) read(file string) (*knownFile, error) {
	st, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return &knownFile{}, nil
	}
	if err != nil {
		return nil, err
	}
	now := stampOf(st)
	if kf := k.files[file]; kf != nil && kf.stamp == now {
		return kf, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	kf := parseKnownHosts(b, file)
	kf.stamp = now
	if k.files == nil {
		k.files = map[string]*knownFile{}
	}
	k.files[file] = kf
	return kf, nil
}

func stampOf(st fs.FileInfo) stamp {
	s := stamp{modified: st.ModTime(), size: st.Size()}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		s.inode = sys.Ino
	}
	return s
}

// parseKnownHosts skips lines that it cannot read, as OpenSSH does.
func parseKnownHosts(b []byte, file string) *knownFile {
	kf := &knownFile{byName: map[string]hostEntries{}}
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(make([]byte, 0, 4096), 1<<20)
	for n := 1; sc.Scan(); n++ {
		e := parseKnownLine(sc.Text())
		if e == nil {
			continue
		}
		e.file, e.line = file, n
		switch {
		case e.mark != markNone:
			kf.marked = append(kf.marked, e)
		case e.hash != nil:
			kf.hashed = true
			kf.scanned = append(kf.scanned, e)
		case e.isPlain():
			for _, p := range e.patterns {
				kf.byName[p] = append(kf.byName[p], e)
			}
		default:
			kf.scanned = append(kf.scanned, e)
		}
	}
	return kf
}

func parseKnownLine(line string) *hostEntry {
	f := strings.Fields(line)
	if len(f) == 0 || strings.HasPrefix(f[0], "#") {
		return nil
	}
	e := &hostEntry{}
	switch f[0] {
	case "@cert-authority":
		e.mark, f = markAuthority, f[1:]
	case "@revoked":
		e.mark, f = markRevoked, f[1:]
	}
	if len(f) < 3 || strings.HasPrefix(f[0], "@") {
		return nil
	}
	if salted, ok := strings.CutPrefix(f[0], "|1|"); ok {
		salt, hash, ok := strings.Cut(salted, "|")
		if !ok {
			return nil
		}
		var err1, err2 error
		e.salt, err1 = base64.StdEncoding.DecodeString(salt)
		e.hash, err2 = base64.StdEncoding.DecodeString(hash)
		if err1 != nil || err2 != nil || len(e.hash) != sha1.Size || len(e.salt) != sha1.Size {
			return nil
		}
	} else {
		for _, p := range strings.Split(strings.ToLower(f[0]), ",") {
			if p != "" {
				e.patterns = append(e.patterns, p)
			}
		}
	}
	blob, err := base64.StdEncoding.DecodeString(f[2])
	if err != nil {
		return nil
	}
	e.key, err = ssh.ParsePublicKey(blob)
	if err != nil || e.key.Type() != f[1] {
		return nil
	}
	return e
}

func (e *hostEntry) isPlain() bool {
	for _, p := range e.patterns {
		if strings.ContainsAny(p, "*?!") {
			return false
		}
	}
	return true
}

// hashOf is the HMAC-SHA1 of name. It is what a dial costs where thousands of
// names are hashed: package hmac takes four times as long, most of it for memory.
func hashOf(salt []byte, name string) [sha1.Size]byte {
	var inner [sha1.BlockSize + 256]byte
	var outer [sha1.BlockSize + sha1.Size]byte
	for i := range sha1.BlockSize {
		inner[i], outer[i] = 0x36, 0x5c
	}
	for i, b := range salt {
		inner[i] ^= b
		outer[i] ^= b
	}
	sum := sha1.Sum(append(inner[:sha1.BlockSize], name...))
	copy(outer[sha1.BlockSize:], sum[:])
	return sha1.Sum(outer[:])
}

func (e *hostEntry) matches(name string) bool {
	if e.hash != nil {
		return hashOf(e.salt, name) == [sha1.Size]byte(e.hash)
	}
	matched := false
	for _, p := range e.patterns {
		if neg, ok := strings.CutPrefix(p, "!"); ok {
			if wildcard(neg, name) {
				return false
			}
		} else if wildcard(p, name) {
			matched = true
		}
	}
	return matched
}

// wildcard matches OpenSSH's patterns: "*" is any number of any characters,
// "?" is one.
func wildcard(pattern, s string) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

func (es hostEntries) filter(m marker) hostEntries {
	var out hostEntries
	for _, e := range es {
		if e.mark == m {
			out = append(out, e)
		}
	}
	return out
}

func (es hostEntries) keys() hostEntries        { return es.filter(markNone) }
func (es hostEntries) authorities() hostEntries { return es.filter(markAuthority) }

func (es hostEntries) find(m marker, key ssh.PublicKey) *hostEntry {
	blob := key.Marshal()
	for _, e := range es {
		if e.mark == m && bytes.Equal(e.key.Marshal(), blob) {
			return e
		}
	}
	return nil
}

func (es hostEntries) has(key ssh.PublicKey) bool    { return es.find(markNone, key) != nil }
func (es hostEntries) trusts(key ssh.PublicKey) bool { return es.find(markAuthority, key) != nil }
func (es hostEntries) revoked(key ssh.PublicKey) (*hostEntry, bool) {
	e := es.find(markRevoked, key)
	return e, e != nil
}

// add records a key for name, unless the file has got one meanwhile: then that
// is returned and nothing is written. The file is locked against other
// processes, and the line is appended by one write, so that neither an ssh that
// appends without a lock nor a crash loses what is there. (A rename would lose
// such an append, and would replace a file that may be a symbolic link.)
func (k *known) add(file, name string, key ssh.PublicKey) (hostEntries, error) {
	file = expandHome(file)
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
