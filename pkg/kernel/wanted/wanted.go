// Package wanted is which kernel a host is to run: the arguments that every module of
// kernels takes, and the one package that they mean, chosen from what the host has and
// what its repository offers. It is pure.
package wanted

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/kernel/evr"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// Latest is the version that stands for the newest one to be had. It is
// resolved when the plan is made.
const Latest = "latest"

// Kernel is which kernel a task asks for.
type Kernel struct {
	// Name is the package, Repo the repository it comes from.
	Name string `json:"name"`
	Repo string `json:"repo"`
	// Version is Latest, or a version, EVR or EVR.arch: "6.1.4",
	// "6.1.4-1.el7.elrepo", "6.1.4-1.el7.elrepo.x86_64".
	Version string `json:"version"`
	// Minimum is the oldest version that will do; "" = any.
	Minimum string `json:"minimum,omitempty"`
	// RetryFailed allows one that failed a trial on the node.
	RetryFailed bool `json:"retry_failed,omitempty"`
}

// Choice is the answer: one package, and whether the node has it.
type Choice struct {
	Package   node.Package
	Installed bool
}

// Choose picks the one package that a node is to run. The error is a
// *rollout.Problem when the node or its repository cannot give what is wanted.
func Choose(host string, f node.Facts, w Kernel) (Choice, error) {
	if w.Version != Latest {
		if _, err := evr.Parse(w.trimArch(f.Arch)); err != nil {
			return Choice{}, fmt.Errorf("version %q: %w", w.Version, err)
		}
	}
	installed := w.matching(f.Installed, f.Arch)
	if w.Version != Latest && len(installed) > 0 {
		// A pinned version that is there needs no repository.
		return w.checked(host, Choice{newest(installed), true})
	}
	if why, bad := f.RepoErrors[w.Repo]; bad {
		return Choice{}, w.notStaged(f, &rollout.Problem{
			Message: fmt.Sprintf("cannot ask repository %s on %s: %s", w.Repo, host, why),
			Hint: fmt.Sprintf("on %s, try: yum --disablerepo='*' --enablerepo=%s list available; is the mirror up, is the repository's .repo file there (yum install elrepo-release)?",
				host, w.Repo),
		})
	}
	offered := f.Available[w.Name+"@"+w.Repo]
	candidates := append(w.matching(offered, f.Arch), installed...)
	if len(candidates) == 0 {
		return Choice{}, w.nothing(host, f, offered)
	}
	p := newest(candidates)
	c := Choice{p, slices.Contains(installed, p)}
	// While somebody else has yum's lock it cannot be told; the preflight asks
	// again before anything is done.
	if why := f.InstallErrors[w.Key()]; why != "" && !c.Installed && f.Yum.LockHolder == "" {
		return Choice{}, w.notStaged(f, WouldNot(host, w.Repo, p, why))
	}
	return w.checked(host, c)
}

// notStaged adds to why yum cannot do it that it was asked of what is staged.
func (w Kernel) notStaged(f node.Facts, p *rollout.Problem) *rollout.Problem {
	if f.Staged.Asked {
		p.Hint = "what is staged there since " + f.Staged.Since + " may no longer fit its repositories: fleetd stage downloads it anew; " + p.Hint
	}
	return p
}

// spec is the package as yum is asked for it when the plan is made.
func (w Kernel) spec() string {
	if w.Version == Latest {
		return w.Name
	}
	return w.Name + "-" + w.Version
}

// Key is what the facts have of this question to yum.
func (w Kernel) Key() string { return w.spec() + "@" + w.Repo }

// WouldNot says why yum would not install what its repository has.
func WouldNot(host, repo string, p node.Package, why string) *rollout.Problem {
	return &rollout.Problem{
		Message: fmt.Sprintf("cannot install %s on %s: yum would not: %s", p.NEVRA(), host, why),
		Hint: fmt.Sprintf("on %s, try: yum --enablerepo=%s install --assumeno %s; a repository that is dead and not needed: yum-config-manager --disable ID; CentOS 7's own are at vault.centos.org now",
			host, repo, p.NEVRA()),
	}
}

// Present picks the release for a task that boots a kernel or makes it the
// default, on a host that has it by then: a task before it has installed it.
func Present(host string, f node.Facts, w Kernel) (string, error) {
	choice, err := Choose(host, f, w)
	if err != nil {
		return "", err
	}
	if !choice.Installed {
		return "", &rollout.Problem{
			Message: fmt.Sprintf("cannot boot %s on %s: %s is not installed", choice.Package.Release(), host, choice.Package.NEVRA()),
			Hint:    "put a task fleetd.kernel.package with the same arguments before this one",
		}
	}
	return choice.Package.Release(), nil
}

