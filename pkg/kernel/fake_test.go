package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// fakeNode stands in for one EL node: packages, boot entries, grubenv and
// reboots, behind the commands that the modules use. It shows order, read-back
// and crash behaviour; that real tools take these commands is shown on virtual
// machines, not here.
type fakeNode struct {
	mu      sync.Mutex
	bls     bool
	running string
	boots   int // boot_id is made of it
	entries []node.BootEntry
	saved   string // saved_entry
	next    string // next_entry
	rpms    []node.Package
	repo    []node.Package // what elrepo-kernel has
	lock    string         // holder of yum's lock
	bootMB  int
	missing []string // drivers that the new kernel lacks
	noImage bool     // the initramfs of the new kernel is missing

	// Faults.
	grubbyLies   bool // --set-default does nothing, rc 0
	toolsLie     bool // and grub2-set-default neither
	argsLie      bool // --update-kernel does nothing, rc 0
	rebootLies   bool // grub2-reboot does nothing, rc 0
	noEntry      bool // yum adds no entry, rc 0
	yumLies      bool // yum installs nothing, rc 0
	movesDefault bool // yum makes the new kernel the default
	panics       bool // the new kernel panics
	ignoresNext  bool // GRUB does not look at next_entry
	keepsNext    bool // GRUB cannot clear next_entry
	staysUp      bool // init 6 does nothing
	staysDown    bool // the node never returns
	initFails    bool

	log []string
	// reboots counts how often the node went down.
	reboots int
	// crashAt stops the world after that many operations (0 = never): the
	// operation takes effect, its answer is lost, and so is all that follows.
	crashAt int
	ops     int
}

var errCrash = errors.New("fleetd was killed")

func (n *fakeNode) bootID() string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n.boots) }

func (n *fakeNode) dead() bool {
	n.ops++
	return n.crashAt > 0 && n.ops > n.crashAt
}

func (n *fakeNode) Run(_ context.Context, host string, c sshexec.Command) (sshexec.Result, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dead() {
		return sshexec.Result{}, errCrash
	}
	text := strings.Join(c.Argv, " ")
	if c.Script != "" {
		text = strings.TrimSpace(c.Script)
		if strings.Contains(text, "fleetd-facts") {
			text = "facts"
		}
	}
	n.log = append(n.log, text)
	out, status := n.do(text, c)
	res := sshexec.Result{Stdout: []byte(out), ExitStatus: status}
	if n.crashAt > 0 && n.ops == n.crashAt {
		return sshexec.Result{}, errCrash
	}
	if strings.Contains(text, "init 6") && status == 0 && !n.staysUp {
		return sshexec.Result{}, &sshexec.Error{Host: host, Op: "run a script", Kind: sshexec.KindLost, Err: errors.New("connection lost")}
	}
	return res, nil
}

