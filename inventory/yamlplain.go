package inventory

import (
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"
)

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

func yamlBool(s string) (value, ok bool) { return plainBool(s) }

func span(s string, i int, set func(byte) bool) int {
	for i < len(s) && set(s[i]) {
		i++
	}
	return i
}

func digit(c byte) bool                        { return c >= '0' && c <= '9' }
func digitOrBar(c byte) bool                   { return digit(c) || c == '_' }
func octalOrBar(c byte) bool                   { return c >= '0' && c <= '7' || c == '_' }
func binaryOrBar(c byte) bool                  { return c == '0' || c == '1' || c == '_' }
func hexOrBar(c byte) bool                     { return isHex(c) || c == '_' }
func isHex(c byte) bool                        { return digit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' }
func signed(s string) string                   { return strings.TrimLeft(s[:min(1, len(s))], "+-") + s[min(1, len(s)):] }
func allOf(s string, set func(byte) bool) bool { return s != "" && span(s, 0, set) == len(s) }

func looksInt(s string) bool {
	s = signed(s)
	switch {
	case s == "":
		return false
	case s == "0":
		return true
	case strings.HasPrefix(s, "0b"):
		return allOf(s[2:], binaryOrBar)
	case strings.HasPrefix(s, "0x"):
		return allOf(s[2:], hexOrBar)
	case s[0] == '0':
		return allOf(s[1:], octalOrBar)
	case !digit(s[0]):
		return false
	}
	i := span(s, 0, digitOrBar)
	return i == len(s) || sexagesimal(s[i:]) == len(s)-i
}

// sexagesimal is the length of the (:[0-5]?[0-9])+ that s starts with.
func sexagesimal(s string) int {
	i := 0
	for i < len(s) && s[i] == ':' {
		j := span(s, i+1, digit)
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
		if len(s) < 2 || !digit(s[1]) {
			return false
		}
		return exponent(s[span(s, 1, digitOrBar):])
	}
	s = signed(s)
	if s == ".inf" || s == ".Inf" || s == ".INF" {
		return true
	}
	if s == "" || !digit(s[0]) {
		return false
	}
	i := span(s, 0, digitOrBar)
	if n := sexagesimal(s[i:]); n > 0 {
		i += n
		return i < len(s) && s[i] == '.' && span(s, i+1, digitOrBar) == len(s)
	}
	return i < len(s) && s[i] == '.' && exponent(s[span(s, i+1, digitOrBar):])
}

// exponent tells whether s is empty or [eE][-+][0-9]+: YAML 1.1 wants the sign.
func exponent(s string) bool {
	if s == "" {
		return true
	}
	return len(s) > 2 && (s[0] == 'e' || s[0] == 'E') && (s[1] == '+' || s[1] == '-') && allOf(s[2:], digit)
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
			return i, true
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
		return int(n.Int64())
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

var timestampPattern = regexp.MustCompile(`^(?:[0-9]{4}-[0-9]{2}-[0-9]{2}` +
	`|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?` +
	`(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::[0-9]{2})?))?)$`)

var timestampParts = regexp.MustCompile(`^([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})` +
	`(?:(?:[Tt]|[ \t]+)([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]*))?(?:[ \t]*(Z|([-+])([0-9]{1,2})(?::([0-9]{2}))?))?)?$`)

func constructTimestamp(s string) (any, bool) {
	m := timestampParts.FindStringSubmatch(s)
	if m == nil {
		return nil, false
	}
	num := func(i int) int { n, _ := strconv.Atoi(m[i]); return n }
	y, mo, d := num(1), num(2), num(3)
	if y < 1 || mo < 1 || mo > 12 || d < 1 || d > daysIn(y, mo) {
		return nil, false
	}
	date := fmt.Sprintf("%04d-%02d-%02d", y, mo, d)
	if m[4] == "" {
		return timestamp{iso: date, str: date, repr: fmt.Sprintf("datetime.date(%d, %d, %d)", y, mo, d)}, true
	}
	h, mi, sec := num(4), num(5), num(6)
	if h > 23 || mi > 59 || sec > 59 {
		return nil, false
	}
	clock := fmt.Sprintf("%02d:%02d:%02d", h, mi, sec)
	repr := fmt.Sprintf("datetime.datetime(%d, %d, %d, %d, %d", y, mo, d, h, mi)
	frac := 0
	if m[7] != "" {
		frac, _ = strconv.Atoi((m[7] + "000000")[:6])
	}
	if sec != 0 || frac != 0 {
		repr += fmt.Sprintf(", %d", sec)
	}
	if frac != 0 {
		clock += fmt.Sprintf(".%06d", frac)
		repr += fmt.Sprintf(", %d", frac)
	}
	if m[8] != "" {
		zone := "+00:00"
		offset := 0
		if m[9] != "" {
			offset = num(10)*60 + num(11)
			if offset >= 24*60 {
				return nil, false
			}
			sign := m[9]
			if offset == 0 {
				sign = "+"
			}
			zone = fmt.Sprintf("%s%02d:%02d", sign, offset/60, offset%60)
			if m[9] == "-" {
				offset = -offset
			}
		}
		clock += zone
		repr += ", tzinfo=" + pyTimezone(offset)
	}
	return timestamp{iso: date + "T" + clock, str: date + " " + clock, repr: repr + ")"}, true
}

// pyTimezone is Python's repr of a fixed offset in minutes.
func pyTimezone(minutes int) string {
	if minutes == 0 {
		return "datetime.timezone.utc"
	}
	if minutes > 0 {
		return fmt.Sprintf("datetime.timezone(datetime.timedelta(seconds=%d))", minutes*60)
	}
	return fmt.Sprintf("datetime.timezone(datetime.timedelta(days=-1, seconds=%d))", 86400+minutes*60)
}

func daysIn(year, month int) int {
	return time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

func dropSpace(r rune) rune {
	if r == ' ' || r == '\n' || r == '\t' || r == '\r' {
		return -1
	}
	return r
}

// markUnsafe marks every string in v as one that must not be templated.
func markUnsafe(v any) any {
	switch v := v.(type) {
	case string:
		return Unsafe(v)
	case Secret:
		if s, ok := v.p.value.(string); ok {
			v.p.value = Unsafe(s)
		}
	case *list:
		for i := range v.items {
			v.items[i] = markUnsafe(v.items[i])
		}
	case *dict:
		for i := range v.vals {
			v.vals[i] = markUnsafe(v.vals[i])
		}
	}
	return v
}

// clip shortens text quoted in messages.
func clip(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:60], "") + "…"
	}
	return s
}
