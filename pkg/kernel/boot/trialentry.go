package boot

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// trialArgs make a kernel that cannot boot return by itself. Where dracut would
// open an emergency shell, rd.shell=0 alone makes it halt: rd.emergency=reboot
// is what reboots (dracut.cmdline(7), dracut-emergency). panic=10 reboots 10 s
// after a panic, and the others turn a kernel that is stuck into one that panics
// (Documentation/admin-guide/kernel-parameters.txt).
var trialArgs = []string{
	"rd.shell=0", "rd.emergency=reboot",
	"panic=10", "oops=panic", "softlockup_panic=1", "hung_task_panic=1", "nmi_watchdog=panic",
}

// rootTimeout is how long the initramfs waits for the root file system's disk
// before it comes to its emergency action. Without it systemd waits for ever: an
// image that needs no LVM, RAID or LUKS has no initqueue that would give up
// (dracut's need-initqueue).
const rootTimeout = "rd.timeout"

// argsFor are the trial's arguments where the node may take so long to come back.
func argsFor(timeout time.Duration) []string {
	return append([]string{fmt.Sprintf("%s=%d", rootTimeout, int(timeout.Seconds()))}, trialArgs...)
}

// trialTitle has no letter that GRUB or grub.cfg's quotes take for something.
func trialTitle(release string) string { return node.TrialTitle + release }

// entriesDir is where the entries of the Boot Loader Specification are. A file's
// name without .conf is the entry's id to GRUB.
const entriesDir = "/boot/loader/entries/"

// trialSuffix makes a trial's id of the real entry's. Both GRUB and grubby sort
// by file name as rpm compares versions, where ~ is older than nothing: the
// trial comes after the real entry, never first, and is not the one that
// `grubby --set-default=PATH` takes.
const trialSuffix = "~fleetd"

// addTrial makes the entry that is booted on trial, a copy of the real one, and
// reads it back. from is the release of the default entry, run what the entry's
// fleetd.trial= names: the boot_id from which the trial is asked for, which the
// journal has.
func (l Loader) addTrial(boot node.Boot, from, release, run string, timeout time.Duration) (node.BootEntry, error) {
	real, found := boot.Entry(release)
	if !found {
		return node.BootEntry{}, NoEntry(l.step.Host, release)
	}
	args := append([]string{node.TrialArg + run}, argsFor(timeout)...)
	// The last one of a name counts. grubby replaces, a line is only appended to.
	want := with(real.Args, args)
	if real.ID != "" {
		want = real.Args + " " + strings.Join(args, " ")
	}
	said, err := l.copyEntry(boot, from, real, args)
	if err != nil {
		return node.BootEntry{}, err
	}
	now, err := l.Entries()
	if err != nil {
		return node.BootEntry{}, err
	}
	e, found := trialOf(now, release)
	switch {
	case !found:
		return e, fmt.Errorf("cannot make a boot entry for the trial of %s on %s: it ended with %s, and there is none", release, l.step.Host, said)
	case e.Kernel != real.Kernel || e.Initrd != real.Initrd || e.Root != real.Root || !slices.Equal(sorted(e.Args), sorted(want)):
		return e, fmt.Errorf("cannot make a boot entry for the trial of %s on %s: it ended with %s, and the entry has kernel %s, initrd %s, root %s and the arguments %q, where the real one has %q",
			release, l.step.Host, said, e.Kernel, e.Initrd, e.Root, e.Args, real.Args)
	}
	return e, nil
}

// copyEntry returns what the command that made the copy said.
func (l Loader) copyEntry(boot node.Boot, from string, real node.BootEntry, args []string) (string, error) {
	if real.ID != "" {
		return l.copyFile(real, args)
	}
	// C grubby copies the default entry, whatever kernel is added: the real one's
	// arguments are given to it where they differ, and what it has more is taken off.
	template, _ := boot.Entry(from)
	add := strings.Join(args, " ")
	if real.Root != template.Root || !slices.Equal(sorted(real.Args), sorted(template.Args)) {
		add = "root=" + real.Root + " " + with(real.Args, args)
	}
	argv := []string{
		"grubby", "--add-kernel=" + real.Kernel, "--copy-default", "--title=" + trialTitle(real.Release()), "--args=" + add,
	}
	if real.Initrd != "" {
		argv = append(argv, "--initrd="+real.Initrd)
	}
	res, err := l.write(argv...)
	if err != nil {
		return "", err
	}
	now, err := l.Entries()
	if err != nil {
		return "", err
	}
	if e, found := trialOf(now, real.Release()); found {
		if more := minus(strings.Fields(e.Args), strings.Fields(with(real.Args, args))); len(more) > 0 {
			// By its index: a path is that of the real entry, too.
			res, err = l.write("grubby", "--update-kernel="+strconv.Itoa(e.Index), "--remove-args="+strings.Join(more, " "))
		}
	}
	return res.Said(), err
}

// copyFileScript leaves variables such as $kernelopts and $tuned_params as they
// are, which grubby would write out. The file is there as a whole or not at all,
// and GRUB does not read one that is not named .conf.
const copyFileScript = `set -e
cp -p -- "$real" "$trial.new"
awk -v title="$title" -v args="$args" '
	$1 == "title" { print "title " title; next }
	$1 == "options" { $0 = $0 " " args }
	{ print }' "$real" >"$trial.new"
mv -f -- "$trial.new" "$trial"`

