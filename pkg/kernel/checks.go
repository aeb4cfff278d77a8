package kernel

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/kernel/boot"
	"github.com/fleetd/fleetd/pkg/kernel/evr"
	"github.com/fleetd/fleetd/pkg/kernel/wanted"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// A check is one trap. It returns what is wrong and what to do about it, or "".
type check struct {
	name string
	find func(fitness) (wrong, hint string)
}

// fitness is what the checks look at.
type fitness struct {
	host   string
	facts  node.Facts
	wanted wanted.Kernel
	choice wanted.Choice
	// bootFree and rootFree are bytes; bootFree 0 = worked out from what lies
	// in /boot now.
	bootFree, rootFree int64
}

// checks is the preflight, in the order in which it is reported. The first
// group is about installing and is skipped where the package is installed; the
// second is about booting.
var installChecks = []check{
	{"package_manager", func(x fitness) (string, string) {
		if x.facts.Yum.Tool != "" {
			return "", ""
		}
		return "there is neither yum nor dnf", "is this an EL machine? take it out of the inventory's group"
	}},
	{"exclude", func(x fitness) (string, string) {
		pattern, hidden := x.wanted.ExcludedBy(x.facts)
		if !hidden {
			return "", ""
		}
		return "yum is told to exclude " + pattern + ", which hides " + x.wanted.Name,
			"take " + pattern + " out of exclude= in /etc/yum.conf, /etc/dnf/dnf.conf or the .repo file"
	}},
	{"gpg_key", func(x fitness) (string, string) {
		repo := x.facts.Repos[x.wanted.Repo]
		if !repo.GPGCheck || len(repo.MissingKeys) == 0 {
			return "", ""
		}
		return fmt.Sprintf("the key of repository %s is missing: %s", x.wanted.Repo, strings.Join(repo.MissingKeys, ", ")),
			"yum reinstall -y elrepo-release, or copy the key from the site mirror"
	}},
	{"read_only", func(x fitness) (string, string) {
		for _, p := range []string{"/", "/boot", "/usr"} {
			if m, ok := x.facts.Mount(p); ok && m.ReadOnly {
				return m.Point + " is mounted read-only", "mount -o remount,rw " + m.Point
			}
		}
		return "", ""
	}},
	{"boot_free", func(x fitness) (string, string) {
		need := x.bootFree
		if need == 0 {
			need = bootNeed(x.facts)
		}
		return freeOn(x, "/boot", need, "remove an old kernel: dnf remove --oldinstallonly, or package-cleanup --oldkernels --count=2 on EL7")
	}},
	{"root_free", func(x fitness) (string, string) {
		return freeOn(x, "/usr", x.rootFree, "yum clean packages; journalctl --vacuum-size=200M; du -xsh /var/* | sort -h")
	}},
	{"installonly_limit", func(x fitness) (string, string) {
		if lost := fallbackLost(x); lost != "" {
			return fmt.Sprintf("installonly_limit=%d would remove %s, which the node falls back to", x.facts.Yum.InstallonlyLimit, lost),
				"raise installonly_limit in /etc/yum.conf or /etc/dnf/dnf.conf"
		}
		return "", ""
	}},
}

