package inventory

import (
	"cmp"
	"encoding/binary"
	"slices"
	"sync"

	"github.com/fleetd/fleetd/inventory/source"
	"github.com/fleetd/fleetd/pkg/value"
)

// membership is the set of groups a host is in, shared by all hosts in the
// same set: with 100,000 hosts in 500 groups there are few different sets,
// and their variables are merged once.
type membership struct {
	sorted []*group // by depth, priority, name; without all: lowest precedence first
	names  []any    // group_names: sorted by name, without all

	once sync.Once
	base *value.Map // merged group variables
	err  error
}

// finish applies the rules that hold for every inventory, once all sources
// are read: every group descends from all, every host is in a group,
// ungrouped holds only hosts that are nowhere else.
func (d *data) finish() error {
	all, ungrouped := d.groups["all"], d.groups["ungrouped"]
	for _, g := range d.groupList {
		if g != all && len(g.parents) == 0 {
			// Cannot close a circle: g has no ancestor.
			_ = d.link(all, g)
		}
	}
	d.collectAncestors()
	relinked := false
	shared := map[string]*membership{}
	outcomes := map[string]outcome{}
	var key []byte
	leaving := map[*host]bool{}
	for _, h := range d.hostList {
		// Hosts that the same groups name fare alike.
		key = key[:0]
		for _, g := range h.direct {
			key = binary.AppendUvarint(key, uint64(g.order))
		}
		o, ok := outcomes[string(key)]
		if !ok {
			o = settle(h.direct, all, ungrouped)
			id := o.member.key()
			if old := shared[id]; old != nil {
				o.member = old
			} else {
				shared[id] = o.member
			}
			outcomes[string(key)] = o
		}
		if o.leaves {
			h.direct = slices.DeleteFunc(slices.Clone(h.direct), func(g *group) bool { return g == ungrouped })
			leaving[h] = true
		}
		h.member = o.member
		switch namesake := d.groups[h.name]; {
		case !o.joins:
		case namesake == nil:
			ungrouped.addHost(h)
		default:
			// Ansible looks the host's name up and finds the group: that
			// one becomes a child of ungrouped, the host stays outside.
			if err := d.link(ungrouped, namesake); err != nil {
				return source.Located("", err)
			}
			h.member = newMembership(nil, all)
			before := namesake.ancestors
			d.collectAncestors()
			clear(outcomes)
			relinked = true
			// Hosts below that are settled get the new ancestors and no more:
			// a group that one has left does not come back.
			for _, below := range d.allHosts(namesake) {
				if below.member != nil {
					below.member = below.member.joined(namesake.ancestors, before, all)
				}
			}
		}
	}
	if relinked { // which changes depths
		for _, h := range d.hostList {
			h.member.sort()
		}
	}
	if len(leaving) > 0 {
		ungrouped.hosts = slices.DeleteFunc(ungrouped.hosts, func(h *host) bool { return leaving[h] })
	}
	for _, h := range d.hostList {
		if d.groups[h.name] != nil {
			d.warnf("both a group and a host are named %s: variables meant for the host go to the group", h.name)
		}
	}
	return nil
}

func (d *data) collectAncestors() {
	for _, g := range d.groupList {
		g.ancestors = map[*group]bool{}
		collect(g, g.ancestors)
	}
}

// outcome is what finish decides for a host.
type outcome struct {
	member        *membership
	leaves, joins bool // the group ungrouped
}

func settle(direct []*group, all, ungrouped *group) outcome {
	groups := map[*group]bool{}
	for _, g := range direct {
		groups[g] = true
		for a := range g.ancestors {
			groups[a] = true
		}
	}
	var o outcome
	switch {
	case groups[ungrouped]:
		if hasOther(groups, all, ungrouped) && slices.Contains(direct, ungrouped) {
			leave(groups, ungrouped, all)
			o.leaves = true
		}
	case len(groups) == 0 || (len(groups) == 1 && groups[all]):
		groups[ungrouped], groups[all] = true, true
		for a := range ungrouped.ancestors {
			groups[a] = true
		}
		o.joins = true
	}
	o.member = newMembership(groups, all)
	return o
}

func (m *membership) key() string {
	var key []byte
	for _, g := range m.sorted {
		key = binary.AppendUvarint(key, uint64(g.order))
	}
	return string(key)
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
	m := &membership{names: []any{}}
	for g := range groups {
		if g != all {
			m.sorted = append(m.sorted, g)
			m.names = append(m.names, g.name)
		}
	}
	m.sort()
	slices.SortFunc(m.names, func(a, b any) int { return cmp.Compare(a.(string), b.(string)) })
	return m
}

// sort puts the groups in the order in which their variables are merged.
func (m *membership) sort() {
	slices.SortFunc(m.sorted, func(a, b *group) int {
		return cmp.Or(cmp.Compare(a.depth, b.depth), cmp.Compare(a.priority, b.priority), cmp.Compare(a.name, b.name))
	})
}

// joined is m and the groups of now that are not in before.
func (m *membership) joined(now, before map[*group]bool, all *group) *membership {
	groups := map[*group]bool{}
	for _, g := range m.sorted {
		groups[g] = true
	}
	for g := range now {
		if !before[g] {
			groups[g] = true
		}
	}
	return newMembership(groups, all)
}

// allHosts are the hosts of a group and its descendants, each once: its own
// first, then level by level in the order the children were named.
func (d *data) allHosts(g *group) []*host {
	if len(g.children) == 0 {
		return g.hosts
	}
	groups := []*group{g}
	seenGroup := map[*group]bool{g: true}
	most := 0
	for i := 0; i < len(groups); i++ {
		most += len(groups[i].hosts)
		for _, c := range groups[i].children {
			if !seenGroup[c] {
				seenGroup[c] = true
				groups = append(groups, c)
			}
		}
	}
	out := make([]*host, 0, min(most, len(d.hostList)))
	seenHost := make([]bool, len(d.hostList))
	for _, x := range groups {
		for _, h := range x.hosts {
			if !seenHost[h.order] {
				seenHost[h.order] = true
				out = append(out, h)
			}
		}
	}
	return out
}
