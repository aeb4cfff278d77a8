// Package source reads the sources of an inventory: INI, YAML and JSON files,
// executables, directories of them, lists of hosts. It tells an Inventory what
// they say, one fact after the other, in the order of Ansible's plugins.
//
// It opens files through an fs.FS only, and runs nothing by itself.
package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/fleetd/fleetd/inventory/vault"
	"github.com/fleetd/fleetd/pkg/text"
)

// Inventory is what sources are read into.
type Inventory interface {
	// From tells what is read next: its name for people, and the variables
	// inventory_file and inventory_dir of hosts that are new from now on.
	From(name string, file, dir any)
	// GroupName is the name that a group will go by: odd characters may be
	// replaced, by setting.
	GroupName(name string) string
	HasGroup(name string) bool
	HasHost(name string) bool
	// AddGroup makes sure that a group exists and returns its name.
	AddGroup(name string) (string, error)
	// AddHost makes sure that a host exists and is in a group. port counts only
	// for a host that is new; 0 is none.
	AddHost(name, group string, port int) error
	// AddChild puts a group, or a host if no group has that name, into a group.
	AddChild(parent, child string) error
	// Set sets a variable of a group or, if no group has that name, of a host;
	// at is where it stands.
	Set(entity string, key, v any, at text.Place) error
}

// Options say how sources are read. The zero value reads files only, with
// Ansible's defaults.
type Options struct {
	// Root is the path of the file system's root on the machine, "/" for
	// os.DirFS("/"). It stands before the paths in inventory_file,
	// inventory_dir and errors.
	Root string
	// WorkDir, a path within the file system, shortens file names in errors and
	// warnings that lie below it. Sources themselves are always relative to the
	// file system.
	WorkDir string
	// VaultSecrets decrypt vaults; the first that fits is used, those whose ID
	// is the vault's own are tried first.
	VaultSecrets []vault.Secret
	// Settings are what ansible.cfg and the environment change. The zero value
	// is Ansible's defaults, but that a source nobody understands is an error.
	Settings Settings
	// Digests are those of what was read to say all this (ansible.cfg), by path
	// within the file system. Files.Digests lists them with its own.
	Digests map[string]string
	// RunScript runs an executable source (name is a path within the file
	// system) with args and returns what it printed, and what it complained of
	// on standard error though it succeeded. nil: executables are refused.
	RunScript func(ctx context.Context, name string, args ...string) (out []byte, complaints string, err error)
	// Executable tells whether a source is to be run. nil: its mode's x bits or
	// a leading "#!" say so, as in Ansible.
	Executable func(name string) bool
	// Context bounds RunScript; nil is context.Background().
	Context context.Context
	// Limits bound memory and time; zero fields take DefaultLimits.
	Limits Limits
	// Warn takes what Ansible would warn of; nil drops it.
	Warn func(text.Warning)
}

// Limits bound what a hostile or broken inventory may cost.
type Limits struct {
	FileSize  int64 // bytes of one file or one script's output
	LineSize  int   // bytes of one INI line
	Hosts     int   // hosts in all sources together
	Expansion int   // values that one file's aliases may expand to, beside what its size allows
	Depth     int   // nesting of values and of groups
	// Matching is how long one pattern's regular expression may take on all
	// names together, if it is of the kind that can take exponential time.
	Matching time.Duration
}

// DefaultLimits leave room for ten times the largest fleet fleetd is measured
// with (100,000 hosts).
var DefaultLimits = Limits{
	FileSize:  512 << 20,
	LineSize:  1 << 20,
	Hosts:     2_000_000,
	Expansion: 1_000_000,
	Depth:     200,
	Matching:  10 * time.Second,
}

// OrDefault is l with DefaultLimits in place of what is not set.
func (l Limits) OrDefault() Limits {
	d := DefaultLimits
	if l.FileSize > 0 {
		d.FileSize = l.FileSize
	}
	if l.LineSize > 0 {
		d.LineSize = l.LineSize
	}
	if l.Hosts > 0 {
		d.Hosts = l.Hosts
	}
	if l.Expansion > 0 {
		d.Expansion = l.Expansion
	}
	if l.Depth > 0 {
		d.Depth = l.Depth
	}
	if l.Matching > 0 {
		d.Matching = l.Matching
	}
	return d
}