func (l Loader) copyFile(real node.BootEntry, args []string) (string, error) {
	res, err := l.remote.Run(l.ctx, l.step.Host, sshexec.Command{
		Script: copyFileScript, Become: l.step.Become, Timeout: 2 * time.Minute,
		Env: map[string]string{
			"LC_ALL": "C", "real": entriesDir + real.ID + ".conf", "trial": entriesDir + real.ID + trialSuffix + ".conf",
			"title": trialTitle(real.Release()), "args": strings.Join(args, " "),
		},
	})
	if err != nil {
		return "", err
	}
	return res.Said(), l.Flush()
}

// removeTrial deletes one entry that was made for a trial.
func (l Loader) removeTrial(e node.BootEntry) error {
	var err error
	if e.ID != "" {
		_, err = l.write("rm", "-f", "--", entriesDir+e.ID+".conf")
	} else {
		// By its index, because C grubby finds no title that has a space in it.
		_, err = l.write("grubby", "--remove-kernel="+strconv.Itoa(e.Index))
	}
	return err
}

func trialOf(boot node.Boot, release string) (node.BootEntry, bool) {
	i := slices.IndexFunc(boot.Entries, func(e node.BootEntry) bool { return e.Trial() && e.Release() == release })
	if i < 0 {
		return node.BootEntry{}, false
	}
	return boot.Entries[i], true
}

// leftover is what trials that were cut off have left on a node.
type leftover struct {
	// next is GRUB's next_entry, entries are those made for a trial, args a trial's
	// arguments on real entries.
	next    string
	entries []node.BootEntry
	args    []strayArgs
	// deadMan tells that a dead-man switch is there.
	deadMan bool
}

// strayArgs are a trial's arguments on a kernel's real entry. kernel-install puts
// them there, which gives a new kernel the running one's.
type strayArgs struct {
	kernel string
	remove []string
}

func leftBehind(b node.Boot) leftover {
	left := leftover{next: b.NextEntry, deadMan: b.DeadMan != ""}
	// What an entry without a trial has of them is the site's own.
	var own []string
	for _, e := range b.Entries {
		if e.Trial() {
			left.entries = append(left.entries, e)
		} else if e.TrialRun() == "" {
			own = append(own, strings.Fields(e.Args)...)
		}
	}
	for _, e := range b.Entries {
		if e.Trial() || e.TrialRun() == "" {
			continue
		}
		left.args = append(left.args, strayArgs{e.Kernel, minus(slices.DeleteFunc(strings.Fields(e.Args), func(a string) bool {
			return !strings.HasPrefix(a, node.TrialArg) && argName(a) != rootTimeout && !slices.Contains(trialArgs, a)
		}), own)})
	}
	return left
}

func (x leftover) none() bool {
	return x.next == "" && len(x.entries) == 0 && len(x.args) == 0 && !x.deadMan
}

// fields show what is taken away. next_entry is left out: what becomes of it
// depends on what comes after.
func (x leftover) fields() (out []rollout.Field) {
	if x.deadMan {
		out = append(out, rollout.Field{Name: "dead-man switch of an earlier trial", Before: unitFile})
	}
	for _, e := range x.entries {
		out = append(out, rollout.Field{Name: "boot entry of an earlier trial", Before: entryName(e)})
	}
	for _, a := range x.args {
		out = append(out, rollout.Field{Name: "an earlier trial's arguments of " + a.kernel, Before: strings.Join(a.remove, " ")})
	}
	return out
}

// cleanUp takes away what trials have left on the node, and says what it was. The
// dead-man switch goes first, because it is about to go off; next_entry before
// the entries: if it named one that is gone, GRUB would boot its first one.
func (l Loader) cleanUp() (leftover, error) {
	deadMan, err := l.disarm()
	if err != nil {
		return leftover{deadMan: deadMan}, err
	}
	env, err := l.env()
	if err != nil {
		return leftover{deadMan: deadMan}, err
	}
	found := leftover{next: env["next_entry"], deadMan: deadMan}
	if found.next != "" {
		if err := l.forgetNext(); err != nil {
			return found, err
		}
	}
	boot, err := l.Entries()
	if err != nil {
		return found, err
	}
	was := leftBehind(boot)
	found.entries, found.args = was.entries, was.args
	// Backwards, so that the indexes of those still to come stay.
	for _, e := range slices.Backward(found.entries) {
		if err := l.removeTrial(e); err != nil {
			return found, err
		}
	}
	for _, a := range found.args {
		if _, err := l.write("grubby", "--update-kernel="+a.kernel, "--remove-args="+strings.Join(a.remove, " ")); err != nil {
			return found, err
		}
	}
	if len(found.entries) == 0 && len(found.args) == 0 {
		return found, nil
	}
	now, err := l.Entries()
	if err != nil {
		return found, err
	}
	if fields := leftBehind(now).fields(); len(fields) > 0 {
		return found, fmt.Errorf("cannot take what a trial left off %s: there is still the %s: %s", l.step.Host, fields[0].Name, fields[0].Before)
	}
	for _, e := range boot.Entries {
		if _, there := now.Entry(e.Release()); !there && !e.Trial() {
			return found, NoEntry(l.step.Host, e.Release())
		}
	}
	return found, nil
}

// with appends arguments to those of an entry. One replaces those of its name.
func with(args string, more []string) string {
	out := slices.DeleteFunc(strings.Fields(args), func(a string) bool {
		return slices.ContainsFunc(more, func(m string) bool { return argName(m) == argName(a) })
	})
	return strings.Join(append(out, more...), " ")
}

func argName(a string) string {
	name, _, _ := strings.Cut(a, "=")
	return name
}

func sorted(args string) []string { return slices.Sorted(slices.Values(strings.Fields(args))) }

// minus are the words of a that b does not have.
func minus(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(x string) bool { return slices.Contains(b, x) })
}