// nothing says what the repository has instead.
func (w Kernel) nothing(host string, f node.Facts, offered []node.Package) error {
	if pattern, hidden := w.ExcludedBy(f); hidden {
		return &rollout.Problem{
			Message: fmt.Sprintf("cannot install %s on %s: yum is told to exclude %s", w.Name, host, pattern),
			Hint:    fmt.Sprintf("take %s out of exclude= in /etc/yum.conf, /etc/dnf/dnf.conf or the .repo file on %s", pattern, host),
		}
	}
	if lock, held := w.lockedBy(f); held {
		return &rollout.Problem{
			Message: fmt.Sprintf("cannot install %s on %s: repository %s shows none, and versionlock has %s", w.spec(), host, w.Repo, lock),
			Hint:    fmt.Sprintf("on %s: yum versionlock list; %s; or set kernel_version to the one that is locked", host, node.Typed("yum", "versionlock", "delete", lock)),
		}
	}
	if w.Version == Latest || len(offered) == 0 {
		hint := "check kernel_package and kernel_repo"
		if f.OS.Major == 7 {
			hint += "; ELRepo's mirrors no longer have el7, so EL7 needs a site mirror of its archive"
		}
		return &rollout.Problem{
			Message: fmt.Sprintf("cannot install %s on %s: repository %s has no %s for %s", w.Name, host, w.Repo, w.Name, f.Arch),
			Hint:    hint,
		}
	}
	var have []string
	for _, p := range offered {
		have = append(have, p.EVR)
	}
	slices.SortFunc(have, evr.Compare)
	return &rollout.Problem{
		Message: fmt.Sprintf("cannot install %s %s on %s: repository %s has %s", w.Name, w.Version, host, w.Repo, strings.Join(have, ", ")),
		Hint:    "set kernel_version to one of these, or kernel_repo to a site mirror that keeps old versions (ELRepo keeps only the newest)",
	}
}

func (w Kernel) checked(host string, c Choice) (Choice, error) {
	if w.Minimum == "" {
		return c, nil
	}
	order, err := evr.CompareRelease(c.Package.Release(), w.Minimum)
	if err != nil {
		return Choice{}, fmt.Errorf("minimum: %w", err)
	}
	if order < 0 {
		return Choice{}, &rollout.Problem{
			Message: fmt.Sprintf("cannot give %s a kernel that is new enough: %s is older than the minimum %s", host, c.Package.NEVRA(), w.Minimum),
			Hint:    "raise kernel_version, or choose another kernel_package or kernel_repo",
		}
	}
	return c, nil
}

// matching keeps the packages of this name and architecture that the wanted
// version allows.
func (w Kernel) matching(packages []node.Package, arch string) []node.Package {
	var out []node.Package
	want, err := evr.Parse(w.trimArch(arch))
	for _, p := range packages {
		if p.Name != w.Name || p.Arch != arch {
			continue
		}
		if w.Version != Latest {
			have, errHave := evr.Parse(p.EVR)
			if err != nil || errHave != nil || have.Compare(want) != 0 {
				continue
			}
		}
		out = append(out, p)
	}
	return out
}

func (w Kernel) trimArch(arch string) string { return strings.TrimSuffix(w.Version, "."+arch) }

// ExcludedBy returns the pattern that hides the package from yum.
func (w Kernel) ExcludedBy(f node.Facts) (string, bool) {
	for _, pattern := range append(slices.Clone(f.Yum.Excludes), f.Repos[w.Repo].Excludes...) {
		if matchGlob(pattern, w.Name) {
			return pattern, true
		}
	}
	return "", false
}

// lockEntry is one of versionlock's, with the package's name in it. The epoch stands
// before the name (yum) or behind it (dnf).
var lockEntry = regexp.MustCompile(`^!?(?:\d+:)?(.+)-(?:\d+:)?[^-:]+-[^-:]+$`)

// lockedBy returns versionlock's entry for the package: of a version that is locked
// yum shows no other, of one that is excluded not that.
func (w Kernel) lockedBy(f node.Facts) (string, bool) {
	for _, l := range f.Yum.VersionLocks {
		if m := lockEntry.FindStringSubmatch(l); m != nil && matchGlob(m[1], w.Name) {
			return l, true
		}
	}
	return "", false
}

func newest(packages []node.Package) node.Package {
	return slices.MaxFunc(packages, func(a, b node.Package) int { return evr.Compare(a.EVR, b.EVR) })
}

// MinimumRule is the rule for the oldest kernel that a host may run, which a
// newer one satisfies as well.
const MinimumRule = "kernel-minimum"

func JudgeMinimum(running, minimum string) (rollout.Finding, error) {
	order, err := evr.CompareRelease(running, minimum)
	if err != nil {
		return rollout.Finding{}, fmt.Errorf("minimum: %w", err)
	}
	if order < 0 {
		return rollout.Finding{
			Rule: MinimumRule, Drift: true, Text: "runs a kernel older than " + minimum,
			Fields: []rollout.Field{{Name: "running kernel", Before: running, After: ">= " + minimum}},
		}, nil
	}
	return rollout.Finding{Rule: MinimumRule, Text: running + " is at least " + minimum}, nil
}
