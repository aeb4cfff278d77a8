package kernel

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// trialBoot is fleetd.kernel.trial_boot: the chosen kernel is booted once, as
// GRUB's next entry, and is proven by a new boot_id and the exact `uname -r`.
// The default entry stays the kernel that runs now, so that a panic, a failed
// root or a power cycle brings that one back.
type trialBoot struct{ remote node.Remote }

type trialData struct {
	From    string        `json:"from"`
	To      string        `json:"to"`
	Timeout time.Duration `json:"timeout"`
	// Default is the default kernel's release before, where the trial makes it
	// From.
	Default string `json:"default,omitempty"`
}

// trialArgs make a kernel that cannot boot return by itself: a panic reboots
// after 10 s, and dracut panics where it would open an emergency shell and wait
// for somebody at the console for ever.
var trialArgs = []string{"panic=10", "rd.shell=0", "rd.retry=10"}

const defaultTrialTimeout = 10 * time.Minute

func (trialBoot) About() rollout.About {
	return rollout.About{Rule: "kernel-running", Params: wantedParams(rollout.Params{
		"timeout": {Type: rollout.Duration, Help: "how long the node may take to come back (default 10m)"},
	})}
}

func (trialBoot) Reads(args rollout.Args) []rollout.Read { return packageReads(args) }

func (trialBoot) Diff(host string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	f, err := node.Section.Get(before)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	timeout, err := durationArg(args, "timeout", defaultTrialTimeout)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	to, err := present(host, f, args)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	if f.Running == to {
		return rollout.Change{Action: rollout.NoOp, Summary: to + " runs"}, before, nil
	}
	if err := canTry(host, f, to); err != nil {
		return rollout.Change{}, nil, err
	}
	d := trialData{From: f.Running, To: to, Timeout: timeout}
	c := rollout.Change{
		Action:  rollout.Update,
		Summary: fmt.Sprintf("reboot into %s, on trial", to),
		Fields: []rollout.Field{
			{Name: "running kernel", Before: f.Running, After: to},
			{Name: "next boot entry", Before: f.Boot.NextEntry, After: "/boot/vmlinuz-" + to},
		},
		Reasons:    []string{fmt.Sprintf("the entry is booted once with %s; if it fails, the node comes back on %s", strings.Join(trialArgs, " "), f.Running)},
		Risks:      []string{"a kernel that hangs without a panic needs a reset by hand"},
		Disruptive: true, BackDisruptive: true,
		Back: "reboot into " + f.Running,
	}
	if was := f.Boot.DefaultRelease(); was != f.Running {
		d.Default = was
		c.Fields = append(c.Fields, rollout.Field{Name: "default kernel during the trial", Before: was, After: f.Running})
		c.Back += ", and make " + was + " the default kernel"
	}
	if c.Data, err = json.Marshal(d); err != nil {
		return rollout.Change{}, nil, err
	}
	f.Running, f.BootID = to, ""
	f.Boot.NextEntry = ""
	f.Boot.Default = "/boot/vmlinuz-" + d.From
	after, err := node.Section.With(before, f)
	return c, after, err
}

// canTry refuses a trial from which the node might not come back.
func canTry(host string, f node.Facts, release string) error {
	refuse := func(why, hint string) error {
		return &rollout.Problem{Message: fmt.Sprintf("cannot boot %s on trial on %s: %s", release, host, why), Hint: hint}
	}
	entry, ok := f.Boot.Entry(release)
	if !ok {
		return noEntry(host, release)
	}
	if wrong, hint := grubenvUnwritable(f.Boot.Grubenv); wrong != "" {
		return refuse(wrong, hint)
	}
	if _, ok := f.Boot.Entry(f.Running); !ok {
		return refuse("the running kernel "+f.Running+" has no boot entry to come back to", "yum reinstall -y its package; grubby --info=ALL")
	}
	if entry.Index < 0 {
		return nil // only planned: the rest can be seen when it is there
	}
	if k, ok := f.Kernel(release); ok {
		switch {
		case k.Image == 0:
			return refuse(fmt.Sprintf("/boot/vmlinuz-%s is missing", release), "yum reinstall -y the kernel's package")
		case k.Initramfs == 0:
			return refuse(fmt.Sprintf("/boot/initramfs-%s.img is missing or empty", release), fmt.Sprintf("dracut -f /boot/initramfs-%s.img %s", release, release))
		case len(k.MissingDrivers) > 0:
			return refuse("it lacks drivers that this node's disks and network cards use: "+strings.Join(k.MissingDrivers, ", "), "choose another kernel, or install ELRepo's kmod package for it")
		}
	}
	name := entryName(entry)
	if entry.ID == "" {
		for _, e := range f.Boot.Entries {
			if e.Title == name && e.Release() != release {
				return refuse(fmt.Sprintf("two boot entries have the title %q, and GRUB takes the first", name), "grubby --info=ALL; rename or remove one of them")
			}
		}
	}
	return nil
}

func (m trialBoot) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	var d trialData
	if err := json.Unmarshal(s.Change.Data, &d); err != nil {
		return rollout.Fail(fmt.Errorf("cannot read what was planned for %s: %w", s.Host, err))
	}
	return bootInto(ctx, m.remote, s, journey{from: d.From, to: d.To, timeout: d.Timeout, trial: true})
}

// Undo boots the kernel from before once more. It ran on this node, so it needs
// no trial.
func (m trialBoot) Undo(ctx context.Context, s rollout.Step) rollout.Outcome {
	var d trialData
	if err := json.Unmarshal(s.Change.Data, &d); err != nil {
		return rollout.Fail(fmt.Errorf("cannot read what was planned for %s: %w", s.Host, err))
	}
	out := bootInto(ctx, m.remote, s, journey{from: d.To, to: d.From, timeout: d.Timeout})
	if !out.Final() || out.Bad() {
		return out
	}
	if err := d.restore(loader{ctx, m.remote, s}); err != nil {
		return rollout.Fail(err)
	}
	return out
}

// restore takes off the node what a trial that did not come to its end has left
// there, and gives back the default that it moved.
func (d trialData) restore(l loader) error {
	if _, err := (journey{from: d.From, to: d.To, trial: true}).cleanUp(l); err != nil || d.Default == "" {
		return err
	}
	now, err := l.defaultRelease()
	if err != nil || now != d.From {
		return err
	}
	boot, err := l.entries()
	if err != nil {
		return err
	}
	return l.setDefault(boot, d.Default)
}

// addedBy lists which of the trial's arguments are the trial's alone on the
// entry, and what stood in their place: whatever the fallback entry has too is
// the site's own and stays.
func addedBy(boot node.Boot, from, to string) (remove, restore []string) {
	fallback, _ := boot.Entry(from)
	entry, _ := boot.Entry(to)
	own := strings.Fields(fallback.Args)
	have := strings.Fields(entry.Args)
	for _, a := range trialArgs {
		if slices.Contains(own, a) || !slices.Contains(have, a) {
			continue
		}
		name, _, _ := strings.Cut(a, "=")
		i := slices.IndexFunc(own, func(o string) bool { return strings.HasPrefix(o, name+"=") })
		if i >= 0 {
			restore = append(restore, own[i])
		} else {
			remove = append(remove, a)
		}
	}
	return remove, restore
}
