package kernel

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// ruled holds facts against a rule: "holds", "drifts: …" with what differs, or
// "not judged: …".
func ruled(t *testing.T, name string, args rollout.Args, f node.Facts) string {
	t.Helper()
	for _, r := range Rules() {
		if r.Name != name {
			continue
		}
		judge, err := r.With(args)
		if err != nil {
			return "refused: " + err.Error()
		}
		st := node.Section.With(nil, f)
		found, err := judge(rollout.Look{Host: "n1", State: st, Now: time.Date(2026, 11, 27, 6, 0, 0, 0, time.UTC)})
		var p *rollout.Problem
		switch {
		case errors.As(err, &p):
			return "not judged: " + p.Message
		case err != nil:
			t.Fatal(err)
		case !found.Drift:
			return "holds"
		}
		out := "drifts: " + found.Text
		for _, d := range found.Fields {
			out += " [" + d.Name + ": " + d.Before + " → " + d.After + "]"
		}
		return out
	}
	t.Fatalf("there is no rule %s", name)
	return ""
}

const elrepo = "6.1.4-1.el8.elrepo.x86_64"

func wellKept() node.Facts {
	return node.Facts{
		Running:   elrepo,
		Installed: []node.Package{{Name: "kernel", EVR: "4.18.0-553.el8_10", Arch: "x86_64"}, {Name: "kernel-ml", EVR: "6.1.4-1.el8.elrepo", Arch: "x86_64"}},
		Boot:      node.Boot{Default: "/boot/vmlinuz-" + elrepo},
		Upkeep: &node.Upkeep{
			Uptime: 40 * 86400, BootTime: 1_760_000_000, Modules: []string{"nf_tables", "xfs"},
			Packages: []node.DatedPackage{
				{Name: "kernel-ml-core", EVR: "6.1.4-1.el8.elrepo", Arch: "x86_64", Vendor: "The ELRepo Project", Built: 1_750_000_000, Installed: 1_760_000_900},
				{Name: "glibc", EVR: "2.28-251.el8_10", Arch: "x86_64", Vendor: "Rocky Enterprise Software Foundation", Installed: 1_750_000_000},
			},
		},
	}
}

