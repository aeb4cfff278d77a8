package nodes

import (
	"context"
	"fmt"
	"path"
	"strings"
)

// FillDisk leaves only freeKB (KiB) free on the file system of node i that holds folder: "/boot" and "/"
// are two. FreeDisk ends it.
func (l *Lab) FillDisk(ctx context.Context, i int, folder string, freeKB int) error {
	_, err := l.Run(ctx, i, fmt.Sprintf(`set -e; f=%[1]s; rm -f $f; sync
free=$(df -kP %[2]s | awk 'NR == 2 { print $4 }')
fallocate -l $((free - %[3]d))K $f`, fillPath(folder), quote(folder), freeKB))
	return err
}

// FreeDisk takes back what FillDisk did.
func (l *Lab) FreeDisk(ctx context.Context, i int, folder string) error {
	_, err := l.Run(ctx, i, "rm -f "+fillPath(folder))
	return err
}

func fillPath(folder string) string { return quote(path.Join(folder, ".fleetd-lab-fill")) }

// PanicOn makes kernels that match the pattern and are installed on node i from now on end in a panic at
// boot: `panic=` on their command line is honoured. An empty pattern ends it.
func (l *Lab) PanicOn(ctx context.Context, i int, pattern string) error {
	return l.fault(ctx, i, "panic-on", pattern)
}

// HangOn is PanicOn for a kernel that hangs in its initramfs.
func (l *Lab) HangOn(ctx context.Context, i int, pattern string) error {
	return l.fault(ctx, i, "hang-on", pattern)
}

// NoNetworkOn makes node i boot without network on kernels that match the pattern, installed or to come.
func (l *Lab) NoNetworkOn(ctx context.Context, i int, pattern string) error {
	return l.fault(ctx, i, "no-network-on", pattern)
}

// EmergencyOn makes node i's boot end in emergency.target on kernels that match the pattern, installed or to
// come: a unit that its local file systems require fails, as a mount whose driver is missing does.
func (l *Lab) EmergencyOn(ctx context.Context, i int, pattern string) error {
	const name = "lab-emergency.service"
	script := "systemctl disable -q " + name + "; rm -f /etc/systemd/system/" + name
	if pattern != "" {
		unit := "[Unit]\nDefaultDependencies=no\nConditionKernelVersion=" + pattern + "\nBefore=local-fs.target\n" +
			"[Service]\nType=oneshot\nExecStart=/bin/false\n[Install]\nRequiredBy=local-fs.target\n"
		script = "printf %s " + quote(unit) + " > /etc/systemd/system/" + name + " && systemctl enable -q " + name
	}
	_, err := l.Run(ctx, i, script)
	return err
}

// NoRootOn gives installed kernels of node i that match the pattern an initramfs of the real dracut, with its
// systemd, which waits for a root file system that does not come: udev, which is masked on the node, is masked in
// it as well. RemakeInitramfs ends it.
func (l *Lab) NoRootOn(ctx context.Context, i int, pattern string) error {
	const modules = "systemd systemd-initrd systemd-udevd dracut-systemd systemd-journald systemd-tmpfiles systemd-sysusers systemd-modules-load systemd-sysctl dash"
	return l.eachKernel(ctx, i, pattern, `dracut.real -q -a "`+modules+`" -f`)
}

// RemakeInitramfs makes the initramfs of installed kernels anew, with the faults that are set by now.
func (l *Lab) RemakeInitramfs(ctx context.Context, i int, pattern string) error {
	return l.eachKernel(ctx, i, pattern, "dracut -f")
}

func (l *Lab) eachKernel(ctx context.Context, i int, pattern, dracut string) error {
	_, err := l.Run(ctx, i, "set -e; for r in /lib/modules/"+pattern+"; do r=${r##*/}; "+dracut+" /boot/initramfs-$r.img $r; done; sync")
	return err
}

// SetLie makes a tool on node i lie, or not any more.
func (l *Lab) SetLie(ctx context.Context, i int, lie Lie, on bool) error {
	command := "rm -f "
	if on {
		command = "touch "
	}
	_, err := l.Run(ctx, i, command+quote("/etc/fleetd-lab/"+string(lie)))
	return err
}

func (l *Lab) fault(ctx context.Context, i int, name, pattern string) error {
	file := quote("/etc/fleetd-lab/" + name)
	command := "rm -f " + file
	if pattern != "" {
		command = "echo " + quote(pattern) + " > " + file
	}
	_, err := l.Run(ctx, i, command)
	return err
}

// ReplaceHostKey gives node i another host key than the one in KnownHosts, as an attacker, or a node that
// was installed anew, would have. The lab's own connection follows it.
func (l *Lab) ReplaceHostKey(ctx context.Context, i int) error {
	k, err := generateKey()
	if err != nil {
		return err
	}
	_, err = l.Run(ctx, i, fmt.Sprintf("set -e; umask 077; printf %%s %s > /etc/ssh/ssh_host_ed25519_key; echo %s > /etc/ssh/ssh_host_ed25519_key.pub; systemctl reload ssh",
		quote(string(k.private)), quote(k.public)))
	if err != nil {
		return err
	}
	l.forget(i)
	l.state.Nodes[i-1].HostKey = k.public
	return l.save()
}

// SetKubelet makes node i report to an API server from now on; see Config.Kubelet.
func (l *Lab) SetKubelet(ctx context.Context, i int, k Kubelet) error {
	var script strings.Builder
	script.WriteString("set -e\n")
	for name, f := range k.files(l.Node(i).Name) {
		mode := f.Mode
		if mode == 0 {
			mode = 0o644
		}
		fmt.Fprintf(&script, "printf %%s %s > %[2]s\nchmod %[3]o %[2]s\n", quote(string(f.Content)), quote(name), mode)
	}
	script.WriteString("systemctl restart kubelet-standin\n")
	_, err := l.Run(ctx, i, script.String())
	return err
}

// quote makes one word for a POSIX shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
