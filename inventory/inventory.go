package inventory

import (
	"io/fs"
	"path"
	"sync"

	"github.com/fleetd/fleetd/inventory/source"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
)

// Inventory is what Load read: hosts, groups and variables. It does not
// change any more; what its methods return must not be changed either, since
// values are shared between hosts.
type Inventory struct {
	fsys  fs.FS
	opts  Options
	files *source.Files
	data  *data
	extra *value.Map

	groupDirs, hostDirs       []*varsDir // beside the sources, in their order
	playGroupDir, playHostDir *varsDir
	order                     []*host // hosts as the pattern all yields them
	implicit                  *host   // localhost, not in hosts
	groups                    func() *value.Map

	warnMu   sync.Mutex
	warnings []text.Warning
	warned   map[text.Warning]bool
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

// Load reads sources in order into one inventory. A source is a path within
// fsys (a file or a directory of them) or, if it has a comma and no such file
// exists, a list of hosts. Later sources add to earlier ones and their
// variables win.
//
// Whatever is wrong with a file is known when Load returns, but for what is
// encrypted: a file of variables that is a vault is decrypted when the variables
// of a host that has it are asked for.
func Load(fsys fs.FS, sources []string, opts Options) (*Inventory, error) {
	inv := &Inventory{fsys: fsys, opts: opts, warned: map[text.Warning]bool{}}
	told := opts.Warn
	inv.opts.Warn = func(w text.Warning) {
		inv.warn(w)
		if told != nil {
			told(w)
		}
	}
	inv.files = source.NewFiles(fsys, inv.opts.Options)
	inv.data = newData(opts.Settings, opts.Limits.OrDefault(), inv.opts.Warn)
	dirs, err := source.Read(inv.files, inv.data, sources)
	if err != nil {
		return nil, err
	}
	inv.data.reading = ""
	if err := inv.data.finish(); err != nil {
		return nil, err
	}
	if inv.extra, err = inv.extraVars(opts.ExtraVars); err != nil {
		return nil, err
	}
	inv.order = inv.data.allHosts(inv.data.groups["all"])
	inv.implicit = &host{name: "localhost", vars: &value.Map{}, implicit: true, member: newMembership(nil, nil)}
	inv.implicit.vars.Set("ansible_connection", "local")
	inv.groups = sync.OnceValue(inv.groupHosts)
	return inv, inv.readVarsFiles(dirs)
}

// readVarsFiles finds the variable files beside the sources and the playbook,
// and reads those of hosts and of groups that have hosts.
func (inv *Inventory) readVarsFiles(dirs []string) error {
	if err := checkPrecedence(inv.opts.Settings.Precedence); err != nil {
		return err
	}
	open := func(dir string) (groups, hosts *varsDir, err error) {
		if groups, err = inv.openVarsDir(dir, "group_vars"); err == nil {
			hosts, err = inv.openVarsDir(dir, "host_vars")
		}
		return groups, hosts, err
	}
	for _, dir := range dirs {
		g, h, err := open(dir)
		if err != nil {
			return err
		}
		inv.groupDirs, inv.hostDirs = append(inv.groupDirs, g), append(inv.hostDirs, h)
	}
	if dir := inv.opts.PlaybookDir; dir != "" {
		var err error
		if inv.playGroupDir, inv.playHostDir, err = open(dir); err != nil {
			return err
		}
	}
	seen := map[*group]bool{}
	for _, h := range append(inv.data.hostList[:len(inv.data.hostList):len(inv.data.hostList)], inv.implicit) {
		for _, g := range append([]*group{inv.data.groups["all"]}, h.member.sorted...) {
			if seen[g] {
				continue
			}
			seen[g] = true
			for _, d := range append(inv.groupDirs[:len(inv.groupDirs):len(inv.groupDirs)], inv.playGroupDir) {
				if err := d.check(g.name); err != nil {
					return err
				}
			}
		}
		for _, d := range append(inv.hostDirs[:len(inv.hostDirs):len(inv.hostDirs)], inv.playHostDir) {
			if err := d.check(h.name); err != nil {
				return err
			}
		}
	}
	return nil
}

// groupHosts is the variable groups.
func (inv *Inventory) groupHosts() *value.Map {
	out := value.NewMap(len(inv.data.groupList))
	for _, g := range inv.data.groupList {
		hosts := inv.data.allHosts(g)
		names := make([]any, len(hosts))
		for i, h := range hosts {
			names[i] = h.name
		}
		out.Set(g.name, names)
	}
	return out
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
func (inv *Inventory) Groups() []string { return groupNames(inv.data.groupList) }

func groupNames(groups []*group) []string {
	names := make([]string, len(groups))
	for i, g := range groups {
		names[i] = g.name
	}
	return names
}

// Group returns the group of that name.
func (inv *Inventory) Group(name string) (Group, bool) {
	g := inv.data.groups[name]
	if g == nil {
		return Group{}, false
	}
	return Group{Name: g.name, Hosts: hostNames(g.hosts), Children: groupNames(g.children),
		Parents: groupNames(g.parents), Depth: g.depth, Priority: g.priority}, true
}

// Files returns the SHA-256, in hex, of every file that was read: see
// source.Files.Digests.
func (inv *Inventory) Files() map[string]string { return inv.files.Digests() }

// host finds a host by name. Each name for this machine finds the explicit
// host that stands for it, if there is one, else the implicit localhost.
func (inv *Inventory) host(name string) *host {
	if h := inv.data.hosts[name]; h != nil {
		return h
	}
	if !isLocalName(name) {
		return nil
	}
	if inv.data.localhost != nil {
		return inv.data.localhost
	}
	if name == inv.implicit.name {
		return inv.implicit
	}
	h := *inv.implicit
	h.name = name
	return &h
}

// playbookDir is the variable playbook_dir.
func (inv *Inventory) playbookDir() string {
	if inv.opts.PlaybookDir != "" {
		return inv.files.Absolute(inv.opts.PlaybookDir)
	}
	return inv.files.Absolute(path.Clean(inv.opts.WorkDir))
}
