package kernel

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/fleetd/fleetd/pkg/kernel/evr"
	"github.com/fleetd/fleetd/pkg/kernel/wanted"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// Rules are what a policy can ask of a node's kernel, beside what the modules declare.
func Rules() []rollout.Rule {
	base := rollout.Read{Section: node.Section.Name()}
	upkeep := rollout.Read{Section: node.Section.Name(), Key: node.UpkeepKey}
	return []rollout.Rule{
		{
			Name: wanted.MinimumRule, Help: "the running kernel is no older than a version", Reads: []rollout.Read{base}, With: withMinimum,
			Params: rollout.Params{"version": {Type: rollout.String, Required: true, Help: `the oldest that will do, in quotes: "5.10", "4.18.0-305"`}},
		},
		{
			Name: "kernel-exact", Help: "the running kernel is one of these versions", Reads: []rollout.Read{base}, With: withExact,
			Params: rollout.Params{"versions": {Type: rollout.Strings, Required: true, Help: `versions, in quotes, as exact as they are written: "6.1.4" is each build of it`}},
		},
		{
			Name: "kernel-origin", Help: "the running kernel's package is of one of these vendors, and of one of these names", Reads: []rollout.Read{upkeep}, With: withOrigin,
			Params: rollout.Params{
				"vendors":  {Type: rollout.Strings, Help: `vendors as rpm -qi tells them, * for any text: "The ELRepo Project"`},
				"packages": {Type: rollout.Strings, Help: "names of packages, such as kernel-lt"},
			},
		},
		{Name: "kernel-current", Help: "the kernel that runs is the default, and the newest that is installed of its name", Reads: []rollout.Read{base}, With: noArguments(judgeCurrent)},
		{Name: "reboot-pending", Help: "no installed update waits for a reboot", Reads: []rollout.Read{upkeep}, With: noArguments(judgePending)},
		{
			Name: "uptime", Help: "the node was rebooted not too long ago", Reads: []rollout.Read{upkeep}, With: withUptime,
			Params: rollout.Params{"max": {Type: rollout.Duration, Required: true, Help: "how long it may be up: 90d"}},
		},
		{
			Name: "kernel-age", Help: "the running kernel was built not too long ago", Reads: []rollout.Read{upkeep}, With: withAge,
			Params: rollout.Params{"max": {Type: rollout.Duration, Required: true, Help: "how old it may be: 180d"}},
		},
		{
			Name: "kernel-supported", Help: "the running kernel's end of life has not come", Reads: []rollout.Read{base}, With: withSupport,
			Params: rollout.Params{
				"end_of_life": {Type: rollout.Any, Required: true, Help: `the last day by kernel: a version ("6.1" is all of 6.1.x) or a pattern of uname -r ("4.18.0-*.el8*")`},
				"notice":      {Type: rollout.Duration, Help: "so long before the last day it is drift already: 90d"},
			},
		},
		{
			Name: "kernel-modules-absent", Help: "none of these kernel modules is loaded", Reads: []rollout.Read{upkeep}, With: withoutModules,
			Params: rollout.Params{"modules": {Type: rollout.Strings, Required: true, Help: "names, * for any text"}},
		},
	}
}

// noArguments is a rule that takes no arguments.
func noArguments(judge rollout.Judgement) func(rollout.Args) (rollout.Judgement, error) {
	return func(rollout.Args) (rollout.Judgement, error) { return judge, nil }
}

const runningField = "running kernel"

func withMinimum(args rollout.Args) (rollout.Judgement, error) {
	version := args.String("version", "")
	if _, err := evr.CompareRelease("1", version); err != nil {
		return nil, err
	}
	return func(l rollout.Look) (rollout.Finding, error) {
		f, err := node.Section.Get(l.State)
		if err != nil {
			return rollout.Finding{}, err
		}
		return wanted.JudgeMinimum(f.Running, version)
	}, nil
}

