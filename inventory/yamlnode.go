package inventory

import "strings"

// node is one node of a parsed YAML document, before types are given to it.
type node struct {
	kind      nodeKind
	tag       string // explicit tag as written out ("tag:yaml.org,2002:int", "!vault"); "" if none
	plain     bool   // scalar without quotes: its type follows from its text
	value     string
	line, col int
	items     []*node // of a sequence; of a mapping key and value in turn
	target    *node   // of an alias
	shared    bool    // an alias refers to it or to what it is in: it stays one value
	typed     bool    // from JSON: val is the value of a scalar
	val       any
}

type nodeKind uint8

const (
	scalarNode nodeKind = iota
	sequenceNode
	mappingNode
	aliasNode
)

const tagPrefix = "tag:yaml.org,2002:"

// parseDocument reads a file that may be JSON or YAML, in that order as
// Ansible does. It returns nil for a file without any value.
func parseDocument(t *text, limits Limits) (*node, error) {
	if err := checkText(t); err != nil {
		return nil, err
	}
	if mayBeJSON(t.data) {
		n, jsonErr := parseJSON(t, limits)
		if jsonErr == nil {
			return n, nil
		}
		n, err := parseYAML(t, limits)
		if err != nil && strings.HasSuffix(t.name, ".json") {
			return nil, jsonErr
		}
		return n, err
	}
	return parseYAML(t, limits)
}

// spread marks an alias's target as shared and, since a merge key may take a
// dictionary apart, the values in it.
func (n *node) spread() {
	n.shared = true
	if n.kind == mappingNode {
		for i := 1; i < len(n.items); i += 2 {
			n.items[i].shared = true
		}
	}
}

// typeName is what a person calls the type of a JSON value.
func (n *node) typeName() string {
	switch n.kind {
	case sequenceNode:
		return "a list"
	case mappingNode:
		return "a dictionary"
	}
	return typeName(n.val)
}
