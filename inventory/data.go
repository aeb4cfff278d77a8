package inventory

import (
	"errors"
	"fmt"
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
