package inventory

import (
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/inventory/pattern"
	"github.com/fleetd/fleetd/inventory/source"
	"github.com/fleetd/fleetd/pkg/text"
)

// Match returns the hosts that patterns select, each once, in Ansible's
// order: those of plain patterns in the order of the patterns, then narrowed
// by all &, then by all !. A pattern may itself be a list, separated by
// commas or colons. A pattern that matches nothing is a warning (see
// Warnings), an index beyond the group's end is an error.
func (inv *Inventory) Match(patterns ...string) ([]string, error) {
	return inv.selectHosts(pattern.Split(patterns...))
}

func (inv *Inventory) selectHosts(patterns []string) ([]string, error) {
	return pattern.Select(names{inv}, patterns, pattern.Options{
		Mismatch: inv.opts.Settings.PatternMismatch,
		Patience: inv.opts.Limits.OrDefault().Matching,
		Warn:     func(message string) { inv.warn(text.Warning{Message: message}) },
	})
}

// Limit narrows hosts (as Match returned them) to those that a --limit
// argument selects; "" selects all. Besides patterns a limit takes @file, with
// file a path within the file system given to Load, one pattern on each line.
func (inv *Inventory) Limit(hosts []string, limit string) ([]string, error) {
	if limit == "" {
		return hosts, nil
	}
	patterns, err := inv.limitPatterns(limit)
	// A limit of blank lines narrows nothing.
	if err != nil || len(patterns) == 0 {
		return hosts, err
	}
	keep, err := inv.selectHosts(patterns)
	if err != nil {
		return nil, err
	}
	return pattern.Narrow(names{inv}, hosts, keep), nil
}

func (inv *Inventory) limitPatterns(limit string) ([]string, error) {
	var out []string
	for _, p := range pattern.Split(limit) {
		name, isFile := strings.CutPrefix(p, "@")
		if !isFile {
			out = append(out, p)
			continue
		}
		file := source.Clean(name)
		if !path.IsAbs(name) && inv.opts.WorkDir != "" {
			file = path.Join(inv.opts.WorkDir, name)
		}
		info, err := fs.Stat(inv.fsys, file)
		if err != nil {
			return nil, inv.files.Unreadable("limit file", file, err)
		}
		if info.IsDir() {
			return nil, &text.Error{Place: text.Place{File: name}, Caret: -1, Message: "cannot read the limit file: it is a directory"}
		}
		src, err := inv.files.Read(file)
		if err != nil {
			return nil, err
		}
		for line := range strings.SplitSeq(src.Data, "\n") {
			out = append(out, strings.TrimFunc(line, text.IsSpace))
		}
	}
	return out, nil
}

// names are the hosts and groups that patterns are held against.
type names struct{ inv *Inventory }

func (n names) Groups() []string       { return n.inv.Groups() }
func (n names) Known(host string) bool { return n.inv.data.hosts[host] != nil }
func (n names) In(group string) []string {
	return hostNames(n.inv.data.allHosts(n.inv.data.groups[group]))
}

// Hosts are all hosts in the order of their first mention.
func (n names) Hosts() []string { return hostNames(n.inv.data.hostList) }

// Local is the host that a name for this machine stands for.
func (n names) Local(name string) (string, bool) {
	if !isLocalName(name) {
		return "", false
	}
	return n.inv.host(name).name, true
}

// Warnings returns what Ansible would warn of, in the order it was met, and
// what Match has warned of since.
func (inv *Inventory) Warnings() []text.Warning {
	inv.warnMu.Lock()
	defer inv.warnMu.Unlock()
	return slices.Clone(inv.warnings)
}

// maxWarnings bounds what a file of nothing but duplicate keys may cost.
const maxWarnings = 1000

func (inv *Inventory) warn(w text.Warning) {
	inv.warnMu.Lock()
	defer inv.warnMu.Unlock()
	if !inv.warned[w] && len(inv.warnings) < maxWarnings {
		inv.warned[w] = true
		inv.warnings = append(inv.warnings, w)
	}
}
