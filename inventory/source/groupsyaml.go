package source

import (
	"fmt"
	"slices"

	"github.com/fleetd/fleetd/inventory/pattern"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
	"github.com/fleetd/fleetd/pkg/yaml"
)

// yamlReader reads one YAML inventory.
type yamlReader struct {
	document
	open map[*yaml.Node]bool // groups that are being read
}

const pluginHint = "Save what it yields and use that: ansible-inventory -i <this file> --list > inventory.json"

// groupsYAML adds a YAML inventory: groups at the top, each with hosts, vars and
// children.
func (r *reader) groupsYAML(d *yaml.Document) error {
	y := &yamlReader{r.document(d), map[*yaml.Node]bool{}}
	empty := d.Source.Errorf(0, 0, "", "the file holds no YAML")
	if d.Root == nil {
		return empty
	}
	root := yaml.Resolve(d.Root)
	if root.Kind != yaml.MappingNode {
		v, err := y.doc.Value(root)
		if err != nil {
			return err
		}
		if !value.Truth(v) {
			return empty
		}
		return y.doc.Errorf(root, "Start with a group: all:, and below it hosts:, vars: and children:.",
			"a YAML inventory must be a dictionary of groups, not %s", value.Kind(v))
	}
	groups, err := y.doc.Entries(root)
	if err != nil {
		return err
	}
	if len(groups) == 0 {
		return empty
	}
	for _, g := range groups {
		if g.Key != "plugin" {
			continue
		}
		v, err := y.doc.Value(g.Value)
		if err != nil {
			return err
		}
		if value.Truth(v) {
			return y.doc.Errorf(g.KeyNode, pluginHint, "this configures the inventory plugin %v, which fleetd does not run", value.Plain(v))
		}
	}
	for _, g := range groups {
		if _, err := y.group(g, r.limits.Depth); err != nil {
			return err
		}
	}
	return nil
}

func (y *yamlReader) warn(n *yaml.Node, format string, args ...any) {
	y.opts.Warn(text.Warning{Place: y.src.At(n.Line, n.Column), Message: fmt.Sprintf(format, args...)})
}

// group adds one group with all that stands below it and returns its name.
func (y *yamlReader) group(g yaml.Entry, depth int) (string, error) {
	name, isName := g.Key.(string)
	body := yaml.Resolve(g.Value)
	if depth == 0 {
		return "", y.doc.Errorf(g.KeyNode, "Declare inner groups at the top, and name them under children: there.", "groups are nested too deeply")
	}
	if y.open[body] {
		return "", y.doc.Errorf(g.Value, yaml.AliasHint, "an alias stands inside the group that it names")
	}
	if body.Kind != yaml.MappingNode {
		v, err := y.doc.Value(g.Value)
		if err != nil {
			return "", err
		}
		if v != nil {
			y.warn(g.KeyNode, "%s is skipped: a group must be a dictionary, this is %s", value.Word(g.Key), value.Kind(v))
			return value.Word(g.Key), nil
		}
	}
	if !isName || name == "" {
		return "", y.doc.Errorf(g.KeyNode, "Put the name in quotes.", "a group's name must be a string, not %s", value.Kind(g.Key))
	}
	name, err := y.inv.AddGroup(name)
	if err != nil {
		return "", y.tell(g.KeyNode, err)
	}
	if body.Kind != yaml.MappingNode {
		return name, nil
	}
	y.open[body] = true
	defer delete(y.open, body)
	sections, err := y.doc.Entries(body)
	if err != nil {
		return "", err
	}
	// All sections are checked before any is used, as in Ansible.
	lists := make([][]yaml.Entry, len(sections))
	for i, s := range sections {
		if lists[i], err = y.section(name, s); err != nil {
			return "", err
		}
	}
	for i, s := range sections {
		for _, e := range lists[i] {
			if err := y.member(name, s.Key, e, depth); err != nil {
				return "", err
			}
		}
	}
	return name, nil
}

// section is what stands below hosts, vars or children of a group.
func (y *yamlReader) section(group string, s yaml.Entry) ([]yaml.Entry, error) {
	key, _ := s.Key.(string)
	known := slices.Contains([]string{"vars", "children", "hosts"}, key)
	body := yaml.Resolve(s.Value)
	if body.Kind == yaml.MappingNode {
		if !known {
			y.warn(s.KeyNode, "%s of group %s is skipped: only vars, children and hosts may stand here", value.Word(s.Key), group)
			return nil, nil
		}
		return y.doc.Entries(body)
	}
	v, err := y.doc.Name(body)
	if err != nil || v == nil {
		return nil, err
	}
	name, isString := v.(string)
	switch {
	case known && isString:
		return []yaml.Entry{{Key: name, KeyNode: s.Value, Value: yaml.Null(s.Value)}}, nil
	case known:
		return nil, y.doc.Errorf(s.Value, sectionHint(key, body), "%q of group %s must be a dictionary, not %s", key, group, value.Kind(v))
	}
	y.warn(s.KeyNode, "%s of group %s is skipped: it is %s, not a dictionary", value.Word(s.Key), group, value.Kind(v))
	return nil, nil
}

func sectionHint(section string, n *yaml.Node) string {
	if n.Kind == yaml.SequenceNode {
		return "Write each name as a key that ends in a colon, without the dash:\n    " + section + ":\n      name:"
	}
	return "Write each name below it as a key that ends in a colon:\n    " + section + ":\n      name:"
}

// member adds one variable, child or host to a group.
func (y *yamlReader) member(group string, section any, e yaml.Entry, depth int) error {
	switch section {
	case "vars":
		v, err := y.doc.Value(e.Value)
		if err != nil {
			return err
		}
		return y.tell(e.Value, y.inv.Set(group, e.Key, v, y.src.At(e.KeyNode.Line, e.KeyNode.Column)))
	case "children":
		child, err := y.group(e, depth-1)
		if err != nil {
			return err
		}
		return y.tell(e.KeyNode, y.inv.AddChild(group, child))
	}
	return y.hosts(group, e)
}

func (y *yamlReader) hosts(group string, e yaml.Entry) error {
	name, ok := e.Key.(string)
	if !ok {
		return y.doc.Errorf(e.KeyNode, "Put it in quotes.", "a host's name must be a string, not %s", value.Kind(e.Key))
	}
	names, port, err := pattern.Expand(nil, name, y.limits.Hosts)
	if err != nil {
		return y.tell(e.KeyNode, err)
	}
	v, err := y.doc.Value(e.Value)
	if err != nil {
		return err
	}
	vars, ok := v.(*value.Map)
	if !ok && value.Truth(v) {
		return y.doc.Errorf(e.Value, "Write the host's variables below it, each as name: value.",
			"the variables of host %s must be a dictionary, not %s", text.Clip(name), value.Kind(v))
	}
	for _, name := range names {
		if err := y.inv.AddHost(name, group, port); err != nil {
			return y.tell(e.KeyNode, err)
		}
		for _, own := range vars.Entries() {
			if err := y.inv.Set(name, own.Key, own.Value, own.At); err != nil {
				return y.tell(e.Value, err)
			}
		}
	}
	return nil
}
