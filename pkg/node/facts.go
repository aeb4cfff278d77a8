package node

import (
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// Section is the part of a host's state that is read over SSH.
var Section = rollout.NewSection[Facts]("node")

// Facts are what one run of the facts script found on a node. Every field is
// the node's own word: nothing is guessed, and what a node does not have
// (grubby, a /boot of its own, Secure Boot) is left at its zero value.
type Facts struct {
	Hostname string `json:"hostname"`
	OS       OS     `json:"os"`
	// Arch is `uname -m`.
	Arch string `json:"arch"`
	// BootID is /proc/sys/kernel/random/boot_id: another one means another boot.
	BootID string `json:"boot_id"`
	// MachineID is that of /etc/machine-id. Machines that were cloned from one
	// image may share it. "" = not set.
	MachineID string `json:"machine_id,omitempty"`
	// Running is `uname -r`, Build is `uname -v`.
	Running string `json:"running"`
	Build   string `json:"build,omitempty"`
	// Cmdline is /proc/cmdline.
	Cmdline string `json:"cmdline"`

	// Installed are the kernel packages in the rpm database, in alphabetical
	// order, which says nothing of age: compare with evr.Compare.
	Installed []Package `json:"installed,omitempty"`
	// Available are the versions that a repository offers, in alphabetical order,
	// by "<name>@<repo>"; it holds only what a read key package=<name>@<repo> asked for.
	Available map[string][]Package `json:"available,omitempty"`
	// Repos are the repositories that such keys named, as configured.
	Repos map[string]Repo `json:"repos,omitempty"`
	// RepoErrors says, by repository, why it could not be asked.
	RepoErrors map[string]string `json:"repo_errors,omitempty"`
	// InstallErrors says why yum would not install a package, by
	// "<package>@<repo>", of those that a read key install=<package>@<repo> named.
	InstallErrors map[string]string `json:"install_errors,omitempty"`

	// Transactions are all that yum would do to install those that it would, by the
	// same keys.
	Transactions map[string][]PackageChange `json:"transactions,omitempty"`
	// Downloads are what each of them would download, in bytes as yum rounds them.
	Downloads map[string]int64 `json:"downloads,omitempty"`
	// Staged are the packages that were downloaded for a later install.
	Staged Staged `json:"staged,omitzero"`

	Boot    Boot     `json:"boot"`
	Kernels []Kernel `json:"kernels,omitempty"`
	// FailedTrials are the kernels that failed a trial here, by release, and when the
	// last one did by the node's clock (RFC 3339).
	FailedTrials map[string]string `json:"failed_trials,omitempty"`
	// Trial is the trial that was last asked for here, until its kernel is proven.
	Trial  Trial          `json:"trial,omitzero"`
	Mounts []Mount        `json:"mounts,omitempty"`
	Yum    PackageManager `json:"yum"`

	// Interfaces are the node's network interfaces, without lo and without
	// those of pods (cali*, veth*, lxc*), by name.
	Interfaces []Interface `json:"interfaces,omitempty"`
	// RootDrivers are the kernel modules that the root file system's disks
	// hang on (nvme, virtio_blk, megaraid_sas), those of the controller included.
	RootDrivers []string `json:"root_drivers,omitempty"`
	// OutOfTree are loaded modules that no EL kernel ships: proprietary ones
	// and those built outside the kernel tree (zfs, nvidia).
	OutOfTree []string `json:"out_of_tree,omitempty"`
	// SecureBoot is "enabled", "disabled", or "" on a BIOS machine.
	SecureBoot string `json:"secure_boot,omitempty"`
	EFI        bool   `json:"efi,omitempty"`
	Kdump      Kdump  `json:"kdump"`
	// CgroupVersion is 1 or 2; 0 if it could not be told.
	CgroupVersion int `json:"cgroup_version,omitempty"`
	// Kubelet is its version ("1.34.4"); "" = none installed.
	Kubelet string `json:"kubelet,omitempty"`
	// Panic is the sysctl kernel.panic: seconds from a panic to a reboot, 0 = never.
	Panic int `json:"panic"`

	// Files are those that read keys file=<path> asked for, by path.
	Files map[string]File `json:"files,omitempty"`
	// Texts are the contents of small files, of those that read keys text=<path>
	// asked for, by path.
	Texts map[string][]byte `json:"texts,omitempty"`
	// Upkeep is what the read key upkeep asked for.
	Upkeep *Upkeep `json:"upkeep,omitempty"`
}

// Trial is a node's own record of a trial boot.
type Trial struct {
	// Run is as in BootEntry.TrialRun; From and To are the releases of the kernel that
	// ran, and of the one on trial.
	Run  string `json:"run"`
	From string `json:"from"`
	To   string `json:"to"`
	// Before is how the node was before it, for ParseHealth.
	Before string `json:"before"`
}

// String is the record as it lies on the node.
func (t Trial) String() string { return t.Run + " " + t.From + " " + t.To + "\n" + t.Before }

// Upkeep is how a node is looked after.
type Upkeep struct {
	// Uptime is in seconds, as the kernel counts them (/proc/uptime).
	Uptime int64 `json:"uptime"`
	// BootTime is when the kernel started by the node's clock, in Unix seconds
	// (/proc/stat).
	BootTime int64 `json:"boot_time"`
	// Modules are the kernel modules that are loaded (/proc/modules).
	Modules []string `json:"modules,omitempty"`
	// Packages are the installed kernels, and the packages of which an update is in
	// force only after a reboot.
	Packages []DatedPackage `json:"packages,omitempty"`
}

// DatedPackage is an installed package, where it comes from and since when. Times are
// in Unix seconds.
type DatedPackage struct {
	Name string `json:"name"`
	// EVR is as in Package.
	EVR  string `json:"evr"`
	Arch string `json:"arch"`
	// Vendor is who built it, as the package says ("The ELRepo Project",
	// "Rocky Enterprise Software Foundation"); "" = it does not say.
	Vendor string `json:"vendor,omitempty"`
	// Built is by the clock of whoever built it, Installed by the node's.
	Built     int64 `json:"built,omitempty"`
	Installed int64 `json:"installed,omitempty"`
}

// Release is what `uname -r` says under a kernel of this package.
func (p DatedPackage) Release() string { return Package{p.Name, p.EVR, p.Arch}.Release() }

// OS is /etc/os-release.
type OS struct {
	// ID is "centos", "rocky", "almalinux", "rhel".
	ID     string   `json:"id"`
	IDLike []string `json:"id_like,omitempty"`
	// VersionID is "7", "8.10", "10"; Major its first number, 0 if it has none.
	VersionID string `json:"version_id"`
	Major     int    `json:"major"`
	// Name is PRETTY_NAME.
	Name string `json:"name,omitempty"`
}

// Package is one package of the rpm database or of a repository.
type Package struct {
	Name string `json:"name"`
	// EVR is version-release, with "epoch:" before it when the epoch is not 0.
	EVR  string `json:"evr"`
	Arch string `json:"arch"`
}

// NEVRA is the package's full name as rpm, yum and dnf take it.
func (p Package) NEVRA() string { return p.Name + "-" + p.EVR + "." + p.Arch }

// Release is what `uname -r` says under a kernel of this package.
func (p Package) Release() string {
	_, vr, found := strings.Cut(p.EVR, ":")
	if !found {
		vr = p.EVR
	}
	return vr + "." + p.Arch
}

// PackageChange is one line of a transaction.
type PackageChange struct {
	// Action is "install", "upgrade", "downgrade", "reinstall" or "remove".
	Action string `json:"action"`
	Package
}

// StageDir is where packages wait for their install, as a cache of yum's own.
const StageDir = "/var/cache/fleetd/stage"

// Staged is what waits in StageDir.
type Staged struct {
	// Question is what yum was asked, as in InstallKey's argument: to this one it is
	// the answer. "" = nothing is staged.
	Question string `json:"question,omitempty"`
	// Package is the kernel's, by its NEVRA without an epoch; Since when, in RFC 3339 by
	// the node's clock.
	Package string `json:"package,omitempty"`
	Since   string `json:"since,omitempty"`
	// Asked tells that it was asked, and not the repositories, for what the facts have of
	// them.
	Asked bool `json:"asked,omitempty"`
}

// Repo is a repository's stanza in /etc/yum.repos.d.
type Repo struct {
	Enabled  bool   `json:"enabled,omitempty"`
	GPGCheck bool   `json:"gpgcheck,omitempty"`
	GPGKey   string `json:"gpgkey,omitempty"`
	// MissingKeys are key files that GPGKey names and the node does not have.
	MissingKeys []string `json:"missing_keys,omitempty"`
	// Excludes are the patterns of packages hidden in this repository.
	Excludes []string `json:"excludes,omitempty"`
}

// Boot is what the boot loader will do.
type Boot struct {
	// BLS is set where entries are files under /boot/loader/entries (EL8 on);
	// without it they stand in grub.cfg (EL7).
	BLS bool `json:"bls,omitempty"`
	// Entries are those of `grubby --info=ALL` that boot a Linux kernel.
	Entries []BootEntry `json:"entries,omitempty"`
	// Default is `grubby --default-kernel`: a path, as in BootEntry.Kernel.
	Default string `json:"default,omitempty"`
	// SavedEntry and NextEntry are grubenv's: a title, a BLS id or an index.
	SavedEntry string `json:"saved_entry,omitempty"`
	NextEntry  string `json:"next_entry,omitempty"`
	// GrubDefault is GRUB_DEFAULT of /etc/default/grub, which the next grub2-mkconfig
	// takes; GrubCfg is what GRUB does.
	GrubDefault string  `json:"grub_default,omitempty"`
	GrubCfg     GrubCfg `json:"grub_cfg"`
	// UpdateDefault and DefaultKernel are those of /etc/sysconfig/kernel: which
	// package's kernels become the default by being installed.
	UpdateDefault string `json:"update_default,omitempty"`
	DefaultKernel string `json:"default_kernel,omitempty"`
	// DeadMan is the trial (BootEntry.TrialRun) whose dead-man switch is there.
	DeadMan string  `json:"dead_man,omitempty"`
	Grubenv Grubenv `json:"grubenv"`
}

// GrubCfg is the grub.cfg that is in force.
type GrubCfg struct {
	// Path is where it is; "" = there is none, or it cannot be told which of several.
	Path string `json:"path,omitempty"`
	// Default is what it boots where no next entry is set: "${saved_entry}" or
	// something fixed, such as "0".
	Default string `json:"default,omitempty"`
	// Next tells that it boots next_entry, if that is set, and clears it before.
	Next bool `json:"next,omitempty"`
	// Submenus tells that some of its entries are in a submenu.
	Submenus bool `json:"submenus,omitempty"`
}

// SavedEntry is GRUB's variable in which the default is kept.
const SavedEntry = "${saved_entry}"

// BootEntry is one entry of the boot loader.
type BootEntry struct {
	// Index is grubby's, -1 while the entry is only planned.
	Index  int    `json:"index"`
	Kernel string `json:"kernel"`
	Initrd string `json:"initrd,omitempty"`
	Root   string `json:"root,omitempty"`
	Args   string `json:"args,omitempty"`
	Title  string `json:"title,omitempty"`
	// ID is the BLS id, "" on EL7.
	ID string `json:"id,omitempty"`
}

// Release is the `uname -r` that the entry boots into, from its kernel's file name.
func (e BootEntry) Release() string {
	_, release, _ := strings.Cut(e.Kernel, "/vmlinuz-")
	return release
}

// TrialArg begins the kernel argument, and TrialTitle the title, of an entry that
// was made for one boot on trial.
const (
	TrialArg   = "fleetd.trial="
	TrialTitle = "fleetd trial of "
)

// Trial tells an entry that was made for one boot on trial. The argument alone
// does not: kernel-install gives the running kernel's to a new kernel's entry
// where /etc/kernel/cmdline is missing.
func (e BootEntry) Trial() bool { return strings.HasPrefix(e.Title, TrialTitle) && e.TrialRun() != "" }

// TrialRun is what the entry's last TrialArg names, "" if it has none.
func (e BootEntry) TrialRun() string {
	for _, a := range slices.Backward(strings.Fields(e.Args)) {
		if run, found := strings.CutPrefix(a, TrialArg); found {
			return run
		}
	}
	return ""
}

// Grubenv is the file in which GRUB keeps the default and the next entry.
type Grubenv struct {
	// Path is its real place, links resolved; "" = there is none.
	Path string `json:"path,omitempty"`
	Size int64  `json:"size,omitempty"`
	// Mount is the file system it lies on, Stack the layers below it that GRUB
	// cannot write through ("lvm", "raid", "crypt").
	Mount string   `json:"mount,omitempty"`
	FS    string   `json:"fs,omitempty"`
	Stack []string `json:"stack,omitempty"`
}

// Kernel is one kernel in /lib/modules or /boot.
type Kernel struct {
	Release string `json:"release"`
	// Image and Initramfs are sizes in bytes of the files in /boot, 0 = missing.
	Image     int64 `json:"image,omitempty"`
	Initramfs int64 `json:"initramfs,omitempty"`
	// Modules is set when /lib/modules/<release>/modules.dep is there.
	Modules bool `json:"modules,omitempty"`
	// MissingDrivers are modules that the node's disks and network cards use
	// now and that this kernel neither has as a module nor built in.
	MissingDrivers []string `json:"missing_drivers,omitempty"`
}

// Mount is a mounted file system that a kernel change writes to.
type Mount struct {
	Point    string `json:"point"`
	Source   string `json:"source"`
	Type     string `json:"type"`
	ReadOnly bool   `json:"read_only,omitempty"`
	// Size and Free are in bytes, Free as `df` calls Available.
	Size int64 `json:"size"`
	Free int64 `json:"free"`
}

// PackageManager is yum or dnf.
type PackageManager struct {
	// Tool is "yum" (version 3) or "dnf"; "" = neither is there.
	Tool string `json:"tool,omitempty"`
	// InstallonlyLimit is how many kernels of one name stay installed; 0 = all.
	InstallonlyLimit int `json:"installonly_limit"`
	// Excludes are the patterns of exclude= (excludepkgs=): packages that the
	// tool does not see, in any repository.
	Excludes []string `json:"excludes,omitempty"`
	// VersionLocks are the entries of the versionlock plugin, as they stand in its list:
	// "0:kernel-ml-6.1.4-1.el7.elrepo.*" (yum), "kernel-ml-0:6.1.4-1.el8.elrepo.*" (dnf).
	VersionLocks []string `json:"version_locks,omitempty"`
	// LockHolder is the process that holds the package lock: "yum-cron (pid 812)".
	LockHolder string `json:"lock_holder,omitempty"`
}

// Interface is one network interface.
type Interface struct {
	Name string `json:"name"`
	MTU  int    `json:"mtu"`
	// State is operstate: "up", "down", "unknown".
	State string `json:"state"`
	// Driver is its kernel module; "" for interfaces without hardware.
	Driver string `json:"driver,omitempty"`
}

// Kdump is the crash kernel's state.
type Kdump struct {
	Enabled bool `json:"enabled,omitempty"`
	// Loaded is set when a crash kernel waits in memory.
	Loaded bool `json:"loaded,omitempty"`
}

// Mount returns the file system that a path lies on, as far as the facts know it.
func (f Facts) Mount(path string) (Mount, bool) {
	best, found := Mount{}, false
	for _, m := range f.Mounts {
		if under(path, m.Point) && (!found || len(m.Point) > len(best.Point)) {
			best, found = m, true
		}
	}
	return best, found
}

func under(path, dir string) bool {
	return dir == "/" || path == dir || strings.HasPrefix(path, dir+"/")
}

// Kernel returns what is there of the kernel with this `uname -r`.
func (f Facts) Kernel(release string) (Kernel, bool) {
	i := slices.IndexFunc(f.Kernels, func(k Kernel) bool { return k.Release == release })
	if i < 0 {
		return Kernel{}, false
	}
	return f.Kernels[i], true
}

// Entry returns the boot entry for a kernel. Several entries may boot the same
// image (a rescue copy, one added by hand): the one that the package made is
// taken, which carries the release in its BLS id or its title; index order
// says nothing, because entries sort by file name. One on trial is never it.
func (b Boot) Entry(release string) (BootEntry, bool) {
	best, rank := BootEntry{}, 0
	for _, e := range b.Entries {
		if e.Release() != release || e.Trial() {
			continue
		}
		r := 1
		switch {
		case strings.HasSuffix(e.ID, "-"+release):
			r = 3
		case strings.Contains(e.Title, "("+release+")"):
			r = 2
		}
		if r > rank {
			best, rank = e, r
		}
	}
	return best, rank > 0
}

// DefaultRelease is the `uname -r` of the default entry, "" if unknown.
func (b Boot) DefaultRelease() string { return BootEntry{Kernel: b.Default}.Release() }
