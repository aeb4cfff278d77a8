// Package boot is what a node boots: its boot entries and its default; a trial of a
// kernel, which the node comes back from by itself if the kernel is no good; and the
// reboot that is proven by what runs afterwards. Its modules are fleetd.kernel.trial_boot
// and fleetd.kernel.default.
//
// A kernel on trial has a boot entry of its own, copied from the real one, which
// is never edited (trialentry.go), and a dead-man switch that reboots the node if
// nobody can log in (deadman.go; docs/faults.md has all faults). A node that is not as
// well on it as before is taken back (health.go). A version that failed
// is kept in mind by the node (failed.go), and not tried again unasked. What is left of a
// trial that was cut off is seen in the facts, and taken away by the next apply or
// undo.
//
// Exit codes of grubby and new-kernel-pkg are not believed: the entry, the initramfs, the
// default and grubenv are read back each time.
package boot

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// Loader is the boot loader of the step's host. Whatever it sets it reads back:
// grubby of EL7.3 set no default and returned 0.
type Loader struct {
	ctx    context.Context
	remote node.Remote
	step   rollout.Step
}

// On is the boot loader of a step's host, for as long as ctx lives.
func On(ctx context.Context, remote node.Remote, s rollout.Step) Loader {
	return Loader{ctx, remote, s}
}

func (l Loader) run(argv ...string) (sshexec.Result, error) {
	return l.remote.Run(l.ctx, l.step.Host, sshexec.Command{Argv: argv, Env: map[string]string{"LC_ALL": "C"}, Become: l.step.Become, Timeout: 2 * time.Minute})
}

// write runs a command that writes to /boot.
func (l Loader) write(argv ...string) (sshexec.Result, error) {
	res, err := l.run(argv...)
	if err != nil {
		return res, err
	}
	return res, l.Flush()
}

// Entries are those of grubby --info=ALL.
func (l Loader) Entries() (node.Boot, error) {
	res, err := l.run("grubby", "--info=ALL")
	if err != nil {
		return node.Boot{}, err
	}
	b := node.Boot{Entries: node.ParseBootEntries(string(res.Stdout))}
	if len(b.Entries) == 0 {
		return b, fmt.Errorf("cannot read the boot entries of %s: grubby --info=ALL shows none: %s", l.step.Host, res.Said())
	}
	return b, nil
}

// running is the `uname -r` of the kernel that runs.
func (l Loader) running() (string, error) {
	res, err := l.run("uname", "-rv")
	if err != nil {
		return "", err
	}
	release, _, _ := strings.Cut(strings.TrimSpace(string(res.Stdout)), " ")
	if release == "" {
		return "", fmt.Errorf("cannot read the running kernel of %s: %s", l.step.Host, res.Said())
	}
	return release, nil
}

// defaultRelease is the `uname -r` of the default entry.
func (l Loader) defaultRelease() (string, error) {
	res, err := l.run("grubby", "--default-kernel")
	if err != nil {
		return "", err
	}
	return node.Boot{Default: node.ParseDefaultKernel(string(res.Stdout))}.DefaultRelease(), nil
}

// env is grubenv.
func (l Loader) env() (map[string]string, error) {
	res, err := l.run("grub2-editenv", "list")
	if err != nil {
		return nil, err
	}
	if !res.OK() {
		return nil, fmt.Errorf("cannot read grubenv on %s: %s", l.step.Host, res.Said())
	}
	return node.ParseGrubenv(string(res.Stdout)), nil
}

// setDefault makes a kernel the default, by path: indexes move when entries
// come and go, because entries sort by file name. boot has the entries as they are.
func (l Loader) setDefault(boot node.Boot, release string) error {
	entry, found := boot.Entry(release)
	if !found {
		return NoEntry(l.step.Host, release)
	}
	res, err := l.write("grubby", "--set-default="+entry.Kernel)
	if err != nil {
		return err
	}
	if ok, err := l.isDefault(boot, release); ok || err != nil {
		return err
	}
	// The tool below grubby, which writes saved_entry and nothing else.
	if _, err := l.write("grub2-set-default", entryName(entry)); err != nil {
		return err
	}
	if ok, err := l.isDefault(boot, release); ok || err != nil {
		return err
	}
	now, err := l.defaultRelease()
	if err != nil {
		return err
	}
	return &rollout.Problem{
		Message: fmt.Sprintf("cannot make %s the default kernel of %s: grubby --set-default ended with %s, and the default is still %s", release, l.step.Host, res.Said(), now),
		Hint:    fmt.Sprintf("on %s: grub2-editenv list, ls -l /boot/grub2/grubenv /boot/efi/EFI/*/grubenv, yum update -y grubby, and then grubby --set-default=%s", l.step.Host, entry.Kernel),
	}
}

