package bpf

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
)

// KernelVersion is the part of a kernel release that says what the kernel can
// do: major, minor, patch.
type KernelVersion [3]int

var releasePattern = regexp.MustCompile(`^(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?(?:[^\d.].*)?$`)

// ParseKernelVersion reads a kernel release as uname -r prints it:
// "6.1.4-1.el7.elrepo.x86_64", "4.18.0-553.el8_10.x86_64", "6.9-rc1".
func ParseKernelVersion(release string) (KernelVersion, error) {
	m := releasePattern.FindStringSubmatch(release)
	if m == nil {
		return KernelVersion{}, fmt.Errorf("%q is not a kernel release", release)
	}
	var v KernelVersion
	for i := range v {
		v[i], _ = strconv.Atoi(m[i+1]) // four digits at most; an absent patch level is 0
	}
	return v, nil
}

// Compare returns -1, 0 or 1.
func (v KernelVersion) Compare(w KernelVersion) int {
	return cmp.Or(cmp.Compare(v[0], w[0]), cmp.Compare(v[1], w[1]), cmp.Compare(v[2], w[2]))
}

// String is "4.18" or, with a patch level, "4.18.3".
func (v KernelVersion) String() string {
	if v[2] == 0 {
		return fmt.Sprintf("%d.%d", v[0], v[1])
	}
	return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2])
}
