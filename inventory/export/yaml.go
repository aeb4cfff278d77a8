package export

import (
	"encoding/base64"
	"io"
	"math"
	"strings"

	yaml3 "gopkg.in/yaml.v3"

	"github.com/fleetd/fleetd/pkg/value"
	"github.com/fleetd/fleetd/pkg/yaml"
)

// writeYAML writes block style with sorted keys, as Ansible does.
func (e *exporter) writeYAML(w io.Writer, m *value.Map) error {
	enc := yaml3.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(e.node(m)); err != nil {
		return err
	}
	return enc.Close()
}

// node is v as YAML 1.1 reads it back.
func (e *exporter) node(v any) *yaml3.Node {
	switch v := v.(type) {
	case *value.Map:
		n := &yaml3.Node{Kind: yaml3.MappingNode}
		for _, x := range v.Sorted() {
			n.Content = append(n.Content, e.node(x.Key), e.node(x.Value))
		}
		return n
	case []any:
		return e.sequence(v)
	case value.Tuple:
		return e.sequence(v)
	case value.Secret:
		if cipher, ok := v.Cipher(); ok {
			return scalar("!vault", cipher, yaml3.LiteralStyle|yaml3.TaggedStyle)
		}
		return e.node(e.opened(v))
	case value.Unsafe: // ansible-inventory does not mark it in YAML
		return e.node(string(v))
	case value.Binary:
		return scalar("!!binary", base64.StdEncoding.EncodeToString([]byte(v)), yaml3.TaggedStyle)
	case string:
		switch {
		case strings.Contains(v, "\n"):
			return scalar("!!str", v, yaml3.LiteralStyle)
		case !yaml.IsText(v):
			return scalar("!!str", v, yaml3.SingleQuotedStyle)
		}
		return scalar("!!str", v, 0)
	case float64:
		switch {
		case math.IsNaN(v):
			return scalar("!!float", ".nan", 0)
		case math.IsInf(v, 0):
			return scalar("!!float", strings.TrimSuffix(value.Float(v), "inf")+".inf", 0)
		}
		return scalar("!!float", float(v), 0)
	case nil:
		return scalar("!!null", "null", 0)
	case bool:
		return scalar("!!bool", value.Word(v), 0)
	case value.Timestamp:
		return scalar("!!timestamp", v.Str, 0)
	}
	return scalar("!!int", value.Word(v), 0)
}

// float is a float as YAML 1.1 knows it: 1e+20 has no point, which makes it a
// text.
func float(f float64) string {
	s := value.Float(f)
	if mantissa, exponent, ok := strings.Cut(s, "e"); ok && !strings.Contains(mantissa, ".") {
		return mantissa + ".0e" + exponent
	}
	return s
}

func (e *exporter) sequence(items []any) *yaml3.Node {
	n := &yaml3.Node{Kind: yaml3.SequenceNode}
	for _, x := range items {
		n.Content = append(n.Content, e.node(x))
	}
	return n
}

func scalar(tag, text string, style yaml3.Style) *yaml3.Node {
	return &yaml3.Node{Kind: yaml3.ScalarNode, Tag: tag, Value: text, Style: style}
}
