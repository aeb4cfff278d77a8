package inventory

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/fleetd/fleetd/inventory/source"
	"github.com/fleetd/fleetd/inventory/vault"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
)

// varsDir is a group_vars/ or host_vars/ directory: listed once, so that asking
// for the variables of 100,000 hosts costs no file system call per host. nil is
// a directory that is not there.
type varsDir struct {
	inv     *Inventory
	path    string
	entries map[string]bool // name → is a directory

	mu   sync.Mutex
	read map[string]*varsFiles
}

// varsFiles are the files that a directory has for one name.
type varsFiles struct {
	encrypted bool
	vars      func() (*value.Map, error)
}

// openVarsDir returns nil if dir has no such directory.
func (inv *Inventory) openVarsDir(dir, kind string) (*varsDir, error) {
	if inv.opts.Settings.NoGroupVars {
		return nil, nil
	}
	p := path.Join(dir, kind)
	isDir, err := inv.isDir(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // also a dangling link, for Ansible too
	}
	if err != nil {
		return nil, err
	}
	if !isDir {
		inv.opts.Warn(text.Warning{Place: text.Place{File: inv.files.Name(p)}, Message: kind + " is not a directory and is skipped"})
		return nil, nil
	}
	entries, err := fs.ReadDir(inv.fsys, p)
	if err != nil {
		return nil, inv.files.Unreadable("directory", p, err)
	}
	v := &varsDir{inv: inv, path: p, entries: make(map[string]bool, len(entries)), read: map[string]*varsFiles{}}
	for _, e := range entries {
		isDir := e.IsDir()
		if e.Type()&fs.ModeSymlink != 0 {
			if isDir, err = inv.isDir(path.Join(p, e.Name())); errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
		}
		v.entries[e.Name()] = isDir
	}
	return v, nil
}

// isDir follows links. What cannot be looked at is an error: Ansible takes it
// for missing, and the variables behind it are lost in silence.
func (inv *Inventory) isDir(p string) (bool, error) {
	info, err := fs.Stat(inv.fsys, p)
	if err != nil {
		return false, inv.files.Unreadable("variables", p, err)
	}
	return info.IsDir(), nil
}

// check reads the files that there are for a name. Those that are not encrypted
// must be right.
func (v *varsDir) check(name string) error {
	f, err := v.files(name)
	if err != nil || f == nil || f.encrypted {
		return err
	}
	_, err = f.vars()
	return err
}

// addTo lays the variables that there are for a name over out.
func (v *varsDir) addTo(out *value.Map, name string) error {
	f, err := v.files(name)
	if err != nil || f == nil {
		return err
	}
	vars, err := f.vars()
	out.Update(vars, v.merge())
	return err
}

func (v *varsDir) merge() bool { return v.inv.opts.Settings.HashMerge }

// files are the files for a name, nil if there are none.
func (v *varsDir) files(name string) (*varsFiles, error) {
	if v == nil || len(v.entries) == 0 || strings.HasPrefix(name, "/") {
		return nil, nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if f, ok := v.read[name]; ok {
		return f, nil
	}
	paths, err := v.find(name)
	if err != nil {
		return nil, err
	}
	var f *varsFiles
	var raw []*text.Source
	for _, p := range paths {
		src, err := v.inv.files.Raw(p)
		if err != nil {
			return nil, err
		}
		if f == nil {
			f = &varsFiles{}
		}
		f.encrypted = f.encrypted || vault.Is(src.Data)
		raw = append(raw, src)
	}
	if f != nil {
		f.vars = sync.OnceValues(func() (*value.Map, error) { return v.combine(raw) })
	}
	v.read[name] = f
	return f, nil
}

// combine is what several files say, the later of which win.
func (v *varsDir) combine(raw []*text.Source) (*value.Map, error) {
	out := &value.Map{}
	for _, src := range raw {
		src, err := v.inv.files.Plain(src)
		if err != nil {
			return nil, err
		}
		vars, err := v.inv.files.Variables(src, "a file of variables", "Write each variable as name: value.")
		if err != nil {
			return nil, err
		}
		out.Update(vars, v.merge())
	}
	return out, nil
}

// find lists the files for a name: the first of name, name.yml, name.yaml,
// name.json is used, file or directory; the others are not even looked at.
func (v *varsDir) find(name string) ([]string, error) {
	for _, ext := range append([]string{""}, v.inv.opts.Settings.Extensions()...) {
		if ext != "" && !strings.Contains(ext, ".") {
			ext = "." + ext
		}
		p := path.Join(v.path, name+ext)
		isDir, ok := v.entries[name+ext]
		if !ok && strings.Contains(name, "/") {
			// A host named like a path reaches into subdirectories.
			info, err := fs.Stat(v.inv.fsys, p)
			ok = err == nil
			isDir = ok && info.IsDir()
		}
		switch {
		case !ok:
		case isDir:
			return v.inv.filesBelow(p, v.inv.data.limits.Depth)
		default:
			return []string{p}, nil
		}
	}
	return nil, nil
}

// filesBelow lists the variable files below a directory, depth first, in the
// order of their names; hidden files, backups and other extensions are left.
func (inv *Inventory) filesBelow(dir string, depth int) ([]string, error) {
	if depth == 0 {
		return nil, &text.Error{Place: text.Place{File: inv.files.Name(dir)}, Caret: -1, Message: "directories are nested too deeply"}
	}
	entries, err := fs.ReadDir(inv.fsys, dir) // sorted by name
	if err != nil {
		return nil, inv.files.Unreadable("directory", dir, err)
	}
	var out []string
	for _, e := range entries {
		n := e.Name()
		if strings.HasPrefix(n, ".") || strings.HasSuffix(n, "~") {
			continue
		}
		p := path.Join(dir, n)
		info, err := fs.Stat(inv.fsys, p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, inv.files.Unreadable("variables", p, err)
		}
		ext := source.Extension(n)
		switch {
		case info.IsDir() && ext == "":
			more, err := inv.filesBelow(p, depth-1)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		case info.Mode().IsRegular() && (ext == "" || slices.Contains(inv.opts.Settings.Extensions(), ext)):
			out = append(out, p)
		}
	}
	return out, nil
}
