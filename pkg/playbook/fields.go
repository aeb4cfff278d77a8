package playbook

import (
	"strings"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/value"
	"github.com/fleetd/fleetd/pkg/yaml"
)

// file is the name of a file to import.
func (l *loader) file(f *field, keyword string) (string, bool) {
	n := f.node
	switch {
	case !isText(n) || n.Value == "":
		l.add(f.errorAt("%s needs the name of a file, not %s", keyword, kindName(n)))
		return "", false
	case jinja.MaybeTemplate(n.Value):
		l.add(f.errorAt("the file of %s is named by a template", keyword).hint("write the name out: a plan must know all tasks before there are variables"))
		return "", false
	case strings.HasPrefix(n.Value, "/") && l.opts.Dir != "/":
		l.add(f.errorAt("%s of an absolute path cannot be read here", keyword).hint("name the file relative to this one"))
		return "", false
	}
	return n.Value, true
}

// text checks that a value is a single text, and that its template can be read.
func (l *loader) text(f *field) *field {
	if f.node.Kind != yaml.ScalarNode {
		l.add(f.errorAt("a text belongs here, not %s", kindName(f.node)))
		return nil
	}
	if isNull(f.node) {
		return nil
	}
	return l.scalar(f)
}

// scalar checks that a value is not a list or a mapping, and that its template
// can be read.
func (l *loader) scalar(f *field) *field {
	if f.node.Kind != yaml.ScalarNode {
		l.add(f.errorAt("a single value belongs here, not %s", kindName(f.node)))
		return nil
	}
	l.parseTemplates(f.src, f.node)
	return f
}

// parseTemplates reads all templates below a node, so that broken ones are
// found now.
func (l *loader) parseTemplates(src *source, n *yaml.Node) {
	n = yaml.Resolve(n)
	if n.Kind == yaml.ScalarNode {
		if jinja.MaybeTemplate(n.Value) && n.Tag != "!unsafe" {
			if _, err := l.cache.Template(n.Value); err != nil {
				l.add(src.template(n, err))
			}
		}
		return
	}
	for i, c := range n.Content {
		if n.Kind == yaml.SequenceNode || i%2 == 1 {
			l.parseTemplates(src, c)
		}
	}
}

func (l *loader) hosts(f *field) *field {
	n := f.node
	bad := func(n *yaml.Node) {
		l.add(f.src.errorAt(n, "hosts needs a pattern such as all or a group, not %s", kindName(n)))
	}
	switch {
	case n.Kind == yaml.SequenceNode && len(n.Content) > 0:
		for _, c := range n.Content {
			if c = yaml.Resolve(c); !isText(c) {
				bad(c)
				return nil
			}
		}
	case !isText(n) || n.Value == "":
		bad(n)
		return nil
	}
	l.parseTemplates(f.src, n)
	return f
}

func (l *loader) vars(f *field) *value.Map {
	if isNull(f.node) {
		return nil
	}
	if f.node.Kind != yaml.MappingNode {
		l.add(f.errorAt("vars is a mapping of names to values, this is %s", kindName(f.node)))
		return nil
	}
	for _, e := range l.mapping(f.src, f.node) {
		if !isName(e.name) {
			l.add(f.src.errorAt(e.key, "%q is no name for a variable", e.name).hint("names are letters, digits and _, and begin with no digit"))
		}
	}
	l.parseTemplates(f.src, f.node)
	return l.variables(f.src, f.node)
}

func isName(s string) bool {
	for i, r := range s {
		if r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != ""
}

// varsFiles are the layers of vars_files, the last file first, because it wins.
func (l *loader) varsFiles(f *field) []layer {
	nodes := f.node.Content
	if f.node.Kind == yaml.ScalarNode {
		nodes = []*yaml.Node{f.node}
	}
	var out []layer
	for _, n := range nodes {
		n = yaml.Resolve(n)
		item := &field{f.src, n}
		if n.Kind == yaml.SequenceNode {
			l.add(item.errorAt("a choice of files in vars_files is not supported by fleetd yet").hint("name one file"))
			continue
		}
		name, ok := l.file(item, "vars_files")
		if !ok {
			continue
		}
		src, root, ok := l.enter(l.beside(f.src, name), item)
		if !ok {
			continue
		}
		if root != nil {
			in := field{src, root}
			out = append([]layer{{in, l.vars(&in)}}, out...)
		}
		l.leave()
	}
	return out
}

func (l *loader) tags(f *field) []string {
	nodes := f.node.Content
	if f.node.Kind == yaml.ScalarNode {
		nodes = []*yaml.Node{f.node}
	}
	if f.node.Kind == yaml.MappingNode {
		l.add(f.errorAt("tags is a list of words, this is a mapping"))
		return nil
	}
	var out []string
	for _, n := range nodes {
		n = yaml.Resolve(n)
		if n.Kind != yaml.ScalarNode || isNull(n) {
			l.add(f.src.errorAt(n, "a tag is a word, this is %s", kindName(n)))
			continue
		}
		if jinja.MaybeTemplate(n.Value) {
			l.add(f.src.errorAt(n, "templates in tags are not supported by fleetd yet"))
			continue
		}
		for _, t := range strings.Split(n.Value, ",") {
			out = append(out, strings.TrimSpace(t))
		}
	}
	return out
}

func (l *loader) when(f *field) []*field {
	nodes := []*yaml.Node{f.node}
	if f.node.Kind == yaml.SequenceNode {
		nodes = f.node.Content
	}
	var out []*field
	for _, n := range nodes {
		n = yaml.Resolve(n)
		c := &field{f.src, n}
		if n.Kind != yaml.ScalarNode {
			l.add(c.errorAt("a condition is an expression, this is %s", kindName(n)).hint("a condition with \": \" or one that begins with {{ needs quotes around it"))
			continue
		}
		if s, ok := yaml.Scalar(n).(string); ok {
			if jinja.MaybeTemplate(s) {
				l.warn(f.src.position(n), "a condition is an expression already: leave {{ }} out")
				l.parseTemplates(f.src, n)
			} else if s != "" {
				if _, err := l.cache.Expr(s); err != nil {
					l.add(f.src.template(n, err))
					continue
				}
			}
		}
		out = append(out, c)
	}
	return out
}
