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
// it from the host's facts (pkg/kernel/wanted). Every Diff is pure over node.Facts and
// leaves the facts as they will be: package adds to Facts.Installed, trial_boot
// sets Facts.Running, default sets Boot.Default. So they can be planned in a row
// before anything has run.
//
// Here is what stands on the rooms below: preflight, and the rules that a policy can
// ask of a kernel. pkg/kernel/packages installs, pkg/kernel/boot boots.
package kernel
