//go:build lab

package nodes

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// One lab of an EL7 and an EL8 node for all tests: a boot costs more than any of them.
func TestLab(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	defer cancel()
	if err := InstallHostPackages(ctx, os.Stderr); err != nil {
		t.Fatal(err)
	}
	cert, key := selfSigned(t)
	lap := stopwatch(t)
	lab, err := Start(ctx, Config{
		Dir: t.TempDir(), Netns: "fleetd-nodes-test", Log: os.Stderr,
		Nodes:   []NodeConfig{{Name: "seven"}, {Name: "eight", Flavour: EL8, Files: map[string]File{"/etc/lab-file": {Content: []byte("from the seed\n")}}}},
		Kubelet: &Kubelet{CA: cert, Token: "lab-token"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Stop(); err != nil {
			t.Error(err)
		}
		for _, n := range lab.Nodes() {
			if n.Running() {
				t.Errorf("node %s still runs", n.Name)
			}
		}
	})
	lap("start")
	reports := serveNodes(t, lab, cert, key)
	if err := lab.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	lap("first boot of two nodes")

	t.Run("nodes", func(t *testing.T) {
		for _, n := range lab.Nodes() {
			t.Run(string(n.Flavour), func(t *testing.T) {
				t.Parallel()
				u := &user{t: t, ctx: ctx, node: n}
				u.identity()
				u.report(reports)
				u.upgrade()
				u.trial()
				u.commit()
				u.lie()
				u.panics()
				u.fullBoot()
				u.mirror()
				u.power()
				u.hostKey()
			})
		}
	})
	t.Run("load", func(t *testing.T) {
		again, err := Load(lab.Dir)
		if err != nil {
			t.Fatal(err)
		}
		if n := again.Node(1); n.Name != "seven" || !n.Running() {
			t.Errorf("a lab found again: node 1 is %s, running %v", n.Name, n.Running())
		}
		if _, err := again.Run(ctx, 2, "true"); err != nil {
			t.Error(err)
		}
	})
}

// upgrade is the article's section 2.1 up to the reboot, word for word.
func (u *user) upgrade() {
	lap := stopwatch(u.t)
	ml := u.node.Kernels.ML
	listing := u.run(`yum --disablerepo="*" --enablerepo="elrepo-kernel" list available`)
	if !strings.Contains(listing, strings.TrimSuffix(ml, ".x86_64")) {
		u.t.Fatalf("no %s in\n%s", ml, listing)
	}
	lap("yum list available")
	u.run("sudo yum --enablerepo=elrepo-kernel install kernel-ml -y")
	lap("yum install kernel-ml")
	// What a new kernel does to the default is where EL7 and EL8 differ.
	if u.node.Flavour == EL7 {
		u.defaultKernel(u.node.Kernels.Base)
	} else {
		u.defaultKernel(ml)
	}
	if info := u.run("sudo grubby --info=ALL"); !strings.HasPrefix(strings.ReplaceAll(info, `"`, ""), "index=0\nkernel=/boot/vmlinuz-"+ml+"\n") {
		u.t.Fatalf("the new kernel is not entry 0:\n%s", info)
	}
	lap("grubby --info=ALL")
	u.run("sudo grubby --set-default-index=0")
	u.defaultKernel(ml)
	u.run("sudo grubby --set-default=/boot/vmlinuz-" + u.node.Kernels.Base)
	u.defaultKernel(u.node.Kernels.Base)
}

// trial boots the new kernel once, and the old one after it.
func (u *user) trial() {
	ml, base := u.entry(u.node.Kernels.ML), u.entry(u.node.Kernels.Base)
	u.run("grub2-reboot '" + ml + "'")
	u.grubenv(base, ml)
	u.reboot()
	u.uname(u.node.Kernels.ML)
	u.grubenv(base, "")
	u.reboot()
	u.uname(u.node.Kernels.Base)
}

func (u *user) grubenv(saved, next string) {
	u.t.Helper()
	env := map[string]string{}
	for line := range strings.Lines(u.run("grub2-editenv list")) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		env[k] = v
	}
	u.equal("saved_entry", env["saved_entry"], saved)
	u.equal("next_entry", env["next_entry"], next)
}

// commit makes the new kernel the default, from a trial entry with arguments of its own on the way.
func (u *user) commit() {
	ml := u.node.Kernels.ML
	u.run("grubby --add-kernel=/boot/vmlinuz-" + ml + " --initrd=/boot/initramfs-" + ml + ".img --copy-default --title='on trial' --args='panic=7 rd.shell=0'")
	u.run("grub2-reboot 'on trial'")
	u.reboot()
	u.uname(ml)
	if cmdline := u.run("cat /proc/cmdline"); !strings.Contains(cmdline, "panic=7 ") || strings.Contains(cmdline, "panic=10") {
		u.t.Errorf("command line of the trial entry: %s", cmdline)
	}
	u.run("grubby --set-default=/boot/vmlinuz-" + ml)
	u.defaultKernel(ml)
}

