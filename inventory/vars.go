package inventory

import "fmt"

// defaultPrecedence is the order in which layers of group variables are laid
// over each other, lowest first; a host's own variables and extra vars follow.
var defaultPrecedence = []string{
	"all_inventory", "groups_inventory",
	"all_plugins_inventory", "all_plugins_play",
	"groups_plugins_inventory", "groups_plugins_play",
}

// groupVars merges the variables of all groups in a membership.
func (inv *Inventory) groupVars(m *membership) (*dict, error) {
	order := inv.loader.opts.Settings.Precedence
	if order == nil {
		order = defaultPrecedence
	}
	all := []*group{inv.loader.d.groups["all"]}
	merge := inv.loader.opts.Settings.HashMerge
	out := &dict{}
	for _, layer := range order {
		var d *dict
		var err error
		switch layer {
		case "all_inventory":
			d = all[0].vars
		case "groups_inventory":
			d = &dict{}
			for _, g := range m.sorted {
				d.update(g.vars, merge)
			}
		case "all_plugins_inventory":
			d, err = inv.groupFiles(inv.groupDirs, all)
		case "all_plugins_play":
			d, err = inv.groupFiles([]*varsDir{inv.playGroupDir}, all)
		case "groups_plugins_inventory":
			d, err = inv.groupFiles(inv.groupDirs, m.sorted)
		case "groups_plugins_play":
			d, err = inv.groupFiles([]*varsDir{inv.playGroupDir}, m.sorted)
		default:
			err = &Error{Caret: -1, Message: fmt.Sprintf("the setting precedence names %q, which is not known", layer)}
		}
		if err != nil {
			return nil, err
		}
		out.update(d, merge)
	}
	return out, nil
}

// groupFiles merges group_vars of groups, directory by directory: the later
// source's files win over the earlier one's even for a shallower group.
func (inv *Inventory) groupFiles(dirs []*varsDir, groups []*group) (*dict, error) {
	out := &dict{}
	for _, dir := range dirs {
		for _, g := range groups {
			d, err := dir.vars(g.name)
			if err != nil {
				return nil, err
			}
			out.update(d, inv.loader.opts.Settings.HashMerge)
		}
	}
	return out, nil
}

// merged is everything known about a host but the magic variables that no
// source can override.
func (inv *Inventory) merged(h *host) *dict {
	merge := inv.loader.opts.Settings.HashMerge
	out := h.member.base.clone()
	out.update(h.vars, merge)
	out.set("inventory_hostname", h.name)
	out.set("inventory_hostname_short", shortName(h.name))
	names := &list{items: make([]any, len(h.member.names))}
	for i, n := range h.member.names {
		names.items[i] = n
	}
	out.set("group_names", names)
	files := inv.hostFiles[h]
	out.update(files[0], merge)
	out.update(files[1], merge)
	out.update(inv.extra, merge)
	return out
}

// Vars returns a host's variables, merged with Ansible's precedence: group
// variables, those in group_vars/, the host's own, those in host_vars/, extra
// vars, and on top the magic variables groups and playbook_dir. It returns
// nil for a host that is not in the inventory; localhost is always known.
//
// Values are nil, bool, int, *big.Int, float64, string, Unsafe, Secret,
// []byte, []any and map[string]any; dates are ISO 8601 strings. The map is the
// caller's, the values in it are shared and must not be changed.
func (inv *Inventory) Vars(hostName string) map[string]any {
	h := inv.host(hostName)
	if h == nil {
		return nil
	}
	out := inv.plainVars(inv.merged(h))
	out["groups"] = inv.groups()
	out["playbook_dir"] = inv.playbookDir()
	return out
}

// ExtraVars returns the variables given with -e, which win over all others,
// also over those that a playbook sets. The values are of the types of Vars.
func (inv *Inventory) ExtraVars() map[string]any { return inv.plainVars(inv.extra) }

func (inv *Inventory) plainVars(d *dict) map[string]any {
	out := make(map[string]any, d.len()+2)
	inv.plainMu.Lock()
	defer inv.plainMu.Unlock()
	for i, k := range d.keys {
		out[keyString(k)] = inv.plainShared(d.vals[i])
	}
	return out
}

// plainShared is plain, done once for each container however many hosts have
// it.
func (inv *Inventory) plainShared(v any) any {
	switch v.(type) {
	case *dict, *list:
		p, ok := inv.plainCache[v]
		if !ok {
			p = plain(v)
			inv.plainCache[v] = p
		}
		return p
	}
	return plain(v)
}
