package inventory

import (
	"context"
	"time"
)

// Options says how sources are read. The zero value reads files only, with
// Ansible's defaults.
type Options struct {
	// Root is the path of fsys's root on the machine, "/" for os.DirFS("/").
	// It stands before the paths in inventory_file, inventory_dir and errors.
	Root string
	// WorkDir, a path within fsys, shortens file names in errors and warnings
	// that lie below it. Sources themselves are always relative to fsys.
	WorkDir string
	// PlaybookDir, a path within fsys, is searched for group_vars/ and
	// host_vars/ with the precedence of those beside a playbook. "" = none.
	PlaybookDir string
	// ExtraVars are -e arguments as given: key=value pairs, JSON or YAML
	// starting with { or [, or @file with file a path within fsys.
	ExtraVars []string
	// VaultSecrets decrypt vaults; the first that fits is used, those whose
	// ID is the vault's own are tried first.
	VaultSecrets []VaultSecret
	// Settings are what ansible.cfg and the environment change. The zero
	// value is Ansible's defaults, but that a source nobody understands is an
	// error.
	Settings Settings
	// Files are the digests of what was read to say all this (ansible.cfg), by
	// path within fsys. Inventory.Files lists them with its own.
	Files map[string]string
	// RunScript runs an executable source (name is a path within fsys) with
	// args and returns its standard output. nil: executables are refused.
	RunScript func(ctx context.Context, name string, args ...string) ([]byte, error)
	// Executable tells whether a source is to be run. nil: its mode's x bits
	// or a leading "#!" say so, as in Ansible.
	Executable func(name string) bool
	// Context bounds RunScript; nil is context.Background().
	Context context.Context
	// Limits bound memory and time; zero fields take DefaultLimits.
	Limits Limits
}

// Limits bound what a hostile or broken inventory may cost.
type Limits struct {
	FileSize  int64 // bytes of one file or one script's output
	LineSize  int   // bytes of one INI line
	Hosts     int   // hosts in all sources together
	Expansion int   // values that one file's aliases may expand to
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

func (l Limits) orDefault() Limits {
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
