package packages

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/kernel/boot"
	"github.com/fleetd/fleetd/pkg/kernel/wanted"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// install is fleetd.kernel.package: one exact package is installed, it has a
// boot entry and an initramfs, and the default entry is what it was.
type install struct{ remote node.Remote }

// Install returns fleetd.kernel.package.
func Install(remote node.Remote) rollout.Module { return install{remote} }

var _ rollout.Judge = install{}

type installData struct {
	Transaction
	// Default is the default kernel's release before, to be kept.
	Default string `json:"default,omitempty"`
	// Had are the packages of its family that were there before, to be left there
	// when it is taken back.
	Had []string `json:"had,omitempty"`
	// Stays are those in step that yum upgrades, to be left as well: of them one version
	// can be installed, and what needs it, as gcc needs the headers, would have none.
	Stays []string `json:"stays,omitempty"`
}

func (install) About() rollout.About {
	return rollout.About{Params: wanted.Params(nil), Rule: "kernel-installed"}
}

func (install) Reads(args rollout.Args) []rollout.Read { return wanted.Reads(args) }

func (install) Diff(host string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	f, err := node.Section.Get(before)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	w := wanted.Args(args)
	choice, err := wanted.Choose(host, f, w)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	p := choice.Package
	release := p.Release()
	if choice.Installed {
		// Installed once and without an entry: an earlier transaction was cut off,
		// or new-kernel-pkg did nothing. Installing again would do nothing either.
		if _, ok := f.Boot.Entry(release); !ok {
			return rollout.Change{}, nil, boot.NoEntry(host, release)
		}
		return rollout.Change{Action: rollout.NoOp, Summary: p.NEVRA() + " is installed"}, before, nil
	}
	// The default is kept where an install moves it, and C grubby breaks a grub.cfg
	// that has a fixed one.
	if wrong, hint := boot.GrubCfgUnfit(f); wrong != "" {
		return rollout.Change{}, nil, &rollout.Problem{Message: fmt.Sprintf("cannot install %s on %s: %s", p.NEVRA(), host, wrong), Hint: hint}
	}
	t := Bind(f, w, p)
	d := installData{Transaction: t, Default: f.Boot.DefaultRelease(), Had: family(f.Installed, p), Stays: t.staying()}
	d.Changes = nil // they are the preflight's
	raw, err := json.Marshal(d)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	c := rollout.Change{
		Action:  rollout.Create,
		Summary: "install " + p.NEVRA(),
		Fields:  t.fields(f),
		Reasons: []string{reason(w, p)},
		Back:    "remove " + p.NEVRA(),
		Data:    raw,
		Note:    t.stageNote(f, w),
	}
	if len(d.Stays) > 0 {
		c.Back += "; what cannot be installed twice stays: " + strings.Join(d.Stays, ", ")
	}
	f.Installed = append(slices.Clone(f.Installed), p)
	f.Boot.Entries = append([]node.BootEntry{{Index: -1, Kernel: "/boot/vmlinuz-" + release}}, f.Boot.Entries...)
	return c, node.Section.With(before, f), nil
}

func reason(w wanted.Kernel, p node.Package) string {
	if w.Version == wanted.Latest {
		return fmt.Sprintf("%s is the newest %s in %s", p.EVR, p.Name, w.Repo)
	}
	return fmt.Sprintf("version %s is asked for", w.Version)
}

