package compliance

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/yaml"
)

// field is a key of the file.
type field struct {
	help     string
	required bool
}

var (
	fieldsOfFile = map[string]field{
		"playbook": {help: "whether hosts are held against what the playbook wants, too (default true)"},
		"policies": {help: "what hosts are held against"},
		"waivers":  {help: "who answers for hosts that are not as they should be, and until when"},
	}
	fieldsOfPolicy = map[string]field{
		"name":     {help: "what a person calls it; the history goes by it", required: true},
		"rule":     {help: "what judges", required: true},
		"with":     {help: "the rule's arguments"},
		"hosts":    {help: "pattern of hosts, as of a play (default all)"},
		"severity": {help: "low, medium (default) or high"},
		"fix":      {help: "what mends it, for whoever reads the report"},
	}
	fieldsOfWaiver = map[string]field{
		"policy":  {help: "name of a policy, or playbook", required: true},
		"rule":    {help: "only this rule of the policy"},
		"hosts":   {help: "pattern of hosts, as of a play (default all)"},
		"owner":   {help: "who answers for it", required: true},
		"reason":  {help: "why", required: true},
		"expires": {help: "the last day on which it holds, as 2027-01-31", required: true},
	}
)

func (l *loader) errorf(n *yaml.Node, hint, format string, args ...any) error {
	return l.r.Errorf(n, hint, format, args...)
}

// wrong is an error of a rule about its arguments.
func (l *loader) wrong(n *yaml.Node, err error) error {
	var in *inArgument
	if errors.As(err, &in) {
		if at := l.argument(n, in.name); at != nil {
			line, column := in.place(l.src, at)
			return l.src.Errorf(line, column, in.hint, "%s: %s", in.name, in.message)
		}
	}
	return l.errorf(n, text.HintOf(err), "%v", err)
}

// argument is the value of an argument.
func (l *loader) argument(with *yaml.Node, name string) *yaml.Node {
	entries, err := l.r.Entries(yaml.Resolve(with))
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if e.Key == name {
			return yaml.Resolve(e.Value)
		}
	}
	return nil
}

// fields are the values of a mapping, whose keys are known.
func (l *loader) fields(n *yaml.Node, what string, known map[string]field) (map[string]*yaml.Node, error) {
	out := map[string]*yaml.Node{}
	if n = yaml.Resolve(n); n.Kind != yaml.MappingNode {
		return nil, l.errorf(n, "Write keys and values: "+joined(sorted(known))+".", "%s is no mapping", what)
	}
	entries, err := l.r.Entries(n)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name, _ := e.Key.(string)
		if _, ok := known[name]; !ok {
			return nil, l.errorf(e.KeyNode, "There are: "+joined(sorted(known))+".", "%s has no key %q", what, e.KeyNode.Value)
		}
		out[name] = yaml.Resolve(e.Value)
	}
	for _, name := range sorted(known) {
		if known[name].required && out[name] == nil {
			return nil, l.errorf(n, "Add "+name+": "+known[name].help+".", "%s lacks the key %q", what, name)
		}
	}
	return out, nil
}

// each are the items of a list; none where it is not there.
func (l *loader) each(n *yaml.Node, name string, f func(*yaml.Node) error) error {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		return l.errorf(n, "Write each item behind a dash.", "%s is no list", name)
	}
	for _, item := range n.Content {
		if err := f(yaml.Resolve(item)); err != nil {
			return err
		}
	}
	return nil
}

// text is a scalar as it is written. What YAML takes for a number is refused: 6.10
// would be 6.1 to every other reader of the file.
func (l *loader) text(n *yaml.Node, name string) (string, error) {
	switch {
	case n.Kind != yaml.ScalarNode:
		return "", l.errorf(n, "Write one text.", "%s is no text", name)
	case n.ShortTag() == "!!int" || n.ShortTag() == "!!float" || n.ShortTag() == "!!bool":
		return "", l.errorf(n, fmt.Sprintf("Put it in quotes: %q.", n.Value), "%s: %s is a number, or true or false", name, n.Value)
	case strings.TrimSpace(n.Value) == "":
		return "", l.errorf(n, "Write one text.", "%s is empty", name)
	case text.Printable(n.Value) != n.Value:
		return "", l.errorf(n, "Take them out.", "%s has control characters", name)
	}
	return n.Value, nil
}

