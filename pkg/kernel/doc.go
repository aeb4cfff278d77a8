// Package kernel moves EL nodes to another kernel and back: what to install,
// as an exact NEVRA; a preflight that knows the traps; a trial boot that the
// node returns from by itself if the kernel is no good; and the default entry,
// set only after the kernel was proven.
//
// Modules (see [Modules]):
//
//	fleetd.kernel.preflight    is the node fit for the change?
//	fleetd.kernel.stage        the packages wait on the node, checked
//	fleetd.kernel.package      the package is installed, the default entry is as it was
//	fleetd.kernel.trial_boot   the new kernel is booted once, and proven
//	fleetd.kernel.default      the new kernel is the default
//
// All of them are told by the same arguments which kernel is meant, and choose
// it from the host's facts ([Choose]). Every Diff is pure over node.Facts and
// leaves the facts as they will be: package adds to Facts.Installed, trial_boot
// sets Facts.Running, default sets Boot.Default. So they can be planned in a row
// before anything has run.
//
// A kernel on trial has a boot entry of its own, copied from the real one, which
// is never edited (trialentry.go), and a dead-man switch that reboots the node if
// nobody can log in (deadman.go; docs/faults.md has all faults). A node that is not as
// well on it as before is taken back (health.go). A version that failed
// is kept in mind by the node (failed.go), and not tried again unasked. What is left of a
// trial that was cut off is seen in the facts, and taken away by the next apply or
// undo.
//
// Exit codes of yum, grubby and new-kernel-pkg are not believed: the package,
// the entry, the initramfs, the default and grubenv are read back each time.
//
// What takes long, a transaction of yum and a reboot, is begun by one call and
// looked at by later ones. A note that was durable before it says afterwards
// that it may have been begun.
package kernel
