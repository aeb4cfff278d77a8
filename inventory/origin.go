package inventory

import (
	"slices"
)

// Place is where something stands in an inventory. Line and Column count from
// 1; 0 means that the whole file is meant.
type Place struct {
	File         string // as the user knows it; "extra vars" for -e
	Line, Column int
}

// String is "file:line:column", as far as it is known.
func (p Place) String() string {
	return (&Error{File: p.File, Line: p.Line, Column: p.Column}).Position()
}

// Origin tells where a host's variable was given the value that Vars shows:
// the place of its name, in whatever file has the last word by Ansible's
// precedence. ok is false for a variable that the host does not have, that
// fleetd sets itself, or that an executable source printed.
//
// An inventory keeps no places, which would cost every run a third more
// memory. Origin reads the sources again, executables left out, and keeps what
// it found of one variable: asking for one variable of all hosts costs one
// reading. Files that changed meanwhile may yield another place, or none.
func (inv *Inventory) Origin(hostName, variable string) (p Place, ok bool) {
	h := inv.host(hostName)
	if h == nil {
		return Place{}, false
	}
	inv.traceMu.Lock()
	defer inv.traceMu.Unlock()
	if inv.traced == nil || inv.traced.loader.d.trace.variable != variable {
		again, err := load(inv.loader.fsys, inv.sources, inv.loader.opts, inv.retrace(variable))
		if err != nil {
			return Place{}, false
		}
		inv.traced = again
	}
	t := inv.traced.loader.d.trace
	for _, d := range inv.traced.deciding(h) {
		if _, found := d.get(variable); found {
			p, ok = t.at[d]
			return p, ok
		}
	}
	return Place{}, false
}

// trace notes where one variable is set while sources are read again.
type trace struct {
	variable string
	ran      map[string]bool // executables, which are not run again
	groups   []string        // that exist, were it by an executable's word
	here     Place           // of the value that is being set
	at       map[*dict]Place
}

func (inv *Inventory) retrace(variable string) *trace {
	return &trace{variable: variable, ran: inv.loader.ran, groups: inv.Groups(), at: map[*dict]Place{}}
}

// note keeps the place at hand for a variable that was set in d. Nothing is
// done outside of a trace, here and below.
func (t *trace) note(d *dict, key any) {
	if t != nil && key == t.variable {
		t.at[d] = t.here
	}
}

// copied keeps the place of a variable that came into d from other
// dictionaries, the last of which wins.
func (t *trace) copied(d *dict, from ...*dict) {
	if t == nil {
		return
	}
	for _, f := range from {
		if p, ok := t.at[f]; ok {
			t.at[d] = p
		}
	}
}

// within looks the variable up in a dictionary's text, before its pairs are
// set one by one.
func (t *trace) within(c *constructor, n *node) {
	if t == nil {
		return
	}
	t.here = Place{File: c.t.name, Line: n.line, Column: n.col}
	if n = n.resolve(); n.kind != mappingNode {
		return
	}
	pairs, err := c.pairs(n)
	if err != nil {
		return // which who reads it tells
	}
	for _, p := range pairs {
		if p.key == t.variable {
			t.here = Place{File: c.t.name, Line: p.kn.line, Column: p.kn.col}
		}
	}
}

// deciding are the dictionaries that a host's variables come from, the
// strongest first: merged and Vars read from the other end.
func (inv *Inventory) deciding(h *host) []*dict {
	out := []*dict{inv.extra}
	files := func(dir *varsDir, name string) {
		// An error would have come up when the sources were read.
		if d, err := dir.vars(name); err == nil && d != nil {
			out = append(out, d)
		}
	}
	files(inv.playHostDir, h.name)
	for _, dir := range slices.Backward(inv.hostDirs) {
		files(dir, h.name)
	}
	if own := inv.host(h.name); own != nil {
		out = append(out, own.vars)
	}
	order := inv.loader.opts.Settings.Precedence
	if order == nil {
		order = defaultPrecedence
	}
	play := []*varsDir{inv.playGroupDir}
	for _, layer := range slices.Backward(order) {
		names := []string{"all"}
		dirs := inv.groupDirs
		switch layer {
		case "groups_inventory", "groups_plugins_inventory", "groups_plugins_play":
			names = names[:0]
			for _, g := range h.member.sorted {
				names = append(names, g.name)
			}
		}
		switch layer {
		case "all_inventory", "groups_inventory":
			for _, n := range slices.Backward(names) {
				if g := inv.loader.d.groups[n]; g != nil {
					out = append(out, g.vars)
				}
			}
			continue
		case "all_plugins_play", "groups_plugins_play":
			dirs = play
		}
		for _, dir := range slices.Backward(dirs) {
			for _, n := range slices.Backward(names) {
				files(dir, n)
			}
		}
	}
	return out
}
