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
}

// trialArgs make a kernel that cannot boot return by itself: a panic reboots
// after 10 s, and dracut panics where it would open an emergency shell and wait
// for somebody at the console for ever.
var trialArgs = []string{"panic=10", "rd.shell=0", "rd.retry=10"}

const defaultTrialTimeout = 10 * time.Minute

func (trialBoot) Params() rollout.Params {
	return rollout.Params{"timeout": {Type: rollout.Duration, Help: "how long the node may take to come back (default 10m)"}}
}

func (trialBoot) Reads(rollout.Args) []rollout.Read {
	return []rollout.Read{{Section: node.Section.Name()}}
}

func (trialBoot) Diff(host string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	f, err := node.Section.Get(before)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	timeout, err := durationArg(args, "timeout", defaultTrialTimeout)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	switch f.Target {
	case "":
		return rollout.Change{Action: rollout.NoOp, Summary: "no task before this one chooses a kernel"}, before, nil
	case f.Running:
		return rollout.Change{Action: rollout.NoOp, Summary: f.Running + " runs"}, before, nil
	}
	if err := canTry(host, f, f.Target); err != nil {
		return rollout.Change{}, nil, err
	}
	raw, err := json.Marshal(trialData{From: f.Running, To: f.Target, Timeout: timeout})
	if err != nil {
		return rollout.Change{}, nil, err
	}
	c := rollout.Change{
		Action:  rollout.Update,
		Summary: fmt.Sprintf("reboot into %s, on trial", f.Target),
		Fields: []rollout.Field{
			{Name: "running kernel", Before: f.Running, After: f.Target},
			{Name: "next boot entry", Before: f.Boot.NextEntry, After: "/boot/vmlinuz-" + f.Target},
		},
		Reasons:    []string{fmt.Sprintf("the entry is booted once with %s; if it fails, the node comes back on %s", strings.Join(trialArgs, " "), f.Running)},
		Risks:      []string{"a kernel that hangs without a panic needs a reset by hand"},
		Disruptive: true,
		Data:       raw,
	}
	if d := f.Boot.DefaultRelease(); d != f.Running {
		c.Fields = append(c.Fields, rollout.Field{Name: "default kernel during the trial", Before: d, After: f.Running})
	}
	f.Running, f.BootID = f.Target, ""
	f.Boot.NextEntry = ""
	f.Boot.Default = "/boot/vmlinuz-" + trialFrom(c)
	after, err := node.Section.With(before, f)
	return c, after, err
}

func trialFrom(c rollout.Change) string {
	var d trialData
	_ = json.Unmarshal(c.Data, &d) // Diff wrote it a line ago
	return d.From
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
	return bootInto(ctx, m.remote, s, journey{from: d.From, to: d.To, timeout: d.Timeout, trial: true, key: "boot_id"})
}

// Undo boots the kernel from before once more. It ran on this node, so it needs
// no trial; what is the default is not this step's to change.
func (m trialBoot) Undo(ctx context.Context, s rollout.Step) rollout.Outcome {
	if s.Change.Action != rollout.Update {
		return rollout.AlreadyDone("%s was not rebooted", s.Host)
	}
	var d trialData
	if err := json.Unmarshal(s.Change.Data, &d); err != nil {
		return rollout.Fail(fmt.Errorf("cannot read what was planned for %s: %w", s.Host, err))
	}
	return bootInto(ctx, m.remote, s, journey{from: d.To, to: d.From, timeout: d.Timeout, key: "undo_boot_id"})
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
