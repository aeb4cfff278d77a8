// Package evr compares the versions of packages and kernels as rpm does: epoch, version,
// release.
package evr

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// EVR is epoch, version and release of a package.
type EVR struct {
	Epoch            int
	Version, Release string
}

// Parse reads "[epoch:]version[-release]". The release may be missing, as in
// a version that a person typed.
func Parse(s string) (EVR, error) {
	var e EVR
	rest := s
	if epoch, vr, found := strings.Cut(s, ":"); found {
		n, err := strconv.ParseUint(epoch, 10, 31)
		if err != nil {
			return EVR{}, fmt.Errorf("%q is no EVR: the epoch is not a number", s)
		}
		e.Epoch, rest = int(n), vr
	}
	e.Version = rest
	// The version has no hyphen, so the last one stands before the release.
	if i := strings.LastIndexByte(rest, '-'); i >= 0 {
		e.Version, e.Release = rest[:i], rest[i+1:]
		if e.Release == "" {
			return EVR{}, fmt.Errorf("%q is no EVR: the release is empty", s)
		}
	}
	if e.Version == "" || !isVersion(e.Version) || !isVersion(e.Release) {
		return EVR{}, fmt.Errorf("%q is no EVR ([epoch:]version[-release])", s)
	}
	return e, nil
}

// isVersion allows what rpm allows in a version or release.
func isVersion(s string) bool {
	rest := strings.TrimLeftFunc(s, func(c rune) bool { return isAlnum(c) || strings.ContainsRune("._+~^", c) })
	return rest == ""
}

func isAlnum(c rune) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// Compare orders two EVRs as rpm does: -1, 0 or 1. A release is compared only
// where both have one, so that 6.1.4 equals every build of it.
func (e EVR) Compare(o EVR) int {
	if c := cmp.Compare(e.Epoch, o.Epoch); c != 0 {
		return c
	}
	if c := CompareVersions(e.Version, o.Version); c != 0 || e.Release == "" || o.Release == "" {
		return c
	}
	return CompareVersions(e.Release, o.Release)
}

// Compare orders the EVRs of two packages, as written in node.Package. What
// is no EVR sorts below everything that is one.
func Compare(a, b string) int {
	x, errX := Parse(a)
	y, errY := Parse(b)
	switch {
	case errX != nil && errY != nil:
		return cmp.Compare(a, b)
	case errX != nil:
		return -1
	case errY != nil:
		return 1
	}
	return x.Compare(y)
}

// CompareRelease orders a `uname -r` and a version that a person named
// ("5.10", "4.18.0-305", "6.1.4-1.el7.elrepo"): -1 when the kernel is older
// than that. Only as much of the release is compared as the person wrote, up
// to whole numbers: 4.18.0-305.el8.x86_64 is not older than 4.18.0-305.
func CompareRelease(unameR, minimum string) (int, error) {
	want, err := Parse(minimum)
	// A word is a version, too, to rpm; a person who writes one has mistaken the field.
	if err != nil || !isDigit(minimum[0]) {
		return 0, fmt.Errorf("%q is no kernel version: give it as 5.10 or 4.18.0-305", minimum)
	}
	version, release, _ := strings.Cut(unameR, "-")
	if version == "" {
		return 0, fmt.Errorf("%q is no kernel release", unameR)
	}
	if c := CompareVersions(version, want.Version); c != 0 {
		// 5.10 asks for 5.10 or anything after it, and rpm sorts 5.10.0 above
		// 5.10, so a longer version needs no care of its own.
		return c, nil
	}
	if want.Release == "" {
		return 0, nil
	}
	if release == want.Release || strings.HasPrefix(release, want.Release+".") {
		return 0, nil
	}
	return CompareVersions(release, want.Release), nil
}

// CompareVersions is rpm's order of versions (rpmvercmp): -1, 0 or 1. Runs of
// digits are numbers, runs of letters are words, a number is newer than a
// word, the rest only separates; ~ sorts before everything, even the end, and
// ^ after the end but before anything else.
func CompareVersions(a, b string) int {
	if a == b {
		return 0
	}
	for a != "" || b != "" {
		a, b = trimSeparators(a), trimSeparators(b)
		switch ta, tb := strings.HasPrefix(a, "~"), strings.HasPrefix(b, "~"); {
		case ta && tb:
			a, b = a[1:], b[1:]
			continue
		case ta:
			return -1
		case tb:
			return 1
		}
		switch ca, cb := strings.HasPrefix(a, "^"), strings.HasPrefix(b, "^"); {
		case ca && cb:
			a, b = a[1:], b[1:]
			continue
		case ca && b == "":
			return 1
		case cb && a == "":
			return -1
		case ca:
			return -1
		case cb:
			return 1
		}
		if a == "" || b == "" {
			break
		}
		digits := isDigit(a[0])
		var x, y string
		if digits {
			x, a = span(a, isDigit)
			y, b = span(b, isDigit)
		} else {
			x, a = span(a, isLetter)
			y, b = span(b, isLetter)
		}
		if y == "" {
			// Different kinds: the number is newer.
			if digits {
				return 1
			}
			return -1
		}
		if digits {
			x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
			if c := cmp.Compare(len(x), len(y)); c != 0 {
				return c
			}
		}
		if c := cmp.Compare(x, y); c != 0 {
			return c
		}
	}
	// Equal as far as both go: whoever has something left is newer.
	return cmp.Compare(min(len(a), 1), min(len(b), 1))
}

func trimSeparators(s string) string {
	return strings.TrimLeftFunc(s, func(c rune) bool { return !isAlnum(c) && c != '~' && c != '^' })
}

func span(s string, in func(byte) bool) (head, rest string) {
	i := 0
	for i < len(s) && in(s[i]) {
		i++
	}
	return s[:i], s[i:]
}

func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
