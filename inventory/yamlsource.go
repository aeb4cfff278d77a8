package inventory

import "slices"

// readYAML adds a YAML inventory: groups at the top, each with hosts, vars
// and children. t is parsed already.
func (l *loader) readYAML(t *text, root *node) error {
	c := l.constructor(t)
	if root == nil {
		return &Error{File: t.name, Caret: -1, Message: "the file holds no YAML"}
	}
	root = root.resolve()
	if root.kind != mappingNode {
		v, err := c.value(root)
		if err != nil {
			return err
		}
		if !truthy(v) {
			return &Error{File: t.name, Caret: -1, Message: "the file holds no YAML"}
		}
		return t.errorAt(root.line, root.col, "Start with a group: all:, and below it hosts:, vars: and children:.",
			"a YAML inventory must be a dictionary of groups, not %s", typeName(v))
	}
	groups, err := c.pairs(root)
	if err != nil {
		return err
	}
	if len(groups) == 0 {
		return &Error{File: t.name, Caret: -1, Message: "the file holds no YAML"}
	}
	for _, p := range groups {
		if p.key == "plugin" {
			v, err := c.value(p.vn)
			if err != nil {
				return err
			}
			if truthy(v) {
				return t.errorAt(p.kn.line, p.kn.col, pluginHint, "this configures the inventory plugin %v, which fleetd does not run", plain(v))
			}
		}
	}
	for _, p := range groups {
		if _, err := l.yamlGroup(c, p, l.limits.Depth); err != nil {
			return err
		}
	}
	return nil
}

const pluginHint = "Save what it yields and use that: ansible-inventory -i <this file> --list > inventory.json"

// yamlGroup adds one group with all that stands below it and returns its name.
func (l *loader) yamlGroup(c *constructor, p pair, depth int) (string, error) {
	name, isName := p.key.(string)
	body := p.vn.resolve()
	if depth == 0 {
		return "", c.errorAt(p.kn, "Declare inner groups at the top, and name them under children: there.", "groups are nested too deeply")
	}
	if c.open[body] {
		return "", c.errorAt(p.vn, aliasHint, "an alias stands inside the group that it names")
	}
	if body.kind != mappingNode {
		v, err := c.value(p.vn)
		if err != nil {
			return "", err
		}
		if v != nil {
			l.warnAt(c.t, p.kn, "%s is skipped: a group must be a dictionary, this is %s", keyString(p.key), typeName(v))
			return keyString(p.key), nil
		}
	}
	if !isName || name == "" {
		return "", c.errorAt(p.kn, "Put the name in quotes.", "a group's name must be a string, not %s", typeName(p.key))
	}
	name, err := l.d.addGroup(name)
	if err != nil {
		return "", l.at(c, p.kn, err)
	}
	if body.kind != mappingNode {
		return name, nil
	}
	defer c.enter(body)()
	sections, err := c.pairs(body)
	if err != nil {
		return "", err
	}
	// All sections are checked before any is used, as in Ansible.
	lists := make([][]pair, len(sections))
	for i, s := range sections {
		key, _ := s.key.(string)
		known := slices.Contains([]string{"vars", "children", "hosts"}, key)
		sn := s.vn.resolve()
		if sn.kind == mappingNode {
			if known {
				if lists[i], err = c.pairs(sn); err != nil {
					return "", err
				}
			}
			continue
		}
		v, err := c.name(sn)
		if err != nil {
			return "", err
		}
		str, isString := v.(string)
		switch {
		case known && isString:
			lists[i] = []pair{{key: str, kn: s.vn, vn: &node{plain: true, line: s.vn.line, col: s.vn.col}}}
		case known && v != nil:
			return "", c.errorAt(s.vn, sectionHint(key, sn), "%q of group %s must be a dictionary, not %s", key, name, typeName(v))
		case v != nil:
			l.warnAt(c.t, s.kn, "%s of group %s is skipped: it is %s, not a dictionary", keyString(s.key), name, typeName(v))
		}
	}
	for i, s := range sections {
		switch s.key {
		case "vars":
			l.d.trace.within(c, s.vn)
			for _, v := range lists[i] {
				value, err := c.value(v.vn)
				if err != nil {
					return "", err
				}
				if err := l.d.setVariable(name, v.key, value); err != nil {
					return "", l.at(c, v.vn, err)
				}
			}
		case "children":
			for _, ch := range lists[i] {
				child, err := l.yamlGroup(c, ch, depth-1)
				if err != nil {
					return "", err
				}
				if err := l.d.addChild(name, child); err != nil {
					return "", l.at(c, ch.kn, err)
				}
			}
		case "hosts":
			for _, h := range lists[i] {
				if err := l.yamlHost(c, name, h); err != nil {
					return "", err
				}
			}
		default:
			if s.vn.resolve().kind == mappingNode {
				l.warnAt(c.t, s.kn, "%s of group %s is skipped: only vars, children and hosts may stand here", keyString(s.key), name)
			}
		}
	}
	return name, nil
}

func sectionHint(section string, n *node) string {
	if n.kind == sequenceNode {
		return "Write each name as a key that ends in a colon, without the dash:\n    " + section + ":\n      name:"
	}
	return "Write each name below it as a key that ends in a colon:\n    " + section + ":\n      name:"
}

func (l *loader) yamlHost(c *constructor, group string, p pair) error {
	pattern, ok := p.key.(string)
	if !ok {
		return c.errorAt(p.kn, "Put it in quotes.", "a host's name must be a string, not %s", typeName(p.key))
	}
	names, port, err := expandHostPattern(nil, pattern, l.limits.Hosts)
	if err != nil {
		return l.at(c, p.kn, err)
	}
	v, err := c.value(p.vn)
	if err != nil {
		return err
	}
	vars, ok := v.(*dict)
	if !ok && truthy(v) {
		return c.errorAt(p.vn, "Write the host's variables below it, each as name: value.",
			"the variables of host %s must be a dictionary, not %s", clip(pattern), typeName(v))
	}
	l.d.trace.within(c, p.vn)
	for _, name := range names {
		h, err := l.d.addHost(name, group, port)
		if err != nil {
			return l.at(c, p.kn, err)
		}
		if vars == nil || l.d.setHostVariables(h, vars.keys, vars.vals) {
			continue
		}
		for i := range vars.len() {
			if err := l.d.setHostVariable(h, vars.keys[i], vars.vals[i]); err != nil {
				return l.at(c, p.vn, err)
			}
		}
	}
	return nil
}