var bootChecks = []check{
	{"fallback", func(x fitness) (string, string) { return boot.NoFallback(x.facts) }},
	{"grubenv", func(x fitness) (string, string) { return boot.GrubenvUnwritable(x.facts) }},
	{"grub_default", func(x fitness) (string, string) { return boot.GrubCfgUnfit(x.facts) }},
	{"secure_boot", func(x fitness) (string, string) {
		if x.facts.SecureBoot != "enabled" || !strings.Contains(x.choice.Package.EVR, "elrepo") {
			return "", ""
		}
		return "Secure Boot is on, and the firmware refuses ELRepo's kernels, which are not signed for it",
			"turn Secure Boot off in the firmware, or enrol a key that signs this kernel and say ignore: [secure_boot]"
	}},
	{"out_of_tree", func(x fitness) (string, string) {
		if len(x.facts.OutOfTree) == 0 {
			return "", ""
		}
		return "modules are loaded that the new kernel will not have: " + strings.Join(x.facts.OutOfTree, ", "),
			"build them for the new kernel (dkms) and say ignore: [out_of_tree], or unload and remove them"
	}},
	{"failed_trial", func(x fitness) (string, string) {
		return boot.FailedBefore(x.facts, x.choice.Package.Release(), x.wanted.RetryFailed)
	}},
	{"drivers", func(x fitness) (string, string) {
		return boot.DriversMissing(x.facts, x.choice.Package.Release())
	}},
	{"cgroup", func(x fitness) (string, string) {
		if x.facts.CgroupVersion != 1 || x.facts.Kubelet == "" || evr.CompareVersions(x.facts.Kubelet, "1.35") < 0 {
			return "", ""
		}
		return "the node has cgroup v1, and kubelet " + x.facts.Kubelet + " does not start on it",
			"boot with systemd.unified_cgroup_hierarchy=1, or set failCgroupV1: false for the kubelet and say ignore: [cgroup]"
	}},
}

// checkNames are the names that ignore: may hold.
func checkNames() []string {
	var out []string
	for _, c := range slices.Concat(installChecks, bootChecks) {
		out = append(out, c.name)
	}
	return out
}

// unfit runs the checks and reports all that fail at once: the person at the
// keyboard wants to mend a node in one go.
func unfit(x fitness, ignore []string) *rollout.Problem {
	list := bootChecks
	if !x.choice.Installed {
		list = slices.Concat(installChecks, bootChecks)
	}
	var wrong, hints []string
	var parts []rollout.Problem
	for _, c := range list {
		if slices.Contains(ignore, c.name) {
			continue
		}
		if w, h := c.find(x); w != "" {
			wrong = append(wrong, w)
			hints = append(hints, h+" ["+c.name+"]")
			parts = append(parts, rollout.Problem{Message: w, Hint: hints[len(hints)-1]})
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return &rollout.Problem{
		Message: fmt.Sprintf("cannot change the kernel of %s: %s", x.host, strings.Join(wrong, "; ")),
		Hint:    strings.Join(hints, "\n"),
		Parts:   parts,
	}
}

// bootNeed is what a new kernel takes in /boot: as much again as the largest
// one there, twice over, because initramfs images of newer kernels are larger
// and dracut writes the new one beside the old, and 32 MB on top.
func bootNeed(f node.Facts) int64 {
	var largest int64
	for _, k := range f.Kernels {
		if !strings.HasPrefix(k.Release, "0-rescue") {
			largest = max(largest, k.Image+k.Initramfs)
		}
	}
	if largest == 0 {
		largest = 48 << 20
	}
	return 2*largest + 32<<20
}

func freeOn(x fitness, path string, need int64, hint string) (string, string) {
	m, ok := x.facts.Mount(path)
	if !ok || m.Free >= need {
		return "", ""
	}
	return fmt.Sprintf("%s has %d MB free, and the kernel needs %d MB", m.Point, m.Free>>20, need>>20), hint
}

// fallbackLost returns the package of the running kernel or the default entry
// that yum would remove to keep installonly_limit. Of one name the oldest go
// first; the running kernel itself is protected by yum and dnf.
func fallbackLost(x fitness) string {
	limit := x.facts.Yum.InstallonlyLimit
	if limit <= 0 {
		return ""
	}
	var same []node.Package
	for _, p := range x.facts.Installed {
		if p.Name == x.choice.Package.Name {
			same = append(same, p)
		}
	}
	slices.SortFunc(same, func(a, b node.Package) int { return evr.Compare(a.EVR, b.EVR) })
	excess := len(same) + 1 - limit
	for _, p := range same {
		if excess <= 0 {
			return ""
		}
		if p.Release() == x.facts.Running {
			continue
		}
		excess--
		if p.Release() == x.facts.Boot.DefaultRelease() {
			return p.NEVRA()
		}
	}
	return ""
}