func (m install) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	var d installData
	if err := json.Unmarshal(s.Change.Data, &d); err != nil {
		return rollout.Fail(fmt.Errorf("cannot read what was planned for %s: %w", s.Host, err))
	}
	began := s.SoFar[noteYum] != ""
	if began {
		ended, out, over := yum(ctx, m.remote, s, d.args(s.SoFar[noteStaged] != "", "-y")...)
		if !over {
			return out
		}
		there, err := d.installed(ctx, m.remote, s)
		if err != nil {
			return rollout.Fail(err)
		}
		if !there {
			why := fmt.Errorf("cannot install %s on %s: yum ended with %s, and rpm does not know the package: %s",
				d.Package.NEVRA(), s.Host, ended, yumSaid(ctx, m.remote, s))
			return yumAgain(ctx, m.remote, s, d.Repo, why, fmt.Sprintf("on %s: cat %s; yum --enablerepo=%s install %s. Nothing else was changed there.",
				s.Host, yumLog, d.Repo, d.Package.NEVRA()))
		}
	} else {
		f, err := node.GatherPackages(ctx, m.remote, s.Host, s.Become)
		if err != nil {
			return rollout.Fail(err)
		}
		// Also when the package is there already: another yum may still be in its
		// scriptlets, and the entry comes last.
		if out, ok := waitForLock(s, f); !ok {
			return out
		}
		if !slices.Contains(f.Installed, d.Package) {
			out := intendYum(s)
			if d.isStaged(f) {
				out = out.Note(noteStaged, f.Staged.Since)
			}
			return out
		}
	}
	l := boot.On(ctx, m.remote, s)
	if err := l.Flush(); err != nil {
		return rollout.Fail(err)
	}
	menu, err := l.Entries()
	if err != nil {
		return rollout.Fail(err)
	}
	if err := l.Complete(menu, d.Package.Release()); err != nil {
		return rollout.Fail(err)
	}
	// Now its modules can be looked at; the next task may drain the node.
	if err := m.driversAreThere(ctx, s, d.Package); err != nil {
		return rollout.Fail(err)
	}
	// The package's scripts move it (DEFAULTKERNEL=kernel-ml does): a node that
	// reboots by itself in the middle of the night must not end up in a kernel that
	// nobody tried.
	if d.Default != "" {
		if err := l.KeepDefault(menu, d.Default); err != nil {
			return rollout.Fail(err)
		}
	}
	if s.SoFar[noteStaged] != "" {
		if err := unstage(ctx, m.remote, s); err != nil {
			return rollout.Fail(err)
		}
	}
	if began || s.SoFar[noteFailed] != "" {
		return rollout.Did("installed %s", d.Package.NEVRA())
	}
	return rollout.AlreadyDone("%s is installed", d.Package.NEVRA())
}

// driversAreThere looks for those of the node's disks and network cards.
func (m install) driversAreThere(ctx context.Context, s rollout.Step, p node.Package) error {
	f, err := node.Gather(ctx, m.remote, s.Host, s.Become)
	if err != nil {
		return err
	}
	if wrong, hint := boot.DriversMissing(f, p.Release()); wrong != "" {
		return &rollout.Problem{
			Message: fmt.Sprintf("%s is installed on %s and must not be booted there: %s", p.NEVRA(), s.Host, wrong),
			Hint:    hint + ". To go on without this host: --limit 'all:!" + s.Host + "'",
		}
	}
	return nil
}

// noteRemove are the packages that an undo removes.
const noteRemove = "remove"

// Undo removes the package and what came with it, unless it runs or is the
// default.
func (m install) Undo(ctx context.Context, s rollout.Step) rollout.Outcome {
	var d installData
	if err := json.Unmarshal(s.Change.Data, &d); err != nil {
		return rollout.Fail(fmt.Errorf("cannot read what was planned for %s: %w", s.Host, err))
	}
	if s.SoFar[noteYum] == "" {
		return m.intendRemove(ctx, s, d)
	}
	remove := strings.Fields(s.SoFar[noteRemove])
	ended, out, over := yum(ctx, m.remote, s, append([]string{"remove", "-y"}, remove...)...)
	if !over {
		return out
	}
	f, err := node.Gather(ctx, m.remote, s.Host, s.Become)
	if err != nil {
		return rollout.Fail(err)
	}
	if err := boot.On(ctx, m.remote, s).Flush(); err != nil {
		return rollout.Fail(err)
	}
	_, entry := f.Boot.Entry(d.Package.Release())
	if len(d.came(f)) > 0 || entry && len(d.Had) == 0 {
		return rollout.Fail(&rollout.Problem{
			Message: fmt.Sprintf("cannot remove %s from %s: yum ended with %s: %s", strings.Join(remove, " "), s.Host, ended, yumSaid(ctx, m.remote, s)),
			Hint:    fmt.Sprintf("on %s: cat %s; rpm -q %s; grubby --info=ALL", s.Host, yumLog, strings.Join(remove, " ")),
		})
	}
	return rollout.Did("removed %s", strings.Join(remove, " "))
}

