package inventory

import (
	"encoding/base64"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// constructor gives YAML nodes their values, as PyYAML's SafeLoader with
// Ansible's tags does: that is YAML 1.1, where yes is true, 0777 is octal and
// 1:30 is ninety.
type constructor struct {
	t        *text
	settings Settings
	limits   Limits
	vault    *vault
	warn     func(line, col int, format string, args ...any)

	done     map[*node]any // values of anchored nodes: aliases share them
	open     map[*node]bool
	expanded int // values reached through aliases
	size     map[*node]int
	flat     map[*node][]pair
}

type pair struct {
	key    any
	kn, vn *node
}

func (c *constructor) errorAt(n *node, hint, format string, args ...any) error {
	return c.t.errorAt(n.line, n.col, hint, format, args...)
}

// resolve follows aliases.
func (n *node) resolve() *node {
	for n != nil && n.kind == aliasNode {
		n = n.target
	}
	return n
}

// value constructs the value of n.
func (c *constructor) value(n *node) (any, error) {
	if n.kind == aliasNode {
		target := n.resolve()
		if c.open[target] {
			return nil, c.errorAt(n, "", "an alias stands inside the value that it names")
		}
		if c.expanded += c.measure(target); c.expanded > c.limits.Expansion {
			return nil, c.errorAt(n, "Write the values out, or split the file.", "aliases expand to more than %d values", c.limits.Expansion)
		}
		if v, ok := c.done[target]; ok {
			return v, nil
		}
		return c.value(target)
	}
	if v, ok := c.done[n]; ok {
		return v, nil
	}
	var v any
	var err error
	switch n.kind {
	case scalarNode:
		v, err = c.scalar(n)
	case sequenceNode:
		v, err = c.sequence(n)
	default:
		v, err = c.mapping(n)
	}
	if n.shared && err == nil {
		if c.done == nil {
			c.done = map[*node]any{}
		}
		c.done[n] = v
	}
	return v, err
}

// measure is how many values n would be with all aliases written out.
func (c *constructor) measure(n *node) int {
	n = n.resolve()
	if n.kind == scalarNode {
		return 1
	}
	if s, ok := c.size[n]; ok {
		return s
	}
	if c.size == nil {
		c.size = map[*node]int{}
	}
	c.size[n] = c.limits.Expansion // while measuring: an alias to itself is endless
	sum := 1
	for _, x := range n.items {
		if sum += c.measure(x); sum > c.limits.Expansion {
			sum = c.limits.Expansion
			break
		}
	}
	c.size[n] = sum
	return sum
}

func (c *constructor) enter(n *node) func() {
	if c.open == nil {
		c.open = map[*node]bool{}
	}
	c.open[n] = true
	return func() { delete(c.open, n) }
}

func (c *constructor) sequence(n *node) (any, error) {
	switch n.tag {
	case "", "!", tagPrefix + "seq":
	case "!unsafe":
		v, err := c.untagged(n)
		return markUnsafe(v), err
	case tagPrefix + "omap", tagPrefix + "pairs":
	default:
		return nil, c.badTag(n)
	}
	defer c.enter(n)()
	l := &list{items: make([]any, 0, len(n.items))}
	for _, x := range n.items {
		v, err := c.value(x)
		if err != nil {
			return nil, err
		}
		if n.tag == tagPrefix+"omap" || n.tag == tagPrefix+"pairs" {
			d, ok := v.(*dict)
			if !ok || d.len() != 1 {
				return nil, c.errorAt(x, "", "each item of an ordered map must be one key with one value")
			}
			v = &list{items: []any{d.keys[0], d.vals[0]}}
		}
		l.items = append(l.items, v)
	}
	return l, nil
}

func (c *constructor) untagged(n *node) (any, error) {
	bare := *n
	bare.tag = ""
	return c.value(&bare)
}

func (c *constructor) mapping(n *node) (any, error) {
	switch n.tag {
	case "", "!", tagPrefix + "map", tagPrefix + "set":
	case "!unsafe":
		v, err := c.untagged(n)
		return markUnsafe(v), err
	default:
		return nil, c.badTag(n)
	}
	defer c.enter(n)()
	pairs, err := c.pairs(n)
	if err != nil {
		return nil, err
	}
	d := &dict{keys: make([]any, 0, len(pairs)), vals: make([]any, 0, len(pairs))}
	for _, p := range pairs {
		v, err := c.value(p.vn)
		if err != nil {
			return nil, err
		}
		d.set(p.key, v)
	}
	return d, nil
}

// pairs returns the keys and values of a mapping after merge keys (<<) are
// resolved: merged ones first, so that the mapping's own win. A key that
// stands twice is warned of and keeps its first place and its last value.
func (c *constructor) pairs(n *node) ([]pair, error) {
	if p, ok := c.flat[n]; ok {
		return p, nil
	}
	var merged, own []pair
	for i := 0; i+1 < len(n.items); i += 2 {
		kn, vn := n.items[i], n.items[i+1]
		if k := kn.resolve(); k.kind == scalarNode && ((k.plain && k.tag == "" && k.value == "<<") || k.tag == tagPrefix+"merge") {
			m, err := c.merge(n, kn, vn)
			if err != nil {
				return nil, err
			}
			merged = append(merged, m...)
			continue
		}
		key, err := c.key(kn)
		if err != nil {
			return nil, err
		}
		own = append(own, pair{key, kn, vn})
	}
	all := own
	if len(merged) > 0 {
		all = append(merged, own...)
	}
	at := 0
	var index map[any]int
	if len(all) > dictIndexFrom {
		index = make(map[any]int, len(all))
	}
	for _, p := range all {
		old := -1
		if index != nil {
			if i, ok := index[p.key]; ok {
				old = i
			}
		} else {
			for i := range all[:at] {
				if all[i].key == p.key {
					old = i
					break
				}
			}
		}
		if old < 0 {
			if index != nil {
				index[p.key] = at
			}
			all[at] = p
			at++
			continue
		}
		switch {
		case n.typed || c.settings.DuplicateKeys == "ignore": // JSON takes the last without a word
		case c.settings.DuplicateKeys == "error":
			return nil, c.errorAt(p.kn, "Remove one of the two.", "the key %s stands twice in this dictionary", keyString(p.key))
		default:
			c.warn(p.kn.line, p.kn.col, "the key %s stands twice in this dictionary, the last value is used", keyString(p.key))
		}
		// The value that is dropped must be one all the same.
		if _, err := c.value(all[old].vn); err != nil {
			return nil, err
		}
		all[old].vn, all[old].kn = p.vn, p.kn
	}
	all = all[:at]
	if len(merged) > 0 {
		if c.flat == nil {
			c.flat = map[*node][]pair{}
		}
		c.flat[n] = all
	}
	return all, nil
}

func (c *constructor) merge(n, kn, vn *node) ([]pair, error) {
	target := vn.resolve()
	if c.open[target] && target != n || target == n {
		return nil, c.errorAt(vn, "", "an alias stands inside the value that it names")
	}
	switch target.kind {
	case mappingNode:
		defer c.enter(target)()
		p, err := c.pairs(target)
		return slices.Clone(p), err
	case sequenceNode:
		defer c.enter(target)()
		var out []pair
		for i := len(target.items) - 1; i >= 0; i-- {
			x := target.items[i].resolve()
			if x.kind != mappingNode {
				return nil, c.errorAt(target.items[i], "", "only dictionaries can be merged with <<")
			}
			if c.open[x] {
				return nil, c.errorAt(target.items[i], "", "an alias stands inside the value that it names")
			}
			leave := c.enter(x)
			p, err := c.pairs(x)
			leave()
			if err != nil {
				return nil, err
			}
			out = append(out, p...)
			if c.expanded += len(p); c.expanded > c.limits.Expansion {
				return nil, c.errorAt(kn, "", "merge keys expand to more than %d values", c.limits.Expansion)
			}
		}
		return out, nil
	}
	return nil, c.errorAt(vn, "Give << a dictionary or a list of dictionaries, usually *an_anchor.", "only dictionaries can be merged with <<")
}

func (c *constructor) key(kn *node) (any, error) {
	n := kn.resolve()
	if n.kind != scalarNode {
		return nil, c.errorAt(kn, "A template in braces must be quoted: \"{{ name }}\".", "a dictionary key must be a single value")
	}
	if n.plain && n.tag == "" && n.value == "=" {
		return "=", nil
	}
	if n.typed {
		return n.val, nil
	}
	k, err := c.keyScalar(n)
	if err != nil {
		return nil, err
	}
	switch v := k.(type) {
	case Unsafe:
		return string(v), nil
	case Secret:
		return nil, c.errorAt(kn, "", "a vault cannot be a dictionary key")
	case *big.Int:
		return v.String(), nil
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1e15 {
			return int(v), nil // Python finds 1 and 1.0 to be the same key
		}
	}
	return k, nil
}

// keyScalar is scalar for keys: names in an encrypted file are no secrets.
func (c *constructor) keyScalar(n *node) (any, error) {
	if !c.t.secret {
		return c.scalar(n)
	}
	open := *c.t
	open.secret = false
	named := *c
	named.t = &open
	return named.scalar(n)
}

func (c *constructor) badTag(n *node) error {
	return c.errorAt(n, "Known tags are !vault, !unsafe and those of YAML itself (!!str, !!int, …).",
		"the tag %s is not known", strings.Replace(n.tag, tagPrefix, "!!", 1))
}

func (c *constructor) scalar(n *node) (any, error) {
	if n.typed {
		if c.t.secret {
			switch n.val.(type) {
			case string, int, float64, *big.Int:
				return c.vault.revealedValue(n.val, c.t), nil
			}
		}
		return n.val, nil
	}
	tag := n.tag
	if tag == "" || tag == "!" {
		if tag == "!" || !n.plain {
			return c.str(n.value), nil
		}
		return c.plainScalar(n)
	}
	switch tag {
	case tagPrefix + "str":
		return c.str(n.value), nil
	case "!unsafe":
		return Unsafe(n.value), nil
	case "!vault", "!vault-encrypted":
		return c.vault.inline(n.value, c.t, n.line, n.col), nil
	case tagPrefix + "null":
		return nil, nil
	case tagPrefix + "bool":
		if b, ok := yamlBool(strings.ToLower(n.value)); ok {
			return b, nil
		}
	case tagPrefix + "int":
		if v, ok := constructInt(n.value); ok {
			return v, nil
		}
	case tagPrefix + "float":
		if v, ok := constructFloat(n.value); ok {
			return v, nil
		}
	case tagPrefix + "timestamp":
		if v, ok := constructTimestamp(n.value); ok {
			return v, nil
		}
	case tagPrefix + "binary":
		raw, err := base64.StdEncoding.DecodeString(strings.Map(dropSpace, n.value))
		if err == nil {
			return binaryData(raw), nil
		}
	default:
		return nil, c.badTag(n)
	}
	return nil, c.errorAt(n, "", "%q is not a value of type %s", clip(n.value), strings.Replace(tag, tagPrefix, "!!", 1))
}

// str is a string as the file's secrecy wants it.
func (c *constructor) str(s string) any {
	if c.t.secret {
		return c.vault.revealed(s, c.t)
	}
	return s
}

func (c *constructor) plainScalar(n *node) (any, error) {
	v, isString, ok := resolvePlain(n.value)
	switch {
	case isString:
		return c.str(n.value), nil
	case ok:
		if c.t.secret {
			switch v.(type) {
			case int, float64, *big.Int:
				return c.vault.revealedValue(v, c.t), nil
			}
		}
		return v, nil
	}
	return nil, c.errorAt(n, fmt.Sprintf("Quote it if a string is meant: %q.", clip(n.value)), "%s looks like a number or a date but is none", clip(n.value))
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
