package yaml

import (
	"errors"
	"fmt"
	"io"
	"strings"

	yaml3 "gopkg.in/yaml.v3"

	"github.com/fleetd/fleetd/pkg/text"
)

// The kinds and styles of nodes that callers tell apart.
const (
	ScalarNode   = yaml3.ScalarNode
	SequenceNode = yaml3.SequenceNode
	MappingNode  = yaml3.MappingNode
	AliasNode    = yaml3.AliasNode

	LiteralStyle = yaml3.LiteralStyle
	FoldedStyle  = yaml3.FoldedStyle
	FlowStyle    = yaml3.FlowStyle
)

const (
	deepHint  = "Split the value into several variables."
	AliasHint = "Give *name a value that is complete before it is used."
)

// Parse reads a file that may be JSON or YAML, in that order as Ansible does.
func Parse(src *text.Source, l Limits) (*Document, error) {
	if err := src.CheckUTF8(); err != nil {
		return nil, err
	}
	if !mayBeJSON(src.Data) {
		return parseYAML(src, l)
	}
	d, jsonErr := ParseJSON(src, l)
	if jsonErr == nil {
		return d, nil
	}
	d, err := parseYAML(src, l)
	if err != nil && strings.HasSuffix(src.Name, ".json") {
		return nil, jsonErr
	}
	return d, err
}

func parseYAML(src *text.Source, l Limits) (*Document, error) {
	c := check{src: src, depth: l.Depth, anchors: map[string]bool{}}
	root, err := read(src, src.Data)
	if err != nil {
		if data, restore := standIns(src.Data); data != src.Data {
			root, err = read(src, data)
			c.restore = restore
		}
	}
	if err != nil {
		return nil, err
	}
	d := &Document{Source: src, Root: root, limits: l}
	if root == nil {
		return d, nil
	}
	return d, c.node(root, 0)
}

// read reads the one document of src; data is its text, or that with stand-ins.
func read(src *text.Source, data string) (*Node, error) {
	dec := yaml3.NewDecoder(strings.NewReader(data))
	var first, second Node
	switch err := decode(dec, &first); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, syntaxError(src, data, err)
	}
	switch err := decode(dec, &second); {
	case err == nil:
		return nil, src.Errorf(second.Line, second.Column, "Keep one document in a file.", "a second YAML document starts here")
	case !errors.Is(err, io.EOF):
		return nil, syntaxError(src, data, err)
	}
	return first.Content[0], nil
}

// decode reads one document. yaml.v3 panics with what it calls internal errors
// on some texts; no file may end the program.
func decode(dec *yaml3.Decoder, into *Node) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("yaml: %v", p)
		}
	}()
	return dec.Decode(into)
}

// check finds what yaml.v3 lets pass and PyYAML does not.
type check struct {
	src     *text.Source
	depth   int
	anchors map[string]bool
	restore func(*Node) // nil if there are no stand-ins
}

func (c *check) node(n *Node, depth int) error {
	if depth > c.depth {
		return c.src.Errorf(n.Line, n.Column, deepHint, "values are nested too deeply")
	}
	if c.restore != nil {
		c.restore(n)
	}
	if n.Anchor != "" {
		if c.anchors[n.Anchor] {
			return c.src.Errorf(n.Line, n.Column, "Give each anchor a name of its own.", "the anchor &%s stands here a second time", c.src.Clip(n.Anchor))
		}
		c.anchors[n.Anchor] = true
	}
	for _, x := range n.Content {
		if err := c.node(x, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// Resolve follows aliases.
func Resolve(n *Node) *Node {
	for n.Kind == yaml3.AliasNode {
		n = n.Alias
	}
	return n
}

// Null is a node without a value, in the place of n.
func Null(n *Node) *Node { return &Node{Kind: ScalarNode, Line: n.Line, Column: n.Column} }

// plain reports whether a scalar stands without quotes: its type follows from
// its text.
func plain(n *Node) bool {
	return n.Style&(yaml3.DoubleQuotedStyle|yaml3.SingleQuotedStyle|yaml3.LiteralStyle|yaml3.FoldedStyle) == 0
}

// tag is the tag that is written with a node, "" if there is none.
func tag(n *Node) string {
	if n.Style&yaml3.TaggedStyle == 0 {
		return ""
	}
	return n.Tag
}
