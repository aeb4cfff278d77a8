package inventory

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/fleetd/fleetd/inventory/source"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
)

// data is the inventory while sources are read into it: groups and hosts in
// the order of their first mention, and the edges between them. It is the
// source.Inventory that sources are read into.
type data struct {
	groups    map[string]*group
	groupList []*group
	hosts     map[string]*host
	hostList  []*host
	localhost *host // explicit host that stands for localhost, the first found

	reading   string // the source, as people know it
	file, dir any    // inventory_file and inventory_dir of hosts that are new

	settings source.Settings
	limits   source.Limits
	warn     func(text.Warning)
}

type group struct {
	name     string
	order    int
	depth    int
	priority int
	hosts    []*host
	children []*group
	parents  []*group
	vars     *value.Map

	ancestors map[*group]bool // filled by finish
}

type host struct {
	name     string
	order    int
	vars     *value.Map
	direct   []*group    // groups that name the host themselves
	member   *membership // filled by finish
	implicit bool
}

// isLocalName finds the names that stand for this machine even when no source
// mentions them.
func isLocalName(name string) bool {
	return name == "localhost" || name == "127.0.0.1" || name == "::1"
}

func newData(s source.Settings, l source.Limits, warn func(text.Warning)) *data {
	d := &data{groups: map[string]*group{}, hosts: map[string]*host{}, settings: s, limits: l, warn: warn}
	all, ungrouped := d.newGroup("all"), d.newGroup("ungrouped")
	_ = d.link(all, ungrouped)
	return d
}

func (d *data) warnf(format string, args ...any) {
	d.warn(text.Warning{Place: text.Place{File: d.reading}, Message: fmt.Sprintf(format, args...)})
}

func (d *data) From(name string, file, dir any) { d.reading, d.file, d.dir = name, file, dir }
func (d *data) HasGroup(name string) bool       { return d.groups[name] != nil }
func (d *data) HasHost(name string) bool        { return d.hosts[name] != nil }

func (d *data) newGroup(name string) *group {
	g := &group{name: name, order: len(d.groupList), priority: 1, vars: &value.Map{}}
	d.groups[name] = g
	d.groupList = append(d.groupList, g)
	return g
}

func (d *data) AddGroup(name string) (string, error) {
	if name == "" {
		return "", text.Advise("Give the group a name.", "a group needs a name")
	}
	if d.groups[name] != nil {
		return name, nil
	}
	if name = d.GroupName(name); d.groups[name] == nil {
		d.newGroup(name)
	}
	return name, nil
}

// GroupName warns of, or replaces, what is no variable name in Python.
func (d *data) GroupName(name string) string {
	var b strings.Builder
	for i, r := range name {
		if !text.IsWord(r) || (i == 0 && text.IsDigit(r)) {
			r = '_'
		}
		b.WriteRune(r)
	}
	valid := b.String()
	if valid == name {
		return name
	}
	switch d.settings.GroupNames {
	case "ignore":
	case "always":
		d.warnf("invalid characters in group name %q were replaced by underscores: %s", name, valid)
		return valid
	case "silently":
		return valid
	default:
		d.warnf("group name %q has characters that are not valid in a variable name; it is kept as it is", name)
	}
	return name
}

func (d *data) AddHost(name, groupName string, port int) error {
	if name == "" {
		return text.Advise("Give the host a name.", "a host needs a name")
	}
	if strings.ContainsAny(name, "\t\n") || text.Printable(name) != name {
		return text.Advise("Take them out: names stand in the lines of what fleetd writes, and a terminal would obey some.", "the host name %q has control characters", name)
	}
	g := d.groups[groupName]
	if g == nil {
		return fmt.Errorf("group %s is not known", groupName)
	}
	h := d.hosts[name]
	if h == nil {
		if len(d.hostList) >= d.limits.Hosts {
			return text.Advise("Read it in parts.", "more than %d hosts", d.limits.Hosts)
		}
		h = &host{name: name, order: len(d.hostList), vars: value.NewMap(6)}
		d.hosts[name] = h
		d.hostList = append(d.hostList, h)
		if port != 0 {
			h.vars.Set("ansible_port", int64(port))
		}
		vars := d.varsOf(h)
		vars.Set("inventory_file", d.file)
		vars.Set("inventory_dir", d.dir)
		if isLocalName(name) {
			if d.localhost == nil {
				d.localhost = h
			} else {
				d.warnf("a second host that stands for localhost was found (%s), the first is %s", name, d.localhost.name)
			}
		}
	}
	g.addHost(h)
	return nil
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
func (d *data) varsOf(h *host) *value.Map {
	if g := d.groups[h.name]; g != nil {
		return g.vars
	}
	return h.vars
}

// Set sets a variable: groups come first even when the host was meant.
func (d *data) Set(entity string, key, v any, at text.Place) error {
	e := value.Entry{Key: key, Value: v, At: at}
	if g := d.groups[entity]; g != nil {
		if key != "ansible_group_priority" {
			g.vars.Put(e, d.settings.HashMerge)
			return nil
		}
		p, err := pyInt(v)
		if err != nil {
			return text.Advise("Write it as in ansible_group_priority=10; 1 is every group's own.", "ansible_group_priority of group %s must be a whole number: %w", entity, err)
		}
		g.priority = p
		return nil
	}
	h := d.hosts[entity]
	if h == nil {
		return fmt.Errorf("no group or host is named %s", entity)
	}
	h.vars.Put(e, d.settings.HashMerge)
	return nil
}

func (d *data) AddChild(parent, child string) error {
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
	return text.Advise("Declare it as a group of its own.", "%s is neither a known group nor a known host", child)
}

// pyInt is Python's int(v).
func pyInt(v any) (int, error) {
	switch v := v.(type) {
	case value.Secret: // the source is encrypted as a whole
		inner, err := v.Value()
		if err != nil {
			return 0, err
		}
		n, err := pyInt(inner)
		if err != nil {
			err = errors.New("got a secret that is none") // and is not told
		}
		return n, err
	case int64:
		return int(v), nil
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
	return 0, fmt.Errorf("got %s", value.Kind(v))
}