// intendRemove looks whether the package is there and can go.
func (m install) intendRemove(ctx context.Context, s rollout.Step, d installData) rollout.Outcome {
	f, err := node.Gather(ctx, m.remote, s.Host, s.Become)
	if err != nil {
		return rollout.Fail(err)
	}
	if out, ok := waitForLock(s, f); !ok {
		return out
	}
	remove := d.came(f)
	if len(remove) == 0 {
		return rollout.AlreadyDone("%s is not installed", d.Package.NEVRA())
	}
	state := ""
	switch d.Package.Release() {
	case f.Running:
		state = "runs"
	case f.Boot.DefaultRelease():
		state = "is the default"
	}
	if state != "" {
		return rollout.Fail(&rollout.Problem{
			Message: fmt.Sprintf("cannot remove %s from %s: it %s", d.Package.NEVRA(), s.Host, state),
			Hint:    "boot the old kernel first: grubby --set-default=/boot/vmlinuz-<old>; reboot",
		})
	}
	return intendYum(s).Note(noteRemove, strings.Join(remove, " "))
}

// came lists what is there of the package and of those that came with it.
func (d installData) came(f node.Facts) []string {
	return slices.DeleteFunc(family(f.Installed, d.Package), func(p string) bool { return slices.Contains(d.Had, p) || slices.Contains(d.Stays, p) })
}

// staying are the packages in step that yum does not install beside the old ones.
func (t Transaction) staying() []string {
	return slices.DeleteFunc(slices.Clone(t.With), func(nevra string) bool {
		return slices.ContainsFunc(t.Changes, func(c node.PackageChange) bool { return c.Action == "install" && c.NEVRA() == nevra })
	})
}

// family lists the package and those that came with it: on EL8 and later a
// kernel is kernel-ml, kernel-ml-core and kernel-ml-modules of one EVR.
func family(all []node.Package, p node.Package) []string {
	var out []string
	for _, q := range all {
		if q.EVR == p.EVR && q.Arch == p.Arch && (q.Name == p.Name || strings.HasPrefix(q.Name, p.Name+"-")) {
			out = append(out, q.NEVRA())
		}
	}
	return out
}

// Judge holds the running kernel against the oldest one allowed, if the
// arguments name one, and the installed ones against the one that is wanted.
func (m install) Judge(host string, state rollout.State, args rollout.Args) ([]rollout.Finding, error) {
	f, err := node.Section.Get(state)
	if err != nil {
		return nil, err
	}
	w := wanted.Args(args)
	var out []rollout.Finding
	if w.Minimum != "" {
		minimum, err := wanted.JudgeMinimum(f.Running, w.Minimum)
		if err != nil {
			return nil, err
		}
		out = append(out, minimum)
	}
	change, _, err := m.Diff(host, state, args)
	var unfit *rollout.Problem
	if errors.As(err, &unfit) {
		// The repository may not answer: what runs was judged all the same. Whoever
		// asks Diff is told the problem.
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	found := rollout.Finding{Rule: m.About().Rule, Text: change.Summary}
	if change.Action.Writes() {
		found.Drift, found.Text, found.Fields = true, "would "+change.Summary, change.Fields[:1]
	}
	return append(out, found), nil
}
