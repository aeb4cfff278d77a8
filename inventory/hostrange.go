package inventory

import (
	"strconv"
	"strings"
)

// Host patterns in inventories: web[01:20:2].example.org:2222, [::1]:22.

// splitAddress takes an optional port off a host or host range. ok is false
// if what remains is no host name, range or address in Ansible's eyes; then
// nothing may be taken off.
func splitAddress(s string) (host string, port int, ok bool) {
	host = s
	if inner, p, found := bracketedPort(host); found {
		host, port = inner, p
	}
	// Not "else": Ansible looks for a port again in what the brackets held,
	// so that [1:3]:22 is host 1, port 3.
	if rest, p, found := trailingPort(host); found {
		host, port = rest, p
	}
	return host, port, isIPv4(host) || isIPv6(host) || isHostname(host)
}

func bracketedPort(s string) (string, int, bool) {
	i := strings.LastIndex(s, "]:")
	if i < 2 || s[0] != '[' {
		return "", 0, false
	}
	p, ok := portNumber(s[i+2:])
	return s[1:i], p, ok
}

func trailingPort(s string) (string, int, bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", 0, false
	}
	p, ok := portNumber(s[i+1:])
	if !ok {
		return "", 0, false
	}
	for j := 0; j < i; j++ {
		switch s[j] {
		case ':', ']':
			return "", 0, false
		case '[':
			n := strings.IndexByte(s[j:i], ']')
			if n < 0 {
				return "", 0, false
			}
			j += n
		}
	}
	return s[:i], p, true
}

