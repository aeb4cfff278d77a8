package inventory

import (
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
)

// varsDir is a group_vars/ or host_vars/ directory: read once, so that asking
// for the variables of 100,000 hosts costs no file system call per host.
type varsDir struct {
	l       *loader
	path    string
	entries map[string]bool // name → is a directory
	mu      sync.Mutex      // files of groups without hosts are read when asked for
	cache   map[string]*dict
}

// openVarsDir returns nil if dir has no such directory.
func (l *loader) openVarsDir(dir, kind string) (*varsDir, error) {
	if l.opts.Settings.NoGroupVars {
		return nil, nil
	}
	p := path.Join(dir, kind)
	info, err := fs.Stat(l.fsys, p)
	if err != nil {
		return nil, nil
	}
	if !info.IsDir() {
		l.warn(Warning{File: l.name(p), Message: kind + " is not a directory and is skipped"})
		return nil, nil
	}
	entries, err := fs.ReadDir(l.fsys, p)
	if err != nil {
		return nil, &Error{File: l.name(p), Caret: -1, Message: "cannot read the directory: " + reason(err), Err: err}
	}
	v := &varsDir{l: l, path: p, entries: make(map[string]bool, len(entries)), cache: map[string]*dict{}}
	for _, e := range entries {
		isDir := e.IsDir()
		if e.Type()&fs.ModeSymlink != 0 {
			info, err := fs.Stat(l.fsys, path.Join(p, e.Name()))
			if err != nil {
				continue // a dangling link does not exist, for Ansible too
			}
			isDir = info.IsDir()
		}
		v.entries[e.Name()] = isDir
	}
	return v, nil
}

func (l *loader) varsExtensions() []string {
	if e := l.opts.Settings.VarsExtensions; e != nil {
		return e
	}
	return []string{".yml", ".yaml", ".json"}
}

// vars returns the variables that the directory has for a host or group, nil
// if none. The first of name, name.yml, name.yaml, name.json is used, file or
// directory; the others are not even looked at.
func (v *varsDir) vars(name string) (*dict, error) {
	if v == nil || len(v.entries) == 0 || strings.HasPrefix(name, "/") {
		return nil, nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if d, ok := v.cache[name]; ok {
		return d, nil
	}
	var found []string
	for _, ext := range append([]string{""}, v.l.varsExtensions()...) {
		if ext != "" && !strings.Contains(ext, ".") {
			ext = "." + ext
		}
		p := path.Join(v.path, name+ext)
		isDir, ok := v.entries[name+ext]
		if !ok && strings.Contains(name, "/") {
			// A host named like a path reaches into subdirectories.
			info, err := fs.Stat(v.l.fsys, p)
			ok = err == nil
			isDir = ok && info.IsDir()
		}
		if !ok {
			continue
		}
		if !isDir {
			found = []string{p}
			break
		}
		var err error
		if found, err = v.l.varsFiles(p, v.l.limits.Depth); err != nil {
			return nil, err
		}
		break
	}
	var out *dict
	for _, p := range found {
		d, err := v.l.varsFile(p)
		if err != nil {
			return nil, err
		}
		if d == nil {
			continue
		}
		if out == nil {
			out = d
		} else {
			both := combine(out, d, v.l.opts.Settings.HashMerge)
			v.l.d.trace.copied(both, out, d)
			out = both
		}
	}
	v.cache[name] = out
	return out, nil
}

// varsFiles lists the variable files below a directory, depth first, in the
// order of their names; hidden files, backups and other extensions are left.
func (l *loader) varsFiles(dir string, depth int) ([]string, error) {
	if depth == 0 {
		return nil, &Error{File: l.name(dir), Caret: -1, Message: "directories are nested too deeply"}
	}
	entries, err := fs.ReadDir(l.fsys, dir)
	if err != nil {
		return nil, &Error{File: l.name(dir), Caret: -1, Message: "cannot read the directory: " + reason(err), Err: err}
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	var out []string
	for _, e := range entries {
		n := e.Name()
		if strings.HasPrefix(n, ".") || strings.HasSuffix(n, "~") {
			continue
		}
		p := path.Join(dir, n)
		info, err := fs.Stat(l.fsys, p)
		if err != nil {
			continue
		}
		ext := extension(n)
		switch {
		case info.IsDir() && ext == "":
			more, err := l.varsFiles(p, depth-1)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		case info.Mode().IsRegular() && (ext == "" || slices.Contains(l.varsExtensions(), ext)):
			out = append(out, p)
		}
	}
	return out, nil
}

// extension is Python's os.path.splitext: leading dots start no extension.
func extension(name string) string {
	return path.Ext(strings.TrimLeft(path.Base(name), "."))
}

// varsFile reads one file of variables; nil if it is empty.
func (l *loader) varsFile(p string) (*dict, error) {
	t, err := l.read(p)
	if err != nil {
		return nil, err
	}
	v, n, err := l.document(t)
	if err != nil {
		return nil, err
	}
	if !truthy(v) {
		return nil, nil
	}
	d, ok := v.(*dict)
	if !ok {
		return nil, t.errorAt(n.line, n.col, "Write each variable as name: value.",
			"a file of variables must hold a dictionary, not %s", typeName(v))
	}
	return d, nil
}

// document is the value of a YAML or JSON file, and its root node.
func (l *loader) document(t *text) (any, *node, error) {
	root, err := parseDocument(t, l.limits)
	if err != nil || root == nil {
		return nil, &node{}, err
	}
	c := l.constructor(t)
	v, err := c.value(root)
	if d, ok := v.(*dict); ok && l.d.trace != nil {
		if _, has := d.get(l.d.trace.variable); has {
			l.d.trace.within(c, root)
			l.d.trace.note(d, l.d.trace.variable)
		}
	}
	return v, root, err
}
