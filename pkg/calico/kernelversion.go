package calico

import (
	"fmt"
	"strconv"
	"strings"
)

// kernelRelease is what matters of a `uname -r`: "4.18.0-553.el8_10.x86_64" is
// 4.18.0, build 553, dist "el8_10".
type kernelRelease struct {
	version [3]int
	// build is the number after the dash, 0 if there is none.
	build int
	// dist is the part that begins with "el" and a digit, "" if there is none.
	dist string
}

// parseKernelRelease reads a `uname -r`. Only the first number is required:
// "6.18-rc1" is 6.18.0.
func parseKernelRelease(s string) (kernelRelease, error) {
	var k kernelRelease
	version, rest, _ := strings.Cut(s, "-")
	numbers := strings.SplitN(version, ".", 4)
	for i, text := range numbers {
		if i == len(k.version) {
			break
		}
		n, trailing, ok := leadingNumber(text)
		if !ok && i == 0 {
			return kernelRelease{}, fmt.Errorf("%q is no kernel version", s)
		}
		k.version[i] = n
		if trailing != "" || !ok {
			break
		}
	}
	k.build, _, _ = leadingNumber(rest)
	for part := range strings.FieldsFuncSeq(rest, func(r rune) bool { return r == '.' || r == '-' }) {
		if len(part) > 2 && strings.HasPrefix(part, "el") && part[2] >= '0' && part[2] <= '9' {
			k.dist = part
			break
		}
	}
	return k, nil
}

// leadingNumber reads the digits that s begins with. A number too large for
// any kernel is no number.
func leadingNumber(s string) (n int, rest string, ok bool) {
	end := 0
	for end < len(s) && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	n, err := strconv.Atoi(s[:end])
	if err != nil || n > 1<<30 {
		return 0, s, false
	}
	return n, s[end:], true
}

// el is the major version of the EL distribution that the kernel was built
// for; 0 if none.
func (k kernelRelease) el() int {
	n, _, _ := leadingNumber(strings.TrimPrefix(k.dist, "el"))
	return n
}

// atLeast compares the version alone.
func (k kernelRelease) atLeast(major, minor int) bool {
	if k.version[0] != major {
		return k.version[0] > major
	}
	return k.version[1] >= minor
}

// Requirement is the kernel that a Calico version's eBPF data plane needs.
type Requirement struct {
	// Calico is the range of versions, for people: "v3.31 to v3.32".
	Calico string
	// Major and Minor are the mainline kernel; RHELBuild is the first build of
	// RHEL's 4.18.0 that has what is needed, too.
	Major, Minor, RHELBuild int
	// BTF is set when the kernel must carry its type information.
	BTF bool
}

func (r Requirement) String() string {
	s := fmt.Sprintf("%d.%d, or 4.18.0-%d of EL 8", r.Major, r.Minor, r.RHELBuild)
	if r.BTF {
		s += ", with BTF"
	}
	return s
}

// requirements by Calico minor version of major 3, newest first.
var requirements = []struct {
	from int
	Requirement
}{
	{33, Requirement{"v3.33 and later", 5, 10, 305, true}},
	{31, Requirement{"v3.31 and v3.32", 5, 10, 305, false}},
	{0, Requirement{"up to v3.30", 5, 3, 193, false}},
}

// RequirementFor looks up what a Calico version ("v3.29.2") needs. For a
// version that it cannot read it returns the strictest, and false.
func RequirementFor(calico string) (Requirement, bool) {
	major, rest, ok := leadingNumber(strings.TrimPrefix(calico, "v"))
	minor, _, okMinor := leadingNumber(strings.TrimPrefix(rest, "."))
	if !ok || !okMinor || !strings.HasPrefix(rest, ".") || major < 3 {
		return requirements[0].Requirement, false
	}
	if major > 3 {
		return requirements[0].Requirement, true
	}
	for _, r := range requirements {
		if minor >= r.from {
			return r.Requirement, true
		}
	}
	return requirements[0].Requirement, false
}

// Unmet says why a kernel (`uname -r`) is not enough, or "". BTF cannot be seen
// in a name, but that EL 7's kernels carry none is known.
func (r Requirement) Unmet(release string) string {
	k, err := parseKernelRelease(release)
	if err != nil {
		return "unknown kernel"
	}
	rhel := k.version == [3]int{4, 18, 0} && k.el() == 8 && k.build >= r.RHELBuild
	switch {
	case !rhel && !k.atLeast(r.Major, r.Minor):
		return "too old"
	case r.BTF && k.el() == 7:
		return "no BTF in kernels for EL 7"
	}
	return ""
}
