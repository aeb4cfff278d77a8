package yaml

import (
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/fleetd/fleetd/pkg/text"
)

// IsText reports whether an unquoted scalar is a text to every reader of YAML
// 1.1, and not a number, a date or a boolean.
func IsText(s string) bool {
	_, isString, _ := resolvePlain(s)
	return isString
}

// resolvePlain gives an unquoted scalar its type. ok is false for text that
// YAML 1.1 takes for a number or date and Python then cannot convert.
func resolvePlain(s string) (v any, isString, ok bool) {
	if s == "" {
		return nil, false, true
	}
	switch c := s[0]; {
	case c == '~':
		if s == "~" {
			return nil, false, true
		}
		return nil, true, true
	case strings.IndexByte("yYnNtTfFoO", c) >= 0:
		if b, ok := plainBool(s); ok {
			return b, false, true
		}
		if s == "null" || s == "Null" || s == "NULL" {
			return nil, false, true
		}
		return nil, true, true
	case c == '=':
		// The "value" tag has no constructor in the safe loader.
		return nil, s != "=", s != "="
	case c == '<':
		return nil, s != "<<", s != "<<"
	case (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.':
		if looksFloat(s) {
			v, ok := constructFloat(s)
			return v, false, ok
		}
		if looksInt(s) {
			v, ok := constructInt(s)
			return v, false, ok
		}
		if len(s) >= 8 && s[4] == '-' && timestampPattern.MatchString(s) {
			v, ok := constructTimestamp(s)
			return v, false, ok
		}
	}
	return nil, true, true
}

func plainBool(s string) (value, ok bool) {
	switch s {
	case "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON":
		return true, true
	case "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF":
		return false, true
	}
	return false, false
}

func digitOrBar(c byte) bool  { return text.Digit(c) || c == '_' }
func octalOrBar(c byte) bool  { return c >= '0' && c <= '7' || c == '_' }
func binaryOrBar(c byte) bool { return c == '0' || c == '1' || c == '_' }
func hexOrBar(c byte) bool    { return text.Hex(c) || c == '_' }
func signed(s string) string  { return strings.TrimLeft(s[:min(1, len(s))], "+-") + s[min(1, len(s)):] }

func looksInt(s string) bool {
	s = signed(s)
	switch {
	case s == "":
		return false
	case s == "0":
		return true
	case strings.HasPrefix(s, "0b"):
		return text.All(s[2:], binaryOrBar)
	case strings.HasPrefix(s, "0x"):
		return text.All(s[2:], hexOrBar)
	case s[0] == '0':
		return text.All(s[1:], octalOrBar)
	case !text.Digit(s[0]):
		return false
	}
	i := text.Span(s, 0, digitOrBar)
	return i == len(s) || sexagesimal(s[i:]) == len(s)-i
}

// sexagesimal is the length of the (:[0-5]?[0-9])+ that s starts with.
func sexagesimal(s string) int {
	i := 0
	for i < len(s) && s[i] == ':' {
		j := text.Span(s, i+1, text.Digit)
		n := j - i - 1
		if n == 0 || n > 2 || (n == 2 && s[i+1] > '5') {
			break
		}
		i = j
	}
	return i
}

func looksFloat(s string) bool {
	if s[0] == '.' {
		switch s {
		case ".nan", ".NaN", ".NAN", ".inf", ".Inf", ".INF":
			return true
		}
		if len(s) < 2 || !text.Digit(s[1]) {
			return false
		}
		return exponent(s[text.Span(s, 1, digitOrBar):])
	}
	s = signed(s)
	if s == ".inf" || s == ".Inf" || s == ".INF" {
		return true
	}
	if s == "" || !text.Digit(s[0]) {
		return false
	}
	i := text.Span(s, 0, digitOrBar)
	if n := sexagesimal(s[i:]); n > 0 {
		i += n
		return i < len(s) && s[i] == '.' && text.Span(s, i+1, digitOrBar) == len(s)
	}
	return i < len(s) && s[i] == '.' && exponent(s[text.Span(s, i+1, digitOrBar):])
}

// exponent tells whether s is empty or [eE][-+][0-9]+: YAML 1.1 wants the sign.
func exponent(s string) bool {
	if s == "" {
		return true
	}
	return len(s) > 2 && (s[0] == 'e' || s[0] == 'E') && (s[1] == '+' || s[1] == '-') && text.All(s[2:], text.Digit)
}

func constructInt(s string) (any, bool) {
	s = strings.ReplaceAll(s, "_", "")
	neg := strings.HasPrefix(s, "-")
	s = signed(s)
	n := new(big.Int)
	ok := true
	switch {
	case s == "":
		return nil, false
	case s == "0":
	case strings.HasPrefix(s, "0b"):
		_, ok = n.SetString(s[2:], 2)
	case strings.HasPrefix(s, "0x"):
		_, ok = n.SetString(s[2:], 16)
	case s[0] == '0':
		_, ok = n.SetString(strings.TrimPrefix(s, "0o"), 8)
	case strings.Contains(s, ":"):
		for part := range strings.SplitSeq(s, ":") {
			p, good := new(big.Int).SetString(part, 10)
			if !good {
				return nil, false
			}
			n.Mul(n, big.NewInt(60)).Add(n, p)
		}
	default:
		if i, err := strconv.Atoi(s); err == nil {
			if neg {
				i = -i
			}
			return int64(i), true
		}
		// Python refuses to convert more digits than this.
		if len(s) > 4300 {
			return nil, false
		}
		_, ok = n.SetString(s, 10)
	}
	if !ok {
		return nil, false
	}
	if neg {
		n.Neg(n)
	}
	return normalInt(n), true
}

func normalInt(n *big.Int) any {
	if n.IsInt64() {
		return n.Int64()
	}
	return n
}

func constructFloat(s string) (any, bool) {
	s = strings.ToLower(strings.ReplaceAll(s, "_", ""))
	neg := strings.HasPrefix(s, "-")
	s = signed(s)
	var f float64
	switch {
	case s == ".inf":
		f = math.Inf(1)
	case s == ".nan":
		return math.NaN(), true
	case strings.Contains(s, ":"):
		for part := range strings.SplitSeq(s, ":") {
			p, err := strconv.ParseFloat(part, 64)
			if err != nil {
				return nil, false
			}
			f = f*60 + p
		}
	default:
		var err error
		if f, err = strconv.ParseFloat(s, 64); err != nil && !math.IsInf(f, 0) {
			return nil, false
		}
	}
	if neg {
		f = -f
	}
	return f, true
}
