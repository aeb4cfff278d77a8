// Package nodes is the node lab: virtual machines that stand for the EL nodes of a fleet.
//
// A node has rpm, dnf as yum, GRUB 2 booted from disk, grubby, sshd and sudo, and really reboots into
// another kernel. It runs under QEMU's own emulation (no KVM), inside a network namespace, without any
// network but two rules: its SSH port is at 127.0.1.<i>:22 of the namespace, and it reaches two addresses
// there: its yum mirror (10.0.2.100:80) and the API server of a control plane (10.0.2.101:6443).
// README.md says what of this is real and what is a stand-in.
//
// [Build] makes repositories and disk images, once, in a cache. [Start] starts machines and returns while
// they still boot; [Lab.WaitReady] waits for them. [Lab.Stop] ends what Start started, by process ID and
// start time, and nothing else; [Load] finds a lab again from its folder, in another process.
//
// Everything here needs root, on Debian 12, with the packages of [InstallHostPackages].
package nodes