func withExact(args rollout.Args) (rollout.Judgement, error) {
	versions := args.Strings("versions")
	for _, v := range versions {
		if _, err := evr.CompareRelease("1", v); err != nil {
			return nil, err
		}
	}
	if len(versions) == 0 {
		return nil, fmt.Errorf("versions: name at least one")
	}
	return func(l rollout.Look) (rollout.Finding, error) {
		f, err := node.Section.Get(l.State)
		if err != nil {
			return rollout.Finding{}, err
		}
		for _, v := range versions {
			if order, err := evr.CompareRelease(f.Running, v); err == nil && order == 0 {
				return rollout.Holds("runs %s", f.Running), nil
			}
		}
		return rollout.Drifts("runs another kernel", rollout.Field{Name: runningField, Before: f.Running, After: strings.Join(versions, " or ")}), nil
	}, nil
}

// upkeepOf are the facts and what the key upkeep asked for.
func upkeepOf(l rollout.Look) (node.Facts, *node.Upkeep, error) {
	f, err := node.Section.Get(l.State)
	if err != nil {
		return f, nil, err
	}
	if f.Upkeep == nil {
		return f, nil, &rollout.Problem{Message: "the node did not say how long it has been up", Hint: "cat /proc/uptime there"}
	}
	return f, f.Upkeep, nil
}

// datedOf is the installed package of the kernel that runs.
func datedOf(f node.Facts, u *node.Upkeep) (node.DatedPackage, error) {
	i := slices.IndexFunc(u.Packages, func(p node.DatedPackage) bool {
		return strings.HasPrefix(p.Name, "kernel") && p.Release() == f.Running
	})
	if i < 0 {
		return node.DatedPackage{}, &rollout.Problem{
			Message: "the kernel that runs, " + f.Running + ", is of no installed package",
			Hint:    "rpm -qf /boot/vmlinuz-" + f.Running + " there; a kernel that rpm does not know gets no updates",
		}
	}
	return u.Packages[i], nil
}

func withOrigin(args rollout.Args) (rollout.Judgement, error) {
	vendors, err := patternsArg(args, "vendors")
	if err != nil {
		return nil, err
	}
	names, err := patternsArg(args, "packages")
	if err != nil {
		return nil, err
	}
	if len(vendors)+len(names) == 0 {
		return nil, fmt.Errorf("vendors or packages: name at least one")
	}
	return func(l rollout.Look) (rollout.Finding, error) {
		f, u, err := upkeepOf(l)
		if err != nil {
			return rollout.Finding{}, err
		}
		p, err := datedOf(f, u)
		if err != nil {
			return rollout.Finding{}, err
		}
		name := strings.TrimSuffix(p.Name, "-core") // kernel-ml's image is in kernel-ml-core on EL8
		var wrong []rollout.Field
		if len(vendors) > 0 && !matchesAny(vendors, p.Vendor) {
			wrong = append(wrong, rollout.Field{Name: "vendor", Before: p.Vendor, After: strings.Join(vendors, " or ")})
		}
		if len(names) > 0 && !matchesAny(names, name) {
			wrong = append(wrong, rollout.Field{Name: "package", Before: name, After: strings.Join(names, " or ")})
		}
		if len(wrong) > 0 {
			return rollout.Drifts("runs a kernel from elsewhere", wrong...), nil
		}
		return rollout.Holds("%s is of %s", name, p.Vendor), nil
	}, nil
}

func patternsArg(args rollout.Args, name string) ([]string, error) {
	all := args.Strings(name)
	for _, p := range all {
		if _, err := path.Match(p, ""); err != nil {
			return nil, fmt.Errorf("%s: %q is no pattern: %w", name, p, err)
		}
	}
	return all, nil
}

func matchesAny(patterns []string, s string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, s)
		return err == nil && ok
	})
}

