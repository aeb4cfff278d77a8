package kerneltest

import (
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"sync"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// Flavour is a distribution.
type Flavour string

const (
	// EL7 has boot entries in grub.cfg and one package per kernel.
	EL7 Flavour = "el7"
	// EL8 and EL9 have BLS entries, and a kernel in several packages.
	EL8 Flavour = "el8"
	EL9 Flavour = "el9"
)

// OldRelease is the `uname -r` of the kernel that a new node runs, NewRelease
// that of the one in its repository.
func OldRelease(f Flavour) string { return oldKernel[f].Release() }
func NewRelease(f Flavour) string { return newKernel(f).Release() }

var oldKernel = map[Flavour]node.Package{
	EL7: {Name: "kernel", EVR: "3.10.0-1160.el7", Arch: "x86_64"},
	EL8: {Name: "kernel", EVR: "4.18.0-553.el8_10", Arch: "x86_64"},
	EL9: {Name: "kernel", EVR: "5.14.0-503.40.1.el9_5", Arch: "x86_64"},
}

func newKernel(f Flavour) node.Package {
	return node.Package{Name: "kernel-ml", EVR: "6.1.176-1." + string(f) + ".elrepo", Arch: "x86_64"}
}

// Fate is what comes of booting a kernel.
type Fate string

const (
	// Panics: the node goes through GRUB once more.
	Panics Fate = "panics"
	// Hangs: nothing happens until somebody resets the node.
	Hangs Fate = "hangs"
	// Dies: the node never comes back.
	Dies Fate = "dies"
	// CutOff: systemd works, and nobody can log in. There is no network, or no sshd,
	// or emergency.target is as far as the boot goes.
	CutOff Fate = "cut off"
)

// Behaviour is how a node takes what is done to it. The zero values of the
// faults are none.
type Behaviour struct {
	// StopTakes is how many attempts to reach the node are answered after init 6;
	// with none, the connection is lost under init 6 itself. BootTakes is how many
	// are not answered then, SudoTakes how many commands find no root after that.
	StopTakes, BootTakes, SudoTakes int
	// YumTakes is how many commands a transaction lasts.
	YumTakes int
	// Kernels are the kernels, by release, that do not boot well.
	Kernels map[string]Fate

	// Tools that end with 0 and have done nothing.
	GrubbySetsNoDefault, Grub2SetsNoDefault, Grub2RebootsNothing        bool
	YumInstallsNothing, YumAddsNoEntry, YumLeavesEntry, InitDoesNothing bool
	// DeadManIgnored: systemd does not take the unit of the dead-man switch.
	// DeadManStays: it does not stop it, and it goes off after so many commands
	// (DeadManTakes), as it does on a node that nobody talks to about it.
	DeadManIgnored, DeadManStays bool
	DeadManTakes                 int
	// NoTrialEntry: no entry for a trial can be made, TrialStays: none be removed.
	// AddingMovesDefault: C grubby makes the entry that it adds the default.
	// AddingBreaks: it leaves a grub.cfg that does not parse.
	NoTrialEntry, TrialStays, AddingMovesDefault, AddingBreaks bool
	// InitRefuses fails init 6, YumFails the next so many transactions.
	InitRefuses bool
	YumFails    int
	// InstallFails is what yum says instead of installing anything, where another
	// repository is dead or a dependency is missing. The one repository can still
	// be listed.
	InstallFails string
	// InstallsToo is what an install would do besides, as yum prints it.
	InstallsToo string
	// YumMovesDefault makes an installed kernel the default.
	YumMovesDefault bool
	// NoInitramfs and MissingDrivers are what a kernel from the repository lacks.
	NoInitramfs    bool
	MissingDrivers []string
	// GrubIgnoresNext: GRUB does not look at next_entry; GrubKeepsNext: it cannot
	// clear it.
	GrubIgnoresNext, GrubKeepsNext bool
	// GrubDefault is what grub.cfg sets where there is no next_entry. With an index
	// GRUB boots that one, whatever saved_entry is; C grubby deletes the line when it
	// is to set a default, and what is left does not parse: GRUB boots nothing more.
	GrubDefault string
	// Lock is who holds yum's lock: "812 packagekitd".
	Lock string
	// Kubelet is the version of the one that is installed, "" for none.
	Kubelet string
	// BootFreeMB is what is free in /boot.
	BootFreeMB int
	// Repo is what the repository elrepo-kernel has.
	Repo []node.Package
	// Health is what the node says of its health on a kernel at the nth look since it was
	// booted; nil: Healthy.
	Health func(release string, look int) string
	// RepoGone: no repository answers.
	RepoGone bool
	// Rotten is the name of a package whose signature is bad once it is downloaded.
	Rotten string
}

// Healthy is the health of a node on which all is well, but for a unit that fails on
// any kernel.
const Healthy = `failed cloud-final.service
service containerd.service 611
service kubelet.service 812
link eth0
address eth0 10.0.0.5/24
route default via 10.0.0.1 dev eth0
`

// Counts are the effects on a node.
type Counts struct {
	// Reboots that init 6 has begun, Transactions of yum that were begun, Defaults
	// that became another one, Uploads.
	Reboots, Transactions, Defaults, Uploads int
}

// World is what a node is, for a comparison with another.
type World struct {
	Up                   bool
	Running, Saved, Next string
	// DeadMan is the unit of the dead-man switch that is there. Jumpy: the kernel
	// panics when it is stuck, as a trial has told it.
	DeadMan string
	Jumpy   bool
	// Failed is the node's record of kernels that failed a trial.
	Failed []string
	// Trial is its record of the trial that was asked for last.
	Trial    string
	Entries  []node.BootEntry
	Packages []node.Package
	// Staged says what is staged, and for which question to yum.
	Staged string
	// Files are mode, owner and digest, by path.
	Files map[string]string
}

// Node is one node.
type Node struct {
	mu        sync.Mutex
	host      string
	flavour   Flavour
	behaviour Behaviour
	counts    Counts
	log       []string

	power   power
	left    int // how often it is still tried to reach before power changes
	noRoot  int // how many commands are still refused root
	running string
	cmdline string
	boots   int
	looks   int // at its health, in this boot

	entries     []node.BootEntry
	saved, next string
	usedNext    bool // GRUB leaves an empty next_entry behind
	unit        unit
	failed      []string // the record of failed trials: "RELEASE RUN TIME"
	trial       string   // the record of the last trial
	packages    []node.Package
	staged      staged
	job         job
	files       map[string]file
}

type power int

const (
	up power = iota
	stopping
	down
	hanging
	dead
)

func newNode(host string, f Flavour) *Node {
	n := &Node{
		host: host, flavour: f, running: OldRelease(f), boots: 1, files: map[string]file{},
		behaviour: Behaviour{
			StopTakes: 1, BootTakes: 3, SudoTakes: 1, YumTakes: 3, BootFreeMB: 700, DeadManTakes: 200, GrubDefault: node.SavedEntry,
			Kernels: map[string]Fate{}, Repo: []node.Package{newKernel(f)},
		},
	}
	n.install(oldKernel[f])
	n.saved = entryName(n.entries[0])
	n.cmdline = n.entries[0].Args
	return n
}

// Behave changes how the node takes things from now on.
func (n *Node) Behave(change func(*Behaviour)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(&n.behaviour)
}

// Counts returns what was done to the node.
func (n *Node) Counts() Counts {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.counts
}

// Log returns the commands that the node has run, in order.
func (n *Node) Log() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.log)
}

