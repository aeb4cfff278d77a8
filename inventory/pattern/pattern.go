// Package pattern selects hosts by Ansible's host patterns (web:&prod:!db[0],
// web*.example.org, ~web\d+), and expands the ranges of inventories
// (web[01:20]).
package pattern

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fleetd/fleetd/pkg/text"
)

// Hosts are the names that patterns are held against.
type Hosts interface {
	// Groups and Hosts are all there are, in the order of their first mention.
	Groups() []string
	Hosts() []string
	// In are the hosts of a group and of its descendants.
	In(group string) []string
	// Known reports whether a source names the host.
	Known(host string) bool
	// Local is the host that a name for this machine stands for, if name is one.
	Local(name string) (host string, ok bool)
}

// Options say how patterns are read.
type Options struct {
	// Mismatch is host_pattern_mismatch: "warning" (default), "error", "ignore".
	Mismatch string
	// Patience is how long one pattern's expression may take on all names
	// together, if it is of the kind that can take exponential time.
	Patience time.Duration
	Warn     func(message string)
}

// Split splits patterns at commas or, where there are none, at colons that do
// not belong to an address or a range.
func Split(patterns ...string) []string {
	var out []string
	add := func(p string) {
		if p = strings.TrimFunc(p, text.IsSpace); p != "" {
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
		if _, _, ok := SplitAddress(p); ok {
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
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '[':
			end := strings.IndexByte(s[i:], ']')
			if end < 0 {
				return i
			}
			n = end + 1
		case r == ':' || r == ']' || text.IsSpace(r):
			return i
		}
		i += n
	}
	return i
}

// selection is one Select.
type selection struct {
	in   Hosts
	opts Options
}

// Select returns the hosts of single patterns, each once: plain ones add, then &
// narrows, then ! takes away, whatever order they were written in. None are all
// hosts. A pattern that matches nothing is a warning, an index beyond the
// group's end is an error.
func Select(in Hosts, patterns []string, o Options) ([]string, error) {
	s := &selection{in, o}
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
	var hosts []string
	have := map[string]bool{}
	for _, p := range plain {
		that := []string{p}
		if !in.Known(p) {
			var err error
			if that, err = s.one(p); err != nil {
				return nil, err
			}
		}
		for _, h := range that {
			if id := identity(in, h); !have[id] {
				have[id] = true
				hosts = append(hosts, h)
			}
		}
	}
	for i, p := range append(narrow, exclude...) {
		that, err := s.one(p)
		if err != nil {
			return nil, err
		}
		hosts = keep(in, hosts, that, i < len(narrow))
	}
	return hosts, nil
}

// Narrow are those of hosts that are in others, too.
func Narrow(in Hosts, hosts, others []string) []string { return keep(in, hosts, others, true) }

// keep are the hosts that are, or are not, in others.
func keep(in Hosts, hosts, others []string, present bool) []string {
	ids := make(map[string]bool, len(others))
	for _, h := range others {
		ids[identity(in, h)] = true
	}
	return slices.DeleteFunc(slices.Clone(hosts), func(h string) bool { return ids[identity(in, h)] != present })
}

// identity is the name that a host is known by: the implicit localhost is one
// host, whichever of its names it was called by.
func identity(in Hosts, name string) string {
	if !in.Known(name) {
		if _, ok := in.Local(name); ok {
			host, _ := in.Local("localhost")
			return host
		}
	}
	return name
}

var subscript = regexp.MustCompile(`^(.+)\[(?:(-?[0-9]+)|([0-9]+)([:-])([0-9]*))\]$`)

// one returns the hosts of one pattern without its ! or &. A host may
// stand in the result twice, and a subscript counts it twice, as in Ansible.
func (s *selection) one(p string) ([]string, error) {
	if p == "" {
		return nil, wrong(p, "there is nothing after the ! or &")
	}
	m := subscript.FindStringSubmatch(p)
	if p[0] == '~' || m == nil {
		return s.enumerate(p)
	}
	hosts, err := s.enumerate(m[1])
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
			s.warnf("write the subscript of %q as [x:y], both ends included", p)
		}
	}
	if err != nil {
		return nil, wrong(p, "its subscript is no number")
	}
	// An end of 0 counts as none given: web[0:0] is web[0], and so is [1:0]
	// the second host alone.
	if single || end == 0 {
		if start < 0 {
			start += len(hosts)
		}
		if start < 0 || start >= len(hosts) {
			return nil, wrong(p, fmt.Sprintf("it has no host of that number, there are %d", len(hosts)))
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

func wrong(p, why string) *text.Error {
	return &text.Error{Caret: -1, Message: fmt.Sprintf("cannot match hosts with the pattern %q: %s", text.Clip(p), why)}
}

func (s *selection) warnf(format string, args ...any) { s.opts.Warn(fmt.Sprintf(format, args...)) }

// enumerate returns the hosts of all groups that a pattern matches and, if it
// matches none or can match several names, the hosts that it matches.
func (s *selection) enumerate(p string) ([]string, error) {
	match, err := nameMatcher(p, s.opts.Patience)
	if err != nil {
		return nil, err
	}
	var results []string
	matchedGroup := false
	for _, g := range s.in.Groups() {
		matches, err := match(g)
		if err != nil {
			return nil, err
		}
		if matches {
			matchedGroup = true
			results = append(results, s.in.In(g)...)
		}
	}
	if !matchedGroup || p[0] == '~' || strings.ContainsAny(p, ".?*[") {
		for _, h := range s.in.Hosts() {
			matches, err := match(h)
			if err != nil {
				return nil, err
			}
			if matches {
				results = append(results, h)
			}
		}
	}
	if len(results) == 0 {
		if local, ok := s.in.Local(p); ok {
			results = append(results, local)
		}
	}
	if len(results) == 0 && !matchedGroup && p != "all" {
		switch s.opts.Mismatch {
		case "ignore":
		case "error":
			return nil, wrong(p, "no host or group has such a name")
		default:
			s.warnf("no host or group matches %q, the pattern is ignored", p)
		}
	}
	return results, nil
}
