package source

import (
	"errors"
	"slices"

	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
	"github.com/fleetd/fleetd/pkg/yaml"
)

// ErrNotScript is what RunScript returns for a file that is marked executable
// but cannot be started; it is then read as a file, as Ansible does.
var ErrNotScript = errors.New("the file cannot be run")

const (
	metaHint = `Write it as {"_meta": {"hostvars": {"node1": {"name": "value"}}}}.`
	varsHint = `Write it as {"name": "value"}.`
)

// script runs an executable source with --list and adds what it prints; hosts
// without variables in _meta are asked for one by one with --host.
func (r *reader) script(p string) error {
	if r.opts.RunScript == nil {
		return &text.Error{Place: text.Place{File: r.Name(p)}, Caret: -1, Message: "the inventory is executable, and executables are not run here"}
	}
	src, err := r.run(p, "--list")
	if err != nil {
		var e *text.Error
		if errors.As(err, &e) && e.Hint == "" {
			e.Hint = "Run it by hand; it must end with status 0. If it is no script, take its executable bit away."
		}
		return err
	}
	d, err := yaml.ParseJSON(src, r.yamlLimits())
	if err != nil {
		return err
	}
	return r.groupsJSON(d, func(host string) (*value.Map, error) {
		src, err := r.run(p, "--host", host)
		if err != nil {
			return nil, err
		}
		return r.Variables(src, "what the script prints of a host", varsHint)
	})
}

// groupsReader reads an inventory in the form that scripts print and
// ansible-inventory --list saves.
type groupsReader struct {
	document
	hosts []string // in the order of their mention
	seen  map[string]bool
}

// groupsJSON adds an inventory in that form. ask yields the variables of hosts
// if there is no _meta.hostvars; nil is that they have none.
func (r *reader) groupsJSON(d *yaml.Document, ask func(host string) (*value.Map, error)) error {
	g := &groupsReader{document: r.document(d), seen: map[string]bool{}}
	groups, err := g.mapping(d.Root, `Print {"web": {"hosts": ["node1"]}, "_meta": {"hostvars": {}}} or the like.`, "an inventory script must print a dictionary of groups")
	if err != nil {
		return err
	}
	var hostvars *yaml.Node
	for _, e := range groups {
		if e.Key != "_meta" {
			if err := g.group(e); err != nil {
				return err
			}
			continue
		}
		meta, err := g.mapping(e.Value, metaHint, "_meta must be a dictionary")
		if err != nil {
			return err
		}
		for _, m := range meta {
			if m.Key == "hostvars" {
				hostvars = m.Value
			}
		}
	}
	vars := ask
	if hostvars != nil {
		if vars, err = g.hostvars(hostvars); err != nil {
			return err
		}
	}
	if vars == nil {
		return nil
	}
	for _, name := range g.hosts {
		own, err := vars(name)
		if err != nil {
			return err
		}
		for _, e := range own.Entries() {
			if err := r.inv.Set(name, e.Key, e.Value, e.At); err != nil {
				return Located(g.src.Name, err)
			}
		}
	}
	return nil
}

func (g *groupsReader) mapping(n *yaml.Node, hint, format string, args ...any) ([]yaml.Entry, error) {
	if n.Kind != yaml.MappingNode {
		return nil, g.doc.Errorf(n, hint, format, args...)
	}
	return g.doc.Entries(n)
}

// hostvars looks hosts up in _meta.hostvars.
func (g *groupsReader) hostvars(n *yaml.Node) (func(host string) (*value.Map, error), error) {
	entries, err := g.mapping(n, metaHint, "_meta.hostvars must be a dictionary")
	if err != nil {
		return nil, err
	}
	bodies := make(map[any]*yaml.Node, len(entries))
	for _, e := range entries {
		bodies[e.Key] = e.Value
	}
	return func(host string) (*value.Map, error) {
		body := bodies[host]
		if body == nil {
			return nil, nil
		}
		return g.variables(body, "the variables of host "+host)
	}, nil
}

func (g *groupsReader) variables(n *yaml.Node, what string) (*value.Map, error) {
	v, err := g.doc.Value(n)
	if err != nil {
		return nil, err
	}
	m, ok := v.(*value.Map)
	if !ok {
		return nil, g.doc.Errorf(n, varsHint, "%s must be a dictionary, not %s", what, value.Kind(v))
	}
	return m, nil
}