// World returns what the node is now.
func (n *Node) World() World {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := World{
		Up: n.power == up, Running: n.running, Saved: n.saved, Next: n.next, DeadMan: n.unit.run, Jumpy: n.unit.jumpy, Failed: slices.Clone(n.failed), Trial: n.trial, Staged: n.staged.answer,
		Entries: slices.Clone(n.entries), Packages: slices.Clone(n.packages), Files: map[string]string{},
	}
	for path, f := range n.files {
		w.Files[path] = f.String()
	}
	return w
}

// BootID is that of the boot in which the node is, or was last.
func (n *Node) BootID() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.bootID()
}

// SetDefault is done by hand, and not counted.
func (n *Node) SetDefault(release string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.saved = entryName(n.entry(release))
}

// SetSaved is grub2-set-default by hand, with anything that GRUB takes.
func (n *Node) SetSaved(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.saved = name
}

// SetArgs gives a kernel's boot entry other arguments, by hand.
func (n *Node) SetArgs(release, args string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range n.entries {
		if n.entries[i].Release() == release {
			n.entries[i].Args = args
		}
	}
}

// SetNext is grub2-reboot by hand, with an entry's id or title.
func (n *Node) SetNext(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next = name
}

// AddPackage installs a package by hand, and its boot entry if it brings a
// kernel's image.
func (n *Node) AddPackage(p node.Package) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.add(p)
}

