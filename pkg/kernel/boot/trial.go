package boot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/kernel/wanted"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// trialBoot is fleetd.kernel.trial_boot: the chosen kernel is booted once, from
// an entry of its own that is GRUB's next entry and is deleted afterwards, and is
// proven by a new boot_id, the exact `uname -r` and a node that is as well as before
// (health.go). The default entry stays the
// kernel that runs now, so that a panic, a failed root or a power cycle brings
// that one back, and so does a dead-man switch where nobody can log in. What a
// trial that was cut off has left on the node is taken away also where nothing is
// booted.
type trialBoot struct{ remote node.Remote }

// Trial returns fleetd.kernel.trial_boot.
func Trial(remote node.Remote) rollout.Module { return trialBoot{remote} }

var _ rollout.Judge = trialBoot{}

type trialData struct {
	From    string        `json:"from"`
	To      string        `json:"to"`
	Timeout time.Duration `json:"timeout"`
	// Default is the default kernel's release before, where the trial makes it
	// From.
	Default string `json:"default,omitempty"`
	// RetryFailed allows a kernel that failed a trial on the node.
	RetryFailed bool `json:"retry_failed,omitempty"`
	// IgnoreUnits are patterns of units that need not work on the new kernel.
	IgnoreUnits []string `json:"ignore_units,omitempty"`
	// Unproven is a trial whose reboot is behind an earlier run, which was cut off.
	Unproven bool `json:"unproven,omitempty"`
}

// runningField is the field of a plan that says which kernel is to run.
const runningField = "running kernel"

const defaultTrialTimeout = 10 * time.Minute

func (trialBoot) About() rollout.About {
	return rollout.About{Rule: "kernel-running", Params: wanted.Params(rollout.Params{
		"timeout": {Type: rollout.Duration, Help: "how long the node may take to come back, before its dead-man switch reboots it once more (default 10m)"},

		"ignore_units": {Type: rollout.Strings, Help: "units of systemd, as patterns, that may fail on the new kernel though they worked before"},
	})}
}

func (trialBoot) Reads(args rollout.Args) []rollout.Read { return wanted.Reads(args) }

func (trialBoot) Diff(host string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	f, err := node.Section.Get(before)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	timeout, err := args.Duration("timeout", defaultTrialTimeout)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	w := wanted.Args(args)
	to, err := wanted.Present(host, f, w)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	left := leftBehind(f.Boot)
	t, open := unproven(f, to)
	if f.Running == to && left.none() && !open {
		return rollout.Change{Action: rollout.NoOp, Summary: to + " runs"}, before, nil
	}
	d := trialData{From: f.Running, To: to, Timeout: timeout, RetryFailed: w.RetryFailed, IgnoreUnits: args.Strings("ignore_units")}
	if open {
		d.From, d.Unproven = t.From, true
		return prove(before, f, d, left)
	}
	if f.Running == to {
		return tidy(before, f, d, left)
	}
	if err := canTry(host, f, to); err != nil {
		return rollout.Change{}, nil, err
	}
	if err := canTryAgain(host, f, to, w.RetryFailed); err != nil {
		return rollout.Change{}, nil, err
	}
	c := rollout.Change{
		Action:  rollout.Update,
		Summary: fmt.Sprintf("reboot into %s, on trial", to),
		Fields: []rollout.Field{
			{Name: runningField, Before: f.Running, After: to},
			{Name: "next boot entry", Before: f.Boot.NextEntry, After: trialTitle(to)},
		},
		Reasons: []string{
			fmt.Sprintf("an entry of its own is booted once with %s, and deleted; if it fails, the node comes back on %s", strings.Join(argsFor(timeout), " "), f.Running),
			fmt.Sprintf("a dead-man switch, %s, reboots the node into %s if fleetd cannot log in within %v; it works on this boot only, and is deleted", unitFile, f.Running, timeout),
			"a node that is not as well on it as before (units, network, container runtime) goes back to " + f.Running,
		},
		Risks:      []string{"a kernel that hangs before systemd works, without a panic, needs a reset by hand"},
		Disruptive: true, BackDisruptive: true,
		Back: "reboot into " + f.Running,
	}
	if was := f.Boot.DefaultRelease(); was != f.Running {
		d.Default = was
		c.Fields = append(c.Fields, rollout.Field{Name: "default kernel during the trial", Before: was, After: f.Running})
		c.Back += ", and make " + was + " the default kernel"
	}
	c.Fields = append(c.Fields, left.fields()...)
	f.Running, f.BootID = to, ""
	f.Boot.Default = "/boot/vmlinuz-" + d.From
	return planTrial(before, f, d, c)
}

