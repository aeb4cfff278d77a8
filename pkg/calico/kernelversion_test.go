package calico

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseKernelRelease(t *testing.T) {
	for in, want := range map[string]kernelRelease{
		"3.10.0-1160.el7.x86_64":              {[3]int{3, 10, 0}, 1160, "el7"},
		"4.18.0-553.el8_10.x86_64":            {[3]int{4, 18, 0}, 553, "el8_10"},
		"4.18.0-193.28.1.el8_2.aarch64":       {[3]int{4, 18, 0}, 193, "el8_2"},
		"5.14.0-427.13.1.el9_4.x86_64":        {[3]int{5, 14, 0}, 427, "el9_4"},
		"6.1.4-1.el7.elrepo.x86_64":           {[3]int{6, 1, 4}, 1, "el7"},
		"6.12.0-55.el10.x86_64":               {[3]int{6, 12, 0}, 55, "el10"},
		"6.1.0-13-amd64":                      {[3]int{6, 1, 0}, 13, ""},
		"5.15.0-91-generic":                   {[3]int{5, 15, 0}, 91, ""},
		"6.18.0-rc1+":                         {[3]int{6, 18, 0}, 0, ""},
		"5.10.205":                            {[3]int{5, 10, 205}, 0, ""},
		"6.6.63-ish.1.elfin":                  {[3]int{6, 6, 63}, 0, ""},
		"5.4.17-2136.el7uek.x86_64":           {[3]int{5, 4, 17}, 2136, "el7uek"},
		"6":                                   {[3]int{6, 0, 0}, 0, ""},
		"5.10.0-99999999999999999999.el8":     {[3]int{5, 10, 0}, 0, "el8"},
		"4.4.180+":                            {[3]int{4, 4, 180}, 0, ""},
		"5.10.16.3-microsoft-standard-WSL2":   {[3]int{5, 10, 16}, 0, ""},
		"4.19.90-2102.2.0.0062.ctl2.x86_64.1": {[3]int{4, 19, 90}, 2102, ""},
	} {
		if got, err := parseKernelRelease(in); err != nil || got != want {
			t.Errorf("%q: %+v, want %+v (%v)", in, got, want, err)
		}
	}
	for _, in := range []string{"", "linux", "-1", "v6.1", "99999999999999999999.1"} {
		if got, err := parseKernelRelease(in); err == nil {
			t.Errorf("%q was read as %+v", in, got)
		}
	}
}

func TestRequirements(t *testing.T) {
	for _, c := range []struct{ calico, kernel, why string }{
		{"v3.29.2", "6.1.4-1.el7.elrepo.x86_64", ""},
		{"v3.29.2", "5.3.0", ""},
		{"v3.29.2", "5.2.21", "too old"},
		{"v3.29.2", "4.18.0-193.el8.x86_64", ""},
		{"v3.29.2", "4.18.0-147.el8.x86_64", "too old"},
		{"v3.29.2", "4.18.0-193-generic", "too old"}, // not RHEL's
		{"v3.29.2", "4.19.0-900.el8.x86_64", "too old"},
		{"v3.29.2", "3.10.0-1160.el7.x86_64", "too old"},
		{"v3.30.0", "5.4.228-1.el7.elrepo.x86_64", ""},
		{"v3.31.0", "5.4.228-1.el7.elrepo.x86_64", "too old"},
		{"v3.31.0", "5.10.0-1-amd64", ""},
		{"v3.32.1", "4.18.0-193.el8.x86_64", "too old"},
		{"v3.32.1", "4.18.0-305.el8.x86_64", ""},
		{"v3.33.0", "6.9.7-1.el7.elrepo.x86_64", "no BTF in kernels for EL 7"},
		{"v3.33.0", "6.9.7-1.el8.elrepo.x86_64", ""},
		{"v3.24.1", "5.4.0-1-generic", ""}, // the article's
		{"v4.0.0", "5.4.0", "too old"},
		{"master", "5.4.0", "too old"},
		{"v3.29.2", "", "unknown kernel"},
	} {
		r, _ := RequirementFor(c.calico)
		if got := r.Unmet(c.kernel); got != c.why {
			t.Errorf("Calico %s on %q: %q, want %q", c.calico, c.kernel, got, c.why)
		}
	}
	for calico, want := range map[string]bool{"v3.29.2": true, "3.29": true, "v3": false, "": false, "master": false, "v2.6.0": false, "v3.x": false} {
		if _, known := RequirementFor(calico); known != want {
			t.Errorf("RequirementFor(%q): known %t", calico, known)
		}
	}
}

// A newer mainline kernel is never refused where an older one is taken, and a
// newer Calico never takes a kernel that an older one refuses.
func TestRequirementsAreMonotonic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		minor := rapid.IntRange(20, 45).Draw(t, "calico")
		r, _ := RequirementFor(fmt.Sprintf("v3.%d.0", minor))
		next, _ := RequirementFor(fmt.Sprintf("v3.%d.0", minor+rapid.IntRange(0, 5).Draw(t, "newer")))
		a, b := rapid.IntRange(0, 7).Draw(t, "major"), rapid.IntRange(0, 25).Draw(t, "minor")
		kernel := fmt.Sprintf("%d.%d.0", a, b)
		newer := fmt.Sprintf("%d.%d.0", a, b+rapid.IntRange(0, 5).Draw(t, "more"))
		if r.Unmet(kernel) == "" && r.Unmet(newer) != "" {
			t.Fatalf("Calico 3.%d takes %s and refuses %s", minor, kernel, newer)
		}
		if r.Unmet(kernel) != "" && next.Unmet(kernel) == "" {
			t.Fatalf("Calico 3.%d refuses %s, a newer one takes it", minor, kernel)
		}
		build := rapid.IntRange(0, 600).Draw(t, "build")
		el8 := func(n int) string { return fmt.Sprintf("4.18.0-%d.el8.x86_64", n) }
		if r.Unmet(el8(build)) == "" && r.Unmet(el8(build+1)) != "" {
			t.Fatalf("Calico 3.%d takes %s and refuses the next", minor, el8(build))
		}
	})
}

func FuzzParseKernelRelease(f *testing.F) {
	for _, s := range []string{"3.10.0-1160.el7.x86_64", "6.18-rc1", "", "-", "4.", ".4", "5.10.0-el", "\x00", "1-.el8_."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		k, err := parseKernelRelease(s)
		if err != nil {
			return
		}
		for _, n := range append(k.version[:], k.build, k.el()) {
			if n < 0 {
				t.Fatalf("%q: %+v", s, k)
			}
		}
		if k.dist != "" && !strings.Contains(s, k.dist) {
			t.Fatalf("%q has no %q", s, k.dist)
		}
		if s[0] < '0' || s[0] > '9' {
			t.Fatalf("%q was read as a version", s)
		}
	})
}

func FuzzProxyMode(f *testing.F) {
	for _, s := range []string{"mode: ipvs", "mode: \"\"", "{", "mode: [a]", "mode: null", "a: &x [*x]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if m := proxyModeOf(s); m != strings.ToLower(m) {
			t.Fatalf("%q: %q", s, m)
		}
	})
}
