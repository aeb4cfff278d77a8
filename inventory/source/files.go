package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"

	"github.com/fleetd/fleetd/inventory/vault"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
	"github.com/fleetd/fleetd/pkg/yaml"
)

// Files are the files that an inventory is read from: opened, decrypted, named
// for people, and their digests noted. It is safe for use by many goroutines.
type Files struct {
	fsys   fs.FS
	opts   Options
	limits Limits
	vault  *vault.Vault

	mu      sync.Mutex
	digests map[string]string // by path within the file system
	scripts map[string]hash.Hash
}

// NewFiles are the files of a file system.
func NewFiles(fsys fs.FS, o Options) *Files {
	if o.Context == nil {
		o.Context = context.Background()
	}
	if o.Warn == nil {
		o.Warn = func(text.Warning) {}
	}
	return &Files{fsys: fsys, opts: o, limits: o.Limits.OrDefault(), vault: vault.New(o.VaultSecrets, o.Settings.VaultIDMatch),
		digests: map[string]string{}, scripts: map[string]hash.Hash{}}
}

// Name is how people know a path within the file system.
func (f *Files) Name(p string) string {
	if w := f.opts.WorkDir; w != "" {
		if w == "." {
			return p
		}
		if rest, ok := strings.CutPrefix(p, w+"/"); ok {
			return rest
		}
	}
	return f.Absolute(p)
}

// Absolute is a path within the file system as the machine knows it.
func (f *Files) Absolute(p string) string {
	if f.opts.Root == "" {
		return p
	}
	return path.Join(f.opts.Root, p)
}

// Unreadable is the error of a file system about a path.
func (f *Files) Unreadable(what, p string, err error) *text.Error {
	reason := err.Error()
	var pe *fs.PathError // has the path, too, which the message shows already
	if errors.As(err, &pe) {
		reason = pe.Err.Error()
	}
	return &text.Error{Place: text.Place{File: f.Name(p)}, Caret: -1, Message: "cannot read the " + what + ": " + reason, Err: err}
}

// Raw is a file's text as it lies on the disk.
func (f *Files) Raw(p string) (*text.Source, error) {
	file, err := f.fsys.Open(p)
	if err != nil {
		return nil, f.Unreadable("file", p, err)
	}
	defer file.Close()
	pipe, piece := false, 64<<10
	var b strings.Builder
	if info, err := file.Stat(); err == nil {
		if pipe = !info.Mode().IsRegular(); !pipe && info.Size() <= f.limits.FileSize {
			b.Grow(int(info.Size()))
			piece = min(piece, int(info.Size())+1) // most files are small
		}
	}
	sum := sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(&b, sum), io.LimitReader(file, f.limits.FileSize+1), make([]byte, piece))
	if err != nil {
		return nil, f.Unreadable("file", p, err)
	}
	src := &text.Source{Name: f.Name(p), Data: b.String()}
	if n > f.limits.FileSize {
		return nil, src.Errorf(0, 0, "", "the file is larger than %d bytes", f.limits.FileSize)
	}
	// A pipe is no file: nobody can read it again.
	if !pipe && !f.note(p, hex.EncodeToString(sum.Sum(nil))) {
		return nil, src.Errorf(0, 0, "Start fleetd again.", "the file was changed while fleetd read it")
	}
	return src, nil
}

// Plain is src, decrypted if it is a vault.
func (f *Files) Plain(src *text.Source) (*text.Source, error) {
	if vault.Is(src.Data) {
		plain, err := f.vault.Decrypt([]byte(src.Data))
		if err != nil {
			return nil, vault.Located(src.At(1, 1), err)
		}
		src = &text.Source{Name: src.Name, Data: string(plain), Secret: true}
	}
	if i := strings.IndexByte(src.Data, 0); i >= 0 {
		line, column := src.Offset(i)
		return nil, src.Errorf(line, column, "Is this a text file in UTF-8?", "the file has a NUL byte")
	}
	return src, nil
}

// Read is a file's text, decrypted if it is a vault.
func (f *Files) Read(p string) (*text.Source, error) {
	src, err := f.Raw(p)
	if err != nil {
		return nil, err
	}
	return f.Plain(src)
}

func (f *Files) yamlLimits() yaml.Limits {
	return yaml.Limits{Depth: f.limits.Depth, Expansion: f.limits.Expansion}
}

func (f *Files) documentReader(d *yaml.Document) *yaml.Reader {
	return d.Reader(yaml.Options{Duplicates: f.opts.Settings.DuplicateKeys, Warn: f.opts.Warn, Vault: f.vault.Value})
}

// Value is what a YAML or JSON text holds, and the node that it stands in; nil
// for a text without any.
func (f *Files) Value(src *text.Source) (any, *yaml.Node, error) {
	d, err := yaml.Parse(src, f.yamlLimits())
	if err != nil || d.Root == nil {
		return nil, nil, err
	}
	v, err := f.documentReader(d).Value(d.Root)
	return v, d.Root, err
}

// Variables are what a YAML or JSON text holds; nil if its value is none or
// false. what says in an error what the text is.
func (f *Files) Variables(src *text.Source, what, hint string) (*value.Map, error) {
	v, root, err := f.Value(src)
	if err != nil || !value.Truth(v) {
		return nil, err
	}
	m, ok := v.(*value.Map)
	if !ok {
		return nil, src.Errorf(root.Line, root.Column, hint, "%s must hold a dictionary, not %s", what, value.Kind(v))
	}
	return m, nil
}

// Digests are the SHA-256, in hex, of every file that was read, by the name that
// errors give it: relative to WorkDir if it lies below. It is taken of the bytes
// that were parsed; of a vault as it lies on the disk; and of what an executable
// source printed. What is no file is not listed: a list of hosts, and a pipe.
func (f *Files) Digests() map[string]string {
	out := map[string]string{}
	for p, digest := range f.opts.Digests {
		out[f.Name(p)] = digest
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for p, digest := range f.digests {
		out[f.Name(p)] = digest
	}
	for p, h := range f.scripts {
		out[f.Name(p)] = hex.EncodeToString(h.Sum(nil))
	}
	return out
}

// note keeps a file's digest. It is false if the file was read before, as one of
// group_vars/ is that lies beside both inventory and playbook, and had other
// bytes then.
func (f *Files) note(p, digest string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	before, ok := f.digests[p]
	f.digests[p] = digest
	return !ok || before == digest
}

// run runs an executable source.
func (f *Files) run(p string, args ...string) (*text.Source, error) {
	called := strings.Join(args, " ")
	out, complaints, err := f.opts.RunScript(f.opts.Context, p, args...)
	if err != nil {
		return nil, &text.Error{Place: text.Place{File: f.Name(p)}, Caret: -1, Message: fmt.Sprintf("cannot run the inventory script with %s: %v", called, err), Err: err}
	}
	if complaints != "" {
		f.opts.Warn(text.Warning{Place: text.Place{File: f.Name(p) + " " + called}, Message: "the script complains: " + complaints})
	}
	f.mu.Lock()
	if f.scripts[p] == nil {
		f.scripts[p] = sha256.New()
	}
	f.scripts[p].Write(out)
	f.mu.Unlock()
	src := &text.Source{Name: f.Name(p) + " " + called, Data: string(out)}
	if int64(len(out)) > f.limits.FileSize {
		return nil, src.Errorf(0, 0, "", "the script printed more than %d bytes", f.limits.FileSize)
	}
	return src, src.CheckUTF8()
}