// prove plans to end the trial of a run that was cut off.
func prove(before rollout.State, f node.Facts, d trialData, left leftover) (rollout.Change, rollout.State, error) {
	return planTrial(before, f, d, rollout.Change{
		Action: rollout.Update, Summary: "end the trial of " + d.To + ", which an earlier run booted",
		Fields: append([]rollout.Field{{Name: "kernel on trial", Before: d.To + ", not held against " + d.From, After: d.To + ", as well as " + d.From}}, left.fields()...),
		Reasons: []string{
			"that run was cut off before the node was found to be as well on it as before (units, network, container runtime); how it was then is on the node, in " + trialFile,
		},
		Risks:      []string{"a node that is not as well is rebooted, into " + d.From},
		Disruptive: true, BackDisruptive: true,
		Back: "reboot into " + d.From,
	})
}

// tidy plans to take away what is left of a trial on a node that runs the kernel.
func tidy(before rollout.State, f node.Facts, d trialData, left leftover) (rollout.Change, rollout.State, error) {
	c := rollout.Change{
		Action: rollout.Update, Summary: "take away what an earlier trial has left",
		Reasons: []string{"a trial that was cut off has left it, and could be booted by the next reboot"},
		Back:    "nothing: what a trial has left stays away",
	}
	if left.next != "" {
		c.Fields = append(c.Fields, rollout.Field{Name: "next boot entry", Before: left.next})
	}
	c.Fields = append(c.Fields, left.fields()...)
	return planTrial(before, f, d, c)
}

// planTrial is the change, and the state after it, in which no trial has left
// anything.
func planTrial(before rollout.State, f node.Facts, d trialData, c rollout.Change) (rollout.Change, rollout.State, error) {
	var err error
	if c.Data, err = json.Marshal(d); err != nil {
		return rollout.Change{}, nil, err
	}
	f.Boot.NextEntry, f.Boot.DeadMan, f.Trial = "", "", node.Trial{}
	f.Boot.Entries = slices.DeleteFunc(slices.Clone(f.Boot.Entries), node.BootEntry.Trial)
	for _, old := range leftBehind(f.Boot).args {
		for i, e := range f.Boot.Entries {
			if e.Kernel == old.kernel {
				f.Boot.Entries[i].Args = strings.Join(minus(strings.Fields(e.Args), old.remove), " ")
			}
		}
	}
	return c, node.Section.With(before, f), nil
}

