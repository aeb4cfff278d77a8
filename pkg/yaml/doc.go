// Package yaml reads YAML and JSON as Ansible does: gopkg.in/yaml.v3 parses,
// this package gives nodes the values of YAML 1.1 that PyYAML gives them (yes is
// true, 0777 is octal, 1:30 is ninety), in the types of package value, and says
// what is wrong with line, column, the text and what would be right.
//
// What yaml.v3 reads otherwise than PyYAML is in docs/ansible-differences.md.
package yaml

import (
	yaml3 "gopkg.in/yaml.v3"

	"github.com/fleetd/fleetd/pkg/text"
)

// Node is a node of a parsed document. Its Line and Column count from 1, the
// column in characters; they are set for JSON, too.
type Node = yaml3.Node

// Limits bound what a hostile or broken file may cost.
type Limits struct {
	Depth     int // nesting of values
	Expansion int // values that aliases and merge keys may expand to, beside what the file's size allows
}

// Document is one parsed file.
type Document struct {
	Source *text.Source
	Root   *Node // nil if there is no value in the file
	JSON   bool  // it was JSON: keys are strings, and the last of two alike counts
	limits Limits
}

// Entry is a key of a mapping and its value, merge keys resolved.
type Entry struct {
	Key            any
	KeyNode, Value *Node
}

// Options say how nodes become values.
type Options struct {
	// Duplicates is Ansible's duplicate_dict_key: "warn" (default), "ignore" or
	// "error".
	Duplicates string
	// Warn takes what Ansible would warn of; nil drops it.
	Warn func(text.Warning)
	// Vault makes the value of a !vault string; nil refuses the tag.
	Vault func(cipher string, at text.Place) any
}
