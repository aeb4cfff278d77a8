package inventory

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// loader is the state of one Load.
type loader struct {
	ctx      context.Context
	fsys     fs.FS
	opts     Options
	limits   Limits
	d        *data
	vault    *vault
	warnings []Warning
	warned   map[Warning]bool
	ignored  *regexp.Regexp
	reading  string          // file for warnings without a position
	ran      map[string]bool // executables
	digests  digests
}

// maxWarnings bounds what a file of nothing but duplicate keys may cost.
const maxWarnings = 1000

// Load reads sources in order into one inventory. A source is a path within
// fsys (a file or a directory of them) or, if it has a comma and no such file
// exists, a list of hosts. Later sources add to earlier ones and their
// variables win.
func Load(fsys fs.FS, sources []string, opts Options) (*Inventory, error) {
	return load(fsys, sources, opts, nil)
}

func load(fsys fs.FS, sources []string, opts Options, t *trace) (*Inventory, error) {
	l := &loader{
		ctx: opts.Context, fsys: fsys, opts: opts, limits: opts.Limits.orDefault(),
		vault:  &vault{secrets: opts.VaultSecrets, match: opts.Settings.VaultIDMatch},
		warned: map[Warning]bool{}, ran: map[string]bool{},
		digests: digests{files: map[string]string{}, scripts: map[string]hash.Hash{}},
	}
	if l.ctx == nil {
		l.ctx = context.Background()
	}
	l.d = newData(opts.Settings, l.limits, func(format string, args ...any) {
		l.warn(Warning{File: l.reading, Message: fmt.Sprintf(format, args...)})
	})
	var err error
	if l.ignored, err = ignoredNames(opts.Settings); err != nil {
		return nil, err
	}
	if l.d.trace = t; t != nil {
		for _, g := range t.groups {
			if _, err := l.d.addGroup(g); err != nil {
				return nil, err
			}
		}
	}
	inv := &Inventory{loader: l, sources: sources}
	for _, s := range sources {
		if s == "" {
			continue
		}
		dir, err := l.readSource(s)
		if err != nil {
			return nil, err
		}
		if dir != "" {
			inv.sourceDirs = append(inv.sourceDirs, dir)
		}
	}
	l.reading = ""
	if err := l.d.finish(); err != nil {
		return nil, asError("", err)
	}
	if inv.extra, err = l.extraVars(opts.ExtraVars); err != nil {
		return nil, err
	}
	if err := inv.prepare(); err != nil {
		return nil, err
	}
	return inv, nil
}

// name is how people know a path within fsys.
func (l *loader) name(p string) string {
	if w := l.opts.WorkDir; w != "" {
		if w == "." {
			return p
		}
		if rest, ok := strings.CutPrefix(p, w+"/"); ok {
			return rest
		}
	}
	return l.absolute(p)
}

// absolute is a path within fsys as the machine knows it.
func (l *loader) absolute(p string) string {
	if l.opts.Root == "" {
		return p
	}
	return path.Join(l.opts.Root, p)
}

func (l *loader) warn(w Warning) {
	if l.warned[w] || len(l.warnings) >= maxWarnings {
		return
	}
	l.warned[w] = true
	l.warnings = append(l.warnings, w)
}

func (l *loader) warnAt(t *text, n *node, format string, args ...any) {
	l.warn(Warning{File: t.name, Line: n.line, Column: n.col, Message: fmt.Sprintf(format, args...)})
}

// at gives an error of the model its place in a YAML file.
func (l *loader) at(c *constructor, n *node, err error) error {
	var e *Error
	if errors.As(err, &e) {
		return err
	}
	return c.errorAt(n, hintOf(err), "%s", err)
}

func (l *loader) constructor(t *text) *constructor {
	return &constructor{t: t, settings: l.opts.Settings, limits: l.limits, vault: l.vault,
		warn: func(line, col int, format string, args ...any) {
			l.warn(Warning{File: t.name, Line: line, Column: col, Message: fmt.Sprintf(format, args...)})
		}}
}

// read returns a file's text, decrypted if it is a vault.
func (l *loader) read(p string) (*text, error) {
	f, err := l.fsys.Open(p)
	if err != nil {
		return nil, &Error{File: l.name(p), Caret: -1, Message: "cannot read the file: " + reason(err), Err: err}
	}
	defer f.Close()
	var b strings.Builder
	sum := sha256.New()
	size, pipe := 0, false
	if info, err := f.Stat(); err == nil {
		pipe = !info.Mode().IsRegular()
		if !pipe && info.Size() <= l.limits.FileSize {
			size = int(info.Size())
			b.Grow(size)
		}
	}
	_, err = io.CopyBuffer(io.MultiWriter(&b, sum), io.LimitReader(f, l.limits.FileSize+1), make([]byte, min(max(size, 512), 64<<10)))
	data := b.String()
	if err != nil {
		return nil, &Error{File: l.name(p), Caret: -1, Message: "cannot read the file: " + reason(err), Err: err}
	}
	t := &text{name: l.name(p), data: data}
	if int64(len(data)) > l.limits.FileSize {
		return nil, &Error{File: t.name, Caret: -1, Message: fmt.Sprintf("the file is larger than %d bytes", l.limits.FileSize)}
	}
	if !pipe && !l.digests.file(p, sum.Sum(nil)) {
		return nil, &Error{File: t.name, Caret: -1, Message: "the file was changed while fleetd read it", Hint: "Start fleetd again."}
	}
	if isVault(data) {
		plain, err := l.vault.decrypt([]byte(data))
		if err != nil {
			return nil, vaultError(t.name, 1, 1, err)
		}
		t.data, t.secret = string(plain), true
	}
	if i := strings.IndexByte(t.data, 0); i >= 0 {
		line, col := place(t.data, i)
		return nil, t.errorAt(line, col, "Is this a text file in UTF-8?", "the file has a NUL byte")
	}
	return t, nil
}

