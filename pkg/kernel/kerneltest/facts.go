package kerneltest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/node"
)

// factKeys are the read keys with which the facts script is run: its second line
// sets them.
func factKeys(script string) []string {
	_, rest, _ := strings.Cut(script, "\n")
	line, _, _ := strings.Cut(rest, "\n")
	var keys []string
	for _, w := range strings.Fields(strings.TrimPrefix(line, "set --")) {
		keys = append(keys, strings.Trim(w, "'"))
	}
	return keys
}

// facts prints the sections of the facts script that tell something of a node
// like this one.
func (n *Node) facts(keys []string) string {
	const nonce = "d5a2"
	var b strings.Builder
	fmt.Fprintf(&b, "fleetd-facts 1 %s\n", nonce)
	section := func(name, text string, status int) {
		fmt.Fprintf(&b, "%s begin %s\n%s\n\n%s end %d\n", nonce, name, text, nonce, status)
	}
	major := strings.TrimPrefix(string(n.flavour), "el")
	tools := "yum\nrpm\ngrubby\ngrub2-reboot\ngrub2-editenv\ndracut"
	if n.flavour != EL7 {
		tools = "dnf\n" + tools
	}
	section("hostname", n.host, 0)
	section("machine-id", fmt.Sprintf("%032x", n.host), 0)
	section("running", n.running, 0)
	section("build", "#1 SMP", 0)
	section("arch", "x86_64", 0)
	section("boot-id", n.bootID(), 0)
	section("os-release", "ID=centos\nVERSION_ID="+major, 0)
	section("tools", tools, 0)
	section("rpm", n.rpmList()+"package kernel-lt is not installed\n", 1)
	fromStage := n.stagedFacts() != "" && slices.Contains(keys, "install="+strings.Fields(n.staged.answer)[0]) && !slices.Contains(keys, node.UnstagedKey)
	section("staged", n.stagedFacts()+map[bool]string{true: " asked"}[fromStage], 0)
	section("yum-conf", "[main]\ninstallonly_limit=5", 0)
	section("lock-holder", n.lockHolder(), 0)
	if len(keys) == 1 && keys[0] == "brief" {
		return b.String() + nonce + " done\n"
	}
	section("grubby-info", n.info(), 0)
	if n.flavour == EL7 {
		section("grubby-default", n.named(n.saved).Kernel, 0)
	} else {
		section("bls", "x.conf", 0)
	}
	section("grubenv", n.env(), 0)
	section("grubenv-path", "1024 /boot/grub2/grubenv", 0)
	section("default-grub", "GRUB_DEFAULT=saved", 0)
	section("sysconfig-kernel", "UPDATEDEFAULT=yes\nDEFAULTKERNEL=kernel", 0)
	section("grub-cfg", strings.Join([]string{
		"/boot/grub2/grub.cfg:   set default=\"${next_entry}\"", "/boot/grub2/grub.cfg:   save_env next_entry",
		fmt.Sprintf("/boot/grub2/grub.cfg:   set default=%q", n.behaviour.GrubDefault),
	}, "\n"), 0)
	if n.unit.run == "" {
		section("dead-man", "sh: 1: cannot open "+trialUnit+": No such file", 2)
	} else {
		section("dead-man", "# "+node.TrialArg+n.unit.run, 0)
	}
	section("cmdline", n.cmdline, 0)
	section("trial", n.trial, 0)
	section("failed-trials", strings.Join(n.failed, "\n"), 0)
	section("mounts", "/dev/vda2 / xfs rw 0 0\n/dev/vda1 /boot xfs rw 0 0", 0)
	section("df", fmt.Sprintf("/dev/vda2 9999999 1 9999999 1%% /\n/dev/vda1 1038336 1 %d 1%% /boot", n.behaviour.BootFreeMB*1024), 0)
	section("kernels", n.kernels(), 0)
	if n.behaviour.Kubelet != "" {
		section("kubelet", "Kubernetes v"+n.behaviour.Kubelet, 0)
	}
	for _, k := range keys {
		kind, arg, _ := strings.Cut(k, "=")
		switch kind {
		case "package":
			name, repo, _ := strings.Cut(arg, "@")
			text, status := n.list(fromStage, name)
			section("package "+arg, text, status)
			section("repo "+repo, "["+repo+"]\nenabled=0\ngpgcheck=1\ngpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-elrepo.org", 0)
			section("repo-missing-keys "+repo, "", 0)
		case "install":
			text, status := n.wouldInstall(fromStage, nil)
			section("install "+arg, text, status)
		case node.UpkeepKey:
			section("uptime", "86400.07 80000.00", 0)
			section("boot-time", "btime 1700000000", 0)
			section("loaded-modules", "xfs\nvirtio_net", 0)
			section("dated-packages", n.datedPackages()+"package microcode_ctl is not installed\n", 1)
		case "file":
			section("file "+arg, n.fileFacts(arg), 0)
		}
	}
	return b.String() + nonce + " done\n"
}

func (n *Node) rpmList() string {
	var b strings.Builder
	for _, p := range n.packages {
		v, r, _ := strings.Cut(p.EVR, "-")
		fmt.Fprintf(&b, "%s 0 %s %s %s\n", p.Name, v, r, p.Arch)
	}
	return b.String()
}

// datedPackages are all as old as each other: that a package is newer than the boot is
// not shown.
func (n *Node) datedPackages() string {
	var b strings.Builder
	for _, p := range n.packages {
		v, r, _ := strings.Cut(p.EVR, "-")
		vendor := "CentOS"
		if strings.Contains(r, "elrepo") {
			vendor = "The ELRepo Project"
		}
		fmt.Fprintf(&b, "%s 0 %s %s %s 1690000000 1680000000 %s\n", p.Name, v, r, p.Arch, vendor)
	}
	return b.String()
}

func (n *Node) lockHolder() string {
	if n.behaviour.Lock == "" && n.job.works() {
		return "4711 yum"
	}
	return n.behaviour.Lock
}

func (n *Node) kernels() string {
	var b strings.Builder
	for _, e := range n.entries {
		image, initramfs := imageSize, n.initramfs(e)
		fmt.Fprintf(&b, "%s %d %d yes", e.Release(), image, initramfs)
		if e.Release() != OldRelease(n.flavour) {
			for _, d := range n.behaviour.MissingDrivers {
				b.WriteString(" " + d)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}
