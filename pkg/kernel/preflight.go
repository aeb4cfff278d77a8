package kernel

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/fleetd/fleetd/pkg/kernel/evr"
	"github.com/fleetd/fleetd/pkg/kernel/packages"
	"github.com/fleetd/fleetd/pkg/kernel/wanted"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// preflight is fleetd.kernel.preflight: it looks at all that is known to go
// wrong, when the plan is made and again just before the change.
type preflight struct{ remote node.Remote }

type preflightData struct {
	Wanted wanted.Kernel `json:"wanted"`
	// The install, if the package is not there.
	packages.Transaction
	BootFree int64    `json:"boot_free,omitempty"`
	RootFree int64    `json:"root_free"`
	Ignore   []string `json:"ignore,omitempty"`
}

func (preflight) About() rollout.About {
	return rollout.About{Guards: rollout.Changes, Params: wanted.Params(rollout.Params{
		"boot_free": {Type: rollout.String, Help: "free space wanted in /boot, such as 150M (default: worked out from the kernels there)"},
		"root_free": {Type: rollout.String, Help: "free space wanted where modules go (default 500M)"},
		"ignore":    {Type: rollout.Strings, Choices: checkNames(), Help: "checks to leave out"},
	})}
}

func (preflight) Reads(args rollout.Args) []rollout.Read { return wanted.Reads(args) }

func (p preflight) Diff(host string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	f, err := node.Section.Get(before)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	d, err := preflightArgs(args)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	choice, err := wanted.Choose(host, f, d.Wanted)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	if settled(f, choice) {
		return rollout.Change{Action: rollout.NoOp, Summary: "nothing to check: " + choice.Package.Release() + " runs and is the default"}, before, nil
	}
	if problem := unfit(d.fitness(host, f, choice), d.Ignore); problem != nil {
		return rollout.Change{}, nil, problem
	}
	d.Package = choice.Package
	if !choice.Installed {
		d.Transaction = packages.Bind(f, d.Wanted, choice.Package)
	}
	raw, err := json.Marshal(d)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	return rollout.Change{
		Action:  rollout.ReadOnly,
		Summary: "check that the node is fit for " + d.Package.NEVRA(),
		Risks:   notes(f, choice, d.Wanted, d.Ignore),
		Data:    raw,
	}, before, nil
}

// Do looks again: hours may have passed, and a full /boot must be found before
// anything is drained.
func (p preflight) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	var d preflightData
	if err := json.Unmarshal(s.Change.Data, &d); err != nil {
		return rollout.Fail(fmt.Errorf("cannot read what was planned for %s: %w", s.Host, err))
	}
	f, err := node.Gather(ctx, p.remote, s.Host, s.Become)
	if err != nil {
		return rollout.Fail(err)
	}
	pkg := d.Package
	choice := wanted.Choice{Package: pkg, Installed: slices.Contains(f.Installed, pkg)}
	if settled(f, choice) {
		return rollout.AlreadyDone("%s runs and is the default", pkg.Release())
	}
	if problem := unfit(d.fitness(s.Host, f, choice), d.Ignore); problem != nil {
		return rollout.Fail(problem)
	}
	if !choice.Installed {
		if out, ok := d.Ready(ctx, p.remote, s, f); !ok {
			return out
		}
	}
	return rollout.AlreadyDone("%s is fit for %s", s.Host, pkg.NEVRA())
}

// Undo has nothing to take back.
func (preflight) Undo(_ context.Context, s rollout.Step) rollout.Outcome {
	return rollout.AlreadyDone("a check changes nothing on %s", s.Host)
}

func preflightArgs(args rollout.Args) (preflightData, error) {
	d := preflightData{Wanted: wanted.Args(args), Ignore: args.Strings("ignore")}
	var err error
	if d.BootFree, err = parseSize(args.String("boot_free", "0")); err != nil {
		return d, fmt.Errorf("boot_free: %w", err)
	}
	if d.RootFree, err = parseSize(args.String("root_free", "500M")); err != nil {
		return d, fmt.Errorf("root_free: %w", err)
	}
	return d, nil
}

func (d preflightData) fitness(host string, f node.Facts, c wanted.Choice) fitness {
	return fitness{host: host, facts: f, wanted: d.Wanted, choice: c, bootFree: d.BootFree, rootFree: d.RootFree}
}

// settled tells a node on which there is nothing left to do: a full /boot there
// is no reason to halt a run.
func settled(f node.Facts, c wanted.Choice) bool {
	release := c.Package.Release()
	return c.Installed && f.Running == release && f.Boot.DefaultRelease() == release
}

// notes are worth knowing and no reason to stop. They hold nothing that changes
// by itself, because the plan is compared with a fresh one.
func notes(f node.Facts, c wanted.Choice, w wanted.Kernel, ignore []string) []string {
	var out []string
	if !c.Installed && f.Yum.LockHolder != "" && f.InstallErrors[w.Key()] != "" {
		out = append(out, "somebody holds yum's lock: whether yum would install the kernel, and what besides, is known once it is free; look again then")
	}
	if f.Kdump.Enabled && strings.Contains(f.Cmdline, "crashkernel=auto") {
		out = append(out, "crashkernel=auto means nothing to a mainline kernel: kdump will not be armed; set crashkernel=256M or so")
	}
	if d := f.Boot.DefaultRelease(); d != "" && d != f.Running && f.Running != c.Package.Release() {
		out = append(out, fmt.Sprintf("the default entry is %s and not the running %s; the trial falls back to the running one", d, f.Running))
	}
	if f.Boot.GrubDefault != "saved" {
		out = append(out, "/etc/default/grub does not have GRUB_DEFAULT=saved: after the next grub2-mkconfig another entry boots than the default that is set")
	}
	if r, known := f.Repos[w.Repo]; known && !r.GPGCheck {
		out = append(out, "the repository's packages are not checked against a key (gpgcheck=0)")
	}
	if evr.Compare(c.Package.Release(), f.Running) < 0 {
		out = append(out, fmt.Sprintf("%s is older than the running %s", c.Package.Release(), f.Running))
	}
	for _, name := range ignore {
		out = append(out, "check "+name+" is ignored")
	}
	return out
}

// parseSize reads "150M", "1G", "2048K" or a number of bytes, in powers of 1024.
func parseSize(s string) (int64, error) {
	digits, factor := strings.TrimSpace(s), int64(1)
	upper := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(digits), "B"), "I")
	for suffix, f := range map[string]int64{"K": 1 << 10, "M": 1 << 20, "G": 1 << 30} {
		if rest, found := strings.CutSuffix(upper, suffix); found {
			upper, factor = rest, f
			break
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(upper), 10, 64)
	if err != nil || n < 0 || n > (1<<50)/factor {
		return 0, fmt.Errorf("%q is no size such as 150M", s)
	}
	return n * factor, nil
}
