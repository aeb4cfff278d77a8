package inventory

import (
	"fmt"
	"math/big"
	"strings"
	"unicode"
)

// pyStr writes a value as Python's str does, which is how the graph shows
// variables.
func pyStr(v any, secrets bool) string {
	switch v := v.(type) {
	case string:
		return v
	case Unsafe:
		return string(v)
	case timestamp:
		return v.str
	case Secret:
		if secrets {
			plain, err := v.inner()
			if err != nil {
				return redacted
			}
			return pyStr(plain, true)
		}
		return redacted
	}
	return pyRepr(v, secrets)
}

// pyRepr writes a value as Python's repr does.
func pyRepr(v any, secrets bool) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case int:
		return fmt.Sprint(v)
	case *big.Int:
		return v.String()
	case float64:
		return pyFloat(v)
	case string:
		return pyQuote(v)
	case Unsafe:
		return pyQuote(string(v))
	case binaryData:
		return "b" + pyQuote(string(v))
	case timestamp:
		return v.repr
	case Secret:
		if secrets {
			if plain, err := v.inner(); err == nil {
				return pyRepr(plain, true)
			}
		}
		return redacted
	case *list:
		parts := make([]string, len(v.items))
		for i, x := range v.items {
			parts[i] = pyRepr(x, secrets)
		}
		if v.tuple {
			if len(parts) == 1 {
				return "(" + parts[0] + ",)"
			}
			return "(" + strings.Join(parts, ", ") + ")"
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case *dict:
		parts := make([]string, len(v.keys))
		for i, k := range v.keys {
			parts[i] = pyRepr(k, secrets) + ": " + pyRepr(v.vals[i], secrets)
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return ""
}

// pyQuote is the repr of a str: single quotes unless only they occur within.
func pyQuote(s string) string {
	q := '\''
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		q = '"'
	}
	var b strings.Builder
	b.WriteRune(q)
	for _, r := range s {
		switch {
		case r == q || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == ' ' || (r > ' ' && r < 0x7f) || (r > 0xa0 && r != 0xad && unicode.IsPrint(r)):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteRune(q)
	return b.String()
}
