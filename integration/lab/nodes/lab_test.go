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

// user does on a node by hand what fleetd is to do by itself.
type user struct {
	t    *testing.T
	ctx  context.Context
	node *Node
}

func (u *user) run(command string) string {
	u.t.Helper()
	out, err := u.node.lab.Run(u.ctx, u.node.Index, command)
	if err != nil {
		u.t.Fatal(err)
	}
	return out
}

func (u *user) fails(command, with string) {
	u.t.Helper()
	out, err := u.node.lab.Run(u.ctx, u.node.Index, command+" 2>&1")
	var exit *ssh.ExitError
	if !errors.As(err, &exit) {
		u.t.Fatalf("%s: want an exit status other than 0, got %v\n%s", command, err, out)
	}
	if !strings.Contains(out, with) {
		u.t.Errorf("%s: want %q in\n%s", command, with, out)
	}
}

func (u *user) equal(what, got, want string) {
	u.t.Helper()
	if got != want {
		u.t.Fatalf("%s: %q, want %q", what, got, want)
	}
}

func (u *user) uname(want string) { u.t.Helper(); u.equal("uname -r", u.run("uname -r"), want) }

func (u *user) defaultKernel(want string) {
	u.t.Helper()
	u.equal("grubby --default-kernel", u.run("grubby --default-kernel"), "/boot/vmlinuz-"+want)
}

// reboot reboots by command, and returns when the node answers from another boot.
func (u *user) reboot() {
	u.t.Helper()
	lap := stopwatch(u.t)
	before := u.run("cat /proc/sys/kernel/random/boot_id")
	// The connection may end before the answer.
	_, _ = u.node.lab.Run(u.ctx, u.node.Index, "init 6")
	if _, err := u.node.WaitBoot(u.ctx, before); err != nil {
		u.t.Fatal(err)
	}
	lap("reboot")
}

// entry is what saved_entry and next_entry hold for a kernel.
func (u *user) entry(kernel string) string {
	if u.node.Flavour == EL7 {
		return "CentOS Linux (" + kernel + ") 7 (Core)"
	}
	return u.run("cat /etc/machine-id") + "-" + kernel
}

func (u *user) identity() {
	u.equal("hostname", u.run("hostname"), u.node.Name)
	u.uname(u.node.Kernels.Base)
	u.defaultKernel(u.node.Kernels.Base)
	if u.node.Flavour == EL8 {
		u.equal("a file of the test", u.run("cat /etc/lab-file"), "from the seed")
	}
	if failed := u.run("systemctl --failed --no-legend --plain"); failed != "" {
		u.t.Errorf("units that failed at boot:\n%s", failed)
	}
	// The other two users, in the way that a person logs in.
	u.login("centos", "sudo -n id -un", "", "root")
	u.login("ops", "sudo -k; sudo -S -p '' id -un", OpsPassword+"\n", "root")
	u.login("ops", "sudo -k; sudo -n id -un || echo refused", "", "refused")
}

func (u *user) login(name, command, stdin, want string) {
	u.t.Helper()
	identity, err := os.ReadFile(u.node.lab.IdentityFile)
	if err != nil {
		u.t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(identity)
	if err != nil {
		u.t.Fatal(err)
	}
	c, err := u.dial(name, ssh.PublicKeys(signer))
	if err != nil {
		u.t.Fatal(err)
	}
	defer c.Close()
	session, err := c.NewSession()
	if err != nil {
		u.t.Fatal(err)
	}
	session.Stdin = strings.NewReader(stdin)
	out, err := session.Output(command)
	if err != nil {
		u.t.Fatalf("%s as %s: %v", command, name, err)
	}
	u.equal(command+" as "+name, strings.TrimSpace(string(out)), want)
}

// dial checks the host key as ssh does, against the known_hosts file.
func (u *user) dial(name string, auth ssh.AuthMethod) (*ssh.Client, error) {
	check, err := knownhosts.New(u.node.lab.KnownHosts)
	if err != nil {
		return nil, err
	}
	addr := u.node.Address + ":22"
	conn, err := u.node.lab.DialContext(u.ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c, chans, reqs, err := ssh.NewClientConn(conn, addr, &ssh.ClientConfig{
		User: name, Auth: []ssh.AuthMethod{auth}, HostKeyCallback: check, HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
	})
	if err != nil {
		return nil, err
	}
	return ssh.NewClient(c, chans, reqs), nil
}

func (u *user) report(reports *nodeReports) {
	boot, kernel := u.run("cat /proc/sys/kernel/random/boot_id"), u.run("uname -r")
	want := nodeReport{BootID: boot, KernelVersion: kernel}
	got := reports.wait(u.ctx, u.node.Name, want)
	if got != want {
		u.t.Errorf("the API server was told %+v, want %+v", got, want)
	}
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
