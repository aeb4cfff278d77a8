package hostkeys

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/crypto/ssh"
)

// A parsed file is valid while the file is the same.
type parsed struct {
	stat    fs.FileInfo
	byName  map[string]entries // lines that name hosts plainly
	scanned entries            // hashed names, patterns, negations
	marked  entries            // @revoked and @cert-authority
	hashed  bool               // the file has hashed names
}

type marker int

const (
	markNone marker = iota
	markAuthority
	markRevoked
	// markOtherPort is no marker in a file: the line is for the host's port 22.
	markOtherPort
)

// An entry is one line.
type entry struct {
	mark     marker
	patterns []string // lower case
	salt     []byte   // of a hashed name
	hash     []byte
	key      ssh.PublicKey
	file     string
	line     int
}

type entries []*entry

func (e *entry) where() string { return fmt.Sprintf("%s:%d", e.file, e.line) }

func (kf *parsed) match(name string) entries {
	out := append(entries(nil), kf.byName[name]...)
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

// parseKnownHosts skips lines that it cannot read, as OpenSSH does.
func parseKnownHosts(b []byte, file string) *parsed {
	kf := &parsed{byName: map[string]entries{}}
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

func parseKnownLine(line string) *entry {
	f := strings.Fields(line)
	if len(f) == 0 || strings.HasPrefix(f[0], "#") {
		return nil
	}
	e := &entry{}
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

func (e *entry) isPlain() bool {
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

func (e *entry) matches(name string) bool {
	if e.hash != nil {
		return hashOf(e.salt, name) == [sha1.Size]byte(e.hash)
	}
	return Match(e.patterns, name)
}

// Match tells that a list of OpenSSH's patterns, some negated, is about name.
func Match(patterns []string, name string) bool {
	matched := false
	for _, p := range patterns {
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

func (es entries) filter(m marker) entries {
	var out entries
	for _, e := range es {
		if e.mark == m {
			out = append(out, e)
		}
	}
	return out
}

func (es entries) keys() entries        { return es.filter(markNone) }
func (es entries) authorities() entries { return es.filter(markAuthority) }

func (es entries) find(m marker, key ssh.PublicKey) *entry {
	blob := key.Marshal()
	for _, e := range es {
		if e.mark == m && bytes.Equal(e.key.Marshal(), blob) {
			return e
		}
	}
	return nil
}

func (es entries) has(key ssh.PublicKey) bool    { return es.find(markNone, key) != nil }
func (es entries) trusts(key ssh.PublicKey) bool { return es.find(markAuthority, key) != nil }
func (es entries) revoked(key ssh.PublicKey) (*entry, bool) {
	e := es.find(markRevoked, key)
	return e, e != nil
}
