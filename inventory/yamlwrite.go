package inventory

import (
	"encoding/base64"
	"fmt"
	"io"
	"strings"
)

// yamlWriter writes YAML as PyYAML's safe dumper over libyaml does: block
// style, sorted keys, lines folded at 80, and an anchor for every list,
// dictionary and vault that occurs more than once.
type yamlWriter struct {
	b       strings.Builder
	col     int
	o       ExportOptions
	anchors map[any]string // value → "" when seen once, its anchor when more often
	written map[any]bool
}

const yamlWidth = 80

func writeYAML(w io.Writer, v any, o ExportOptions) error {
	y := &yamlWriter{o: o, anchors: map[any]string{}, written: map[any]bool{}}
	n := 0
	y.findShared(v, &n)
	y.root(v)
	_, err := io.WriteString(w, y.b.String())
	return err
}

// findShared numbers the values that occur twice, in the order in which their
// second occurrence is met.
func (y *yamlWriter) findShared(v any, n *int) {
	switch v := v.(type) {
	case *list:
		if y.again(v, n) {
			return
		}
		for _, x := range v.items {
			y.findShared(x, n)
		}
	case *dict:
		if y.again(v, n) {
			return
		}
		for _, i := range sortedKeys(v) {
			y.findShared(v.vals[i], n)
		}
	case Secret:
		if v.p.inline {
			y.again(v.p, n)
		}
	}
}

func (y *yamlWriter) again(p any, n *int) bool {
	a, ok := y.anchors[p]
	if !ok {
		y.anchors[p] = ""
		return false
	}
	if a == "" {
		*n++
		y.anchors[p] = fmt.Sprintf("id%03d", *n)
	}
	return true
}

func (y *yamlWriter) put(s string) {
	for i := range s {
		if s[i] == '\n' {
			y.col = -1
		}
		y.col++
	}
	y.b.WriteString(s)
}

func (y *yamlWriter) newline(indent int) {
	y.put("\n")
	y.put(strings.Repeat(" ", indent))
}

// mark writes " &anchor" or " *alias"; it returns true if that is all.
func (y *yamlWriter) mark(p any) bool {
	a := y.anchors[p]
	if a == "" {
		return false
	}
	if y.written[p] {
		y.put(" *" + a)
		return true
	}
	y.written[p] = true
	y.put(" &" + a)
	return false
}

func (y *yamlWriter) root(v any) {
	switch v := v.(type) {
	case *dict:
		if v.len() == 0 {
			y.put("{}")
		} else {
			y.mapping(v, 0)
		}
	case *list:
		y.sequence(v, 0)
	}
	y.put("\n")
}

// mapping writes entries at indent; the cursor stands where the first goes.
func (y *yamlWriter) mapping(d *dict, indent int) {
	for n, i := range sortedKeys(d) {
		if n > 0 {
			y.newline(indent)
		}
		text, style := y.scalarText(d.keys[i])
		simple := len(text) <= 128 && strings.IndexFunc(text, isYAMLBreak) < 0
		if !simple {
			y.put("? ")
			y.scalar(text, style, indent+2, false)
			y.newline(indent)
		} else {
			y.scalar(text, style, indent, true)
		}
		y.put(":")
		y.value(d.vals[i], indent, simple)
	}
}

func (y *yamlWriter) sequence(l *list, indent int) {
	for n, x := range l.items {
		if n > 0 {
			y.newline(indent)
		}
		y.put("-")
		y.value(x, indent, false)
	}
}

// value writes what follows "key:", or "-" and the ":" of a key that stands on
// lines of its own.
func (y *yamlWriter) value(v any, indent int, inMapping bool) {
	switch v := v.(type) {
	case *dict:
		if y.mark(v) {
			return
		}
		switch {
		case v.len() == 0:
			y.put(" {}")
		case inMapping || y.anchors[v] != "":
			y.newline(indent + 2)
			y.mapping(v, indent+2)
		default:
			y.put(" ")
			y.mapping(v, indent+2)
		}
		return
	case *list:
		if y.mark(v) {
			return
		}
		switch {
		case len(v.items) == 0:
			y.put(" []")
		case inMapping:
			y.newline(indent)
			y.sequence(v, indent)
		case y.anchors[v] != "":
			y.newline(indent + 2)
			y.sequence(v, indent+2)
		default:
			y.put(" ")
			y.sequence(v, indent+2)
		}
		return
	case Secret:
		if v.p.inline {
			if !y.mark(v.p) {
				y.put(" !vault ")
				y.block(v.p.cipher, indent+2)
			}
			return
		}
		if bytes, ok := v.p.value.(binaryData); ok && y.o.ShowSecrets {
			y.value(bytes, indent, inMapping)
			return
		}
	case binaryData:
		y.put(" !!binary ")
		y.block(wrap76(base64.StdEncoding.EncodeToString([]byte(v))), indent+2)
		return
	}
	text, style := y.scalarText(v)
	y.put(" ")
	y.scalar(text, style, indent+2, false)
}

func wrap76(s string) string {
	if s == "" {
		return ""
	}
	var b strings.Builder
	for len(s) > 76 {
		b.WriteString(s[:76] + "\n")
		s = s[76:]
	}
	return b.String() + s + "\n"
}