func portNumber(s string) (int, bool) {
	if !allOf(s, digit) {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}

// rangeAt returns the length of a [begin:end(:step)] that s starts with, its
// bounds made of characters in set.
func rangeAt(s string, set func(byte) bool) int {
	if s == "" || s[0] != '[' {
		return 0
	}
	i := span(s, 1, set)
	if i == 1 || i >= len(s) || s[i] != ':' {
		return 0
	}
	j := span(s, i+1, set)
	if j == i+1 {
		return 0
	}
	if j < len(s) && s[j] == ':' {
		k := span(s, j+1, digit)
		if k == j+1 {
			return 0
		}
		j = k
	}
	if j >= len(s) || s[j] != ']' {
		return 0
	}
	return j + 1
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// hostRangeAt is rangeAt for what a host name may hold: numbers or letters.
func hostRangeAt(s string) int {
	if n := rangeAt(s, digit); n > 0 {
		return n
	}
	if n := rangeAt(s, letter); n > 0 && len(s) > 4 && s[2] == ':' && (s[4] == ':' || s[4] == ']') {
		return n
	}
	return 0
}

func isHostname(s string) bool {
	if s == "" {
		return false
	}
	start := true
	last := rune('.')
	for i := 0; i < len(s); {
		if n := hostRangeAt(s[i:]); n > 0 {
			i += n
			start, last = false, ']'
			continue
		}
		r, n := decodeRune(s[i:])
		switch {
		case r == '.':
			if start || last == '-' || last == '_' {
				return false
			}
			start = true
		case isWord(r):
			start = false
		case r == '-' && !start:
		default:
			return false
		}
		last = r
		i += n
	}
	return !start && last != '-' && last != '_'
}

func isIPv4(s string) bool {
	for part := range 4 {
		n := rangeAt(s, digit)
		if n == 0 {
			n = span(s, 0, digit)
			if n == 0 || n > 3 || (n == 3 && s[:3] > "255") {
				return false
			}
		}
		s = s[n:]
		if part < 3 {
			if s == "" || s[0] != '.' {
				return false
			}
			s = s[1:]
		}
	}
	return s == ""
}

// isIPv6 is as generous as Ansible's expression, which accepts anything that
// begins like an address: fe80::1%eth0 passes.
func isIPv6(s string) bool {
	if strings.HasPrefix(s, "::") {
		return true
	}
	zeros, rest, n := 0, s, 0
	for ; n < 7; n++ {
		l := ipv6Component(rest)
		if l == 0 || l >= len(rest) || rest[l] != ':' {
			break
		}
		if rest[:l] == "0" && zeros == n {
			zeros++
		}
		rest = rest[l+1:]
		if n+1 <= 6 && strings.HasPrefix(rest, ":") {
			return true
		}
	}
	if n == 7 {
		return ipv6Component(rest) > 0
	}
	// 0:0:0:0:0:0:192.0.2.3 and 0:0:0:0:0:ffff:192.0.2.3
	if (zeros == 6 && n == 6) || (zeros == 5 && n == 6 && strings.EqualFold(strings.Split(s, ":")[5], "ffff")) {
		for part := range 4 {
			l := ipv6Component(rest)
			if l == 0 {
				return false
			}
			rest = rest[l:]
			if part < 3 {
				if !strings.HasPrefix(rest, ".") {
					return false
				}
				rest = rest[1:]
			}
		}
		return true
	}
	return false
}

func ipv6Component(s string) int {
	if n := rangeAt(s, isHex); n > 0 {
		return n
	}
	return min(span(s, 0, isHex), 4)
}

const rangeHint = "Write it as in web[1:20], web[01:20], web[1:20:2] or web[a:f]."

const asciiLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// expandHostPattern adds the hosts that a host line names to into, and returns
// their port, too (0 = none given). Numbers that run backwards name no host, as in Ansible.
func expandHostPattern(into []string, pattern string, limit int) (hosts []string, port int, err error) {
	name, port, ok := splitAddress(pattern)
	if !ok {
		name, port = pattern, 0
	}
	if !strings.Contains(name, "[") {
		return append(into, name), port, nil
	}
	hosts, err = expandRange(into, name, limit)
	return hosts, port, err
}

func expandRange(into []string, name string, limit int) ([]string, error) {
	parts := strings.Split(strings.Replace(strings.Replace(name, "[", "|", 1), "]", "|", 1), "|")
	if len(parts) != 3 {
		return nil, advise(rangeHint, "%q is not a host range", clip(name))
	}
	head, tail := parts[0], parts[2]
	bounds := strings.Split(parts[1], ":")
	if len(bounds) != 2 && len(bounds) != 3 {
		return nil, advise(rangeHint, "a host range is [begin:end] or [begin:end:step], not [%s]", clip(parts[1]))
	}
	begin, end := bounds[0], bounds[1]
	step := 1
	if begin == "" {
		begin = "0"
	}
	if end == "" {
		return nil, advise(rangeHint, "the host range [%s] has no end", clip(parts[1]))
	}
	if len(bounds) == 3 {
		n, err := pyInt(bounds[2])
		if err != nil || n == 0 {
			return nil, advise(rangeHint, "the step of the host range [%s] must be a whole number above 0", clip(parts[1]))
		}
		step = n
	}
	width := 0
	if begin[0] == '0' && len(begin) > 1 {
		if width = len(begin); width != len(end) {
			return nil, advise("Pad both, as in web[01:20], or none.", "the bounds of the zero-padded host range [%s] must have the same length", clip(parts[1]))
		}
	}
	add := func(s string) error {
		if len(into) >= limit {
			return advise("Check the bounds.", "the host range %q has more than %d hosts", clip(name), limit)
		}
		var err error
		if s = head + s + tail; strings.Contains(s, "[") {
			into, err = expandRange(into, s, limit)
		} else {
			into = append(into, s)
		}
		return err
	}
	if i, j := strings.Index(asciiLetters, begin), strings.Index(asciiLetters, end); i >= 0 && j >= 0 {
		if i > j {
			return nil, advise("Write the lower bound first.", "the host range [%s] runs backwards", clip(parts[1]))
		}
		for ; step > 0 && i <= j; i += step {
			if err := add(asciiLetters[i : i+1]); err != nil {
				return nil, err
			}
		}
		return into, nil
	}
	from, err := pyInt(begin)
	to, err2 := pyInt(end)
	if err != nil || err2 != nil {
		return nil, advise(rangeHint, "the host range [%s] must have two numbers or two letters", clip(parts[1]))
	}
	if step < 0 {
		return into, nil
	}
	for ; from <= to; from += step {
		s := strconv.Itoa(from)
		for len(s) < width {
			s = "0" + s
		}
		if err := add(s); err != nil {
			return nil, err
		}
		if from > to-step { // no overflow at the largest number
			break
		}
	}
	return into, nil
}
