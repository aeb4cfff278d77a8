package boot

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/node"
)

// What makes a node unfit for another kernel. Each says what is wrong and what to do
// about it, or nothing.

// GrubenvUnwritable says why GRUB could not clear next_entry: then a trial
// entry that panics would be booted again and again.
func GrubenvUnwritable(f node.Facts) (wrong, hint string) {
	g := f.Boot.Grubenv
	const move = "give /boot a plain partition (ext4 or xfs); until then boot this node by hand"
	switch {
	case g.Path == "":
		return "there is no grubenv, so one boot on trial cannot be asked for", "grub2-editenv create"
	case g.Size != 1024:
		return fmt.Sprintf("%s has %d bytes, and GRUB takes only one of 1024", g.Path, g.Size), "grub2-editenv " + g.Path + " create, then grubby --set-default the running kernel"
	case len(g.Stack) > 0:
		return fmt.Sprintf("%s lies on %s, where GRUB cannot write it: a trial boot that fails would be tried for ever", g.Path, strings.Join(g.Stack, " on ")), move
	case slices.Contains([]string{"btrfs", "zfs", "overlay", "f2fs"}, g.FS):
		return fmt.Sprintf("%s lies on %s, where GRUB cannot write it: a trial boot that fails would be tried for ever", g.Path, g.FS), move
	}
	return "", ""
}

// GrubCfgUnfit says why the grub.cfg in force does not boot what it is told to.
// With a fixed default, entry 0 say, a trial that fails would come back to the
// newest kernel, and C grubby deletes the line when it is to set a default.
func GrubCfgUnfit(f node.Facts) (wrong, hint string) {
	cfg := f.Boot.GrubCfg
	set := func(line string) string {
		name, _, _ := strings.Cut(line, "=")
		return fmt.Sprintf("sed -i '/^%s=/d' /etc/default/grub; echo %s >>/etc/default/grub; grub2-mkconfig -o %s", name, line, cfg.Path)
	}
	switch {
	case cfg.Path == "":
		return "it cannot be told which grub.cfg is in force", "ls -l /boot/grub2/grub.cfg /boot/efi/EFI/*/grub.cfg; efibootmgr -v; take away what is not used"
	case cfg.Default != node.SavedEntry:
		return fmt.Sprintf("%s boots entry %q and not the saved one: the default that grubby sets is not what boots", cfg.Path, cfg.Default), set("GRUB_DEFAULT=saved")
	case !cfg.Next:
		return cfg.Path + " does not boot and clear next_entry, so one boot on trial cannot be asked for", "grub2-mkconfig -o " + cfg.Path
	case cfg.Submenus && !f.Boot.BLS:
		return cfg.Path + " has entries in a submenu, where GRUB does not find them by their titles", set("GRUB_DISABLE_SUBMENU=true")
	}
	return "", ""
}

// NoFallback says that the running kernel could not be booted again.
func NoFallback(f node.Facts) (wrong, hint string) {
	if len(f.Boot.Entries) == 0 {
		return "grubby shows no boot entry", "yum install -y grubby; grubby --info=ALL must list the kernels"
	}
	if _, ok := f.Boot.Entry(f.Running); !ok {
		return "the running kernel " + f.Running + " has no boot entry, so nothing could be fallen back to",
			reinstall(f.Running) + ", or choose an installed kernel with grubby --set-default and reboot by hand first"
	}
	return "", ""
}

// DriversMissing tells only of a kernel that is installed.
func DriversMissing(f node.Facts, release string) (wrong, hint string) {
	k, ok := f.Kernel(release)
	if !ok || len(k.MissingDrivers) == 0 {
		return "", ""
	}
	return fmt.Sprintf("kernel %s lacks drivers that this node's disks and network cards use: %s", release, strings.Join(k.MissingDrivers, ", ")),
		"choose another kernel, or install the driver for it (ELRepo's kmod packages)"
}
