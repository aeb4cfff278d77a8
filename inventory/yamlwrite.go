package inventory

import (
	"encoding/base64"
	"fmt"
	"io"
	"math"
	"math/big"
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

type yamlStyle int

const (
	plainStyle yamlStyle = iota
	singleStyle
	doubleStyle
)

// scalarText is a value's text and the style it needs.
func (y *yamlWriter) scalarText(v any) (string, yamlStyle) {
	switch v := v.(type) {
	case nil:
		return "null", plainStyle
	case bool:
		if v {
			return "true", plainStyle
		}
		return "false", plainStyle
	case int:
		return fmt.Sprint(v), plainStyle
	case *big.Int:
		return v.String(), plainStyle
	case float64:
		return yamlFloat(v), plainStyle
	case timestamp:
		return v.str, plainStyle
	case Unsafe:
		return stringStyle(string(v))
	case Secret:
		if y.o.ShowSecrets {
			// Nothing can go wrong: the file was decrypted when it was read.
			plain, _ := v.inner()
			return y.scalarText(plain)
		}
		return stringStyle(redacted)
	case string:
		return stringStyle(v)
	}
	return stringStyle(keyString(v))
}

func yamlFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return ".nan"
	case math.IsInf(f, 1):
		return ".inf"
	case math.IsInf(f, -1):
		return "-.inf"
	}
	s := pyFloat(f)
	if !strings.Contains(s, ".") {
		s = strings.Replace(s, "e", ".0e", 1)
	}
	return s
}

func isYAMLBreak(r rune) bool {
	return r == '\n' || r == '\r' || r == 0x85 || r == 0x2028 || r == 0x2029
}

// yamlPrintable is libyaml's idea: no tab, nothing beyond 16 bits.
func yamlPrintable(r rune) bool {
	return r == '\n' || (r >= ' ' && r <= '~') || (r >= 0xa0 && r < 0xd800) || (r >= 0xe000 && r <= 0xfffd && r != 0xfeff)
}

// stringStyle chooses the plainest style that reads back as the same string.
func stringStyle(s string) (string, yamlStyle) {
	if s == "" {
		return s, singleStyle
	}
	runes := []rune(s)
	blank := func(i int) bool {
		return i >= len(runes) || runes[i] == ' ' || runes[i] == '\t' || runes[i] == 0 || isYAMLBreak(runes[i])
	}
	plain, single := true, true
	if strings.HasPrefix(s, "---") || strings.HasPrefix(s, "...") {
		plain = false
	}
	var spaceBefore, breakBefore bool
	for i, r := range runes {
		next := blank(i + 1)
		switch {
		case i == 0 && strings.ContainsRune("#,[]{}&*!|>'\"%@`", r):
			plain = false
		case (i == 0 && (r == '?' || r == '-') || r == ':') && next:
			plain = false
		case r == '#' && i > 0 && blank(i-1):
			plain = false
		}
		if !yamlPrintable(r) {
			plain, single = false, false
		}
		edge := i == 0 || i == len(runes)-1
		switch {
		case r == ' ':
			plain = plain && !edge
			if breakBefore {
				plain, single = false, false
			}
			spaceBefore, breakBefore = true, false
		case isYAMLBreak(r):
			if spaceBefore {
				single = false
			}
			plain = false
			spaceBefore, breakBefore = false, true
		default:
			spaceBefore, breakBefore = false, false
		}
	}
	if plain {
		_, isString, _ := resolvePlain(s)
		plain = isString
	}
	switch {
	case plain:
		return s, plainStyle
	case single:
		return s, singleStyle
	}
	return s, doubleStyle
}

// scalar writes text in a style; long lines are folded unless it is a key.
func (y *yamlWriter) scalar(s string, style yamlStyle, indent int, key bool) {
	switch style {
	case plainStyle:
		y.folded(s, indent, key, "")
	case singleStyle:
		y.put("'")
		y.folded(s, indent, key, "'")
		y.put("'")
	default:
		y.double(s, indent, key)
	}
}

func (y *yamlWriter) folded(s string, indent int, key bool, quote string) {
	runes := []rune(s)
	spaces, breaks := false, false
	for i, r := range runes {
		switch {
		case r == ' ':
			inner := quote == "" || (i != 0 && i != len(runes)-1)
			if !key && !spaces && y.col > yamlWidth && inner && !(i+1 < len(runes) && runes[i+1] == ' ') {
				y.newline(indent)
			} else {
				y.put(" ")
			}
			spaces = true
		case isYAMLBreak(r):
			if !breaks && r == '\n' {
				y.put("\n")
			}
			if r == '\n' {
				y.put("\n")
			} else {
				y.b.WriteRune(r)
				y.col = 0
			}
			breaks = true
		default:
			if breaks {
				y.put(strings.Repeat(" ", indent))
			}
			if r == '\'' && quote != "" {
				y.put("''")
			} else {
				y.put(string(r))
			}
			spaces, breaks = false, false
		}
	}
	if breaks {
		y.put(strings.Repeat(" ", indent))
	}
}

var yamlEscapes = map[rune]string{0: `\0`, 7: `\a`, 8: `\b`, 9: `\t`, 10: `\n`, 11: `\v`, 12: `\f`, 13: `\r`, 27: `\e`,
	'"': `\"`, '\\': `\\`, 0x85: `\N`, 0xa0: `\_`, 0x2028: `\L`, 0x2029: `\P`}

func (y *yamlWriter) double(s string, indent int, key bool) {
	y.put(`"`)
	runes := []rune(s)
	spaces := false
	for i, r := range runes {
		switch {
		case !yamlPrintable(r) || isYAMLBreak(r) || r == '"' || r == '\\':
			if e, ok := yamlEscapes[r]; ok {
				y.put(e)
			} else if r <= 0xff {
				y.put(fmt.Sprintf(`\x%02X`, r))
			} else if r <= 0xffff {
				y.put(fmt.Sprintf(`\u%04X`, r))
			} else {
				y.put(fmt.Sprintf(`\U%08X`, r))
			}
			spaces = false
		case r == ' ':
			if !key && !spaces && y.col > yamlWidth && i != 0 && i != len(runes)-1 {
				y.newline(indent)
				if runes[i+1] == ' ' {
					y.put(`\`)
				}
			} else {
				y.put(" ")
			}
			spaces = true
		default:
			y.put(string(r))
			spaces = false
		}
	}
	y.put(`"`)
}

// block writes a literal block, as vaults are written.
func (y *yamlWriter) block(s string, indent int) {
	if !allowsBlock(s) {
		y.double(s, indent, false)
		return
	}
	head := "|"
	if s != "" && (s[0] == ' ' || s[0] == '\n') {
		head += "2"
	}
	switch {
	case !strings.HasSuffix(s, "\n"):
		head += "-"
	case s == "\n" || strings.HasSuffix(s, "\n\n"):
		head += "+"
	}
	y.put(head)
	for line := range strings.SplitSeq(strings.TrimSuffix(s, "\n"), "\n") {
		y.put("\n")
		if line != "" {
			y.put(strings.Repeat(" ", indent) + line)
		}
	}
}

// allowsBlock tells whether PyYAML writes a text below | when it is asked to.
func allowsBlock(s string) bool {
	if s == "" || s[len(s)-1] == ' ' {
		return false
	}
	space := false
	for _, r := range s {
		if !yamlPrintable(r) || (space && isYAMLBreak(r)) {
			return false
		}
		space = r == ' '
	}
	return true
}
