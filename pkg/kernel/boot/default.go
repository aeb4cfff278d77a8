package boot

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/fleetd/fleetd/pkg/kernel/wanted"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// makeDefault is fleetd.kernel.default: the chosen kernel is the default entry.
type makeDefault struct{ remote node.Remote }

// Default returns fleetd.kernel.default.
func Default(remote node.Remote) rollout.Module { return makeDefault{remote} }

type defaultData struct {
	Release string `json:"release"`
	// Previous is the default's release before; "" = unknown.
	Previous string `json:"previous,omitempty"`
}

func (makeDefault) About() rollout.About {
	return rollout.About{Params: wanted.Params(nil), Rule: "kernel-default"}
}

func (makeDefault) Reads(args rollout.Args) []rollout.Read { return wanted.Reads(args) }

func (makeDefault) Diff(host string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	f, err := node.Section.Get(before)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	release, err := wanted.Present(host, f, wanted.Args(args))
	if err != nil {
		return rollout.Change{}, nil, err
	}
	previous := f.Boot.DefaultRelease()
	if previous == release {
		return rollout.Change{Action: rollout.NoOp, Summary: release + " is the default"}, before, nil
	}
	if _, ok := f.Boot.Entry(release); !ok {
		return rollout.Change{}, nil, NoEntry(host, release)
	}
	if wrong, hint := GrubCfgUnfit(f); wrong != "" {
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
	if previous != "" {
		c.Back = "make " + previous + " the default kernel"
	}
	if f.Running != release {
		c.Risks = append(c.Risks, release+" does not run yet: if it cannot boot, the node does not come back by itself")
	}
	if pkg, ok := packageOf(f, release); ok && f.Boot.UpdateDefault == "yes" && f.Boot.DefaultKernel != "" && pkg.Name != f.Boot.DefaultKernel && pkg.Name+"-core" != f.Boot.DefaultKernel {
		c.Risks = append(c.Risks, fmt.Sprintf("/etc/sysconfig/kernel has DEFAULTKERNEL=%s: the next update of that package makes its kernel the default again", f.Boot.DefaultKernel))
	}
	f.Boot.Default = "/boot/vmlinuz-" + release
	return c, node.Section.With(before, f), nil
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

// Undo makes the kernel default again that was it before.
func (m makeDefault) Undo(ctx context.Context, s rollout.Step) rollout.Outcome {
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
	l := Loader{ctx, m.remote, s}
	boot, err := l.Entries()
	if err != nil {
		return rollout.Fail(err)
	}
	if _, ok := boot.Entry(release); !ok {
		return rollout.Fail(NoEntry(s.Host, release))
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
