package inventory

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// data is the inventory while sources are read into it: groups and hosts in
// the order of their first mention, and the edges between them.
type data struct {
	groups    map[string]*group
	groupList []*group
	hosts     map[string]*host
	hostList  []*host
	blocks    []hostBlock
	localhost *host // explicit host that stands for localhost, the first found

	source    any // inventory_file and inventory_dir of hosts that are new
	sourceDir any
	lists     nameLists

	trace    *trace // nil but for Origin
	settings Settings
	limits   Limits
	warn     func(format string, args ...any)
}

type group struct {
	name     string
	order    int
	depth    int
	priority int
	hosts    []*host
	children []*group
	parents  []*group
	vars     *dict

	ancestors map[*group]bool // filled by finish
}

type host struct {
	name     string
	order    int
	vars     *dict
	direct   []*group    // groups that name the host themselves
	member   *membership // filled by finish
	implicit bool
}

// localNames are the names that stand for this machine even when no source
// mentions them.
func isLocalName(name string) bool {
	return name == "localhost" || name == "127.0.0.1" || name == "::1"
}

func newData(s Settings, l Limits, warn func(string, ...any)) *data {
	d := &data{groups: map[string]*group{}, hosts: map[string]*host{}, settings: s, limits: l, warn: warn}
	all, _ := d.addGroup("all")
	ungrouped, _ := d.addGroup("ungrouped")
	_ = d.link(d.groups[all], d.groups[ungrouped])
	return d
}

// addGroup makes sure that a group exists and returns the name that it goes
// by (odd characters may be replaced, by setting).
func (d *data) addGroup(name string) (string, error) {
	if name == "" {
		return "", advise("Give the group a name.", "a group needs a name")
	}
	if _, ok := d.groups[name]; ok {
		return name, nil
	}
	name = d.safeGroupName(name)
	if _, ok := d.groups[name]; !ok {
		g := &group{name: name, order: len(d.groupList), priority: 1, vars: &dict{}}
		d.groups[name] = g
		d.groupList = append(d.groupList, g)
	}
	return name, nil
}

// safeGroupName warns of, or replaces, what is no variable name in Python.
func (d *data) safeGroupName(name string) string {
	var b strings.Builder
	bad := false
	for i, r := range name {
		if !isWord(r) || (i == 0 && isDigit(r)) {
			bad = true
			b.WriteByte('_')
		} else {
			b.WriteRune(r)
		}
	}
	if !bad {
		return name
	}
	switch d.settings.GroupNames {
	case "ignore":
	case "always":
		d.warn("invalid characters in group name %q were replaced by underscores: %s", name, b.String())
		return b.String()
	case "silently":
		return b.String()
	default:
		d.warn("group name %q has characters that are not valid in a variable name; it is kept as it is", name)
	}
	return name
}

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

// setVariable sets a variable of a group or, if no group has that name, of a
// host: groups come first even when the host was meant.
func (d *data) setVariable(entity string, key, value any) error {
	if g := d.groups[entity]; g != nil {
		if key == "ansible_group_priority" {
			p, err := pyInt(value)
			if err != nil {
				return advise("Write it as in ansible_group_priority=10; 1 is every group's own.", "ansible_group_priority of group %s must be a whole number: %w", entity, err)
			}
			g.priority = p
			return nil
		}
		d.setVar(g.vars, key, value)
		return nil
	}
	if h := d.hosts[entity]; h != nil {
		d.setVar(h.vars, key, value)
		return nil
	}
	return fmt.Errorf("no group or host is named %s", entity)
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

func (d *data) setVar(vars *dict, key, value any) {
	d.trace.note(vars, key)
	if nv, ok := value.(*dict); ok && d.settings.HashMerge {
		if ov, ok := vars.get(key); ok {
			if od, ok := ov.(*dict); ok {
				value = combine(od, nv, true)
			}
		}
	}
	vars.set(key, value)
}

// addChild puts a group, or a host if no group has that name, into a group.
func (d *data) addChild(parent, child string) error {
	p := d.groups[parent]
	if p == nil {
		return fmt.Errorf("group %s is not known", parent)
	}
	if c := d.groups[child]; c != nil {
		return d.link(p, c)
	}
	if h := d.hosts[child]; h != nil {
		p.addHost(h)
		return nil
	}
	return advise("Declare it as a group of its own.", "%s is neither a known group nor a known host", child)
}

func (d *data) link(p, c *group) error {
	if p == c {
		return advise("Take it off its own list of children.", "group %s cannot be its own child", p.name)
	}
	for _, x := range p.children {
		if x == c {
			return nil
		}
	}
	if path := pathUp(p, c); path != nil {
		return advise("Take one group of the circle off its parent's children.", "group %s cannot be a child of %s: that closes a circle (%s)", c.name, p.name, circle(c, path))
	}
	p.children = append(p.children, c)
	c.parents = append(c.parents, p)
	c.depth = max(p.depth+1, c.depth)
	// Every group knows its ancestors: a chain of n groups takes n² places.
	if deepest := c.deepen(); deepest > d.limits.Depth {
		return advise("Take groups out of the chain, or name the inner ones below all.", "groups are nested too deeply, more than %d levels", d.limits.Depth)
	}
	return nil
}

// deepen carries a group's depth down. Depth decides which group's variables
// win, so the walk is level by level as Ansible's, not a longest path. It
// returns the greatest depth it came to.
func (g *group) deepen() int {
	depth := g.depth
	deepest := depth
	level := g.children
	for len(level) > 0 {
		depth++
		var next []*group
		seen := map[*group]bool{}
		for _, c := range level {
			if c.depth < depth {
				c.depth, deepest = depth, depth
				for _, x := range c.children {
					if !seen[x] {
						seen[x] = true
						next = append(next, x)
					}
				}
			}
		}
		level = next
	}
	return deepest
}

// pathUp finds target among from's ancestors (or from itself) and returns the
// groups on the way, from first.
func pathUp(from, target *group) []*group {
	came := map[*group]*group{from: nil}
	queue := []*group{from}
	for len(queue) > 0 {
		g := queue[0]
		queue = queue[1:]
		if g == target {
			var path []*group
			for x := g; x != nil; x = came[x] {
				path = append(path, x)
			}
			return path // target … from
		}
		for _, p := range g.parents {
			if _, ok := came[p]; !ok {
				came[p] = g
				queue = append(queue, p)
			}
		}
	}
	return nil
}

func circle(c *group, path []*group) string {
	names := make([]string, 0, len(path)+1)
	for _, g := range path {
		names = append(names, g.name)
	}
	return strings.Join(append(names, c.name), " > ")
}

// pyInt is Python's int(v).
func pyInt(v any) (int, error) {
	switch v := v.(type) {
	case Secret: // the source is encrypted as a whole
		inner, err := v.inner()
		if err != nil {
			return 0, err
		}
		n, err := pyInt(inner)
		if err != nil {
			err = errors.New("got a secret that is none") // and is not told
		}
		return n, err
	case int:
		return v, nil
	case bool:
		if v {
			return 1, nil
		}
		return 0, nil
	case float64:
		return int(v), nil
	case string:
		n, err := strconv.Atoi(strings.TrimSpace(strings.ReplaceAll(v, "_", "")))
		if err != nil {
			return 0, fmt.Errorf("got %q", v)
		}
		return n, nil
	}
	return 0, fmt.Errorf("got %s", typeName(v))
}