func (u *user) lie() {
	if err := u.node.lab.SetLie(u.ctx, u.node.Index, LieSetDefault, true); err != nil {
		u.t.Fatal(err)
	}
	u.run("grubby --set-default=/boot/vmlinuz-" + u.node.Kernels.Base)
	u.defaultKernel(u.node.Kernels.ML)
	if err := u.node.lab.SetLie(u.ctx, u.node.Index, LieSetDefault, false); err != nil {
		u.t.Fatal(err)
	}
}

// panics installs another kernel that panics at boot: the node comes back on the default by itself.
func (u *user) panics() {
	previous := u.node.Kernels.MLPrevious
	if err := u.node.lab.PanicOn(u.ctx, u.node.Index, previous); err != nil {
		u.t.Fatal(err)
	}
	u.run("yum -y --enablerepo=elrepo-kernel-archive install kernel-ml-" + strings.TrimSuffix(previous, ".x86_64"))
	u.run("grubby --set-default=/boot/vmlinuz-" + u.node.Kernels.ML)
	u.run("grub2-reboot '" + u.entry(previous) + "'")
	u.reboot()
	u.uname(u.node.Kernels.ML)
	console, err := u.node.lab.Console(u.node.Index)
	if err != nil {
		u.t.Fatal(err)
	}
	if strings.Count(console, "Kernel panic") != 1 {
		u.t.Errorf("want one kernel panic on the console:\n%s", console)
	}
	u.run("yum -y remove kernel-ml*-" + strings.TrimSuffix(previous, ".x86_64"))
	if info := u.run("grubby --info=ALL"); strings.Contains(info, previous) {
		u.t.Errorf("an entry of the removed kernel is left:\n%s", info)
	}
}

func (u *user) fullBoot() {
	if err := u.node.lab.FillDisk(u.ctx, u.node.Index, "/boot", 2000); err != nil {
		u.t.Fatal(err)
	}
	previous := u.node.Kernels.MLPrevious
	install := "yum -y --enablerepo=elrepo-kernel-archive install kernel-ml-" + strings.TrimSuffix(previous, ".x86_64")
	if u.node.Flavour == EL7 {
		u.fails(install, "/boot")
	} else {
		// From EL8 on, rpm does not count what a scriptlet will copy to /boot, and dnf does not care how it ends.
		if out := u.run(install + " 2>&1"); !strings.Contains(out, "No space left on device") || !strings.HasSuffix(out, "Complete!") {
			u.t.Errorf("yum install with a full /boot:\n%s", out)
		}
		if info := u.run("grubby --info=ALL"); strings.Contains(info, previous) {
			u.t.Errorf("an entry for a kernel that is not all there:\n%s", info)
		}
	}
	if err := u.node.lab.FreeDisk(u.ctx, u.node.Index, "/boot"); err != nil {
		u.t.Fatal(err)
	}
	u.run("rpm -qa 'kernel-ml*' | grep -F -- " + strings.TrimSuffix(previous, ".x86_64") + " | xargs -r rpm -e")
}

func (u *user) mirror() {
	lab, i := u.node.lab, u.node.Index
	set := func(m MirrorMode) {
		if err := lab.SetMirror(i, m); err != nil {
			u.t.Fatal(err)
		}
	}
	const fetch = "curl -sS -m 3 " + MirrorURL + "/RPM-GPG-KEY-elrepo.org"
	set(MirrorRefuse)
	u.fails(fetch, "(52)") // empty reply
	set(MirrorHang)
	u.fails(fetch, "(28)") // timed out
	set(MirrorMissing)
	u.fails(fetch+" -f", "404")
	set(MirrorServe)
	u.run(fetch)
}

func (u *user) power() {
	before := u.run("cat /proc/sys/kernel/random/boot_id")
	if err := u.node.Freeze(); err != nil {
		u.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(u.ctx, 4*time.Second)
	defer cancel()
	if _, err := u.node.lab.Run(ctx, u.node.Index, "true"); !errors.Is(err, context.DeadlineExceeded) {
		u.t.Errorf("a frozen node: %v", err)
	}
	if err := u.node.Thaw(); err != nil {
		u.t.Fatal(err)
	}
	u.equal("boot ID after a freeze", u.run("cat /proc/sys/kernel/random/boot_id"), before)
	if err := u.node.Kill(); err != nil {
		u.t.Fatal(err)
	}
	if u.node.Running() {
		u.t.Error("killed, but it runs")
	}
	if err := u.node.PowerOn(); err != nil {
		u.t.Fatal(err)
	}
	if _, err := u.node.WaitBoot(u.ctx, before); err != nil {
		u.t.Fatal(err)
	}
	u.uname(u.node.Kernels.ML)
}

func (u *user) hostKey() {
	if err := u.node.lab.ReplaceHostKey(u.ctx, u.node.Index); err != nil {
		u.t.Fatal(err)
	}
	u.run("true")
	_, err := u.dial("root", ssh.Password("never asked for"))
	var wrong *knownhosts.KeyError
	if !errors.As(err, &wrong) || len(wrong.Want) == 0 {
		u.t.Errorf("a node with another host key: %v", err)
	}
}

// stopwatch logs how long each step took; nothing fails for being slow.
func stopwatch(t *testing.T) func(what string) {
	start := time.Now()
	return func(what string) {
		t.Helper()
		t.Logf("%-28s %5.1f s", what, time.Since(start).Seconds())
		start = time.Now()
	}
}
