package jinja

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"sync"
)

// compiled keeps regular expressions: the same few are used for every host.
var compiled sync.Map

// compileRegexp reads a Python regular expression. Go has no look-around and no
// back references, by design; such a pattern is an error, not another meaning.
func (c *call) compileRegexp(pattern string, ignoreCase, multiline bool) (*regexp.Regexp, error) {
	flags := ""
	if ignoreCase {
		flags += "i"
	}
	if multiline {
		flags += "m"
	}
	if flags != "" {
		flags = "(?" + flags + ")"
	}
	source := flags + strings.ReplaceAll(pattern, `\Z`, `\z`)
	if re, ok := compiled.Load(source); ok {
		return re.(*regexp.Regexp), nil
	}
	re, err := regexp.Compile(source)
	if err != nil {
		e := errorAt(c.at, "%s: fleetd cannot read the pattern %q: %v", c.name, pattern, err).token(c.name)
		var se *syntax.Error
		if errors.As(err, &se) && (se.Code == syntax.ErrInvalidPerlOp || se.Code == syntax.ErrInvalidEscape) {
			e.Hint = "look-around such as (?=…) and back references such as \\1 in the pattern are not supported"
		}
		return nil, e
	}
	compiled.Store(source, re)
	return re, nil
}

// matches are all matches as Python finds them. Unlike Go, Python also takes an
// empty match right behind a match that is not empty: 'abc' | regex_replace('.*', 'x')
// is xx.
func matches(re *regexp.Regexp, s string) [][]int {
	all := re.FindAllStringSubmatchIndex(s, -1)
	if !re.MatchString("") {
		return all
	}
	var out [][]int
	for i, m := range all {
		out = append(out, m)
		if m[0] == m[1] || i+1 < len(all) && all[i+1][0] == m[1] {
			continue
		}
		if e := re.FindStringSubmatchIndex(s[m[1]:]); e != nil && e[0] == 0 && e[1] == 0 && !strings.ContainsAny(re.String(), "^\\") {
			empty := make([]int, len(e))
			for j, k := range e {
				if empty[j] = k; k >= 0 {
					empty[j] += m[1]
				}
			}
			out = append(out, empty)
		}
	}
	return out
}

func filterRegexReplace(c *call) (any, error) {
	pattern, err := c.text(0, "")
	if err != nil {
		return nil, err
	}
	repl, err := c.text(1, "")
	if err != nil {
		return nil, err
	}
	re, err := c.compileRegexp(pattern, c.bool(2, false), c.bool(3, false))
	if err != nil {
		return nil, err
	}
	pieces, err := replacement(repl, re)
	if err != nil {
		return nil, c.fail("%v", err)
	}
	s := Text(c.in)
	var b strings.Builder
	at := 0
	for _, m := range matches(re, s) {
		b.WriteString(s[at:m[0]])
		for _, p := range pieces {
			b.WriteString(p.text)
			if p.group >= 0 && m[2*p.group] >= 0 {
				b.WriteString(s[m[2*p.group]:m[2*p.group+1]])
			}
		}
		if b.Len() > maxText {
			return limited(b.String(), c.at)
		}
		at = m[1]
	}
	b.WriteString(s[at:])
	return b.String(), nil
}

type piece struct {
	text  string
	group int
}

// replacement reads Python's \1, \g<1>, \g<name> and escapes.
func replacement(s string, re *regexp.Regexp) ([]piece, error) {
	var out []piece
	var text strings.Builder
	group := func(n int, name string) error {
		if n < 0 || n > re.NumSubexp() {
			return fmt.Errorf("the pattern has no group %s", name)
		}
		out = append(out, piece{text.String(), n})
		text.Reset()
		return nil
	}
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			text.WriteByte(s[i])
			continue
		}
		i++
		switch ch := s[i]; {
		case ch >= '1' && ch <= '9':
			n := int(ch - '0')
			if i+1 < len(s) && s[i+1] >= '0' && s[i+1] <= '9' {
				i++
				n = n*10 + int(s[i]-'0')
			}
			if err := group(n, strconv.Itoa(n)); err != nil {
				return nil, err
			}
		case ch == 'g' && strings.HasPrefix(s[i:], "g<") && strings.Contains(s[i:], ">"):
			name := s[i+2 : i+strings.IndexByte(s[i:], '>')]
			n, err := strconv.Atoi(name)
			if err != nil {
				n = re.SubexpIndex(name)
			}
			if err := group(n, name); err != nil {
				return nil, err
			}
			i += len(name) + 2
		case strings.IndexByte("nrtfv", ch) >= 0:
			text.WriteString(unescape(`\` + string(ch)))
		case ch >= 'a' && ch <= 'z' || ch >= 'A' && ch <= 'Z' || ch == '0':
			return nil, fmt.Errorf("the replacement has the unknown escape \\%c", ch)
		case ch == '\\':
			text.WriteByte('\\')
		default:
			text.WriteByte('\\')
			text.WriteByte(ch)
		}
	}
	return append(out, piece{text.String(), -1}), nil
}

func filterRegexSearch(c *call) (any, error) {
	pattern, err := c.text(2, "")
	if err != nil {
		return nil, err
	}
	re, err := c.compileRegexp(pattern, c.bool(0, false), c.bool(1, false))
	if err != nil {
		return nil, err
	}
	s := Text(c.in)
	m := re.FindStringSubmatchIndex(s)
	groups := []any{}
	for i := 3; i < len(c.args); i++ {
		ref, err := c.text(i, "")
		if err != nil {
			return nil, err
		}
		parts, err := replacement(ref, re)
		if err != nil {
			return nil, c.fail("%v", err)
		}
		if len(parts) != 2 || parts[0].text != "" || parts[1].text != "" {
			return nil, c.fail("%q names no group: write \\\\1 or \\\\g<name>", ref)
		}
		if m == nil {
			continue
		}
		var v any
		if g := parts[0].group; m[2*g] >= 0 {
			v = s[m[2*g]:m[2*g+1]]
		}
		groups = append(groups, v)
	}
	switch {
	case m == nil:
		return nil, nil
	case len(c.args) > 3:
		return groups, nil
	}
	return s[m[0]:m[1]], nil
}

func filterRegexFindall(c *call) (any, error) {
	pattern, err := c.text(0, "")
	if err != nil {
		return nil, err
	}
	re, err := c.compileRegexp(pattern, c.bool(2, false), c.bool(1, false))
	if err != nil {
		return nil, err
	}
	s := Text(c.in)
	out := []any{}
	for _, m := range matches(re, s) {
		group := func(i int) any {
			if m[2*i] < 0 {
				return ""
			}
			return s[m[2*i]:m[2*i+1]]
		}
		switch n := re.NumSubexp(); n {
		case 0, 1:
			out = append(out, group(n))
		default:
			row := make([]any, n)
			for i := range row {
				row[i] = group(i + 1)
			}
			out = append(out, row)
		}
	}
	return out, nil
}

// pythonEscape is Python's re.escape.
func pythonEscape(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strings.ContainsRune("()[]{}?*+-|^$\\.&~# \t\n\r\v\f", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