// LeaveTrial leaves an entry that was made for a trial asked for in the boot run.
func (n *Node) LeaveTrial(release, run string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e, args, title := n.entry(release), node.TrialArg+run+" rd.shell=0", node.TrialTitle+release
	if n.flavour == EL7 {
		n.addCopy(e.Kernel, e.Initrd, title, strings.Fields(args))
		return
	}
	n.copyFile(map[string]string{"real": e.ID, "trial": e.ID + "~fleetd", "title": title, "args": args})
}

// LeaveDeadMan leaves the dead-man switch of such a trial.
func (n *Node) LeaveDeadMan(run string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.unit.run = run
}

// Reset is the button on the case. Nothing helps a node that died.
func (n *Node) Reset() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.power != dead {
		n.goDown()
	}
}

// reach is one attempt to talk to the node, which moves a reboot on.
func (n *Node) reach(op string) error {
	switch n.power {
	case stopping:
		if n.left > 0 {
			n.left--
			return nil
		}
		n.goDown()
		return fail(n.host, op, sshexec.KindLost, "connection lost")
	case hanging:
		// Nobody has to talk to a node for its dead-man switch to go off.
		if n.unit.works {
			if n.unit.left--; n.unit.left <= 0 {
				n.goDown()
			}
		}
	case down:
		n.left--
		switch {
		case n.left == 0:
			return fail(n.host, "log in", sshexec.KindAuth, "System is booting up. Unprivileged users are not permitted to log in yet.")
		case n.left > 0 && n.left%2 == 0:
			return fail(n.host, "connect", sshexec.KindTimeout, "port 22 accepts connections, but sshd does not answer within 10s")
		case n.left > 0:
			return fail(n.host, "connect", sshexec.KindUnreachable, "connection refused")
		}
		n.boot()
	}
	if n.power == up {
		return nil
	}
	return fail(n.host, "connect", sshexec.KindTimeout, "no answer within 10s")
}

// goDown ends all that works on the node.
func (n *Node) goDown() {
	n.power, n.left, n.unit.works = down, n.behaviour.BootTakes, false
	if n.job.works() {
		n.job.ended, n.job.killed = true, true
	}
}

// boot goes through GRUB, and after a panic once more: a second panic is one
// that would go on for ever.
func (n *Node) boot() {
	n.power, n.looks = hanging, 0
	for range 2 {
		n.boots++
		e := n.named(n.saved)
		switch n.behaviour.GrubDefault {
		case node.SavedEntry:
		case "":
			n.power = dead
			return
		default:
			e = n.named(n.behaviour.GrubDefault)
		}
		if n.next != "" && !n.behaviour.GrubIgnoresNext {
			e = n.named(n.next)
			if !n.behaviour.GrubKeepsNext {
				n.next, n.usedNext = "", true
			}
		}
		switch n.behaviour.Kernels[e.Release()] {
		case Panics:
			continue
		case Dies:
			n.power = dead
		case Hangs:
		case CutOff:
			n.startUnit(e)
		default:
			n.startUnit(e)
			n.power, n.running, n.cmdline, n.noRoot = up, e.Release(), e.Args, n.behaviour.SudoTakes
		}
		return
	}
}

func (n *Node) bootID() string {
	return fmt.Sprintf("%08x-0000-4000-8000-%012d", crc32.ChecksumIEEE([]byte(n.host)), n.boots)
}
