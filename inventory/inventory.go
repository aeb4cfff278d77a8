package inventory

import (
	"path"
	"slices"
	"strings"
	"sync"
)

// Inventory is what Load read: hosts, groups and variables. It does not
// change any more; what its methods return must not be changed either, since
// values are shared between hosts.
type Inventory struct {
	loader     *loader
	sources    []string
	sourceDirs []string
	extra      *dict

	groupDirs, hostDirs       []*varsDir // beside the sources, in their order
	playGroupDir, playHostDir *varsDir
	hostFiles                 map[*host][2]*dict // host_vars beside the sources, beside the playbook
	order                     []*host            // hosts as the pattern all yields them
	localhost                 *host              // implicit, not in hosts
	sortableOnce              sync.Once
	canSort                   bool
	groupsOnce                sync.Once
	groupsVar                 map[string]any
	plainMu                   sync.Mutex
	plainCache                map[any]any
	matchMu                   sync.Mutex
	matchWarnings             []Warning
	traceMu                   sync.Mutex
	traced                    *Inventory // the sources read again for Origin
}

// Group is one group of an inventory.
type Group struct {
	Name     string
	Hosts    []string // named in the group itself, in order
	Children []string
	Parents  []string
	Depth    int // 0 is all; deeper groups' variables win
	Priority int // ansible_group_priority, 1 by default
}

// prepare reads variable files, so that whatever is wrong with them is known
// when Load returns.
func (inv *Inventory) prepare() error {
	l := inv.loader
	for _, dir := range inv.sourceDirs {
		g, err := l.openVarsDir(dir, "group_vars")
		if err != nil {
			return err
		}
		h, err := l.openVarsDir(dir, "host_vars")
		if err != nil {
			return err
		}
		inv.groupDirs, inv.hostDirs = append(inv.groupDirs, g), append(inv.hostDirs, h)
	}
	if dir := l.opts.PlaybookDir; dir != "" {
		var err error
		if inv.playGroupDir, err = l.openVarsDir(dir, "group_vars"); err != nil {
			return err
		}
		if inv.playHostDir, err = l.openVarsDir(dir, "host_vars"); err != nil {
			return err
		}
	}
	inv.order = l.d.allHosts(l.d.groups["all"])
	inv.hostFiles = map[*host][2]*dict{}
	inv.plainCache = map[any]any{}
	implicit := &host{name: "localhost", vars: &dict{}, implicit: true, member: newMembership(nil, nil)}
	implicit.vars.set("ansible_connection", "local")
	inv.localhost = implicit

	for _, h := range l.d.hostList {
		if err := inv.prepareHost(h); err != nil {
			return err
		}
	}
	return inv.prepareHost(implicit)
}

// prepareHost reads what lies beside the inventory for a host and its groups.
func (inv *Inventory) prepareHost(h *host) error {
	if h.member.base == nil {
		base, err := inv.groupVars(h.member)
		if err != nil {
			return err
		}
		h.member.base = base
	}
	return inv.readHostFiles(h)
}

// groups is the variable groups, made when somebody asks for it first.
func (inv *Inventory) groups() map[string]any {
	inv.groupsOnce.Do(func() {
		d := inv.loader.d
		inv.groupsVar = make(map[string]any, len(d.groupList))
		for _, g := range d.groupList {
			hosts := d.allHosts(g)
			names := make([]any, len(hosts))
			for i, h := range hosts {
				names[i] = h.name
			}
			inv.groupsVar[g.name] = names
		}
	})
	return inv.groupsVar
}

func (inv *Inventory) readHostFiles(h *host) error {
	merge := inv.loader.opts.Settings.HashMerge
	var beside *dict
	for _, dir := range inv.hostDirs {
		d, err := dir.vars(h.name)
		if err != nil {
			return err
		}
		if d != nil && beside != nil {
			d = combine(beside, d, merge)
		}
		if d != nil {
			beside = d
		}
	}
	play, err := inv.playHostDir.vars(h.name)
	if err != nil {
		return err
	}
	if beside != nil || play != nil {
		inv.hostFiles[h] = [2]*dict{beside, play}
	}
	return nil
}

// Hosts returns all hosts, in the order in which the pattern all yields them.
// An implicit localhost is not among them.
func (inv *Inventory) Hosts() []string { return hostNames(inv.order) }

func hostNames(hosts []*host) []string {
	names := make([]string, len(hosts))
	for i, h := range hosts {
		names[i] = h.name
	}
	return names
}

// Groups returns the names of all groups in the order of their first mention,
// all and ungrouped first.
func (inv *Inventory) Groups() []string { return groupNames(inv.loader.d.groupList) }

func groupNames(groups []*group) []string {
	names := make([]string, len(groups))
	for i, g := range groups {
		names[i] = g.name
	}
	return names
}

// Group returns the group of that name.
func (inv *Inventory) Group(name string) (Group, bool) {
	g := inv.loader.d.groups[name]
	if g == nil {
		return Group{}, false
	}
	return Group{Name: g.name, Hosts: hostNames(g.hosts), Children: groupNames(g.children),
		Parents: groupNames(g.parents), Depth: g.depth, Priority: g.priority}, true
}

// Warnings returns what Ansible would warn of, in the order it was met, and
// what Match has warned of since.
func (inv *Inventory) Warnings() []Warning {
	inv.matchMu.Lock()
	defer inv.matchMu.Unlock()
	return append(slices.Clone(inv.loader.warnings), inv.matchWarnings...)
}

// host finds a host by name. Each name for this machine finds the explicit
// host that stands for it, if there is one, else the implicit localhost.
func (inv *Inventory) host(name string) *host {
	d := inv.loader.d
	if h := d.hosts[name]; h != nil {
		return h
	}
	if !isLocalName(name) {
		return nil
	}
	if d.localhost != nil {
		return d.localhost
	}
	if name == inv.localhost.name {
		return inv.localhost
	}
	h := *inv.localhost
	h.name = name
	return &h
}

// shortName is inventory_hostname_short.
func shortName(name string) string {
	if isIPv4(name) || isIPv6(name) {
		return name
	}
	short, _, _ := strings.Cut(name, ".")
	return short
}

// playbookDir is the variable playbook_dir.
func (inv *Inventory) playbookDir() string {
	l := inv.loader
	if l.opts.PlaybookDir != "" {
		return l.absolute(l.opts.PlaybookDir)
	}
	return l.absolute(path.Clean(l.opts.WorkDir))
}
