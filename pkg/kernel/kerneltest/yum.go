package kerneltest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// job is the last transaction that was begun. It works on by itself, one command
// of anybody's at a time, and has its effect when it ends.
type job struct {
	name   string
	args   []string
	left   int
	ended  bool
	killed bool // by a reboot
	status int
}

func (j job) works() bool { return j.name != "" && !j.ended }

var yumLine = regexp.MustCompile(`(?m)^\s*yum (.*?) </dev/null`)

// transact is the script that starts a transaction once and looks at it.
func (n *Node) transact(c sshexec.Command, args []string) string {
	name := c.Env["fleetd_yum"]
	switch {
	case n.job.works() && n.job.name == name:
		return "working\n"
	case n.job.works():
		return "busy\n"
	case n.job.name == name && n.job.killed:
		return "gone\n"
	case n.job.name == name:
		return fmt.Sprintf("ended %d\n", n.job.status)
	}
	n.counts.Transactions++
	n.job = job{name: name, args: args, left: n.behaviour.YumTakes}
	return "started\n"
}

// work moves a transaction on. It waits for ever for somebody else's lock.
func (n *Node) work() {
	if !n.job.works() || n.behaviour.Lock != "" {
		return
	}
	if n.job.left--; n.job.left > 0 {
		return
	}
	n.job.ended = true
	if n.behaviour.YumFails > 0 {
		n.behaviour.YumFails--
		n.job.status = 1
		return
	}
	if slices.Contains(n.job.args, "install") && n.behaviour.InstallFails != "" {
		n.job.status = 1
		return
	}
	switch {
	case slices.Contains(n.job.args, "install"):
		n.job.status = n.yumInstall(n.job.args)
	case slices.Contains(n.job.args, "remove"):
		n.job.status = n.yumRemove(n.job.args)
	}
}

func (n *Node) yumInstall(args []string) int {
	fromStage := slices.Contains(args, "-C")
	mirror := n.mirror(fromStage)
	i := slices.IndexFunc(mirror, func(p node.Package) bool { return slices.Contains(args, p.NEVRA()) })
	switch {
	case n.behaviour.YumInstallsNothing:
		return 0
	case i < 0, fromStage && n.behaviour.Rotten != "":
		return 1
	}
	p := mirror[i]
	if slices.Contains(args, "--downloadonly") {
		n.staged.repo, n.staged.files = slices.Clone(mirror), n.transaction(p, args)
		return 0
	}
	if slices.Contains(n.packages, p) {
		return 0
	}
	n.install(p)
	for _, q := range n.transaction(p, args) {
		if strings.HasSuffix(q.Name, "-headers") {
			n.packages = slices.DeleteFunc(n.packages, func(old node.Package) bool { return old.Name == q.Name })
		}
		n.add(q)
	}
	if n.behaviour.YumAddsNoEntry {
		n.entries = n.entries[1:]
	} else if n.behaviour.YumMovesDefault {
		n.makeDefault(entryName(n.entries[0]))
	}
	return 0
}

// install adds a kernel's packages, those of them that are not there.
func (n *Node) install(p node.Package) {
	for _, p := range n.brings(p) {
		n.add(p)
	}
}

// brings lists a kernel's packages.
func (n *Node) brings(p node.Package) (out []node.Package) {
	for _, suffix := range map[Flavour][]string{EL7: {""}, EL8: {"", "-core", "-modules"}, EL9: {"", "-core", "-modules", "-modules-core"}}[n.flavour] {
		out = append(out, node.Package{Name: p.Name + suffix, EVR: p.EVR, Arch: p.Arch})
	}
	return out
}

// add adds a package, and its boot entry if it brings a kernel's image.
func (n *Node) add(p node.Package) {
	if slices.Contains(n.packages, p) {
		return
	}
	n.packages = append(n.packages, p)
	if n.hasImage(p) {
		n.addEntry(p.Release())
	}
}

// yumRemove removes what is named, and what cannot be without it. Like yum it
// protects the kernel that runs.
func (n *Node) yumRemove(args []string) int {
	left := slices.DeleteFunc(slices.Clone(n.packages), func(p node.Package) bool {
		core := p
		core.Name = strings.TrimSuffix(p.Name, "-modules") + "-core"
		return slices.Contains(args, p.NEVRA()) || n.flavour != EL7 && slices.Contains(args, core.NEVRA())
	})
	has := func(release string) bool {
		return slices.ContainsFunc(left, func(p node.Package) bool { return p.Release() == release && n.hasImage(p) })
	}
	if !has(n.running) {
		return 1
	}
	n.packages = left
	if !n.behaviour.YumLeavesEntry {
		// kernel-install knows only the file that it has made itself.
		n.entries = slices.DeleteFunc(n.entries, func(e node.BootEntry) bool { return !has(e.Release()) && (n.flavour == EL7 || !e.Trial()) })
	}
	return 0
}

