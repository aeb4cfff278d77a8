// Package kernel moves EL nodes to another kernel and back: what to install,
// as an exact NEVRA; a preflight that knows the traps; a trial boot that the
// node returns from by itself if the kernel is no good; and the default entry,
// set only after the kernel was proven.
//
// Modules (see [Modules]):
//
//	fleetd.kernel.preflight    is the node fit for the change?
//	fleetd.kernel.package      the package is installed, the default entry is as it was
//	fleetd.kernel.trial_boot   the new kernel is booted once, and proven
//	fleetd.kernel.default      the kernel that runs is the default
//
// Every Diff is pure over node.Facts and leaves the facts as they will be:
// package sets Facts.Target, trial_boot makes it Facts.Running, default makes
// it Boot.Default. So they can be planned in a row before anything has run.
//
// Exit codes of yum, grubby and new-kernel-pkg are not believed: the package,
// the entry, the initramfs, the default and grubenv are read back each time.
package kernel