func (g *groupsReader) group(e yaml.Entry) error {
	key, _ := e.Key.(string)
	name, err := g.inv.AddGroup(key)
	if err != nil {
		return g.tell(e.KeyNode, err)
	}
	if e.Value.Kind != yaml.MappingNode {
		return g.addHosts(name, e.Value)
	}
	sections, err := g.doc.Entries(e.Value)
	if err != nil {
		return err
	}
	isSection := func(s yaml.Entry) bool { return s.Key == "hosts" || s.Key == "vars" || s.Key == "children" }
	if !slices.ContainsFunc(sections, isSection) {
		// The short form: the group is a host, the dictionary its group's
		// variables.
		if err := g.addHost(name, name, e.KeyNode); err != nil {
			return err
		}
		return g.setVars(name, e.Value)
	}
	for _, add := range []struct {
		section string
		to      func(group string, n *yaml.Node) error
	}{{"hosts", g.addHosts}, {"vars", g.setVars}, {"children", g.addChildren}} {
		for _, s := range sections {
			if s.Key != add.section {
				continue
			}
			if err := add.to(name, s.Value); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *groupsReader) setVars(group string, n *yaml.Node) error {
	vars, err := g.variables(n, "vars of group "+group)
	if err != nil {
		return err
	}
	for _, e := range vars.Entries() {
		if err := g.inv.Set(group, e.Key, e.Value, e.At); err != nil {
			return g.tell(n, err)
		}
	}
	return nil
}

func (g *groupsReader) addHosts(group string, n *yaml.Node) error {
	if n.Kind != yaml.SequenceNode {
		return g.doc.Errorf(n, "Write the names as a list: [\"node1\", \"node2\"].", "hosts of group %s must be a list, not %s", group, g.kind(n))
	}
	for _, x := range n.Content {
		name, err := g.name(x, "a host's")
		if err != nil {
			return err
		}
		if err := g.addHost(name, group, x); err != nil {
			return err
		}
	}
	return nil
}

func (g *groupsReader) addHost(name, group string, n *yaml.Node) error {
	if err := g.inv.AddHost(name, group, 0); err != nil {
		return g.tell(n, err)
	}
	if !g.seen[name] {
		g.seen[name] = true
		g.hosts = append(g.hosts, name)
	}
	return nil
}

func (g *groupsReader) addChildren(group string, n *yaml.Node) error {
	every := 1
	switch n.Kind {
	case yaml.SequenceNode:
	case yaml.MappingNode:
		every = 2 // the keys
	default:
		return g.doc.Errorf(n, "Write the names as a list: [\"web\", \"db\"].", "children of group %s must be a list, not %s", group, g.kind(n))
	}
	for i := 0; i < len(n.Content); i += every {
		child, err := g.name(n.Content[i], "a group's")
		if err != nil {
			return err
		}
		if child, err = g.inv.AddGroup(child); err == nil {
			err = g.inv.AddChild(group, child)
		}
		if err != nil {
			return g.tell(n.Content[i], err)
		}
	}
	return nil
}

// name is a name in a list, which is no secret in an encrypted file either.
func (g *groupsReader) name(n *yaml.Node, whose string) (string, error) {
	v, err := g.doc.Name(n)
	if err != nil {
		return "", err
	}
	name, ok := v.(string)
	if !ok {
		return "", g.doc.Errorf(n, "Put it in double quotes.", "%s name must be a string, not %s", whose, value.Kind(v))
	}
	return name, nil
}

// kind is what a person calls the type of a node's value.
func (g *groupsReader) kind(n *yaml.Node) string {
	v, err := g.doc.Name(n)
	if err != nil {
		return "this"
	}
	return value.Kind(v)
}

// isGroupsJSON tells a saved ansible-inventory --list from a YAML inventory
// that happens to be written as JSON: hosts or children are lists, or there
// is a _meta with hostvars.
func isGroupsJSON(d *yaml.Document) bool {
	if !d.JSON || d.Root == nil || d.Root.Kind != yaml.MappingNode {
		return false
	}
	for i := 0; i+1 < len(d.Root.Content); i += 2 {
		key, body := d.Root.Content[i].Value, d.Root.Content[i+1]
		if body.Kind == yaml.SequenceNode {
			return true
		}
		if body.Kind != yaml.MappingNode {
			continue
		}
		for j := 0; j+1 < len(body.Content); j += 2 {
			switch k := body.Content[j].Value; {
			case key == "_meta" && k == "hostvars":
				return true
			case (k == "hosts" || k == "children") && body.Content[j+1].Kind == yaml.SequenceNode:
				return true
			}
		}
	}
	return false
}