func (l *loader) bool(n *yaml.Node, name string) (bool, error) {
	if b, err := strconv.ParseBool(n.Value); err == nil && n.Kind == yaml.ScalarNode && n.ShortTag() == "!!bool" {
		return b, nil
	}
	return false, l.errorf(n, "Write true or false.", "%s is neither true nor false", name)
}

func (l *loader) choice(n *yaml.Node, name string, choices ...string) (string, error) {
	s, err := l.text(n, name)
	if err == nil && !slices.Contains(choices, s) {
		err = l.errorf(n, "There are: "+joined(choices)+".", "%s: there is no %q", name, s)
	}
	return s, err
}

// args are the arguments of a rule, of the types that it declares.
func (l *loader) args(r rule, pol, with *yaml.Node) (rollout.Args, error) {
	known := map[string]field{}
	for name, p := range r.Params {
		known[name] = field{p.Help, p.Required}
	}
	if with == nil {
		for _, name := range sorted(known) {
			if known[name].required {
				return nil, l.errorf(pol, "Add with: {"+name+": …}: "+known[name].help+".", "the rule %s needs the argument %q", r.Name, name)
			}
		}
		return rollout.Args{}, nil
	}
	if len(known) == 0 {
		return nil, l.errorf(with, "Leave out with.", "the rule %s takes no arguments", r.Name)
	}
	nodes, err := l.fields(with, "the rule "+r.Name, known)
	if err != nil {
		return nil, err
	}
	out := rollout.Args{}
	for name, n := range nodes {
		if out[name], err = l.arg(n, name, r.Params[name]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (l *loader) arg(n *yaml.Node, name string, p rollout.Param) (any, error) {
	switch p.Type {
	case rollout.Bool:
		return l.bool(n, name)
	case rollout.Int:
		i, err := strconv.ParseInt(n.Value, 10, 64)
		if err != nil || n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" {
			return nil, l.errorf(n, "Write digits, without quotes.", "%s is no whole number", name)
		}
		return i, nil
	case rollout.Duration:
		return l.duration(n, name)
	case rollout.Strings:
		return l.strings(n, name, p.Choices)
	case rollout.Any:
		if _, err := l.r.Value(n); err != nil { // an alias may stand inside of what it names
			return nil, err
		}
		return l.any(n)
	}
	if len(p.Choices) > 0 {
		return l.choice(n, name, p.Choices...)
	}
	return l.text(n, name)
}

func (l *loader) strings(n *yaml.Node, name string, choices []string) ([]any, error) {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	out := make([]any, 0, len(items))
	for _, item := range items {
		var s string
		var err error
		if item = yaml.Resolve(item); len(choices) > 0 {
			s, err = l.choice(item, name, choices...)
		} else {
			s, err = l.text(item, name)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// duration takes days as well: 90d.
func (l *loader) duration(n *yaml.Node, name string) (string, error) {
	s, err := l.text(n, name)
	if err != nil {
		return "", err
	}
	if count, ok := strings.CutSuffix(s, "d"); ok {
		if days, err := strconv.ParseUint(count, 10, 16); err == nil {
			return (time.Duration(days) * 24 * time.Hour).String(), nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return "", l.errorf(n, "Write a number and a unit: 90d, 12h, 30m.", "%s: %q is no span of time", name, s)
	}
	return d.String(), nil
}

// any is a value whose scalars are texts as they are written: a kernel 6.10 is none
// of 6.1.
func (l *loader) any(n *yaml.Node) (any, error) {
	switch n = yaml.Resolve(n); n.Kind {
	case yaml.ScalarNode:
		return n.Value, nil
	case yaml.SequenceNode:
		out := make([]any, 0, len(n.Content))
		for _, item := range n.Content {
			v, err := l.any(item)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, nil
	}
	entries, err := l.r.Entries(n)
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	for _, e := range entries {
		if out[e.KeyNode.Value], err = l.any(e.Value); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func joined(words []string) string { return strings.Join(words, ", ") }
