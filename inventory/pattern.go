package inventory

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Match returns the hosts that patterns select, each once, in Ansible's
// order: those of plain patterns in the order of the patterns, then narrowed
// by all &, then by all !. A pattern may itself be a list, separated by
// commas or colons. A pattern that matches nothing is a warning (see
// Warnings), an index beyond the group's end is an error.
func (inv *Inventory) Match(patterns ...string) ([]string, error) {
	hosts, err := inv.evaluate(splitPatterns(patterns...))
	if err != nil {
		return nil, err
	}
	return hostNames(hosts), nil
}

// Limit narrows hosts (as Match returned them) to those that a --limit
// argument selects; "" selects all. Besides patterns a limit takes @file, with
// file a path within the file system given to Load, one pattern on each line.
func (inv *Inventory) Limit(hosts []string, limit string) ([]string, error) {
	if limit == "" {
		return hosts, nil
	}
	patterns, err := inv.limitPatterns(limit)
	if err != nil {
		return nil, err
	}
	// A limit of blank lines narrows nothing.
	if len(patterns) == 0 {
		return hosts, nil
	}
	keep, err := inv.evaluate(patterns)
	if err != nil {
		return nil, err
	}
	selected := map[string]bool{}
	for _, h := range keep {
		selected[inv.identity(h.name)] = true
	}
	return slices.DeleteFunc(slices.Clone(hosts), func(h string) bool { return !selected[inv.identity(h)] }), nil
}

// identity is the name that a host is known by: the implicit localhost is one
// host, whichever of its names it was called by.
func (inv *Inventory) identity(name string) string {
	if inv.loader.d.hosts[name] == nil && isLocalName(name) {
		return inv.host("localhost").name
	}
	return name
}

func (inv *Inventory) limitPatterns(limit string) ([]string, error) {
	var out []string
	for _, p := range splitPatterns(limit) {
		if p[0] != '@' {
			out = append(out, p)
			continue
		}
		name := p[1:]
		l := inv.loader
		file := cleanPath(name)
		if !path.IsAbs(name) && l.opts.WorkDir != "" {
			file = path.Join(l.opts.WorkDir, name)
		}
		info, err := fs.Stat(l.fsys, file)
		if err != nil {
			return nil, &Error{File: name, Caret: -1, Message: "cannot read the limit file: " + reason(err), Err: err}
		}
		if info.IsDir() {
			return nil, &Error{File: name, Caret: -1, Message: "cannot read the limit file: it is a directory"}
		}
		t, err := l.read(file)
		if err != nil {
			return nil, err
		}
		for line := range strings.SplitSeq(t.data, "\n") {
			out = append(out, strings.TrimFunc(line, isSpace))
		}
	}
	return out, nil
}

// splitPatterns splits at commas or, where there are none, at colons that do
// not belong to an address or a range.
func splitPatterns(patterns ...string) []string {
	var out []string
	add := func(p string) {
		if p = strings.TrimFunc(p, isSpace); p != "" {
			out = append(out, p)
		}
	}
	for _, p := range patterns {
		if strings.Contains(p, ",") {
			for s := range strings.SplitSeq(p, ",") {
				add(s)
			}
			continue
		}
		if _, _, ok := splitAddress(p); ok {
			add(p)
			continue
		}
		for i := 0; i < len(p); {
			n := patternSpan(p[i:])
			if n == 0 {
				i++
				continue
			}
			add(p[i : i+n])
			i += n
		}
	}
	return out
}

// patternSpan is the length of the characters other than space, colon and
// brackets, and of whole bracketed expressions, that s starts with.
func patternSpan(s string) int {
	i := 0
	for i < len(s) {
		r, n := decodeRune(s[i:])
		switch {
		case r == '[':
			end := strings.IndexByte(s[i:], ']')
			if end < 0 {
				return i
			}
			n = end + 1
		case r == ':' || r == ']' || isSpace(r):
			return i
		}
		i += n
	}
	return i
}