func judgeCurrent(l rollout.Look) (rollout.Finding, error) {
	f, err := node.Section.Get(l.State)
	if err != nil {
		return rollout.Finding{}, err
	}
	newest, ok := newestLike(f)
	if !ok {
		return rollout.Finding{}, &rollout.Problem{
			Message: "the kernel that runs, " + f.Running + ", is of no installed package",
			Hint:    "rpm -qf /boot/vmlinuz-" + f.Running + " there",
		}
	}
	var wrong []rollout.Field
	if f.Running != newest {
		wrong = append(wrong, rollout.Field{Name: runningField, Before: f.Running, After: newest})
	}
	if def := f.Boot.DefaultRelease(); def != newest {
		wrong = append(wrong, rollout.Field{Name: "default kernel", Before: def, After: newest})
	}
	if len(wrong) > 0 {
		return rollout.Drifts("what runs, what boots next and the newest that is installed are not one kernel", wrong...), nil
	}
	return rollout.Holds("runs %s, the newest that is installed, and the default", newest), nil
}

// newestLike is the newest installed release of the packages that the running kernel's
// is one of: a kernel of EL that is kept as a fallback is no newer kernel-ml.
func newestLike(f node.Facts) (string, bool) {
	i := slices.IndexFunc(f.Installed, func(p node.Package) bool { return p.Release() == f.Running })
	if i < 0 {
		return "", false
	}
	same := slices.DeleteFunc(slices.Clone(f.Installed), func(p node.Package) bool { return p.Name != f.Installed[i].Name })
	return slices.MaxFunc(same, func(a, b node.Package) int { return evr.Compare(a.EVR, b.EVR) }).Release(), true
}

func judgePending(l rollout.Look) (rollout.Finding, error) {
	f, u, err := upkeepOf(l)
	if err != nil {
		return rollout.Finding{}, err
	}
	if def := f.Boot.DefaultRelease(); def != "" && def != f.Running {
		return rollout.Drifts("another kernel than the one that runs would boot", rollout.Field{Name: runningField, Before: f.Running, After: def}), nil
	}
	var waits []string
	for _, p := range u.Packages {
		// A kernel that was installed and is not the default waits for nobody.
		if u.BootTime > 0 && p.Installed > u.BootTime && !strings.HasPrefix(p.Name, "kernel") {
			waits = append(waits, p.Name)
		}
	}
	if len(waits) > 0 {
		slices.Sort(waits)
		return rollout.Drifts("updated since the last boot, and in force after the next: " + strings.Join(slices.Compact(waits), ", ")), nil
	}
	return rollout.Holds("no update waits for a reboot"), nil
}

func withUptime(args rollout.Args) (rollout.Judgement, error) {
	most, err := args.Duration("max", 0)
	if err != nil {
		return nil, err
	}
	return func(l rollout.Look) (rollout.Finding, error) {
		_, u, err := upkeepOf(l)
		if err != nil {
			return rollout.Finding{}, err
		}
		up := time.Duration(u.Uptime) * time.Second
		if up > most {
			return rollout.Drifts("was not rebooted for too long", rollout.Field{Name: "uptime", Before: days(up), After: "<= " + days(most)}), nil
		}
		return rollout.Holds("up for %s", days(up)), nil
	}, nil
}

func withAge(args rollout.Args) (rollout.Judgement, error) {
	most, err := args.Duration("max", 0)
	if err != nil {
		return nil, err
	}
	return func(l rollout.Look) (rollout.Finding, error) {
		f, u, err := upkeepOf(l)
		if err != nil {
			return rollout.Finding{}, err
		}
		p, err := datedOf(f, u)
		if err != nil {
			return rollout.Finding{}, err
		}
		if p.Built == 0 {
			return rollout.Finding{}, &rollout.Problem{Message: "package " + p.Name + " does not say when it was built", Hint: "rpm -qi " + p.Name + " there"}
		}
		built := time.Unix(p.Built, 0).UTC()
		day := built.Format(time.DateOnly) // and not its age, which is another one tomorrow
		if l.Now.Sub(built) > most {
			return rollout.Drifts("runs a kernel that was built too long ago", rollout.Field{Name: runningField, Before: f.Running + " of " + day, After: "one of the last " + days(most)}), nil
		}
		return rollout.Holds("%s was built on %s", f.Running, day), nil
	}, nil
}