// canTry refuses a trial from which the node might not come back.
func canTry(host string, f node.Facts, release string) error {
	refuse := func(why, hint string) error { return noTrial(host, release, why, hint) }
	entry, ok := f.Boot.Entry(release)
	if !ok {
		return NoEntry(host, release)
	}
	for _, unfit := range []func(node.Facts) (string, string){GrubenvUnwritable, GrubCfgUnfit, NoFallback} {
		if wrong, hint := unfit(f); wrong != "" {
			return refuse(wrong, hint)
		}
	}
	if entry.Index < 0 {
		return nil // only planned: the rest can be seen when it is there
	}
	if k, ok := f.Kernel(release); ok {
		switch {
		case k.Image == 0:
			return refuse(fmt.Sprintf("/boot/vmlinuz-%s is missing", release), reinstall(release))
		case k.Initramfs == 0:
			return refuse(fmt.Sprintf("/boot/initramfs-%s.img is missing or empty", release), fmt.Sprintf("dracut -f /boot/initramfs-%s.img %s", release, release))
		}
	}
	if wrong, hint := DriversMissing(f, release); wrong != "" {
		return refuse(wrong, hint)
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

// canTryAgain refuses a kernel that failed a trial on the node, unless it may be
// tried again.
func canTryAgain(host string, f node.Facts, release string, retry bool) error {
	if wrong, hint := FailedBefore(f, release, retry); wrong != "" {
		return noTrial(host, release, wrong, hint)
	}
	return nil
}

func noTrial(host, release, why, hint string) error {
	return &rollout.Problem{Message: fmt.Sprintf("cannot boot %s on trial on %s: %s", release, host, why), Hint: hint}
}

func (m trialBoot) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	var d trialData
	if err := json.Unmarshal(s.Change.Data, &d); err != nil {
		return rollout.Fail(fmt.Errorf("cannot read what was planned for %s: %w", s.Host, err))
	}
	return bootInto(ctx, m.remote, s, journey{from: d.From, to: d.To, timeout: d.Timeout, trial: true, retryFailed: d.RetryFailed, ignoreUnits: d.IgnoreUnits, unproven: d.Unproven})
}

// Undo boots the kernel from before once more. It ran on this node, so it needs
// no trial.
func (m trialBoot) Undo(ctx context.Context, s rollout.Step) rollout.Outcome {
	var d trialData
	if err := json.Unmarshal(s.Change.Data, &d); err != nil {
		return rollout.Fail(fmt.Errorf("cannot read what was planned for %s: %w", s.Host, err))
	}
	out := bootInto(ctx, m.remote, s, journey{from: d.To, to: d.From, timeout: d.Timeout})
	if !out.Final() || out.Bad() || d.Default == "" {
		return out
	}
	switch moved, err := d.restoreDefault(Loader{ctx, m.remote, s}); {
	case err != nil:
		return rollout.Fail(err)
	case moved && out.Kind == rollout.Unchanged:
		return rollout.Did("%s, and %s is the default again", out.Message, d.Default)
	}
	return out
}

// restoreDefault gives back the default that the trial moved, unless somebody
// has moved it since.
func (d trialData) restoreDefault(l Loader) (moved bool, err error) {
	now, err := l.defaultRelease()
	if err != nil || now != d.From {
		return false, err
	}
	boot, err := l.Entries()
	if err != nil {
		return false, err
	}
	return true, l.setDefault(boot, d.Default)
}

// Judge tells a kernel that does not run also where it may not be tried: a node on
// which it failed is none that nothing is known of.
func (m trialBoot) Judge(host string, state rollout.State, args rollout.Args) ([]rollout.Finding, error) {
	found := rollout.Finding{Rule: m.About().Rule}
	change, _, err := m.Diff(host, state, args)
	switch {
	case err == nil:
		found.Text = change.Summary
		if change.Action.Writes() {
			found.Drift, found.Text, found.Fields = true, "would "+change.Summary, change.Fields
			if change.Fields[0].Name == runningField {
				found.Fields = change.Fields[:1] // not how it would be tried
			}
		}
		return []rollout.Finding{found}, nil
	case !errors.As(err, new(*rollout.Problem)):
		return nil, err
	}
	f, err := node.Section.Get(state)
	if err != nil {
		return nil, err
	}
	to, err := wanted.Present(host, f, wanted.Args(args))
	if err != nil || f.Running == to {
		return nil, nil // whoever asks Diff is told why
	}
	found.Drift, found.Text = true, "does not run "+to
	found.Fields = []rollout.Field{{Name: runningField, Before: f.Running, After: to}}
	return []rollout.Finding{found}, nil
}
