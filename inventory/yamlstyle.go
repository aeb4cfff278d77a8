package inventory

import (
	"fmt"
	"math"
	"math/big"
	"strings"
)

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