// days writes a time span in days, as spans of months are compared.
func days(d time.Duration) string {
	if d < 24*time.Hour {
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	n := int(d / (24 * time.Hour))
	if n == 1 {
		return "1 day"
	}
	return fmt.Sprintf("%d days", n)
}

// support is when kernels like this one end.
type support struct {
	pattern string
	until   time.Time
}

func withSupport(args rollout.Args) (rollout.Judgement, error) {
	ends, ok := args["end_of_life"].(map[string]any)
	if !ok || len(ends) == 0 {
		return nil, fmt.Errorf(`end_of_life: give days by kernel: {"6.1": 2027-12-31}`)
	}
	var notice time.Duration
	var err error
	if args["notice"] != nil {
		if notice, err = args.Duration("notice", 0); err != nil {
			return nil, err
		}
	}
	var all []support
	for _, pattern := range slices.Sorted(maps.Keys(ends)) {
		day, err := time.Parse(time.DateOnly, fmt.Sprint(ends[pattern]))
		if err != nil {
			return nil, fmt.Errorf("end_of_life: %s: %v is no day such as 2027-12-31", pattern, ends[pattern])
		}
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, fmt.Errorf("end_of_life: %q is no pattern: %w", pattern, err)
		}
		all = append(all, support{pattern, day})
	}
	// The one that says most of a kernel counts: "6.1" before "*".
	slices.SortStableFunc(all, func(a, b support) int { return len(b.pattern) - len(a.pattern) })
	return func(l rollout.Look) (rollout.Finding, error) {
		f, err := node.Section.Get(l.State)
		if err != nil {
			return rollout.Finding{}, err
		}
		i := slices.IndexFunc(all, func(s support) bool { return s.is(f.Running) })
		if i < 0 {
			return rollout.Finding{}, &rollout.Problem{
				Message: "the policy has no end of life for kernel " + f.Running,
				Hint:    "add it to end_of_life: kernel.org/category/releases.html has those of kernel-lt; a kernel-ml ends with the next",
			}
		}
		until := all[i].until.Format(time.DateOnly)
		switch last := all[i].until.AddDate(0, 0, 1); {
		case !l.Now.Before(last):
			return rollout.Drifts("runs a kernel without support", rollout.Field{Name: runningField, Before: f.Running + ", supported until " + until, After: "a supported one"}), nil
		case !l.Now.Add(notice).Before(last):
			return rollout.Drifts("runs a kernel whose support ends soon", rollout.Field{Name: runningField, Before: f.Running + ", supported until " + until, After: "one supported for " + days(notice)}), nil
		}
		return rollout.Holds("%s is supported until %s", f.Running, until), nil
	}, nil
}

func (s support) is(release string) bool {
	if rest, ok := strings.CutPrefix(release, s.pattern); ok && (rest == "" || !unicode.In(rune(rest[0]), unicode.Letter, unicode.Digit)) {
		return true
	}
	return matchesAny([]string{s.pattern}, release)
}

func withoutModules(args rollout.Args) (rollout.Judgement, error) {
	patterns, err := patternsArg(args, "modules")
	if err != nil {
		return nil, err
	}
	if len(patterns) == 0 {
		return nil, fmt.Errorf("modules: name at least one")
	}
	for i, p := range patterns { // file names have either, /proc/modules has one
		patterns[i] = strings.ReplaceAll(p, "-", "_")
	}
	return func(l rollout.Look) (rollout.Finding, error) {
		_, u, err := upkeepOf(l)
		if err != nil {
			return rollout.Finding{}, err
		}
		var found []string
		for _, m := range u.Modules {
			if matchesAny(patterns, m) {
				found = append(found, m)
			}
		}
		if len(found) > 0 {
			return rollout.Drifts("has loaded what must not be: " + strings.Join(found, ", ")), nil
		}
		return rollout.Holds("has loaded none of %s", strings.Join(patterns, ", ")), nil
	}, nil
}