// checkText refuses what is not UTF-8.
func checkText(t *text) error {
	if !utf8.ValidString(t.data) {
		i := 0
		for i < len(t.data) {
			r, n := utf8.DecodeRuneInString(t.data[i:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			i += n
		}
		line, col := place(t.data, i)
		return t.errorAt(line, col, "Save the file as UTF-8.", "the file is not valid UTF-8: byte 0x%02x", t.data[i])
	}
	return nil
}

// place is the line and column of a byte offset.
func place(data string, i int) (line, col int) {
	start := strings.LastIndexByte(data[:i], '\n') + 1
	return 1 + strings.Count(data[:i], "\n"), 1 + utf8.RuneCountInString(data[start:i])
}

// reason is the cause within an fs error, whose path the message has already.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// defaultIgnored are Ansible's extensions that a directory source skips.
var defaultIgnored = []string{".pyc", ".pyo", ".swp", ".bak", "~", ".rpm", ".md", ".txt", ".rst", ".orig", ".ini", ".cfg", ".retry"}

func ignoredNames(s Settings) (*regexp.Regexp, error) {
	exprs := []string{`^\.`, `^host_vars$`, `^group_vars$`, `^vars_plugins$`}
	for _, p := range s.IgnorePatterns {
		if _, err := regexp.Compile(p); err != nil {
			return nil, &Error{Caret: -1, Message: fmt.Sprintf("cannot understand the setting inventory_ignore_patterns: %v", err), Err: err}
		}
		exprs = append(exprs, p)
	}
	exts := s.IgnoreExtensions
	if exts == nil {
		exts = defaultIgnored
	}
	for _, e := range exts {
		exprs = append(exprs, regexp.QuoteMeta(e)+"$")
	}
	return regexp.Compile(strings.Join(exprs, "|"))
}

// readSource reads one source and returns the directory beside which
// group_vars and host_vars are looked for ("" for a list of hosts).
func (l *loader) readSource(source string) (string, error) {
	info, err := fs.Stat(l.fsys, cleanPath(source))
	if err != nil {
		if strings.Contains(source, ",") {
			return "", l.readHostList(source)
		}
		return "", l.unparsed(source, []failure{{"", &Error{File: l.name(cleanPath(source)), Caret: -1, Message: "cannot read the inventory: " + reason(err),
			Hint: "Give a file, a directory or a list of hosts with a comma, such as \"node1,\".", Err: err}}})
	}
	source = cleanPath(source)
	if info.IsDir() {
		return source, l.readDir(source, l.limits.Depth)
	}
	return path.Dir(source), l.readFile(source, info)
}

func cleanPath(p string) string {
	p = path.Clean(p)
	if p == "/" {
		return "."
	}
	return strings.TrimPrefix(p, "/")
}

// readDir reads the sources in a directory in the order of their names.
func (l *loader) readDir(dir string, depth int) error {
	if depth == 0 {
		return &Error{File: l.name(dir), Caret: -1, Message: "directories are nested too deeply"}
	}
	entries, err := fs.ReadDir(l.fsys, dir)
	if err != nil {
		return &Error{File: l.name(dir), Caret: -1, Message: "cannot read the directory: " + reason(err), Err: err}
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	for _, n := range names {
		if l.ignored.MatchString(n) {
			continue
		}
		p := path.Join(dir, n)
		info, err := fs.Stat(l.fsys, p)
		if err != nil {
			return &Error{File: l.name(p), Caret: -1, Message: "cannot read the inventory: " + reason(err), Err: err}
		}
		if info.IsDir() {
			err = l.readDir(p, depth-1)
		} else {
			err = l.readFile(p, info)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) readHostList(list string) error {
	// The list itself is the hosts' inventory_file; there is no directory.
	l.d.source, l.d.sourceDir = list, nil
	l.reading = ""
	for h := range strings.SplitSeq(list, ",") {
		h = strings.TrimSpace(h)
		if h == "" {
			continue
		}
		name, port, ok := splitAddress(h)
		// Ranges are not expanded in a list given in place of a file.
		if !ok || strings.Contains(name, "[") {
			name, port = h, 0
		}
		if l.d.hosts[name] != nil {
			continue
		}
		if _, err := l.d.addHost(name, "ungrouped", port); err != nil {
			return &Error{Caret: -1, Message: fmt.Sprintf("cannot read the host list %q: %v", clip(list), err)}
		}
	}
	return nil
}
