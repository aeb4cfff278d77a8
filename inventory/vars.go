package inventory

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
)

// defaultPrecedence is the order in which layers of group variables are laid
// over each other, lowest first; a host's own variables and extra vars follow.
var defaultPrecedence = []string{
	"all_inventory", "groups_inventory",
	"all_plugins_inventory", "all_plugins_play",
	"groups_plugins_inventory", "groups_plugins_play",
}

func checkPrecedence(order []string) error {
	for _, layer := range order {
		if !slices.Contains(defaultPrecedence, layer) {
			return &text.Error{Caret: -1, Message: fmt.Sprintf("the setting precedence names %q, which is not known", layer)}
		}
	}
	return nil
}

// groupVars are the variables of all groups in a membership, merged once.
func (inv *Inventory) groupVars(m *membership) (*value.Map, error) {
	m.once.Do(func() { m.base, m.err = inv.mergeGroups(m) })
	return m.base, m.err
}

func (inv *Inventory) mergeGroups(m *membership) (*value.Map, error) {
	order := inv.opts.Settings.Precedence
	if order == nil {
		order = defaultPrecedence
	}
	all, play := []*group{inv.data.groups["all"]}, []*varsDir{inv.playGroupDir}
	out := &value.Map{}
	for _, layer := range order {
		groups := m.sorted
		if strings.HasPrefix(layer, "all_") {
			groups = all
		}
		var err error
		switch layer {
		case "all_inventory", "groups_inventory":
			for _, g := range groups {
				out.Update(g.vars, inv.opts.Settings.HashMerge)
			}
		case "all_plugins_inventory", "groups_plugins_inventory":
			err = inv.addFiles(out, inv.groupDirs, groups)
		default:
			err = inv.addFiles(out, play, groups)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// addFiles lays group_vars of groups over out, directory by directory: the later
// source's files win over the earlier one's even for a shallower group.
func (inv *Inventory) addFiles(out *value.Map, dirs []*varsDir, groups []*group) error {
	for _, dir := range dirs {
		for _, g := range groups {
			if err := dir.addTo(out, g.name); err != nil {
				return err
			}
		}
	}
	return nil
}

// hostFiles lays host_vars over out: those beside the sources, and those beside
// the playbook if play is set.
func (inv *Inventory) hostFiles(out *value.Map, h *host, play bool) error {
	dirs := inv.hostDirs
	if play {
		dirs = append(slices.Clone(dirs), inv.playHostDir)
	}
	for _, dir := range dirs {
		if err := dir.addTo(out, h.name); err != nil {
			return err
		}
	}
	return nil
}

// Vars returns a host's variables, merged with Ansible's precedence: group
// variables, those in group_vars/, the host's own, those in host_vars/, extra
// vars, and on top the magic variables groups and playbook_dir. It returns
// nil for a host that is not in the inventory; localhost is always known. Each
// variable knows where it stands (value.Map.At), as far as a file wrote it.
//
// The error is that of a vault which holds some of them. The map is the
// caller's, the values in it are shared and must not be changed.
func (inv *Inventory) Vars(hostName string) (*value.Map, error) {
	h := inv.host(hostName)
	if h == nil {
		return nil, nil
	}
	base, err := inv.groupVars(h.member)
	if err != nil {
		return nil, err
	}
	merge := inv.opts.Settings.HashMerge
	out := base.Clone()
	out.Update(h.vars, merge)
	out.Set("inventory_hostname", h.name)
	out.Set("inventory_hostname_short", shortName(h.name))
	out.Set("group_names", h.member.names)
	if err := inv.hostFiles(out, h, true); err != nil {
		return nil, err
	}
	out.Update(inv.extra, merge)
	out.Set("groups", inv.groups())
	out.Set("playbook_dir", inv.playbookDir())
	return out, nil
}

// Open decrypts what a host's variables are encrypted in; Vars then has no error.
func (inv *Inventory) Open(hostName string) error {
	h := inv.host(hostName)
	if h == nil {
		return nil
	}
	if _, err := inv.groupVars(h.member); err != nil {
		return err
	}
	return inv.hostFiles(&value.Map{}, h, true)
}

// HostVars are the variables that stand with a host itself: its own, and those
// of host_vars/ (beside the playbook only if play is set).
func (inv *Inventory) HostVars(hostName string, play bool) (*value.Map, error) {
	h := inv.host(hostName)
	if h == nil {
		return nil, nil
	}
	out := h.vars.Clone()
	return out, inv.hostFiles(out, h, play)
}

// GroupVars are the variables that stand with a group itself: its own, and those
// of group_vars/ (beside the playbook only if play is set).
func (inv *Inventory) GroupVars(name string, play bool) (*value.Map, error) {
	g := inv.data.groups[name]
	if g == nil {
		return nil, nil
	}
	dirs := inv.groupDirs
	if play {
		dirs = append(slices.Clone(dirs), inv.playGroupDir)
	}
	out := g.vars.Clone()
	return out, inv.addFiles(out, dirs, []*group{g})
}

// ExtraVars returns the variables given with -e, which win over all others,
// also over those that a playbook sets.
func (inv *Inventory) ExtraVars() *value.Map { return inv.extra }

// shortName is inventory_hostname_short.
func shortName(name string) string {
	if _, err := netip.ParseAddr(name); err == nil {
		return name
	}
	short, _, _ := strings.Cut(name, ".")
	return short
}
