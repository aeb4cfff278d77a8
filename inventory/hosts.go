package inventory

import (
	"fmt"
	"slices"
)

// addHost makes sure that a host exists and, if group is not "", is in it.
// port counts only for a host that is new, as in Ansible.
func (d *data) addHost(name, groupName string, port int) (*host, error) {
	if name == "" {
		return nil, advise("Give the host a name.", "a host needs a name")
	}
	var g *group
	if groupName != "" {
		if g = d.groups[groupName]; g == nil {
			return nil, fmt.Errorf("group %s is not known", groupName)
		}
	}
	h := d.hosts[name]
	if h == nil {
		if len(d.hostList) >= d.limits.Hosts {
			return nil, advise("Read it in parts.", "more than %d hosts", d.limits.Hosts)
		}
		h = d.newHost(name)
		if port != 0 {
			h.vars.set("ansible_port", port)
		}
		d.hosts[name] = h
		d.hostList = append(d.hostList, h)
		if vars := d.varsOf(h); vars.len() == 0 {
			vars.keys, vars.vals = sourceNames, append(vars.vals, d.source, d.sourceDir)
		} else {
			vars.set("inventory_file", d.source)
			vars.set("inventory_dir", d.sourceDir)
		}
		if isLocalName(name) {
			if d.localhost == nil {
				d.localhost = h
			} else {
				d.warn("a second host that stands for localhost was found (%s), the first is %s", name, d.localhost.name)
			}
		}
	}
	if g != nil {
		g.addHost(h)
	}
	return h, nil
}

// expect makes room for the hosts of a file of so many lines and bytes, if it
// is the first: to grow step by step costs twice the memory. A line of less
// than 16 bytes is most likely none of a large inventory's hosts.
func (d *data) expect(lines, size int) {
	if n := min(lines, size/16, d.limits.Hosts); len(d.hosts) == 0 && n > 1000 {
		d.hosts = make(map[string]*host, n)
		d.hostList = make([]*host, 0, n)
	}
}

// hostBlock holds a host with room for its groups and first variables, so
// that a host costs one allocation in a hundred instead of four.
type hostBlock struct {
	host host
	vars dict
	vals [5]any
	in   [2]*group
}

func (d *data) newHost(name string) *host {
	if len(d.blocks) == cap(d.blocks) {
		d.blocks = make([]hostBlock, 0, min(max(4, 2*cap(d.blocks)), 128))
	}
	d.blocks = d.blocks[:len(d.blocks)+1]
	b := &d.blocks[len(d.blocks)-1]
	b.vars.vals = b.vals[:0]
	b.host = host{name: name, order: len(d.hostList), vars: &b.vars, direct: b.in[:0]}
	return &b.host
}

// sourceNames are the names of the variables that every host has. No capacity
// is left, here and in nameLists: a dict that gets one more name copies them.
var sourceNames = []any{"inventory_file", "inventory_dir"}

// nameLists are the last lists of variable names that a host had. Most hosts of
// a fleet have the same ones, and a list for each would be a quarter of its
// memory.
type nameLists struct {
	last [4][]any
	next int
}

// of returns the shared list of sourceNames and keys, or nil if a dict needs a
// list of its own: for a name twice, or for an index.
func (n *nameLists) of(keys []any) []any {
	for _, l := range n.last {
		if len(l) > 0 && slices.Equal(l[len(sourceNames):], keys) {
			return l
		}
	}
	list := make([]any, 0, len(sourceNames)+len(keys))
	for _, k := range slices.Concat(sourceNames, keys) {
		if slices.Contains(list, k) {
			return nil
		}
		list = append(list, k)
	}
	if len(list) >= dictIndexFrom {
		return nil
	}
	n.last[n.next] = list
	n.next = (n.next + 1) % len(n.last)
	return list
}

func (g *group) addHost(h *host) {
	for _, x := range h.direct {
		if x == g {
			return
		}
	}
	h.direct = append(h.direct, g)
	g.hosts = append(g.hosts, h)
}

// varsOf are the variables that setting one on the host means: a group of the
// same name takes them all.
func (d *data) varsOf(h *host) *dict {
	if g := d.groups[h.name]; g != nil {
		return g.vars
	}
	return h.vars
}

// setHostVariables sets several variables of a host at once. It sets none, and
// returns false, where they have to be set one by one: on a host that has some
// already, or with a trace.
func (d *data) setHostVariables(h *host, keys, vals []any) bool {
	fresh := len(h.vars.keys) == len(sourceNames) && &h.vars.keys[0] == &sourceNames[0]
	if !fresh || d.trace != nil || d.groups[h.name] != nil {
		return false
	}
	all := d.lists.of(keys)
	if all == nil {
		return false
	}
	h.vars.keys, h.vars.vals = all, append(h.vars.vals, vals...)
	return true
}

// setHostVariable is setVariable for a host at hand.
func (d *data) setHostVariable(h *host, key, value any) error {
	if d.groups[h.name] != nil {
		return d.setVariable(h.name, key, value)
	}
	d.setVar(h.vars, key, value)
	return nil
}