func (n *fakeNode) do(text string, c sshexec.Command) (string, int) {
	argv := c.Argv
	arg := func(prefix string) string {
		for _, a := range argv {
			if v, ok := strings.CutPrefix(a, prefix); ok {
				return v
			}
		}
		return ""
	}
	switch {
	case text == "facts":
		return n.facts(), 0
	case text == "grubby --info=ALL":
		return n.info(), 0
	case text == "grubby --default-kernel":
		return n.entryOf(n.saved).Kernel + "\n", 0
	case strings.HasPrefix(text, "grubby --set-default="):
		if !n.grubbyLies {
			n.setDefault(strings.TrimPrefix(arg("--set-default="), "/boot/vmlinuz-"))
		}
		return "", 0
	case strings.HasPrefix(text, "grub2-set-default "):
		if !n.toolsLie {
			n.saved = argv[1]
		}
		return "", 0
	case strings.HasPrefix(text, "grubby --update-kernel="):
		if !n.argsLie {
			n.updateArgs(arg("--update-kernel="), strings.Fields(arg("--args=")), strings.Fields(arg("--remove-args=")))
		}
		return "", 0
	case strings.HasPrefix(text, "grub2-reboot "):
		if !n.rebootLies {
			n.next = argv[1]
		}
		return "", 0
	case text == "grub2-editenv list":
		return n.env(), 0
	case text == "grub2-editenv - unset next_entry":
		n.next = ""
		return "", 0
	case text == "uname -rv":
		return n.running + " #1 SMP\n", 0
	case text == "cat "+sshexec.BootIDFile:
		return n.bootID() + "\n", 0
	case strings.HasPrefix(text, "rpm -q "):
		for _, p := range n.rpms {
			if p.NEVRA() == argv[2] {
				return argv[2] + "\n", 0
			}
		}
		return "package " + argv[2] + " is not installed\n", 1
	case strings.HasPrefix(text, "stat "):
		out := "7340032 " + argv[4] + "\n"
		if n.noImage {
			return out, 1
		}
		return out + "31457280 " + argv[5] + "\n", 0
	case strings.HasPrefix(text, "tail "):
		return "Error: Unable to find a match: kernel-ml\n", 0
	case strings.HasPrefix(text, "yum ") && strings.Contains(text, " list "):
		if len(n.repo) == 0 {
			return "Error: No matching Packages to list\n", 1
		}
		out := "Available Packages\n"
		for _, p := range n.repo {
			out += fmt.Sprintf("%s.%s   %s   elrepo-kernel\n", p.Name, p.Arch, p.EVR)
		}
		return out, 0
	case strings.HasPrefix(text, "yum ") && strings.Contains(text, "clean"):
		return "", 0
	case strings.Contains(text, "setsid yum ") && strings.Contains(text, " install "):
		return "", n.yumInstall(text)
	case strings.Contains(text, "setsid yum ") && strings.Contains(text, " remove "):
		n.yumRemove(text)
		return "", 0
	case strings.Contains(text, "init 6"):
		if n.initFails {
			return "init: must be superuser\n", 1
		}
		if !strings.Contains(text, n.bootID()) {
			return "", 75
		}
		if !n.staysUp {
			n.reboot()
		}
		return "", 0
	}
	panic("the fake node does not know the command: " + text)
}

// facts prints the sections that the parser needs, from the node's state.
func (n *fakeNode) facts() string {
	var b strings.Builder
	b.WriteString("fleetd-facts 1 N\n")
	section := func(name, text string, status int) {
		fmt.Fprintf(&b, "N begin %s\n%s\n\nN end %d\n", name, text, status)
	}
	section("running", n.running, 0)
	section("arch", "x86_64", 0)
	section("boot-id", n.bootID(), 0)
	major := "7"
	if n.bls {
		major = "9"
	}
	section("os-release", "ID=centos\nVERSION_ID="+major, 0)
	section("tools", "yum\nrpm\ngrubby", 0)
	var rpm strings.Builder
	for _, p := range n.rpms {
		v, r, _ := strings.Cut(p.EVR, "-")
		fmt.Fprintf(&rpm, "%s 0 %s %s %s\n", p.Name, v, r, p.Arch)
	}
	section("rpm", rpm.String(), 3)
	section("grubby-info", n.info(), 0)
	section("grubby-default", n.entryOf(n.saved).Kernel, 0)
	if n.bls {
		section("bls", "x.conf", 0)
	}
	section("grubenv", n.env(), 0)
	section("grubenv-path", "1024 /boot/grub2/grubenv", 0)
	section("default-grub", "GRUB_DEFAULT=saved", 0)
	section("sysconfig-kernel", "UPDATEDEFAULT=yes\nDEFAULTKERNEL=kernel", 0)
	section("mounts", "/dev/vda2 / xfs rw 0 0\n/dev/vda1 /boot xfs rw 0 0", 0)
	section("df", fmt.Sprintf("/dev/vda2 9999999 1 9999999 1%% /\n/dev/vda1 1038336 1 %d 1%% /boot", n.bootMB*1024), 0)
	var kernels strings.Builder
	for _, e := range n.entries {
		initramfs := 30 << 20
		missing := ""
		if e.Release() == newRelease {
			if n.noImage {
				initramfs = 0
			}
			missing = " " + strings.Join(n.missing, " ")
		}
		fmt.Fprintf(&kernels, "%s %d %d yes%s\n", e.Release(), 7<<20, initramfs, missing)
	}
	section("kernels", kernels.String(), 0)
	if n.lock != "" {
		section("lock-holder", n.lock, 0)
	}
	b.WriteString("N done\n")
	return b.String()
}

