package jinja

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"path"
	"strconv"
	"strings"
	"unicode"

	"github.com/fleetd/fleetd/pkg/value"
)

// title is Jinja's: a letter after white space or a bracket is made upper
// case, the others lower case.
func title(s string) string {
	start := true
	return strings.Map(func(r rune) rune {
		was := start
		start = unicode.IsSpace(r) || strings.ContainsRune("-({[<", r)
		if was {
			return unicode.ToUpper(r)
		}
		return unicode.ToLower(r)
	}, s)
}

func filterSplit(c *call) (any, error) {
	if _, ok := c.in.(string); !ok {
		return nil, c.fail("needs a string, not %s", TypeName(c.in))
	}
	return split(c, false)
}

func filterWordcount(c *call) (any, error) {
	words := strings.FieldsFunc(Text(c.in), func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	return int64(len(words)), nil
}

func filterIndent(c *call) (any, error) {
	width, err := c.int(0, 4)
	if err != nil {
		return nil, err
	}
	if width < 0 || width > 1000 {
		return nil, c.fail("the width must be between 0 and 1000")
	}
	pad := strings.Repeat(" ", int(width))
	ls := strings.Split(Text(c.in), "\n")
	for i, l := range ls {
		if i == 0 && !c.bool(1, false) || i > 0 && l == "" && !c.bool(2, false) {
			continue
		}
		ls[i] = pad + l
	}
	return limited(strings.Join(ls, "\n"), c.at)
}

func filterQuote(c *call) (any, error) {
	s := output(c.in)
	safe := func(r rune) bool {
		return r < 128 && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("@%+=:,./-_", r))
	}
	if allRunes(s, safe) {
		return s, nil
	}
	return "'" + strings.ReplaceAll(s, "'", `'"'"'`) + "'", nil
}

func filterDirname(c *call) (any, error) {
	s := Text(c.in)
	dir := s[:strings.LastIndexByte(s, '/')+1]
	if strings.Trim(dir, "/") != "" {
		dir = strings.TrimRight(dir, "/")
	}
	return dir, nil
}

func filterSplitext(c *call) (any, error) {
	s := Text(c.in)
	ext := path.Ext(s)
	base := s[strings.LastIndexByte(s, '/')+1:]
	// A leading dot starts no extension.
	if strings.TrimLeft(base, ".") == strings.TrimPrefix(ext, ".") && strings.HasPrefix(base, ".") {
		ext = ""
	}
	return []any{strings.TrimSuffix(s, ext), ext}, nil
}

func filterB64decode(c *call) (any, error) {
	b, err := base64.StdEncoding.DecodeString(Text(c.in))
	if err != nil {
		return nil, c.fail("not base64: %v", err)
	}
	return string(b), nil
}

// toJSON writes JSON as Python's json.dumps does: ", " and ": " between, and
// everything that is not ASCII escaped.
func toJSON(c *call, indent string) (any, error) {
	if err := plainData(c.in); err != nil {
		return nil, c.fail("%v", err)
	}
	var b strings.Builder
	writeJSON(&b, c.in, indent, "\n")
	return limited(b.String(), c.at)
}

func plainData(v any) error {
	switch v := v.(type) {
	case nil, bool, int64, float64, string, value.Timestamp:
		return nil
	case []any:
		for _, x := range v {
			if err := plainData(x); err != nil {
				return err
			}
		}
		return nil
	case *value.Map:
		for k, x := range v.All() {
			if _, ok := k.(value.Timestamp); ok {
				return fmt.Errorf("a %s cannot be a key in JSON", TypeName(k))
			}
			if err := plainData(x); err != nil {
				return err
			}
		}
		return nil
	case Opaque:
		return v.Err
	}
	return fmt.Errorf("%s cannot be written as JSON", TypeName(v))
}

func writeJSON(b *strings.Builder, v any, indent, line string) {
	inner := line + indent
	comma := ", "
	if indent != "" {
		comma = ","
	}
	open := func(i int) {
		if i > 0 {
			b.WriteString(comma)
		}
		if indent != "" {
			b.WriteString(inner)
		}
	}
	end := func(n int, bracket string) {
		if indent != "" && n > 0 {
			b.WriteString(line)
		}
		b.WriteString(bracket)
	}
	switch v := v.(type) {
	case nil:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case float64:
		b.WriteString(map[string]string{"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}[value.Float(v)])
		if !math.IsInf(v, 0) && !math.IsNaN(v) {
			b.WriteString(value.Float(v))
		}
	case string:
		b.WriteString(jsonString(v))
	case value.Timestamp:
		b.WriteString(jsonString(v.ISO))
	case []any:
		b.WriteByte('[')
		for i, x := range v {
			open(i)
			writeJSON(b, x, indent, inner)
		}
		end(len(v), "]")
	case *value.Map:
		b.WriteByte('{')
		for i, e := range v.Entries() {
			open(i)
			b.WriteString(jsonString(value.Word(e.Key)) + ": ")
			writeJSON(b, e.Value, indent, inner)
		}
		end(v.Len(), "}")
	default:
		b.WriteString(Text(v))
	}
}

func jsonString(s string) string {
	var raw bytes.Buffer
	e := json.NewEncoder(&raw)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return `""`
	}
	var b strings.Builder
	for _, r := range strings.TrimSuffix(raw.String(), "\n") {
		switch {
		case r < 0x7f:
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func filterNiceJSON(c *call) (any, error) {
	n, err := c.int(0, 4)
	if err != nil {
		return nil, err
	}
	if n < 1 || n > 40 {
		return nil, c.fail("the indent must be between 1 and 40")
	}
	if c.in, err = c.sortedKeys(c.in); err != nil {
		return nil, err
	}
	return toJSON(c, strings.Repeat(" ", int(n)))
}

// sortedKeys sorts all dictionaries within v, as to_nice_json does.
func (c *call) sortedKeys(v any) (any, error) {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			var err error
			if out[i], err = c.sortedKeys(x); err != nil {
				return nil, err
			}
		}
		return out, nil
	case *value.Map:
		entries := anys(v.Entries())
		if err := c.sort(entries, func(e any) any { return e.(value.Entry).Key }); err != nil {
			return nil, err
		}
		out := value.NewMap(len(entries))
		for _, e := range entries {
			x, err := c.sortedKeys(e.(value.Entry).Value)
			if err != nil {
				return nil, err
			}
			out.Set(e.(value.Entry).Key, x)
		}
		return out, nil
	}
	return v, nil
}

func filterFromJSON(c *call) (any, error) {
	s, ok := c.in.(string)
	if !ok {
		return nil, c.fail("needs a string, not %s", TypeName(c.in))
	}
	v, err := fromJSON(s)
	if err != nil {
		return nil, c.fail("%v", err)
	}
	return v, nil
}
