package nodes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func (n *Node) diskPath() string    { return filepath.Join(n.lab.nodeDir(n.Index), "disk.qcow2") }
func (n *Node) seedPath() string    { return filepath.Join(n.lab.nodeDir(n.Index), "seed.tar") }
func (n *Node) consolePath() string { return filepath.Join(n.lab.nodeDir(n.Index), "console.log") }

// PowerOn starts the node's machine, on the disk that it had when it was last off.
func (n *Node) PowerOn() error {
	if n.Running() {
		return nil
	}
	n.lab.forget(n.Index)
	pidfile := filepath.Join(n.lab.nodeDir(n.Index), "qemu.pid")
	// A comma separates options in QEMU's arguments; two are one.
	path := func(p string) string { return strings.ReplaceAll(p, ",", ",,") }
	host, port, _ := strings.Cut(n.lab.state.APIServer, ":")
	// Busybox's nc, because it ends when the server closes; OpenBSD's waits for the node to close too.
	net := fmt.Sprintf("user,id=n,restrict=on,hostfwd=tcp:%s:22-:22,guestfwd=tcp:10.0.2.100:80-cmd:busybox nc %s 80,guestfwd=tcp:10.0.2.101:6443-cmd:busybox nc %s %s",
		n.Address, n.Address, host, port)
	// One thread, a small translation cache and the plainest CPU: measured the fastest for short boots
	// with many machines on few cores.
	cache := 64
	var cluster []string
	if n.lab.state.Kubernetes {
		// So much runs there that a small cache would be emptied all the time.
		cache = 512
		cluster = []string{"-netdev", "tap,id=k,script=no,downscript=no,ifname=" + tap(n.Index), "-device", "virtio-net-pci,netdev=k,romfile=,mac=" + mac(n.Index)}
	}
	args := []string{"-name", n.Name, "-machine", "pc", "-accel", fmt.Sprintf("tcg,thread=single,tb-size=%d", cache), "-cpu", "qemu64",
		"-smp", "1", "-m", strconv.Itoa(n.lab.state.MemoryMB), "-display", "none", "-vga", "none",
		"-drive", "if=none,id=d,format=qcow2,cache=unsafe,file=" + path(n.diskPath()), "-device", "virtio-blk-pci,drive=d,bootindex=0",
		"-drive", "if=none,id=s,format=raw,readonly=on,file=" + path(n.seedPath()), "-device", "virtio-blk-pci,drive=s",
		"-netdev", net, "-device", "virtio-net-pci,netdev=n,romfile=", "-device", "virtio-rng-pci",
		"-chardev", "file,id=c,append=on,path=" + path(n.consolePath()), "-serial", "chardev:c", "-monitor", "none",
		"-daemonize", "-pidfile", pidfile}
	cmd := exec.Command("qemu-system-x86_64", append(args, cluster...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	inheritNothing()
	if err := inNetns(n.lab.Netns, cmd.Run); err != nil {
		return fmt.Errorf("cannot start the machine of node %s: %w\n%s", n.Name, err, strings.TrimSpace(stderr.String()))
	}
	content, err := os.ReadFile(pidfile)
	if err != nil {
		return fmt.Errorf("cannot start the machine of node %s: %w", n.Name, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return fmt.Errorf("cannot start the machine of node %s: %w", n.Name, err)
	}
	return n.process().write(pid)
}

// Running says whether the machine has power: that its process is there, not that it answers.
func (n *Node) Running() bool { return n.process().pid() != 0 }

// PowerOff shuts the node down in order and waits for it; PowerOn starts it again.
func (n *Node) PowerOff(ctx context.Context) error {
	// The answer may be cut off by the shutdown itself; that the process ends is the proof.
	_, runErr := n.lab.run(ctx, n.Index, "systemctl poweroff", 15*time.Second)
	n.lab.forget(n.Index)
	for n.Running() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("cannot power off node %s: %w", n.Name, errors.Join(context.Cause(ctx), runErr))
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

// Kill takes the node's power away. What the guest had not written to its disk is lost.
func (n *Node) Kill() error {
	n.lab.forget(n.Index)
	return n.process().kill()
}

// Freeze stops the machine as it is: connections stay open, new ones are accepted, nothing answers.
func (n *Node) Freeze() error { return n.signal(syscall.SIGSTOP) }

// Thaw ends Freeze.
func (n *Node) Thaw() error { return n.signal(syscall.SIGCONT) }

func (n *Node) signal(sig syscall.Signal) error {
	pid := n.process().pid()
	if pid == 0 {
		return fmt.Errorf("cannot freeze or thaw node %s: its machine is not running", n.Name)
	}
	return syscall.Kill(pid, sig)
}

// Console is what the node has written to its serial console since it was first started: GRUB's menu,
// kernel panics.
func (l *Lab) Console(i int) (string, error) {
	content, err := os.ReadFile(l.Node(i).consolePath())
	return string(content), err
}