// evaluate applies single patterns: plain ones add, then & narrows, then !
// takes away, whatever order they were written in.
func (inv *Inventory) evaluate(patterns []string) ([]*host, error) {
	var plain, narrow, exclude []string
	for _, p := range patterns {
		switch {
		case p == "":
		case p[0] == '!':
			exclude = append(exclude, p[1:])
		case p[0] == '&':
			narrow = append(narrow, p[1:])
		default:
			plain = append(plain, p)
		}
	}
	if plain == nil {
		plain = []string{"all"}
	}
	var hosts []*host
	have := map[string]bool{}
	for _, p := range plain {
		that := []*host{inv.loader.d.hosts[p]}
		if that[0] == nil {
			var err error
			if that, err = inv.matchOne(p); err != nil {
				return nil, err
			}
		}
		for _, h := range that {
			if id := inv.identity(h.name); !have[id] {
				have[id] = true
				hosts = append(hosts, h)
			}
		}
	}
	for i, p := range append(narrow, exclude...) {
		that, err := inv.matchOne(p)
		if err != nil {
			return nil, err
		}
		in := make(map[string]bool, len(that))
		for _, h := range that {
			in[inv.identity(h.name)] = true
		}
		drop := i >= len(narrow)
		hosts = slices.DeleteFunc(hosts, func(h *host) bool { return in[inv.identity(h.name)] == drop })
	}
	return hosts, nil
}

var subscript = regexp.MustCompile(`^(.+)\[(?:(-?[0-9]+)|([0-9]+)([:-])([0-9]*))\]$`)

// matchOne returns the hosts of one pattern without its ! or &. A host may
// stand in the result twice, and a subscript counts it twice, as in Ansible.
func (inv *Inventory) matchOne(p string) ([]*host, error) {
	if p == "" {
		return nil, badPattern(p, "there is nothing after the ! or &")
	}
	m := subscript.FindStringSubmatch(p)
	if p[0] == '~' || m == nil {
		return inv.enumerate(p)
	}
	hosts, err := inv.enumerate(m[1])
	if err != nil || len(hosts) == 0 {
		return hosts, err
	}
	single, start, end := m[2] != "", 0, -1
	if single {
		start, err = strconv.Atoi(m[2])
	} else {
		if start, err = strconv.Atoi(m[3]); err == nil && m[5] != "" {
			end, err = strconv.Atoi(m[5])
		}
		if m[4] == "-" {
			inv.warnMatch("write the subscript of %q as [x:y], both ends included", p)
		}
	}
	if err != nil {
		return nil, badPattern(p, "its subscript is no number")
	}
	// An end of 0 counts as none given: web[0:0] is web[0], and so is [1:0]
	// the second host alone.
	if single || end == 0 {
		if start < 0 {
			start += len(hosts)
		}
		if start < 0 || start >= len(hosts) {
			return nil, badPattern(p, fmt.Sprintf("it has no host of that number, there are %d", len(hosts)))
		}
		return hosts[start : start+1], nil
	}
	if end == -1 {
		end = len(hosts) - 1
	}
	end = min(end+1, len(hosts))
	if start >= end {
		return nil, nil
	}
	return hosts[start:end], nil
}

func badPattern(p, why string) *Error {
	return &Error{Caret: -1, Message: fmt.Sprintf("cannot match hosts with the pattern %q: %s", clip(p), why)}
}

func (inv *Inventory) warnMatch(format string, args ...any) {
	w := Warning{Message: fmt.Sprintf(format, args...)}
	inv.matchMu.Lock()
	defer inv.matchMu.Unlock()
	if len(inv.matchWarnings) < maxWarnings && !slices.Contains(inv.matchWarnings, w) {
		inv.matchWarnings = append(inv.matchWarnings, w)
	}
}

// enumerate returns the hosts of all groups that a pattern matches and, if it
// matches none or can match several names, the hosts that it matches.
func (inv *Inventory) enumerate(p string) ([]*host, error) {
	match, err := nameMatcher(p, inv.loader.d.limits.Matching)
	if err != nil {
		return nil, err
	}
	d := inv.loader.d
	var results []*host
	matchedGroup := false
	for _, g := range d.groupList {
		matches, err := match(g.name)
		if err != nil {
			return nil, err
		}
		if matches {
			matchedGroup = true
			results = append(results, d.allHosts(g)...)
		}
	}
	if !matchedGroup || p[0] == '~' || strings.ContainsAny(p, ".?*[") {
		for _, h := range d.hostList {
			matches, err := match(h.name)
			if err != nil {
				return nil, err
			}
			if matches {
				results = append(results, h)
			}
		}
	}
	if len(results) == 0 && isLocalName(p) {
		results = append(results, inv.host(p))
	}
	if len(results) == 0 && !matchedGroup && p != "all" {
		switch inv.loader.opts.Settings.PatternMismatch {
		case "ignore":
		case "error":
			return nil, badPattern(p, "no host or group has such a name")
		default:
			inv.warnMatch("no host or group matches %q, the pattern is ignored", p)
		}
	}
	return results, nil
}
