package playbook

import (
	"errors"

	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
	"github.com/fleetd/fleetd/pkg/yaml"
)

// entry is one key of a mapping.
type entry struct {
	name string
	key  *yaml.Node
	val  *yaml.Node
}

// mapping lists the keys of a mapping, merge keys resolved. Of a key that is
// there twice the last counts, as in Ansible, which warns of it.
func (l *loader) mapping(s *source, n *yaml.Node) []entry {
	entries, err := s.reader.Entries(n)
	if err != nil {
		l.broken(err)
		return nil
	}
	out := make([]entry, 0, len(entries))
	for _, e := range entries {
		name, ok := e.Key.(string)
		if !ok {
			l.add(s.errorAt(e.KeyNode, "a key must be a word, not %s", typeName(e.Key)))
			continue
		}
		out = append(out, entry{name, yaml.Resolve(e.KeyNode), yaml.Resolve(e.Value)})
	}
	return out
}

// broken notes what is wrong with the YAML.
func (r *report) broken(err error) { r.add(&Error{located: *asError(err)}) }

// asError is the error with a place within err, or one without any.
func asError(err error) *text.Error {
	var e *text.Error
	if errors.As(err, &e) {
		return e
	}
	return &text.Error{Caret: -1, Message: err.Error(), Err: err}
}

func kindName(n *yaml.Node) string {
	switch n = yaml.Resolve(n); n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return typeName(yaml.Scalar(n))
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && yaml.Scalar(n) == nil }

// isText reports whether a scalar is a string, as Ansible reads it.
func isText(n *yaml.Node) bool {
	if n.Kind != yaml.ScalarNode {
		return false
	}
	_, ok := yaml.Scalar(n).(string)
	return ok
}

// data is the value of a node.
func (l *loader) data(s *source, n *yaml.Node) any {
	v, err := s.reader.Value(n)
	if err != nil {
		l.broken(err)
	}
	return v
}

// variables is the value of a mapping of variables.
func (l *loader) variables(s *source, n *yaml.Node) *value.Map {
	m, _ := l.data(s, n).(*value.Map)
	return m
}
