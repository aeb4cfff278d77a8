package view

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// HostRange writes host names shortly, in the notation of an Ansible
// inventory: web01, web02, … web37 become "web[01:37]". Names are sorted, with
// their numbers as numbers, and each is named once.
func HostRange(hosts []string) string {
	left := slices.Clone(hosts)
	slices.SortFunc(left, compareNatural)
	left = slices.Compact(left)
	var parts []rangePart
	// A name may hold several numbers. The last one varies most often; then
	// the others get their turn.
	for fromEnd := 0; len(left) > 0; fromEnd++ {
		var found bool
		left, parts, found = takeRanges(left, parts, fromEnd)
		if !found {
			break
		}
	}
	for _, h := range left {
		parts = append(parts, rangePart{first: h, text: h})
	}
	slices.SortStableFunc(parts, func(a, b rangePart) int { return compareNatural(a.first, b.first) })
	var sb strings.Builder
	for i, p := range parts {
		if i > 0 {
			sb.WriteByte(',')
		}
		sb.WriteString(p.text)
	}
	return sb.String()
}

type rangePart struct{ first, text string }

// A numbered name is a name cut around one of its numbers.
type numbered struct {
	prefix, digits, suffix string
	n                      uint64
}

// takeRanges makes ranges of names that differ in their number at fromEnd, 0
// being the last. found is false when no name has that many numbers.
func takeRanges(names []string, parts []rangePart, fromEnd int) (left []string, out []rangePart, found bool) {
	type key struct {
		prefix, suffix string
		width          int // of zero-padded numbers, else 0
	}
	padded := map[key]bool{}
	cut := make([]*numbered, len(names))
	for i, name := range names {
		c := cutNumber(name, fromEnd)
		if c == nil {
			continue
		}
		found = true
		cut[i] = c
		if c.digits[0] == '0' && len(c.digits) > 1 {
			padded[key{c.prefix, c.suffix, len(c.digits)}] = true
		}
	}
	groups := map[key][]int{}
	var order []key
	for i, c := range cut {
		if c == nil {
			continue
		}
		k := key{c.prefix, c.suffix, len(c.digits)}
		if !padded[k] {
			// 10 belongs to 01…09 if those are there, else to 1…9.
			k.width = 0
		}
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], i)
	}
	taken := make([]bool, len(names))
	for _, k := range order {
		members := groups[k]
		for i := 0; i < len(members); {
			j := i
			for j+1 < len(members) && cut[members[j+1]].n == cut[members[j]].n+1 {
				j++
			}
			if j > i {
				a, b := cut[members[i]], cut[members[j]]
				parts = append(parts, rangePart{
					first: names[members[i]],
					text:  fmt.Sprintf("%s[%s:%s]%s", k.prefix, a.digits, b.digits, k.suffix),
				})
				for _, m := range members[i : j+1] {
					taken[m] = true
				}
			}
			i = j + 1
		}
	}
	for i, name := range names {
		if !taken[i] {
			left = append(left, name)
		}
	}
	return left, parts, found
}

// cutNumber cuts name around its number at fromEnd. A number too long for the
// arithmetic is text.
func cutNumber(name string, fromEnd int) *numbered {
	end := len(name)
	for {
		for end > 0 && !isDigit(name[end-1]) {
			end--
		}
		if end == 0 {
			return nil
		}
		start := end
		for start > 0 && isDigit(name[start-1]) {
			start--
		}
		if fromEnd == 0 {
			if end-start > 18 {
				return nil
			}
			n, err := strconv.ParseUint(name[start:end], 10, 64)
			if err != nil {
				return nil
			}
			return &numbered{name[:start], name[start:end], name[end:], n}
		}
		fromEnd--
		end = start
	}
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// compareNatural orders web2 before web10, and falls back to bytes, so that
// the order is total.
func compareNatural(a, b string) int {
	i, j := 0, 0
	for i < len(a) && j < len(b) {
		if isDigit(a[i]) && isDigit(b[j]) {
			x, y := i, j
			for i < len(a) && isDigit(a[i]) {
				i++
			}
			for j < len(b) && isDigit(b[j]) {
				j++
			}
			na, nb := strings.TrimLeft(a[x:i], "0"), strings.TrimLeft(b[y:j], "0")
			if c := cmp.Compare(len(na), len(nb)); c != 0 {
				return c
			}
			if c := cmp.Compare(na, nb); c != 0 {
				return c
			}
			continue
		}
		if c := cmp.Compare(a[i], b[j]); c != 0 {
			return c
		}
		i++
		j++
	}
	if c := cmp.Compare(len(a)-i, len(b)-j); c != 0 {
		return c
	}
	return cmp.Compare(a, b)
}