func (n *fakeNode) yumInstall(text string) int {
	if n.yumLies {
		return 0
	}
	for _, p := range n.repo {
		if !strings.Contains(text, p.NEVRA()) || slices.Contains(n.rpms, p) {
			continue
		}
		n.rpms = append(n.rpms, p)
		if n.bls {
			n.rpms = append(n.rpms, node.Package{Name: p.Name + "-core", EVR: p.EVR, Arch: p.Arch})
		}
		if !n.noEntry {
			n.addEntry(p)
		}
		if n.movesDefault {
			n.setDefault(p.Release())
		}
		return 0
	}
	return 1
}

func (n *fakeNode) yumRemove(text string) {
	n.rpms = slices.DeleteFunc(n.rpms, func(p node.Package) bool { return strings.Contains(text, p.NEVRA()) })
	n.entries = slices.DeleteFunc(n.entries, func(e node.BootEntry) bool {
		return !slices.ContainsFunc(n.rpms, func(p node.Package) bool { return p.Release() == e.Release() })
	})
}

// reboot goes through GRUB; a kernel that panics makes it go through twice.
func (n *fakeNode) reboot() {
	n.reboots++
	n.boots++
	e := n.entryOf(n.saved)
	if n.next != "" && !n.ignoresNext {
		e = n.entryOf(n.next)
		if !n.keepsNext {
			n.next = ""
		}
	}
	if n.panics && e.Release() == newRelease {
		n.boots++
		e = n.entryOf(n.saved)
	}
	n.running = e.Release()
}

func (n *fakeNode) AwaitReboot(_ context.Context, _, previous string, a sshexec.Await) (sshexec.Reboot, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dead() {
		return sshexec.Reboot{}, errCrash
	}
	n.log = append(n.log, "await")
	if n.crashAt > 0 && n.ops == n.crashAt {
		return sshexec.Reboot{}, errCrash
	}
	switch {
	case n.staysDown:
		return sshexec.Reboot{Outcome: sshexec.DidNotReturn, Took: a.Timeout, LastError: errors.New("connection refused")}, nil
	case n.bootID() == previous:
		return sshexec.Reboot{Outcome: sshexec.DidNotHappen, BootID: previous, Took: a.Timeout}, nil
	}
	return sshexec.Reboot{Outcome: sshexec.Rebooted, BootID: n.bootID(), Took: 15 * time.Second}, nil
}

func (n *fakeNode) Upload(context.Context, string, sshexec.Upload) (sshexec.UploadResult, error) {
	panic("the kernel modules upload nothing")
}

func (n *fakeNode) Forget(string) {}

// journal keeps a step's checkpoints as the real one does: durably, unless
// fleetd is killed.
type journal struct {
	node        *fakeNode
	checkpoints map[string]string
}

func (j *journal) Record(rollout.Operation) {}
func (j *journal) Progress(string)          {}
func (j *journal) Checkpoint(key, value string) error {
	j.node.mu.Lock()
	defer j.node.mu.Unlock()
	if j.node.dead() {
		return errCrash
	}
	j.checkpoints[key] = value
	if j.node.crashAt > 0 && j.node.ops == j.node.crashAt {
		return errCrash
	}
	return nil
}

const (
	oldRelease = "3.10.0-1160.el7.x86_64"
	newRelease = "6.1.176-1.el7.elrepo.x86_64"
)

func newNode(bls bool) *fakeNode {
	old := node.Package{Name: "kernel", EVR: "3.10.0-1160.el7", Arch: "x86_64"}
	n := &fakeNode{bls: bls, running: oldRelease, boots: 1, bootMB: 700, rpms: []node.Package{old}}
	n.addEntry(old)
	n.saved = entryName(n.entries[0])
	n.repo = []node.Package{{Name: "kernel-ml", EVR: "6.1.176-1.el7.elrepo", Arch: "x86_64"}}
	return n
}
