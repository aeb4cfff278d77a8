package inventory

import (
	"errors"
	"fmt"
	"slices"
)

// ErrNotScript is what RunScript returns for a file that is marked executable
// but cannot be started; it is then read as a file, as Ansible does.
var ErrNotScript = errors.New("the file cannot be run")

// readScript runs an executable source with --list and adds what it prints;
// hosts without variables in _meta are asked for one by one with --host.
func (l *loader) readScript(p string) error {
	if l.opts.RunScript == nil {
		return &Error{File: l.name(p), Caret: -1, Message: "the inventory is executable, and executables are not run here"}
	}
	out, err := l.opts.RunScript(l.ctx, p, "--list")
	if err != nil {
		return &Error{File: l.name(p), Caret: -1, Message: "cannot run the inventory script with --list: " + err.Error(), Err: err,
			Hint: "Run it by hand; it must end with status 0. If it is no script, take its executable bit away."}
	}
	l.digests.output(p, out)
	t := &text{name: l.name(p) + " --list", data: string(out)}
	if int64(len(out)) > l.limits.FileSize {
		return &Error{File: t.name, Caret: -1, Message: fmt.Sprintf("the script printed more than %d bytes", l.limits.FileSize)}
	}
	if err := checkText(t); err != nil {
		return err
	}
	root, err := parseJSON(t, l.limits)
	if err != nil {
		return err
	}
	return l.readGroupsJSON(t, root, func(host string) (*dict, error) {
		out, err := l.opts.RunScript(l.ctx, p, "--host", host)
		if err != nil {
			return nil, &Error{File: l.name(p), Caret: -1, Message: fmt.Sprintf("cannot run the inventory script with --host %s: %v", host, err), Err: err}
		}
		l.digests.output(p, out)
		t := &text{name: l.name(p) + " --host " + host, data: string(out)}
		if err := checkText(t); err != nil {
			return nil, err
		}
		v, n, err := l.document(t)
		if err != nil || v == nil {
			return nil, err
		}
		d, ok := v.(*dict)
		if !ok {
			return nil, t.errorAt(n.line, n.col, varsHint, "the script must print a dictionary of variables, not %s", typeName(v))
		}
		return d, nil
	})
}

const (
	metaHint = `Write it as {"_meta": {"hostvars": {"node1": {"name": "value"}}}}.`
	varsHint = `Write it as {"name": "value"}.`
)

// readGroupsJSON adds an inventory in the form that scripts print and
// ansible-inventory --list saves. ask yields the variables of hosts if there
// is no _meta.hostvars.
func (l *loader) readGroupsJSON(t *text, root *node, ask func(host string) (*dict, error)) error {
	c := l.constructor(t)
	if root.kind != mappingNode {
		return t.errorAt(root.line, root.col, `Print {"web": {"hosts": ["node1"]}, "_meta": {"hostvars": {}}} or the like.`, "an inventory script must print a dictionary of groups")
	}
	groups, err := c.pairs(root)
	if err != nil {
		return err
	}
	r := &groupsJSON{l: l, c: c, seen: map[string]bool{}}
	var hostvars *node
	for _, p := range groups {
		if p.key != "_meta" {
			if err := r.group(p); err != nil {
				return err
			}
			continue
		}
		if p.vn.kind != mappingNode {
			return c.errorAt(p.vn, metaHint, "_meta must be a dictionary")
		}
		meta, err := c.pairs(p.vn)
		if err != nil {
			return err
		}
		for _, m := range meta {
			if m.key == "hostvars" {
				hostvars = m.vn
			}
		}
	}
	vars := map[any]pair{}
	if hostvars != nil {
		if hostvars.kind != mappingNode {
			return c.errorAt(hostvars, metaHint, "_meta.hostvars must be a dictionary")
		}
		list, err := c.pairs(hostvars)
		if err != nil {
			return err
		}
		for _, p := range list {
			vars[p.key] = p
		}
	}
	for _, name := range r.hosts {
		var d *dict
		if hostvars != nil {
			p, ok := vars[name]
			if !ok {
				continue
			}
			v, err := c.value(p.vn)
			if err != nil {
				return err
			}
			if d, ok = v.(*dict); !ok {
				return c.errorAt(p.vn, varsHint, "the variables of host %s must be a dictionary, not %s", name, typeName(v))
			}
		} else if d, err = ask(name); err != nil {
			return err
		}
		if d == nil {
			continue
		}
		if hostvars != nil {
			l.d.trace.within(c, vars[name].vn)
		}
		for i, k := range d.keys {
			if err := l.d.setVariable(name, k, d.vals[i]); err != nil {
				return asError(t.name, err)
			}
		}
	}
	return nil
}

