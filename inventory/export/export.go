// Package export writes inventories in the shapes of ansible-inventory, so that a
// comparison of the two is a proof.
//
// JSON and the graph are ansible-inventory's to the byte; YAML has its shape: a
// parser reads the same from both. docs/ansible-differences.md names what differs.
package export

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/pkg/value"
)

// Options choose what is shown.
type Options struct {
	// Export is --export: variables stay with the group or host that defines
	// them, instead of being merged into each host.
	Export bool
	// ShowSecrets shows values from encrypted files and, in the graph,
	// decrypts !vault strings. Without it they are ***; !vault strings in
	// JSON and YAML are shown as their vault text in either case.
	ShowSecrets bool
	// PlaybookDirGiven is that --playbook-dir was given: its group_vars then
	// count for the groups shown, too. Hosts always have them.
	PlaybookDirGiven bool
	// Only are the hosts shown, as Limit returned them; nil shows all. Groups
	// stay, as with --limit of later ansible-inventory.
	Only []string
}

// exporter shows one inventory.
type exporter struct {
	Options
	inv  *inventory.Inventory
	only map[string]bool
}

func newExporter(inv *inventory.Inventory, o Options) *exporter {
	e := &exporter{Options: o, inv: inv}
	if o.Only != nil {
		e.only = make(map[string]bool, len(o.Only))
		for _, h := range o.Only {
			e.only[h] = true
		}
	}
	return e
}

// shown are the hosts that are to be seen.
func (e *exporter) shown(hosts []string) []string {
	return slices.DeleteFunc(slices.Clone(hosts), func(h string) bool { return e.only != nil && !e.only[h] })
}

// internal are variables that Ansible sets itself and does not show.
var internal = map[any]bool{
	"ansible_diff_mode": true, "ansible_config_file": true, "ansible_facts": true, "ansible_forks": true,
	"ansible_inventory_sources": true, "ansible_limit": true, "ansible_playbook_python": true,
	"ansible_run_tags": true, "ansible_skip_tags": true, "ansible_verbosity": true, "ansible_version": true,
	"inventory_dir": true, "inventory_file": true, "inventory_hostname": true, "inventory_hostname_short": true,
	"groups": true, "group_names": true, "omit": true, "playbook_dir": true,
}

// hostVars are a host's variables that are to be seen.
func (e *exporter) hostVars(name string) (*value.Map, error) {
	if e.Export {
		return visible(e.inv.HostVars(name, e.PlaybookDirGiven))
	}
	return visible(e.inv.Vars(name))
}

func visible(m *value.Map, err error) (*value.Map, error) {
	if err == nil {
		m.DeleteFunc(func(k, _ any) bool { return internal[k] })
	}
	return m, err
}

func (e *exporter) groupVars(g inventory.Group) (*value.Map, error) {
	m, err := e.inv.GroupVars(g.Name, e.PlaybookDirGiven)
	if err != nil {
		return nil, err
	}
	if g.Priority != 1 {
		m.Set("ansible_group_priority", int64(g.Priority))
	}
	return visible(m, nil)
}

func (e *exporter) group(name string) inventory.Group {
	g, _ := e.inv.Group(name)
	return g
}

// List writes what ansible-inventory --list prints: groups with their hosts and
// children, and every host's variables under _meta.
func List(w io.Writer, inv *inventory.Inventory, o Options) error {
	e := newExporter(inv, o)
	top := &value.Map{}
	var add func(name string) error
	add = func(name string) error {
		if _, ok := top.Get(name); ok {
			return nil
		}
		g := e.group(name)
		entry := &value.Map{}
		top.Set(name, entry)
		if len(g.Children) > 0 {
			entry.Set("children", words(g.Children))
		}
		if hosts := e.shown(g.Hosts); name != "all" && len(hosts) > 0 {
			entry.Set("hosts", words(hosts))
		}
		if e.Export {
			vars, err := e.groupVars(g)
			if err != nil {
				return err
			}
			if vars.Len() > 0 {
				entry.Set("vars", vars)
			}
		}
		for _, c := range g.Children {
			if err := add(c); err != nil {
				return err
			}
		}
		return nil
	}
	if err := add("all"); err != nil {
		return err
	}
	top.DeleteFunc(func(_, entry any) bool { return !value.Truth(entry) })
	hosts := e.shown(inv.Hosts())
	for _, h := range hosts { // nothing is written if a vault cannot be opened
		if err := inv.Open(h); err != nil {
			return err
		}
	}
	meta := value.NewMap(1)
	meta.Set("hostvars", allHosts(hosts))
	top.Set("_meta", meta) // Ansible, too, lets its own _meta win
	return e.writeJSON(w, top)
}

func words(names []string) []any {
	out := make([]any, len(names))
	for i, n := range names {
		out[i] = n
	}
	return out
}

// ErrNotOneHost is that --host was given a pattern of no or several hosts.
var ErrNotOneHost = errors.New("--host needs a pattern that matches exactly one host")

// Host writes what ansible-inventory --host prints: the merged variables of the
// one host that the pattern matches.
func Host(w io.Writer, inv *inventory.Inventory, pattern string, asYAML bool, o Options) error {
	hosts, err := inv.Match(pattern)
	if err != nil {
		return err
	}
	if len(hosts) != 1 {
		return fmt.Errorf("%w, %q matches %d", ErrNotOneHost, pattern, len(hosts))
	}
	e := newExporter(inv, o)
	vars, err := e.hostVars(hosts[0])
	if err != nil {
		return err
	}
	if asYAML {
		return e.writeYAML(w, vars)
	}
	return e.writeJSON(w, vars)
}

// YAML writes what ansible-inventory --list --yaml prints: the tree of groups as
// a YAML inventory, each host's variables at its first mention.
func YAML(w io.Writer, inv *inventory.Inventory, o Options) error {
	e := newExporter(inv, o)
	seen := map[string]bool{}
	var format func(name string) (*value.Map, error)
	format = func(name string) (*value.Map, error) {
		g := e.group(name)
		body, children, hosts := &value.Map{}, &value.Map{}, &value.Map{}
		for _, c := range g.Children {
			d, err := format(c)
			if err != nil {
				return nil, err
			}
			children.Set(c, d)
		}
		if name != "all" {
			for _, h := range e.shown(g.Hosts) {
				vars := &value.Map{}
				if !seen[h] {
					seen[h] = true
					var err error
					if vars, err = e.hostVars(h); err != nil {
						return nil, err
					}
				}
				hosts.Set(h, vars)
			}
		}
		if children.Len() > 0 {
			body.Set("children", children)
		}
		if hosts.Len() > 0 {
			body.Set("hosts", hosts)
		}
		if e.Export {
			vars, err := e.groupVars(g)
			if err != nil {
				return nil, err
			}
			if vars.Len() > 0 {
				body.Set("vars", vars)
			}
		}
		return body, nil
	}
	body, err := format("all")
	if err != nil {
		return err
	}
	tree := &value.Map{}
	tree.Set("all", body)
	return e.writeYAML(w, tree)
}
