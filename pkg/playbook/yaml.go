package playbook

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// entry is one key of a mapping.
type entry struct {
	name string
	key  *yaml.Node
	val  *yaml.Node
}

func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// mapping lists the keys of a mapping, merge keys resolved. Of a key that is
// there twice the last counts, as in Ansible, which warns of it.
func (l *loader) mapping(s *source, n *yaml.Node) []entry {
	var out, merged []entry
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := resolve(n.Content[i]), resolve(n.Content[i+1])
		if k.Kind != yaml.ScalarNode {
			l.add(s.errorAt(k, "a key must be a word, not %s", kindName(k)))
			continue
		}
		if k.Tag == "!!merge" {
			merged = append(merged, l.merge(s, v)...)
			continue
		}
		e := entry{k.Value, k, v}
		if i := slices.IndexFunc(out, func(o entry) bool { return o.name == e.name }); i >= 0 {
			l.warn(s.position(k), "%q stands here a second time; the last one counts", e.name)
			out[i] = e
			continue
		}
		out = append(out, e)
	}
	for _, m := range merged {
		if !slices.ContainsFunc(out, func(o entry) bool { return o.name == m.name }) {
			out = append(out, m)
		}
	}
	return out
}

// merge is what << brings in.
func (l *loader) merge(s *source, v *yaml.Node) []entry {
	var out []entry
	switch v.Kind {
	case yaml.MappingNode:
		return l.mapping(s, v)
	case yaml.SequenceNode:
		for _, c := range v.Content {
			for _, e := range l.merge(s, resolve(c)) {
				if !slices.ContainsFunc(out, func(o entry) bool { return o.name == e.name }) {
					out = append(out, e)
				}
			}
		}
		return out
	}
	l.add(s.errorAt(v, "<< merges mappings, this is %s", kindName(v)))
	return nil
}

func kindName(n *yaml.Node) string {
	switch n = resolve(n); n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch scalar(n).(type) {
	case nil:
		return "nothing"
	case bool:
		return "a boolean"
	case int64, float64:
		return "a number"
	}
	return "a text"
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && scalar(n) == nil }

// isText reports whether a scalar is a string, as Ansible reads it.
func isText(n *yaml.Node) bool {
	if n.Kind != yaml.ScalarNode {
		return false
	}
	_, ok := scalar(n).(string)
	return ok
}

var (
	yamlInt   = regexp.MustCompile(`^[-+]?(0b[01_]+|0[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|[1-9][0-9_]*(:[0-5]?[0-9])+)$`)
	yamlFloat = regexp.MustCompile(`^([-+]?[0-9][0-9_]*\.[0-9_]*([eE][-+][0-9]+)?|\.[0-9][0-9_]*([eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+\.[0-9_]*)$`)
)

// scalar is the value of a scalar as Ansible reads it, by the rules of YAML
// 1.1: yes and off are booleans, 010 is 8, 1e3 is a text.
func scalar(n *yaml.Node) any {
	quoted := n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0
	s := n.Value
	switch {
	case n.Style&yaml.TaggedStyle != 0 && n.Tag == "!!str", quoted:
		return s
	}
	switch s {
	case "", "~", "null", "Null", "NULL":
		return nil
	case "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON":
		return true
	case "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF":
		return false
	}
	switch unsigned := strings.TrimLeft(s, "+-"); {
	case yamlInt.MatchString(s):
		if v, ok := integer(s); ok {
			return v
		}
		return s
	case yamlFloat.MatchString(s):
		return float(s)
	case len(s)-len(unsigned) <= 1 && (unsigned == ".inf" || unsigned == ".Inf" || unsigned == ".INF"):
		if strings.HasPrefix(s, "-") {
			return math.Inf(-1)
		}
		return math.Inf(1)
	case s == ".nan" || s == ".NaN" || s == ".NAN":
		return math.NaN()
	}
	return s
}

func integer(s string) (int64, bool) {
	s = strings.ReplaceAll(s, "_", "")
	if strings.Contains(s, ":") {
		f := sexagesimal(s)
		return int64(f), true
	}
	digits := strings.TrimLeft(s, "+-")
	if len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '7' {
		s = strings.TrimSuffix(s, digits) + "0o" + digits[1:]
	}
	v, err := strconv.ParseInt(s, 0, 64)
	return v, err == nil
}

func float(s string) float64 {
	s = strings.ReplaceAll(s, "_", "")
	if strings.Contains(s, ":") {
		return sexagesimal(s)
	}
	v, _ := strconv.ParseFloat(s, 64)
	return v
}

// sexagesimal reads 1:30 as 90, which surprises, but is what Ansible reads.
func sexagesimal(s string) float64 {
	sign := 1.0
	if strings.HasPrefix(s, "-") {
		sign = -1
	}
	v := 0.0
	for _, part := range strings.Split(strings.TrimLeft(s, "+-"), ":") {
		f, _ := strconv.ParseFloat(part, 64)
		v = v*60 + f
	}
	return sign * v
}

// verbatim is a string tagged !unsafe: it is no template.
type verbatim string

// data turns a node into plain values.
func (l *loader) data(s *source, n *yaml.Node) any {
	n = resolve(n)
	switch n.Tag {
	case "!vault", "!vault-encrypted":
		l.add(s.errorAt(n, "vault values are not read in playbooks").hint("put the value into the inventory's group_vars or host_vars; fleetd's modules take no secrets"))
		return nil
	case "!unsafe":
		if n.Kind == yaml.ScalarNode {
			return verbatim(n.Value)
		}
	}
	if strings.HasPrefix(n.Tag, "!") && !strings.HasPrefix(n.Tag, "!!") && n.Tag != "!" {
		l.add(s.errorAt(n, "the YAML tag %s is not supported by fleetd", n.Tag))
		return nil
	}
	switch n.Kind {
	case yaml.SequenceNode:
		out := make([]any, len(n.Content))
		for i, c := range n.Content {
			out[i] = l.data(s, c)
		}
		return out
	case yaml.MappingNode:
		out := map[string]any{}
		for _, e := range l.mapping(s, n) {
			out[e.name] = l.data(s, e.val)
		}
		return out
	}
	return scalar(n)
}