type groupsJSON struct {
	l     *loader
	c     *constructor
	hosts []string
	seen  map[string]bool
}

func (r *groupsJSON) group(p pair) error {
	key, _ := p.key.(string)
	name, err := r.l.d.addGroup(key)
	if err != nil {
		return r.l.at(r.c, p.kn, err)
	}
	var sections []pair
	if p.vn.kind == mappingNode {
		if sections, err = r.c.pairs(p.vn); err != nil {
			return err
		}
		if !slices.ContainsFunc(sections, func(s pair) bool { return s.key == "hosts" || s.key == "vars" || s.key == "children" }) {
			// The short form: the group is a host, the dictionary its
			// group's variables.
			sections = []pair{
				{key: "hosts", kn: p.kn, vn: &node{kind: sequenceNode, typed: true, line: p.kn.line, col: p.kn.col,
					items: []*node{{kind: scalarNode, typed: true, val: name, line: p.kn.line, col: p.kn.col}}}},
				{key: "vars", kn: p.kn, vn: p.vn},
			}
		}
	} else {
		sections = []pair{{key: "hosts", kn: p.kn, vn: p.vn}}
	}
	for _, want := range []string{"hosts", "vars", "children"} {
		for _, s := range sections {
			if s.key != want {
				continue
			}
			if err := r.section(name, want, s); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *groupsJSON) section(group, kind string, s pair) error {
	d := r.l.d
	switch kind {
	case "vars":
		v, err := r.c.value(s.vn)
		if err != nil {
			return err
		}
		vars, ok := v.(*dict)
		if !ok {
			return r.c.errorAt(s.vn, varsHint, "vars of group %s must be a dictionary, not %s", group, typeName(v))
		}
		d.trace.within(r.c, s.vn)
		for i, k := range vars.keys {
			if err := d.setVariable(group, k, vars.vals[i]); err != nil {
				return r.l.at(r.c, s.vn, err)
			}
		}
		return nil
	case "hosts":
		if s.vn.kind != sequenceNode {
			return r.c.errorAt(s.vn, "Write the names as a list: [\"node1\", \"node2\"].", "hosts of group %s must be a list, not %s", group, s.vn.typeName())
		}
		for _, x := range s.vn.items {
			name, err := r.name(x, "a host's")
			if err != nil {
				return err
			}
			if _, err := d.addHost(name, group, 0); err != nil {
				return r.l.at(r.c, x, err)
			}
			if !r.seen[name] {
				r.seen[name] = true
				r.hosts = append(r.hosts, name)
			}
		}
		return nil
	}
	names, every := s.vn.items, 1
	switch s.vn.kind {
	case sequenceNode:
	case mappingNode:
		every = 2 // the keys
	default:
		return r.c.errorAt(s.vn, "Write the names as a list: [\"web\", \"db\"].", "children of group %s must be a list, not %s", group, s.vn.typeName())
	}
	for i := 0; i < len(names); i += every {
		child, err := r.name(names[i], "a group's")
		if err != nil {
			return err
		}
		if child, err = d.addGroup(child); err == nil {
			err = d.addChild(group, child)
		}
		if err != nil {
			return r.l.at(r.c, names[i], err)
		}
	}
	return nil
}

// name is a name in a list, which is no secret in an encrypted file either.
func (r *groupsJSON) name(n *node, whose string) (string, error) {
	if name, ok := n.val.(string); ok && n.kind == scalarNode {
		return name, nil
	}
	return "", r.c.errorAt(n, "Put it in double quotes.", "%s name must be a string, not %s", whose, n.typeName())
}

// isGroupsJSON tells a saved ansible-inventory --list from a YAML inventory
// that happens to be written as JSON: hosts or children are lists, or there
// is a _meta with hostvars.
func isGroupsJSON(root *node) bool {
	if root == nil || !root.typed || root.kind != mappingNode {
		return false
	}
	for i := 0; i+1 < len(root.items); i += 2 {
		key, body := root.items[i].val, root.items[i+1]
		if body.kind == sequenceNode {
			return true
		}
		if body.kind != mappingNode {
			continue
		}
		for j := 0; j+1 < len(body.items); j += 2 {
			switch k := body.items[j].val; {
			case key == "_meta" && k == "hostvars":
				return true
			case (k == "hosts" || k == "children") && body.items[j+1].kind == sequenceNode:
				return true
			}
		}
	}
	return false
}
