package inventory

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

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

// parseYAML reads the only document in t. It returns nil for a file without
// any.
func parseYAML(t *text, limits Limits) (*node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(t.data))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, yamlError(t, err)
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		return nil, t.errorAt(second.Line, second.Column, "Keep one document per file.", "more than one YAML document in the file")
	} else if !errors.Is(err, io.EOF) {
		return nil, yamlError(t, err)
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	return convertNode(t, doc.Content[0], map[*yaml.Node]*node{}, limits.Depth)
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

func convertNode(t *text, y *yaml.Node, seen map[*yaml.Node]*node, depth int) (*node, error) {
	if depth == 0 {
		return nil, t.errorAt(y.Line, y.Column, "", "values are nested too deeply")
	}
	n := &node{line: y.Line, col: y.Column, value: y.Value}
	if y.Anchor != "" {
		seen[y] = n
	}
	if y.Style&yaml.TaggedStyle != 0 {
		n.tag = y.Tag
		if rest, ok := strings.CutPrefix(n.tag, "!!"); ok {
			n.tag = tagPrefix + rest
		}
	}
	switch y.Kind {
	case yaml.AliasNode:
		n.kind = aliasNode
		n.target = seen[y.Alias]
		if n.target == nil {
			return nil, t.errorAt(y.Line, y.Column, "", "alias *%s stands inside the value that it names", y.Value)
		}
		n.target.spread()
		return n, nil
	case yaml.ScalarNode:
		n.kind = scalarNode
		n.plain = y.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
		return n, nil
	case yaml.SequenceNode:
		n.kind = sequenceNode
	default:
		n.kind = mappingNode
	}
	n.items = make([]*node, 0, len(y.Content))
	for _, c := range y.Content {
		x, err := convertNode(t, c, seen, depth-1)
		if err != nil {
			return nil, err
		}
		n.items = append(n.items, x)
	}
	return n, nil
}

var yamlErrorLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

func yamlError(t *text, err error) error {
	msg, line := err.Error(), 0
	if m := yamlErrorLine.FindStringSubmatch(msg); m != nil {
		msg = m[2]
		line, _ = strconv.Atoi(m[1])
	}
	e := t.errorAt(line, 0, "", "this is not valid YAML: %s", msg)
	e.Err = err
	return e
}
