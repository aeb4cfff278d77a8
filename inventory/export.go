package inventory

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// ExportOptions choose what the outputs of ansible-inventory show.
type ExportOptions struct {
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

// shows returns the test for hosts that Only lets through.
func (o ExportOptions) shows() func(*host) bool {
	if o.Only == nil {
		return func(*host) bool { return true }
	}
	only := make(map[string]bool, len(o.Only))
	for _, h := range o.Only {
		only[h] = true
	}
	return func(h *host) bool { return only[h.name] }
}

func filter(hosts []*host, keep func(*host) bool) []*host {
	out := make([]*host, 0, len(hosts))
	for _, h := range hosts {
		if keep(h) {
			out = append(out, h)
		}
	}
	return out
}

// internalVars are variables that Ansible sets itself and does not show.
var internalVars = map[any]bool{
	"ansible_diff_mode": true, "ansible_config_file": true, "ansible_facts": true, "ansible_forks": true,
	"ansible_inventory_sources": true, "ansible_limit": true, "ansible_playbook_python": true,
	"ansible_run_tags": true, "ansible_skip_tags": true, "ansible_verbosity": true, "ansible_version": true,
	"inventory_dir": true, "inventory_file": true, "inventory_hostname": true, "inventory_hostname_short": true,
	"groups": true, "group_names": true, "omit": true, "playbook_dir": true,
}

// shown is d without what Ansible keeps to itself.
func shown(d *dict) *dict {
	out := &dict{}
	for i, k := range d.keys {
		if !internalVars[k] {
			out.set(k, d.vals[i])
		}
	}
	return out
}

func (inv *Inventory) groupShown(g *group, o ExportOptions) (*dict, error) {
	merge := inv.loader.opts.Settings.HashMerge
	out := g.vars.clone()
	files, err := inv.groupFiles(inv.groupDirs, []*group{g})
	if err != nil {
		return nil, err
	}
	out.update(files, merge)
	if o.PlaybookDirGiven {
		if files, err = inv.groupFiles([]*varsDir{inv.playGroupDir}, []*group{g}); err != nil {
			return nil, err
		}
		out.update(files, merge)
	}
	if g.priority != 1 {
		out.set("ansible_group_priority", g.priority)
	}
	return shown(out), nil
}

func (inv *Inventory) hostShown(h *host, o ExportOptions) *dict {
	if !o.Export {
		return shown(inv.merged(h))
	}
	merge := inv.loader.opts.Settings.HashMerge
	out := h.vars.clone()
	files := inv.hostFiles[h]
	out.update(files[0], merge)
	if o.PlaybookDirGiven {
		out.update(files[1], merge)
	}
	return shown(out)
}

// WriteList writes what ansible-inventory --list prints: groups with their
// hosts and children, and every host's variables under _meta.
func (inv *Inventory) WriteList(w io.Writer, o ExportOptions) error {
	j := &jsonWriter{w: w, o: o}
	if !inv.sortable() {
		return inv.writeUnsorted(j)
	}
	top := map[string]*group{}
	var collect func(g *group)
	collect = func(g *group) {
		top[g.name] = g
		for _, c := range g.children {
			if top[c.name] == nil {
				collect(c)
			}
		}
	}
	collect(inv.loader.d.groups["all"])
	names := []string{"_meta"}
	for n := range top {
		if n != "_meta" { // Ansible, too, lets its own _meta win
			names = append(names, n)
		}
	}
	slices.Sort(names)

	first := true
	j.open('{')
	for _, n := range names {
		if n == "_meta" {
			j.item(&first, 1, n)
			if err := inv.writeMeta(j); err != nil {
				return err
			}
			continue
		}
		d, err := inv.groupEntry(top[n], o)
		if err != nil {
			return err
		}
		if d.len() > 0 {
			j.item(&first, 1, n)
			j.value(d, 1)
		}
		if err := j.flushFull(); err != nil {
			return err
		}
	}
	j.close('}', 0, first)
	j.buf = append(j.buf, '\n')
	return j.flush()
}

// sortable tells whether all variables of all hosts are.
func (inv *Inventory) sortable() bool {
	inv.sortableOnce.Do(func() {
		seen := map[any]bool{}
		inv.canSort = allSortable(inv.extra, seen)
		for _, g := range inv.loader.d.groupList {
			inv.canSort = inv.canSort && allSortable(g.vars, seen)
		}
		for _, h := range inv.order {
			files := inv.hostFiles[h]
			inv.canSort = inv.canSort && allSortable(h.member.base, seen) && allSortable(files[0], seen) && allSortable(files[1], seen)
			for i := 0; inv.canSort && i < len(h.vars.vals); i++ {
				inv.canSort = allSortable(h.vars.vals[i], seen)
			}
		}
	})
	return inv.canSort
}

// writeUnsorted is WriteList for the rare inventory with a dictionary whose
// keys Python cannot sort: then nothing in the document is sorted, and groups
// come as they are met.
func (inv *Inventory) writeUnsorted(j *jsonWriter) error {
	root := &dict{}
	seen := map[*group]bool{}
	var add func(g *group, into *dict) error
	add = func(g *group, into *dict) error {
		d, err := inv.groupEntry(g, j.o)
		if err != nil {
			return err
		}
		entry := &dict{}
		for _, k := range []string{"hosts", "children", "vars"} {
			if v, ok := d.get(k); ok {
				entry.set(k, v)
			}
		}
		out := &dict{}
		out.set(g.name, entry)
		for _, c := range g.children {
			if !seen[c] {
				if err := add(c, out); err != nil {
					return err
				}
				seen[c] = true
			}
		}
		for i, k := range out.keys {
			if k != g.name || entry.len() > 0 {
				into.set(k, out.vals[i])
			}
		}
		return nil
	}
	if err := add(inv.loader.d.groups["all"], root); err != nil {
		return err
	}
	hostvars := &dict{}
	for _, h := range filter(inv.order, j.o.shows()) {
		if d := inv.hostShown(h, j.o); d.len() > 0 {
			hostvars.set(h.name, d)
		}
	}
	meta := &dict{}
	meta.set("hostvars", hostvars)
	root.set("_meta", meta)
	return j.document(root)
}

func (inv *Inventory) groupEntry(g *group, o ExportOptions) (*dict, error) {
	d := &dict{}
	if len(g.children) > 0 {
		d.set("children", groupNames(g.children))
	}
	if hosts := filter(g.hosts, o.shows()); g.name != "all" && len(hosts) > 0 {
		d.set("hosts", hostNames(hosts))
	}
	if o.Export {
		vars, err := inv.groupShown(g, o)
		if err != nil {
			return nil, err
		}
		if vars.len() > 0 {
			d.set("vars", vars)
		}
	}
	return d, nil
}

// byName sorts hosts by name. The names' first 16 bytes are compared in place:
// following 100,000 pointers in no order costs more than the comparing.
func byName(hosts []*host) []*host {
	type entry struct {
		a, b uint64
		h    *host
	}
	entries := make([]entry, len(hosts))
	for i, h := range hosts {
		var head [16]byte
		copy(head[:], h.name)
		entries[i] = entry{binary.BigEndian.Uint64(head[:]), binary.BigEndian.Uint64(head[8:]), h}
	}
	slices.SortFunc(entries, func(x, y entry) int {
		if c := cmp.Compare(x.a, y.a); c != 0 {
			return c
		}
		if c := cmp.Compare(x.b, y.b); c != 0 {
			return c
		}
		return strings.Compare(x.h.name, y.h.name)
	})
	for i, e := range entries {
		hosts[i] = e.h
	}
	return hosts
}

// writeMeta writes the variables of all hosts. What hosts share is rendered
// once for each set of groups and copied from then on.
func (inv *Inventory) writeMeta(j *jsonWriter) error {
	hosts := byName(filter(inv.order, j.o.shows()))
	j.open('{')
	outer, first := true, true
	j.item(&outer, 2, "hostvars")
	j.open('{')
	base := map[*membership][]rendered{}
	own := make([]rendered, 0, 16)
	for _, h := range hosts {
		own = own[:0]
		var shared []rendered
		if j.o.Export || inv.loader.opts.Settings.HashMerge {
			own, j.scratch = j.render(own, j.scratch[:0], inv.hostShown(h, j.o))
		} else {
			var ok bool
			if shared, ok = base[h.member]; !ok {
				shared, _ = j.render(nil, nil, shown(h.member.base))
				base[h.member] = shared
			}
			files := inv.hostFiles[h]
			own, j.scratch = j.render(own, j.scratch[:0], h.vars, files[0], files[1], inv.extra)
		}
		if len(own)+len(shared) > 0 {
			j.item(&first, 3, h.name)
			j.open('{')
			j.merge(shared, own)
			j.close('}', 3, false)
		}
		if err := j.flushFull(); err != nil {
			return err
		}
	}
	j.close('}', 2, first)
	j.close('}', 1, false)
	return nil
}

// ErrNotOneHost is that --host was given a pattern of no or several hosts.
var ErrNotOneHost = errors.New("--host needs a pattern that matches exactly one host")

// WriteHost writes what ansible-inventory --host prints: the merged variables
// of the one host that the pattern matches.
func (inv *Inventory) WriteHost(w io.Writer, pattern string, yaml bool, o ExportOptions) error {
	hosts, err := inv.evaluate(splitPatterns(pattern))
	if err != nil {
		return err
	}
	if len(hosts) != 1 {
		return fmt.Errorf("%w, %q matches %d", ErrNotOneHost, pattern, len(hosts))
	}
	d := inv.hostShown(hosts[0], o)
	if yaml {
		return writeYAML(w, d, o)
	}
	return (&jsonWriter{w: w, o: o}).document(d)
}

// WriteYAML writes what ansible-inventory --list --yaml prints: the tree of
// groups as a YAML inventory, each host's variables at its first mention.
func (inv *Inventory) WriteYAML(w io.Writer, o ExportOptions) error {
	shows := o.shows()
	seen := map[*host]bool{}
	var format func(g *group) (*dict, error)
	format = func(g *group) (*dict, error) {
		children, hosts := &dict{}, &dict{}
		for _, c := range g.children {
			d, err := format(c)
			if err != nil {
				return nil, err
			}
			children.update(d, false)
		}
		if g.name != "all" {
			for _, h := range filter(g.hosts, shows) {
				vars := &dict{}
				if !seen[h] {
					seen[h] = true
					vars = inv.hostShown(h, o)
				}
				hosts.set(h.name, vars)
			}
		}
		body := &dict{}
		if children.len() > 0 {
			body.set("children", children)
		}
		if hosts.len() > 0 {
			body.set("hosts", hosts)
		}
		if o.Export {
			vars, err := inv.groupShown(g, o)
			if err != nil {
				return nil, err
			}
			if vars.len() > 0 {
				body.set("vars", vars)
			}
		}
		out := &dict{}
		out.set(g.name, body)
		return out, nil
	}
	d, err := format(inv.loader.d.groups["all"])
	if err != nil {
		return err
	}
	return writeYAML(w, d, o)
}
