package kernel

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// makeDefault is fleetd.kernel.default: the kernel that was chosen, or else the
// one that runs, is the default entry.
type makeDefault struct{ remote node.Remote }

type defaultData struct {
	Release string `json:"release"`
	// Previous is the default's release before; "" = unknown.
	Previous string `json:"previous,omitempty"`
}

func (makeDefault) Params() rollout.Params { return rollout.Params{} }

func (makeDefault) Reads(rollout.Args) []rollout.Read {
	return []rollout.Read{{Section: node.Section.Name()}}
}

func (makeDefault) Diff(host string, before rollout.State, _ rollout.Args) (rollout.Change, rollout.State, error) {
	f, err := node.Section.Get(before)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	release := f.Target
	if release == "" {
		release = f.Running
	}
	previous := f.Boot.DefaultRelease()
	if previous == release {
		return rollout.Change{Action: rollout.NoOp, Summary: release + " is the default"}, before, nil
	}
	if _, ok := f.Boot.Entry(release); !ok {
		return rollout.Change{}, nil, noEntry(host, release)
	}
	if wrong, hint := grubDefaultFixed(f.Boot); wrong != "" {
		return rollout.Change{}, nil, &rollout.Problem{Message: fmt.Sprintf("cannot set the default kernel of %s: %s", host, wrong), Hint: hint}
	}
	raw, err := json.Marshal(defaultData{Release: release, Previous: previous})
	if err != nil {
		return rollout.Change{}, nil, err
	}
	c := rollout.Change{
		Action:  rollout.Update,
		Summary: "make " + release + " the default kernel",
		Fields:  []rollout.Field{{Name: "default kernel", Before: previous, After: release}},
		Data:    raw,
	}
	if f.Running != release {
		c.Risks = append(c.Risks, release+" does not run yet: if it cannot boot, the node does not come back by itself")
	}
	if pkg, ok := packageOf(f, release); ok && f.Boot.UpdateDefault == "yes" && f.Boot.DefaultKernel != "" && pkg.Name != f.Boot.DefaultKernel && pkg.Name+"-core" != f.Boot.DefaultKernel {
		c.Risks = append(c.Risks, fmt.Sprintf("/etc/sysconfig/kernel has DEFAULTKERNEL=%s: the next update of that package makes its kernel the default again", f.Boot.DefaultKernel))
	}
	f.Boot.Default = "/boot/vmlinuz-" + release
	after, err := node.Section.With(before, f)
	return c, after, err
}

func packageOf(f node.Facts, release string) (node.Package, bool) {
	for _, p := range f.Installed {
		if p.Release() == release {
			return p, true
		}
	}
	return node.Package{}, false
}

func (m makeDefault) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	var d defaultData
	if err := json.Unmarshal(s.Change.Data, &d); err != nil {
		return rollout.Fail(fmt.Errorf("cannot read what was planned for %s: %w", s.Host, err))
	}
	return m.set(ctx, s, d.Release)
}

// Undo makes the kernel that was the default before the default again.
func (m makeDefault) Undo(ctx context.Context, s rollout.Step) rollout.Outcome {
	if s.Change.Action != rollout.Update {
		return rollout.AlreadyDone("the default of %s was not changed", s.Host)
	}
	var d defaultData
	if err := json.Unmarshal(s.Change.Data, &d); err != nil {
		return rollout.Fail(fmt.Errorf("cannot read what was planned for %s: %w", s.Host, err))
	}
	if d.Previous == "" {
		return rollout.Fail(&rollout.Problem{
			Message: fmt.Sprintf("cannot set the previous default of %s: it was not known", s.Host),
			Hint:    "grubby --info=ALL, then grubby --set-default=/boot/vmlinuz-<release>",
		})
	}
	return m.set(ctx, s, d.Previous)
}

func (m makeDefault) set(ctx context.Context, s rollout.Step, release string) rollout.Outcome {
	l := loader{ctx, m.remote, s}
	boot, err := l.entries()
	if err != nil {
		return rollout.Fail(err)
	}
	if _, ok := boot.Entry(release); !ok {
		return rollout.Fail(noEntry(s.Host, release))
	}
	if ok, err := l.isDefault(boot, release); err != nil {
		return rollout.Fail(err)
	} else if ok {
		return rollout.AlreadyDone("%s is the default of %s", release, s.Host)
	}
	if err := l.setDefault(boot, release); err != nil {
		return rollout.Fail(err)
	}
	return rollout.Did("%s is the default of %s", release, s.Host)
}