// Settings are the parts of ansible.cfg and the ANSIBLE_* environment that
// change how an inventory is read. Package inventory/local fills them.
type Settings struct {
	// HashMerge is hash_behaviour=merge: dictionaries are merged, not replaced.
	HashMerge bool
	// DuplicateKeys is duplicate_dict_key: "warn" (default), "ignore", "error".
	DuplicateKeys string
	// GroupNames is force_valid_group_names: "never" (default; odd names are
	// kept, with a warning), "ignore", "always", "silently".
	GroupNames string
	// PatternMismatch is host_pattern_mismatch: "warning" (default), "error",
	// "ignore".
	PatternMismatch string
	// Precedence is the order of group variable layers; nil is Ansible's.
	Precedence []string
	// Plugins is enable_plugins: the readers tried, in order; nil is
	// Ansible's host_list, script, auto, yaml, ini, toml.
	Plugins []string
	// IgnoreExtensions and IgnorePatterns choose what a directory source
	// skips; nil extensions are Ansible's.
	IgnoreExtensions []string
	IgnorePatterns   []string
	// VarsExtensions is yaml_valid_extensions; nil is .yml, .yaml, .json.
	VarsExtensions []string
	// AllowUnparsed is any_unparsed_is_failed=False said explicitly: a source
	// that nobody understands is skipped with a warning, as in Ansible.
	AllowUnparsed bool
	// VaultIDMatch is vault_id_match: only the secret with the vault's own ID
	// is tried.
	VaultIDMatch bool
	// NoGroupVars: vars_plugins_enabled leaves out host_group_vars, so
	// group_vars/ and host_vars/ are not read.
	NoGroupVars bool
}

// Extensions are those of files of variables.
func (s Settings) Extensions() []string {
	if s.VarsExtensions != nil {
		return s.VarsExtensions
	}
	return []string{".yml", ".yaml", ".json"}
}

// reader is the state of reading sources.
type reader struct {
	*Files
	inv     Inventory
	ignored *regexp.Regexp
}

// Read reads sources in order into inv. A source is a path within the file
// system (a file or a directory of them) or, if it has a comma and no such file
// exists, a list of hosts. It returns the directories beside which group_vars
// and host_vars are looked for.
func Read(f *Files, inv Inventory, sources []string) (dirs []string, err error) {
	r := &reader{Files: f, inv: inv}
	if r.ignored, err = ignoredNames(f.opts.Settings); err != nil {
		return nil, err
	}
	for _, s := range sources {
		if s == "" {
			continue
		}
		dir, err := r.source(s)
		if err != nil {
			return nil, err
		}
		if dir != "" {
			dirs = append(dirs, dir)
		}
	}
	return dirs, nil
}

// defaultIgnored are Ansible's extensions that a directory source skips.
var defaultIgnored = []string{".pyc", ".pyo", ".swp", ".bak", "~", ".rpm", ".md", ".txt", ".rst", ".orig", ".ini", ".cfg", ".retry"}

func ignoredNames(s Settings) (*regexp.Regexp, error) {
	exprs := []string{`^\.`, `^host_vars$`, `^group_vars$`, `^vars_plugins$`}
	for _, p := range s.IgnorePatterns {
		if _, err := regexp.Compile(p); err != nil {
			return nil, &text.Error{Caret: -1, Message: fmt.Sprintf("cannot understand the setting inventory_ignore_patterns: %v", err), Err: err}
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

// source reads one source and returns the directory beside which group_vars and
// host_vars are looked for ("" for a list of hosts).
func (r *reader) source(source string) (string, error) {
	info, err := fs.Stat(r.fsys, Clean(source))
	if err != nil {
		if strings.Contains(source, ",") {
			return "", r.hostList(source)
		}
		e := r.Unreadable("inventory", Clean(source), err)
		e.Hint = "Give a file, a directory or a list of hosts with a comma, such as \"node1,\"."
		return "", r.unparsed(source, []failure{{"", e}})
	}
	source = Clean(source)
	if info.IsDir() {
		return source, r.directory(source, r.limits.Depth)
	}
	return path.Dir(source), r.file(source, info)
}

// Clean is a path as an fs.FS wants it.
func Clean(p string) string {
	p = path.Clean(p)
	if p == "/" {
		return "."
	}
	return strings.TrimPrefix(p, "/")
}

// directory reads the sources in a directory in the order of their names.
func (r *reader) directory(dir string, depth int) error {
	if depth == 0 {
		return &text.Error{Place: text.Place{File: r.Name(dir)}, Caret: -1, Message: "directories are nested too deeply"}
	}
	entries, err := fs.ReadDir(r.fsys, dir)
	if err != nil {
		return r.Unreadable("directory", dir, err)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	for _, n := range names {
		if r.ignored.MatchString(n) {
			continue
		}
		p := path.Join(dir, n)
		info, err := fs.Stat(r.fsys, p)
		switch {
		case err != nil:
			return r.Unreadable("inventory", p, err)
		case info.IsDir():
			err = r.directory(p, depth-1)
		default:
			err = r.file(p, info)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Located makes any error an Error about a file.
func Located(file string, err error) *text.Error {
	var e *text.Error
	if errors.As(err, &e) {
		return e
	}
	return &text.Error{Place: text.Place{File: file}, Caret: -1, Message: err.Error(), Hint: text.HintOf(err), Err: err}
}