// hasImage tells the package of a kernel that brings /boot/vmlinuz.
func (n *Node) hasImage(p node.Package) bool {
	if strings.HasSuffix(p.Name, "-devel") || strings.HasSuffix(p.Name, "-headers") {
		return false
	}
	return n.flavour == EL7 || strings.HasSuffix(p.Name, "-core") && !strings.HasSuffix(p.Name, "-modules-core")
}

func (n *Node) yum(argv []string) (string, int) {
	fromStage := slices.Contains(argv, "-C")
	switch {
	case slices.Contains(argv, "clean"):
		return "", 0
	case slices.Contains(argv, "list"):
		return n.list(fromStage, argv[len(argv)-1])
	case slices.Contains(argv, "--assumeno"):
		return n.wouldInstall(fromStage, argv)
	}
	return n.unknown(argv)
}

// mirror is what yum can see of the repository.
func (n *Node) mirror(fromStage bool) []node.Package {
	switch {
	case fromStage:
		return n.staged.repo
	case n.behaviour.RepoGone:
		return nil
	}
	return n.behaviour.Repo
}

// transaction is a kernel's packages, and those of it that yum is told by name where
// an older one is there. Without arguments it is what the facts script asks for.
func (n *Node) transaction(p node.Package, args []string) []node.Package {
	out := n.brings(p)
	for _, suffix := range []string{"-devel", "-headers"} {
		q := node.Package{Name: p.Name + suffix, EVR: p.EVR, Arch: p.Arch}
		if (args == nil || slices.Contains(args, q.NEVRA())) && slices.ContainsFunc(n.packages, func(old node.Package) bool { return old.Name == q.Name && old != q }) {
			out = append(out, q)
		}
	}
	return out
}

// noMirror is what dnf says of a repository that does not answer.
const noMirror = "Error: Failed to download metadata for repo 'elrepo-kernel': Cannot download repomd.xml\n"

// wouldInstall is what yum --assumeno install prints. Its exit status is that of
// an install that a person has declined.
func (n *Node) wouldInstall(fromStage bool, args []string) (string, int) {
	mirror := n.mirror(fromStage)
	switch {
	case n.behaviour.InstallFails != "":
		return n.behaviour.InstallFails, 1
	case n.behaviour.RepoGone && !fromStage:
		return noMirror, 1
	}
	out := "Dependencies resolved.\n================\n Package Arch Version Repository Size\n================\n"
	if len(mirror) > 0 {
		for i, p := range n.transaction(mirror[len(mirror)-1], args) {
			switch {
			case i == 0:
				out += "Installing:\n"
			case strings.HasSuffix(p.Name, "-headers"):
				out += "Upgrading:\n"
			case i == 1:
				out += "Installing dependencies:\n"
			}
			out += fmt.Sprintf(" %s   %s   %s   elrepo-kernel   20 M\n", p.Name, p.Arch, p.EVR)
		}
	}
	size := "Total download size: 60 M\n"
	if fromStage {
		size = "Total size: 60 M\n"
	}
	return out + n.behaviour.InstallsToo + "\nTransaction Summary\n================\n" + size + "Operation aborted.\n", 1
}

// list is what yum list prints of a package in the repository elrepo-kernel.
func (n *Node) list(fromStage bool, name string) (string, int) {
	if n.behaviour.RepoGone && !fromStage {
		return noMirror, 1
	}
	out := ""
	for _, p := range n.mirror(fromStage) {
		if p.Name == name {
			out += fmt.Sprintf("%s.%s   %s   elrepo-kernel\n", p.Name, p.Arch, p.EVR)
		}
	}
	if out == "" {
		return "Error: No matching Packages to list\n", 1
	}
	return "Available Packages\n" + out, 0
}

func (n *Node) rpm(argv []string) (string, int) {
	if len(argv) >= 3 && argv[1] == "-q" {
		for _, other := range argv[3:] {
			if !slices.ContainsFunc(n.packages, func(p node.Package) bool { return p.NEVRA() == other }) {
				return "package " + other + " is not installed\n", 1
			}
		}
		if slices.ContainsFunc(n.packages, func(p node.Package) bool { return p.NEVRA() == argv[2] }) {
			return argv[2] + "\n", 0
		}
		return "package " + argv[2] + " is not installed\n", 1
	}
	return n.unknown(argv)
}
