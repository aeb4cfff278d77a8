package yaml

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	yaml3 "gopkg.in/yaml.v3"

	"github.com/fleetd/fleetd/pkg/text"
)

// mayBeJSON tells whether data can be JSON at all.
func mayBeJSON(data string) bool {
	data = strings.TrimLeft(data, " \t\r\n")
	// A lone number or word is the same in YAML but for 1e5, which is a number
	// only in JSON.
	return data != "" && strings.IndexByte(`{["-0123456789`, data[0]) >= 0
}

// jsonReader turns the tokens of encoding/json into nodes.
type jsonReader struct {
	src    *text.Source
	data   string // src's, with other words for NaN and Infinity
	dec    *json.Decoder
	words  map[int64]string // what stands at an offset of data in truth
	depth  int
	seen   int // byte offset up to which lines and columns are counted
	line   int
	column int
}

// ParseJSON reads JSON as Python's json module does: NaN and Infinity are
// numbers, of a key that stands twice the last counts.
func ParseJSON(src *text.Source, l Limits) (*Document, error) {
	r := &jsonReader{src: src, data: src.Data}
	root, err := r.read(l)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) && (strings.Contains(src.Data, "NaN") || strings.Contains(src.Data, "Infinity")) {
		r.data, r.words = quoteNumbers(src.Data)
		root, err = r.read(l)
	}
	if err != nil {
		return nil, r.located(err)
	}
	return &Document{Source: src, Root: root, JSON: true, limits: l}, nil
}

func (r *jsonReader) read(l Limits) (*Node, error) {
	r.dec = json.NewDecoder(strings.NewReader(r.data))
	r.dec.UseNumber()
	r.depth, r.seen, r.line, r.column = l.Depth, 0, 1, 1
	root, err := r.value()
	if err != nil {
		return nil, err
	}
	if rest := strings.TrimLeft(r.data[r.dec.InputOffset():], " \t\r\n"); rest != "" {
		return nil, r.errorAt(len(r.data)-len(rest), "this is not valid JSON: something follows the end of the JSON value")
	}
	return root, nil
}

const jsonHint = "Correct it at the caret; python3 -m json.tool FILE says whether it is right."

// located gives an error of encoding/json its place.
func (r *jsonReader) located(err error) error {
	var known *text.Error
	if errors.As(err, &known) {
		return err
	}
	// The decoder counts no bytes of tokens; read as one value, the text has the
	// same error at its true offset.
	var all json.RawMessage
	if whole := json.Unmarshal([]byte(r.data), &all); whole != nil {
		err = whole
	}
	at, why := len(r.data), err.Error()
	var syntax *json.SyntaxError
	switch {
	case strings.TrimSpace(r.src.Data) == "":
		return r.src.Errorf(1, 1, "It must print at least {}.", "this is not valid JSON: nothing was printed")
	case errors.As(err, &syntax) && why != "unexpected end of JSON input":
		at = max(int(syntax.Offset)-1, 0)
		// The cause names a character of the text, or a quote of quoteNumbers.
		if r.src.Secret || r.data[at] != r.src.Data[at] {
			why = "it is wrong here"
		}
	default:
		why = "the end is missing"
	}
	return r.errorAt(at, "this is not valid JSON: %s", why)
}

// next is where the next token starts.
func (r *jsonReader) next() int {
	i := int(r.dec.InputOffset())
	for i < len(r.data) && strings.IndexByte(" \t\r\n,:", r.data[i]) >= 0 {
		i++
	}
	return i
}

// token is the next one, and a node in its place.
func (r *jsonReader) token() (json.Token, *Node, error) {
	start := r.next()
	tok, err := r.dec.Token()
	if err != nil {
		return nil, nil, err
	}
	between := r.data[r.seen:start]
	if i := strings.LastIndexByte(between, '\n'); i >= 0 {
		r.line += strings.Count(between, "\n")
		r.column, between = 1, between[i+1:]
	}
	r.column += utf8.RuneCountInString(between)
	r.seen = start
	n := &Node{Kind: ScalarNode, Line: r.line, Column: r.column}
	if word, ok := r.words[int64(start)]; ok {
		tok = json.Number(word)
	}
	return tok, n, nil
}

func (r *jsonReader) value() (*Node, error) {
	tok, n, err := r.token()
	if err != nil {
		return nil, err
	}
	switch tok := tok.(type) {
	case json.Delim:
		if r.depth--; r.depth < 0 {
			return nil, r.src.Errorf(n.Line, n.Column, deepHint, "values are nested too deeply")
		}
		defer func() { r.depth++ }()
		if tok == '{' {
			return r.object(n)
		}
		n.Kind = SequenceNode
		for r.dec.More() {
			x, err := r.value()
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, x)
		}
		_, _, err = r.token()
		return n, err
	case string:
		n.Value, n.Style = tok, yaml3.DoubleQuotedStyle
	case json.Number:
		n.Value, n.Style, n.Tag = tok.String(), yaml3.TaggedStyle, "!!int"
		if strings.ContainsAny(n.Value, ".eEnN") {
			n.Tag = "!!float"
		}
	case bool:
		n.Value, n.Style, n.Tag = fmt.Sprint(tok), yaml3.TaggedStyle, "!!bool"
	case nil:
		n.Style, n.Tag = yaml3.TaggedStyle, "!!null"
	}
	return n, nil
}

func (r *jsonReader) object(n *Node) (*Node, error) {
	n.Kind = MappingNode
	var marked *Node
	for r.dec.More() {
		tok, key, err := r.token()
		if err != nil {
			return nil, err
		}
		name, ok := tok.(string)
		if !ok { // NaN or Infinity, which quoteNumbers made a text for the decoder
			return nil, r.src.Errorf(key.Line, key.Column, jsonHint, "this is not valid JSON: a key must be a text in double quotes")
		}
		key.Value, key.Style = name, yaml3.DoubleQuotedStyle
		v, err := r.value()
		if err != nil {
			return nil, err
		}
		n.Content = append(n.Content, key, v)
		// This is how ansible-inventory writes !vault and !unsafe.
		if mark := map[string]string{"__ansible_vault": "!vault", "__ansible_unsafe": "!unsafe"}[key.Value]; mark != "" && marked == nil {
			if marked = v; v.Kind == ScalarNode && tag(v) == "" {
				marked = &Node{Kind: ScalarNode, Style: yaml3.TaggedStyle, Tag: mark, Value: v.Value, Line: n.Line, Column: n.Column}
			} else if mark == "!vault" {
				marked = nil
			}
		}
	}
	if _, _, err := r.token(); err != nil {
		return nil, err
	}
	if marked != nil {
		return marked, nil
	}
	return n, nil
}

// quoteNumbers puts the numbers that only Python's JSON has into quotes, as wide
// as they were, and tells where: encoding/json takes them for texts.
func quoteNumbers(data string) (string, map[int64]string) {
	out := []byte(data)
	words := map[int64]string{}
	inString := false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case c == '\\' && inString:
			i++
		case c == '"':
			inString = !inString
		case inString:
		default:
			for _, w := range []struct{ json, yaml string }{{"NaN", ".nan"}, {"-Infinity", "-.inf"}, {"Infinity", ".inf"}} {
				if strings.HasPrefix(data[i:], w.json) {
					words[int64(i)] = w.yaml
					out[i], out[i+len(w.json)-1] = '"', '"'
					i += len(w.json) - 1
					break
				}
			}
		}
	}
	return string(out), words
}

func (r *jsonReader) errorAt(offset int, format string, args ...any) error {
	line, column := r.src.Offset(offset)
	return r.src.Errorf(line, column, jsonHint, format, args...)
}