func TestRules(t *testing.T) {
	old := func(f *node.Facts) { f.Running = "4.18.0-553.el8_10.x86_64" }
	for _, c := range []struct {
		rule string
		args rollout.Args
		edit func(*node.Facts)
		want string
	}{
		{"kernel-minimum", rollout.Args{"version": "6.1"}, nil, "holds"},
		{"kernel-minimum", rollout.Args{"version": "6.10"}, nil, "drifts: runs a kernel older than 6.10 [running kernel: " + elrepo + " → >= 6.10]"},
		{"kernel-minimum", rollout.Args{"version": "new"}, nil, `refused: "new" is no kernel version: give it as 5.10 or 4.18.0-305`},
		{"kernel-exact", rollout.Args{"versions": []any{"5.4", "6.1.4-1"}}, nil, "holds"},
		{"kernel-exact", rollout.Args{"versions": []any{"6.1.40"}}, nil, "drifts: runs another kernel [running kernel: " + elrepo + " → 6.1.40]"},
		{"kernel-exact", rollout.Args{"versions": []any{}}, nil, "refused: versions: name at least one"},
		{"kernel-origin", rollout.Args{"vendors": []any{"The ELRepo*"}, "packages": []any{"kernel-ml"}}, nil, "holds"},
		{"kernel-origin", rollout.Args{"vendors": []any{"Rocky *"}, "packages": []any{"kernel-lt"}}, nil,
			"drifts: runs a kernel from elsewhere [vendor: The ELRepo Project → Rocky *] [package: kernel-ml → kernel-lt]"},
		{"kernel-origin", rollout.Args{"vendors": []any{"*"}}, func(f *node.Facts) { f.Running = "6.1.4-custom" }, "not judged: the kernel that runs, 6.1.4-custom, is of no installed package"},
		{"kernel-origin", rollout.Args{}, nil, "refused: vendors or packages: name at least one"},
		{"kernel-origin", rollout.Args{"vendors": []any{"[a"}}, nil, `refused: vendors: "[a" is no pattern: syntax error in pattern`},
		{"kernel-current", nil, nil, "holds"},
		// EL's own kernel is kept as a fallback; it is none that ought to run.
		{"kernel-current", nil, old, "drifts: what runs, what boots next and the newest that is installed are not one kernel [default kernel: " + elrepo + " → 4.18.0-553.el8_10.x86_64]"},
		{"kernel-current", nil, func(f *node.Facts) {
			f.Installed = append(f.Installed, node.Package{Name: "kernel-ml", EVR: "6.1.10-1.el8.elrepo", Arch: "x86_64"})
		}, "drifts: what runs, what boots next and the newest that is installed are not one kernel [running kernel: " + elrepo + " → 6.1.10-1.el8.elrepo.x86_64] [default kernel: " + elrepo + " → 6.1.10-1.el8.elrepo.x86_64]"},
		{"kernel-current", nil, func(f *node.Facts) { f.Installed = nil }, "not judged: the kernel that runs, " + elrepo + ", is of no installed package"},
		{"reboot-pending", nil, nil, "holds"},
		{"reboot-pending", nil, old, "drifts: another kernel than the one that runs would boot [running kernel: 4.18.0-553.el8_10.x86_64 → " + elrepo + "]"},
		{"reboot-pending", nil, func(f *node.Facts) { f.Upkeep.Packages[1].Installed = 1_760_000_001 }, "drifts: updated since the last boot, and in force after the next: glibc"},
		{"reboot-pending", nil, func(f *node.Facts) { f.Upkeep = nil }, "not judged: the node did not say how long it has been up"},
		{"uptime", rollout.Args{"max": "960h"}, nil, "holds"},
		{"uptime", rollout.Args{"max": "720h"}, nil, "drifts: was not rebooted for too long [uptime: 40 days → <= 30 days]"},
		{"kernel-age", rollout.Args{"max": "24000h"}, nil, "holds"},
		{"kernel-age", rollout.Args{"max": "2400h"}, nil, "drifts: runs a kernel that was built too long ago [running kernel: " + elrepo + " of 2025-06-15 → one of the last 100 days]"},
		{"kernel-supported", rollout.Args{"end_of_life": map[string]any{"6.1": "2027-12-31"}}, nil, "holds"},
		{"kernel-supported", rollout.Args{"end_of_life": map[string]any{"6.1": "2026-11-27"}}, nil, "holds"}, // the last day
		{"kernel-supported", rollout.Args{"end_of_life": map[string]any{"6.1": "2026-11-26"}}, nil,
			"drifts: runs a kernel without support [running kernel: " + elrepo + ", supported until 2026-11-26 → a supported one]"},
		{"kernel-supported", rollout.Args{"end_of_life": map[string]any{"6.1": "2026-12-31"}, "notice": "2160h"}, nil,
			"drifts: runs a kernel whose support ends soon [running kernel: " + elrepo + ", supported until 2026-12-31 → one supported for 90 days]"},
		{"kernel-supported", rollout.Args{"end_of_life": map[string]any{"6.1": "2027-12-31", "6.1.4-*": "2020-01-01", "6": "2020-01-01"}}, nil,
			"drifts: runs a kernel without support [running kernel: " + elrepo + ", supported until 2020-01-01 → a supported one]"}, // the longest pattern
		{"kernel-supported", rollout.Args{"end_of_life": map[string]any{"6.10": "2027-12-31"}}, nil, "not judged: the policy has no end of life for kernel " + elrepo},
		{"kernel-supported", rollout.Args{"end_of_life": map[string]any{"6.1": "soon"}}, nil, "refused: end_of_life: 6.1: soon is no day such as 2027-12-31"},
		{"kernel-modules-absent", rollout.Args{"modules": []any{"nvidia*", "zfs"}}, nil, "holds"},
		{"kernel-modules-absent", rollout.Args{"modules": []any{"nf-tables"}}, nil, "drifts: has loaded what must not be: nf_tables"},
	} {
		f := wellKept()
		if c.edit != nil {
			c.edit(&f)
		}
		if got := ruled(t, c.rule, c.args, f); got != c.want {
			t.Errorf("%s %v:\n got %s\nwant %s", c.rule, c.args, got, c.want)
		}
	}
}

// TestRulesNameWhatTheyRead: a rule that judges what it does not read is never judged
// on a fleet.
func TestRulesNameWhatTheyRead(t *testing.T) {
	for _, r := range Rules() {
		if r.Help == "" || len(r.Reads) == 0 || strings.HasSuffix(r.Help, ".") {
			t.Errorf("%s: %q reads %v", r.Name, r.Help, r.Reads)
		}
	}
}
