package jinja

import (
	"slices"
	"strings"
)

// Words are the names in a template, each once. They are more than its variables:
// attributes, filters and keywords are names, too.
func Words(template string) ([]string, error) {
	toks, err := lexTemplate(template, nil)
	return names(toks), err
}

// WordsOf are the same of an expression.
func WordsOf(expression string) ([]string, error) {
	l := &lexer{src: expression}
	_, err := l.expression("", tEOF, 0, true)
	return names(l.tokens), err
}

func names(toks []token) []string {
	var out []string
	for _, t := range toks {
		if t.kind == tName {
			out = append(out, t.text)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// JSON is v as to_json writes it: numbers keep their type, mappings their order.
// What is no data, such as hostvars or a secret, is an error.
func JSON(v any) ([]byte, error) {
	if err := plainData(v); err != nil {
		return nil, err
	}
	var b strings.Builder
	writeJSON(&b, v, "", "\n")
	return []byte(b.String()), nil
}

// FromJSON reads what JSON wrote, and any other JSON.
func FromJSON(raw []byte) (any, error) { return fromJSON(string(raw)) }