// KeepDefault makes a kernel the default unless it is that already, by name.
func (l Loader) KeepDefault(boot node.Boot, release string) error {
	if ok, err := l.isDefault(boot, release); ok || err != nil {
		return err
	}
	return l.setDefault(boot, release)
}

// isDefault believes grubby's word only if saved_entry, which is what GRUB
// itself reads, says the same.
func (l Loader) isDefault(boot node.Boot, release string) (bool, error) {
	now, err := l.defaultRelease()
	if err != nil || now != release {
		return false, err
	}
	env, err := l.env()
	if err != nil {
		return false, err
	}
	return names(boot, env["saved_entry"], release), nil
}

// names tells whether saved_entry has the name of this kernel's entry: its BLS
// id, or its title, after the submenu's if it is in one. An index, or nothing, is
// no name: what it stands for moves when a trial's entry comes and goes.
func names(boot node.Boot, saved, release string) bool {
	return saved != "" && slices.ContainsFunc(boot.Entries, func(e node.BootEntry) bool {
		return e.Release() == release && !e.Trial() &&
			(saved == e.ID || saved == e.Title || e.Title != "" && strings.HasSuffix(saved, ">"+e.Title))
	})
}

// bootOnce makes GRUB boot the entry once, at the next boot.
func (l Loader) bootOnce(e node.BootEntry) error {
	name := entryName(e)
	res, err := l.write("grub2-reboot", name)
	if err != nil {
		return err
	}
	env, err := l.env()
	if err != nil {
		return err
	}
	if env["next_entry"] != name {
		return &rollout.Problem{
			Message: fmt.Sprintf("cannot ask for one boot of %s on %s: grub2-reboot ended with %s, and next_entry is %q", name, l.step.Host, res.Said(), env["next_entry"]),
			Hint:    "look at /boot/grub2/grubenv there: it must be a file of 1024 bytes that root can write",
		}
	}
	return nil
}

// forgetNext takes a next_entry back that was not used up.
func (l Loader) forgetNext() error {
	res, err := l.write("grub2-editenv", "-", "unset", "next_entry")
	if err != nil {
		return err
	}
	env, err := l.env()
	if err != nil {
		return err
	}
	if env["next_entry"] != "" {
		return fmt.Errorf("cannot clear next_entry on %s: %s", l.step.Host, res.Said())
	}
	return nil
}

// entryName is what GRUB knows the entry by: its BLS id, or its title on EL7.
func entryName(e node.BootEntry) string {
	if e.ID != "" {
		return e.ID
	}
	return e.Title
}

func NoEntry(host, release string) error {
	return &rollout.Problem{
		Message: fmt.Sprintf("cannot boot %s on %s: it has no boot entry", release, host),
		Hint:    fmt.Sprintf("on %s: %s; then grubby --info=ALL must show /boot/vmlinuz-%s", host, reinstall(release), release),
	}
}

// reinstall is the command that makes entry and files of an installed kernel anew: on
// EL8 and later the scripts that do so are kernel-ml-core's.
func reinstall(release string) string { return "yum reinstall -y 'kernel*-" + release + "'" }

// Complete reads back what yum's "Complete!" does not promise: a kernel has an entry,
// and its files are there. On EL7 new-kernel-pkg has been seen to add no entry and end
// with 0.
func (l Loader) Complete(boot node.Boot, release string) error {
	entry, ok := boot.Entry(release)
	if !ok {
		return NoEntry(l.step.Host, release)
	}
	if entry.Initrd == "" {
		return &rollout.Problem{
			Message: fmt.Sprintf("cannot boot %s on %s: its boot entry names no initramfs", release, l.step.Host),
			Hint:    fmt.Sprintf("on %s: dracut -f /boot/initramfs-%s.img %s; grubby --update-kernel=%s --initrd=/boot/initramfs-%s.img", l.step.Host, release, release, entry.Kernel, release),
		}
	}
	// stat names on standard error what is missing.
	res, err := l.run("stat", "-L", "-c", "%s %n", entry.Kernel, entry.Initrd)
	if err != nil {
		return err
	}
	for _, path := range []string{entry.Kernel, entry.Initrd} {
		if sizeOf(string(res.Stdout), path) == 0 {
			return &rollout.Problem{
				Message: fmt.Sprintf("cannot boot %s on %s: %s is missing or empty", release, l.step.Host, path),
				Hint:    fmt.Sprintf("on %s: df -h /boot; dracut -f /boot/initramfs-%[2]s.img %[2]s; or %[3]s", l.step.Host, release, reinstall(release)),
			}
		}
	}
	return nil
}

// sizeOf finds a file's size in what stat printed, 0 if it is not there.
func sizeOf(stat, path string) int64 {
	for _, l := range strings.Split(stat, "\n") {
		if size, name, found := strings.Cut(l, " "); found && name == path {
			n, _ := strconv.ParseInt(size, 10, 64)
			return n
		}
	}
	return 0
}
