package inventory

import (
	"cmp"
	"slices"
	"strings"
)

// membership is the set of groups a host is in, shared by all hosts in the
// same set: with 100,000 hosts in 500 groups there are few different sets,
// and their variables are merged once.
type membership struct {
	sorted []*group // by depth, priority, name; without all: lowest precedence first
	names  []string // group_names: sorted by name, without all

	base *dict // merged group variables, computed once
}

// finish applies the rules that hold for every inventory, once all sources
// are read: every group descends from all, every host is in a group,
// ungrouped holds only hosts that are nowhere else.
func (d *data) finish() {
	all, ungrouped := d.groups["all"], d.groups["ungrouped"]
	for _, g := range d.groupList {
		if g != all && len(g.parents) == 0 {
			// Cannot close a circle: g has no ancestor.
			_ = d.link(all, g)
		}
	}
	for _, g := range d.groupList {
		g.ancestors = map[*group]bool{}
		collect(g, g.ancestors)
	}

	shared := map[string]*membership{}
	var key strings.Builder
	leaving := map[*host]bool{}
	for _, h := range d.hostList {
		groups := map[*group]bool{}
		for _, g := range h.direct {
			groups[g] = true
			for a := range g.ancestors {
				groups[a] = true
			}
		}
		if groups[ungrouped] {
			if direct := slices.Contains(h.direct, ungrouped); hasOther(groups, all, ungrouped) && direct {
				leave(groups, ungrouped, all)
				h.direct = slices.DeleteFunc(h.direct, func(g *group) bool { return g == ungrouped })
				leaving[h] = true
			}
		} else if len(groups) == 0 || (len(groups) == 1 && groups[all]) {
			ungrouped.addHost(h)
			groups[ungrouped], groups[all] = true, true
			for a := range ungrouped.ancestors {
				groups[a] = true
			}
		}
		m := newMembership(groups, all)
		key.Reset()
		for _, g := range m.sorted {
			key.WriteString(g.name)
			key.WriteByte(0)
		}
		if old := shared[key.String()]; old != nil {
			m = old
		} else {
			shared[key.String()] = m
		}
		h.member = m
	}
	if len(leaving) > 0 {
		ungrouped.hosts = slices.DeleteFunc(ungrouped.hosts, func(h *host) bool { return leaving[h] })
	}
	for _, h := range d.hostList {
		if d.groups[h.name] != nil {
			d.warn("both a group and a host are named %s: variables meant for the host go to the group", h.name)
		}
	}
}

func collect(g *group, into map[*group]bool) {
	for _, p := range g.parents {
		if !into[p] {
			into[p] = true
			collect(p, into)
		}
	}
}

func hasOther(groups map[*group]bool, all, ungrouped *group) bool {
	for g := range groups {
		if g != all && g != ungrouped {
			return true
		}
	}
	return false
}

// leave takes a group out of a host's set, and those of its ancestors that no
// remaining group descends from; all stays.
func leave(groups map[*group]bool, g, all *group) {
	if !groups[g] {
		return
	}
	delete(groups, g)
	for a := range g.ancestors {
		if a == all {
			continue
		}
		needed := false
		for x := range groups {
			if x.ancestors[a] {
				needed = true
				break
			}
		}
		if !needed {
			leave(groups, a, all)
		}
	}
}

func newMembership(groups map[*group]bool, all *group) *membership {
	m := &membership{}
	for g := range groups {
		if g != all {
			m.sorted = append(m.sorted, g)
			m.names = append(m.names, g.name)
		}
	}
	slices.SortFunc(m.sorted, func(a, b *group) int {
		return cmp.Or(cmp.Compare(a.depth, b.depth), cmp.Compare(a.priority, b.priority), cmp.Compare(a.name, b.name))
	})
	slices.Sort(m.names)
	return m
}

// allHosts are the hosts of a group and its descendants, each once: its own
// first, then level by level in the order the children were named.
func (g *group) allHosts() []*host {
	var out []*host
	seenGroup := map[*group]bool{g: true}
	seenHost := map[*host]bool{}
	for level := []*group{g}; len(level) > 0; {
		var next []*group
		for _, x := range level {
			for _, h := range x.hosts {
				if !seenHost[h] {
					seenHost[h] = true
					out = append(out, h)
				}
			}
			for _, c := range x.children {
				if !seenGroup[c] {
					seenGroup[c] = true
					next = append(next, c)
				}
			}
		}
		level = next
	}
	return out
}
