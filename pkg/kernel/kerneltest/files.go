package kerneltest

import (
	"crypto/sha256"
	"fmt"
	"io"
	"strings"

	"github.com/fleetd/fleetd/pkg/sshexec"
)

// file is a regular file; folders are those that files are in.
type file struct {
	content []byte
	mode    string
	owner   string
}

func (f file) digest() string { return fmt.Sprintf("%x", sha256.Sum256(f.content)) }
func (f file) String() string { return f.mode + " " + f.owner + " sha256:" + f.digest() }

// WriteFile puts a file on the node by hand.
func (n *Node) WriteFile(path string, content []byte, mode string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.files[path] = file{content, mode, "root:root"}
}

func (n *Node) upload(u sshexec.Upload) error {
	content, err := io.ReadAll(io.LimitReader(u.Content, u.Size))
	if err != nil {
		return err
	}
	f := file{content, fmt.Sprintf("%o", u.Mode.Perm()), u.Owner + ":" + u.Group}
	if u.SHA256 != f.digest() {
		return fail(n.host, "write "+u.Path, sshexec.KindFile, "the digest is "+f.digest())
	}
	n.counts.Uploads++
	n.log = append(n.log, "upload "+u.Path)
	n.files[u.Path] = f
	return nil
}

// fileScript is one of the scripts with which fleetd.bpf looks at a file, keeps
// a copy, removes it and puts the copy back.
func (n *Node) fileScript(c sshexec.Command) sshexec.Result {
	path, kept, digest := c.Env["file"], c.Env["kept"], c.Env["digest"]
	is := func(path string) bool {
		f, ok := n.files[path]
		return ok && f.digest() == digest
	}
	switch f, ok := n.files[path]; {
	case kept == "" && !ok:
		return answer("missing\n", 0)
	case kept == "":
		return answer(f.mode+"\n"+f.digest()+"\n", 0)
	case strings.Contains(c.Script, "exit 41"): // restore
		if !is(path) {
			if !is(kept) {
				return answer("", 41)
			}
			n.files[path] = n.files[kept]
		}
		f := n.files[path]
		f.mode = c.Env["mode"]
		n.files[path] = f
		delete(n.files, kept)
	case !is(path):
		return answer("", 40)
	case strings.Contains(c.Script, `rm -f -- "$file"`): // remove
		delete(n.files, path)
	default: // keep
		n.files[kept] = f
	}
	return answer("", 0)
}

// fileFacts is what the facts script prints of a file.
func (n *Node) fileFacts(path string) string {
	f, ok := n.files[path]
	if !ok {
		return "missing"
	}
	return fmt.Sprintf("%s %d regular file\n%s  -", f.mode, len(f.content), f.digest())
}
