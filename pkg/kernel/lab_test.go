//go:build lab

package kernel_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fleetd/fleetd/integration/lab/nodes"
	"github.com/fleetd/fleetd/pkg/kernel"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

var play = []string{"fleetd.kernel.preflight", "fleetd.kernel.package", "fleetd.kernel.trial_boot", "fleetd.kernel.default"}

// The machines are small, and a kernel of one version has many faults in turn.
var args = map[string]rollout.Args{
	"fleetd.kernel.preflight":  {"root_free": "50M", "retry_failed": true},
	"fleetd.kernel.trial_boot": {"retry_failed": true},
}

// machine is one virtual machine and fleetd's way to it.
type machine struct {
	t     *testing.T
	lab   *nodes.Lab
	fleet *node.Fleet
	obs   node.Observer
	log   *recorder
	args  map[string]rollout.Args
}

// TestOnAMachine drives the modules on a virtual machine of each flavour: it
// really installs, really reboots through GRUB, and really comes back from a
// kernel that panics. grubby and the dracut of the quick image are the lab's
// stand-ins; rpm, dnf, GRUB, grubenv, sshd and sudo are real.
func TestOnAMachine(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("this test starts virtual machines in a network namespace: run it as root")
	}
	flavours := []nodes.Flavour{nodes.EL7, nodes.EL8, nodes.EL9}
	if only := os.Getenv("FLEETD_LAB_FLAVOURS"); only != "" {
		t.Logf("FLEETD_LAB_FLAVOURS: only %s; make kernel-lab runs all", only)
		flavours = nil
		for _, name := range strings.Fields(only) {
			flavours = append(flavours, nodes.Flavour(name))
		}
	}
	for _, flavour := range flavours {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel() // a machine keeps one core busy
			m := start(t, flavour)
			m.observes()
			before := m.facts()
			m.refusesFullBoot()
			m.refusesDeadRepository()
			m.panics(before)
			before = m.installCompanions()
			m.stages()
			steps := m.upgrades(before)
			m.changesNothingMore()
			m.takesBack(before, steps)
			if testing.Short() {
				t.Log("-short: without the faults that take minutes; make kernel-lab has them")
				return
			}
			m.faults(before)
		})
	}
}

func start(t *testing.T, flavour nodes.Flavour) *machine {
	ctx := t.Context()
	if err := nodes.Build(ctx, nodes.Options{Flavours: []nodes.Flavour{flavour}, Log: os.Stderr}); err != nil {
		t.Fatal(err)
	}
	ns := fmt.Sprintf("fleetd-%s-%d", flavour, os.Getpid())
	lab, err := nodes.Start(ctx, nodes.Config{Dir: filepath.Join(t.TempDir(), "lab"), Netns: ns, Nodes: nodes.Uniform(1, flavour), Log: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if text, err := lab.Console(1); t.Failed() && err == nil {
			t.Logf("console:\n%s", text)
		}
		if err := lab.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := lab.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	pool := sshexec.NewPool(sshexec.Options{})
	t.Cleanup(func() { _ = pool.Close() })
	m := &machine{t: t, lab: lab, log: &recorder{t: t}, args: args}
	m.fleet = node.NewFleet(pool, map[string]sshexec.Target{"node1": {
		Name: "node1", Address: lab.Node(1).Address, Port: 22, User: "centos", IdentityFiles: []string{lab.IdentityFile},
		KnownHosts: []string{lab.KnownHosts}, Become: sshexec.Become{Method: "sudo"},
		ProxyCommand: "ip netns exec " + ns + " nc %h %p", ConnectTimeout: 30 * time.Second,
	}})
	m.obs = node.Observer{Remote: m.fleet}
	return m
}

func (m *machine) on(command string) string {
	m.t.Helper()
	out, err := m.lab.Run(m.t.Context(), 1, command)
	if err != nil {
		m.t.Fatalf("%s: %v", command, err)
	}
	return out
}

func (m *machine) state() rollout.State {
	m.t.Helper()
	so := m.obs.Observe(m.t.Context(), map[string][]string{"node1": {"", node.PackageKey("kernel-ml", "elrepo-kernel"), node.InstallKey("kernel-ml", "elrepo-kernel"), node.FileKey("/etc/os-release")}})["node1"]
	if so.Err != nil {
		m.t.Fatal(so.Err)
	}
	return rollout.State{"node": rollout.Encoded(so.Value)}
}

func (m *machine) facts() node.Facts {
	m.t.Helper()
	f, err := node.Section.Get(m.state())
	if err != nil {
		m.t.Fatal(err)
	}
	return f
}

// observes: the facts are the node's, and reading them writes nothing.
func (m *machine) observes() {
	m.t.Helper()
	m.on("touch /var/tmp/before; sleep 1")
	started := time.Now()
	f := m.facts()
	m.t.Logf("facts with one repository took %.1f s", time.Since(started).Seconds())
	// The journal and the login's own traces are sshd's and sudo's, as for any
	// login; rpmdb.sqlite-shm is the lock table of every rpm -q.
	written := m.on(`find / -xdev -newer /var/tmp/before -type f ! -path '/var/log/*' ! -path '/run/*' ! -path '/proc/*' ! -path '/var/lib/sudo/*' ! -path '/var/lib/systemd/*' ! -name rpmdb.sqlite-shm; ls -A /tmp | grep fleetd || true`)
	if strings.TrimSpace(written) != "" {
		m.t.Errorf("reading the facts wrote:\n%s", written)
	}
	if log := m.on(`find /var/log -newer /var/tmp/before -name '*dnf*' -o -newer /var/tmp/before -name '*yum*'`); strings.TrimSpace(log) != "" {
		m.t.Errorf("reading the facts wrote %s", log)
	}
	raw, _ := json.MarshalIndent(f, "", "  ")
	m.t.Logf("facts: %s", raw)
	id := strings.TrimSpace(m.on("cat /proc/sys/kernel/random/boot_id"))
	release := strings.TrimSpace(m.on("uname -r"))
	switch {
	case f.BootID != id, f.Running != release, f.Boot.DefaultRelease() != release:
		m.t.Errorf("boot_id %s, running %s; the facts say otherwise", id, release)
	case len(f.Available["kernel-ml@elrepo-kernel"]) == 0, len(f.InstallErrors) > 0, f.Repos["elrepo-kernel"].GPGKey == "", len(f.RepoErrors) > 0:
		m.t.Error("the repository was not read")
	case f.Boot.Grubenv.Size != 1024, f.Boot.GrubCfg != node.GrubCfg{Path: "/boot/grub2/grub.cfg", Default: node.SavedEntry, Next: true}, len(f.Boot.Entries) == 0:
		m.t.Error("the boot loader was not read")
	case !slices.Contains(f.RootDrivers, "virtio_blk"), !f.Files["/etc/os-release"].Exists:
		m.t.Error("drivers or files were not read")
	}
}

// plan plans the play on a fresh look.
func (m *machine) plan() (steps []rollout.Change) {
	m.t.Helper()
	state := m.state()
	for _, name := range play {
		c, after, err := kernel.Modules(m.fleet)[name].Diff("node1", state, m.args[name])
		if err != nil {
			m.t.Fatalf("%s: %v", name, err)
		}
		m.t.Logf("plan: %s: %s %s", name, c.Action, c.Summary)
		steps, state = append(steps, c), after
	}
	return steps
}

// drive calls Do or Undo as its outcomes ask, until the step ends.
func (m *machine) drive(what string, act func(context.Context, rollout.Step) rollout.Outcome, c rollout.Change) rollout.Outcome {
	m.t.Helper()
	ctx := rollout.WithRecorder(m.t.Context(), m.log)
	soFar := map[string]string{}
	started := time.Now()
	for attempt := 1; ; {
		now := time.Since(started)
		out := act(ctx, rollout.Step{
			Host: "node1", Change: c, Become: true, Attempt: attempt, Now: now, Elapsed: now, SoFar: maps.Clone(soFar),
		})
		for k, v := range out.Notes {
			if soFar[k] = v; v == "" {
				delete(soFar, k)
			}
		}
		m.t.Logf("%s: %s after %.1f s: %s\n%s", what, out.Kind, time.Since(started).Seconds(), out.Message, out.Hint)
		if out.Final() {
			return out
		}
		if out.Kind != rollout.Intends {
			attempt++
			time.Sleep(out.After)
		}
	}
}

// do executes planned steps until one ends badly.
func (m *machine) do(steps []rollout.Change) (out rollout.Outcome) {
	m.t.Helper()
	for i, c := range steps {
		if c.Action == rollout.NoOp {
			continue
		}
		if out = m.drive(play[i], kernel.Modules(m.fleet)[play[i]].Do, c); out.Bad() {
			return out
		}
	}
	return out
}

// undo takes one step back.
func (m *machine) undo(i int, c rollout.Change) {
	m.t.Helper()
	if out := m.drive("undo "+play[i], kernel.Modules(m.fleet)[play[i]].Undo, c.Reversed()); out.Bad() {
		m.t.Fatalf("undo of %s failed", play[i])
	}
}

func (m *machine) refusesFullBoot() {
	m.t.Helper()
	steps := m.plan()
	if err := m.lab.FillDisk(m.t.Context(), 1, "/boot", 8<<10); err != nil {
		m.t.Fatal(err)
	}
	if out := m.do(steps[:1]); out.Kind != rollout.Failed || !strings.Contains(out.Message, "free, and the kernel needs") {
		m.t.Errorf("a full /boot: %s %s", out.Kind, out.Message)
	}
	if err := m.lab.FreeDisk(m.t.Context(), 1, "/boot"); err != nil {
		m.t.Fatal(err)
	}
}

// refusesDeadRepository: a repository that has nothing to do with kernels is dead,
// as CentOS 7's own are. The kernel's can be listed all the same.
func (m *machine) refusesDeadRepository() {
	m.t.Helper()
	const repo = "/etc/yum.repos.d/base.repo"
	m.on("cp -p " + repo + " /root/base.repo; sed -i 's|^baseurl=.*|baseurl=http://127.0.0.1:1/|' " + repo)
	state := m.state()
	_, _, err := kernel.Modules(m.fleet)[play[0]].Diff("node1", state, args[play[0]])
	m.t.Logf("a dead repository: %v", err)
	if f, _ := node.Section.Get(state); len(f.Available["kernel-ml@elrepo-kernel"]) == 0 || err == nil || !strings.Contains(err.Error(), "yum would not") {
		m.t.Errorf("passes the plan: %v; %v", err, f.InstallErrors)
	}
	m.on("mv /root/base.repo " + repo)
}

// panics: the node comes back on its old kernel, nobody helps it.
func (m *machine) panics(before node.Facts) {
	m.t.Helper()
	ctx := m.t.Context()
	if err := m.lab.PanicOn(ctx, 1, "*elrepo*"); err != nil {
		m.t.Fatal(err)
	}
	steps := m.plan()
	out := m.do(steps)
	if out.Kind != rollout.Failed || !strings.Contains(out.Message, "came back on "+before.Running) {
		m.t.Fatalf("%s %s", out.Kind, out.Message)
	}
	after := m.facts()
	if after.Running != before.Running || after.Boot.DefaultRelease() != before.Running {
		m.t.Errorf("after the panic: running %s, default %s", after.Running, after.Boot.DefaultRelease())
	}
	m.nothingLeft(after)
	_, _, err := kernel.Modules(m.fleet)[play[2]].Diff("node1", m.state(), rollout.Args{})
	m.t.Logf("planned again: %v", err)
	if err == nil || !strings.Contains(err.Error(), "failed its trial there at 20") {
		m.t.Error("a kernel that panicked would be booted again")
	}
	// A kernel that panics is one that was built so; the next one is not.
	if err := m.lab.PanicOn(ctx, 1, ""); err != nil {
		m.t.Fatal(err)
	}
	m.undo(1, steps[1])
}

// companions are kept in step with the kernel where they are installed. Of -devel an
// older one stays beside the new one.
var companions = []string{"kernel-ml-devel", "kernel-ml-headers", "kernel-ml-tools", "kernel-ml-tools-libs"}

// installCompanions installs those of the version before, and returns the facts with them.
func (m *machine) installCompanions() node.Facts {
	m.t.Helper()
	previous := m.lab.Node(1).Kernels.MLPrevious
	m.on("yum -q -y --enablerepo=elrepo-kernel-archive install " + strings.Join(companions, "-"+previous+" ") + "-" + previous)
	return m.facts()
}

// companionsAre looks which of them are there, as `uname -r` of their kernels.
func (m *machine) companionsAre(devel []string, others string) {
	m.t.Helper()
	var want []string
	for _, release := range devel {
		want = append(want, companions[0]+"-"+release)
	}
	for _, name := range companions[1:] {
		want = append(want, name+"-"+others)
	}
	if now := strings.Fields(m.on("rpm -q " + strings.Join(companions, " ") + " | sort")); !slices.Equal(now, slices.Sorted(slices.Values(want))) {
		m.t.Errorf("there are %q, and are to be %q", now, want)
	}
}

// stages downloads the packages and changes nothing else; then no repository answers
// any more, until the upgrade has rebooted the node.
func (m *machine) stages() {
	m.t.Helper()
	const world = "rpm -qa | sort; grubby --info=ALL; cat /proc/sys/kernel/random/boot_id"
	was := m.on(world) // with the keys that rpm has: gpg-pubkey-…
	name := "fleetd.kernel.stage"
	c, _, err := kernel.Modules(m.fleet)[name].Diff("node1", m.state(), rollout.Args{})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Logf("plan: %s [%s] %+v", c.Summary, c.Note, c.Fields)
	for _, name := range companions {
		if new := name + "-" + m.lab.Node(1).Kernels.ML; !slices.ContainsFunc(c.Fields, func(f rollout.Field) bool { return f.After == new }) {
			m.t.Errorf("the plan does not show %s", new)
		}
	}
	if out := m.drive(name, kernel.Modules(m.fleet)[name].Do, c); out.Kind != rollout.Changed {
		m.t.Fatalf("%s %s", out.Kind, out.Message)
	}
	m.t.Logf("staged:\n%s", m.on("cat "+node.StageDir+"/staged; du -sh "+node.StageDir))
	if now := m.on(world); now != was {
		m.t.Errorf("staging changed\n%s\nto\n%s", was, now)
	}
	before := m.plan()
	m.on("ip route add blackhole 10.0.2.100; ! timeout 5 curl -sS http://10.0.2.100/") // until the install has gone by what is staged
	started := time.Now()
	after := m.plan()
	m.t.Logf("planned without a repository in %.1f s: %s [%s]", time.Since(started).Seconds(), after[1].Summary, after[1].Note)
	if !strings.HasPrefix(after[1].Note, "staged ") || !slices.EqualFunc(before, after, func(a, b rollout.Change) bool { return a.Summary == b.Summary && slices.Equal(a.Fields, b.Fields) }) {
		m.t.Errorf("%+v, and without a repository %+v", before, after)
	}
}

// faults boots kernels on which nobody can log in. The node comes back, and nobody
// helps it but where nothing else does.
func (m *machine) faults(before node.Facts) {
	m.t.Helper()
	ctx := m.t.Context()
	m.args = maps.Clone(args)
	m.args["fleetd.kernel.trial_boot"] = rollout.Args{"timeout": "90s", "retry_failed": true}
	steps := m.plan()
	if out := m.do(steps[:2]); out.Bad() {
		m.t.Fatal("the package was not installed")
	}
	hang := func(ctx context.Context, i int, pattern string) error {
		return errors.Join(m.lab.HangOn(ctx, i, pattern), m.lab.RemakeInitramfs(ctx, i, "*elrepo*"))
	}
	noRoot := func(ctx context.Context, i int, pattern string) error {
		if pattern == "" {
			return m.lab.RemakeInitramfs(ctx, i, "*elrepo*")
		}
		return m.lab.NoRootOn(ctx, i, pattern)
	}
	unit := func(_ context.Context, _ int, pattern string) error {
		const file = "/etc/systemd/system/lab-unwell.service"
		script := "systemctl disable -q lab-unwell; rm -f " + file
		if pattern != "" {
			script = "printf '[Unit]\\nConditionKernelVersion=" + pattern + "\\n[Service]\\nExecStart=/bin/false\\n[Install]\\nWantedBy=multi-user.target\\n' >" + file + "; systemctl enable -q lab-unwell"
		}
		m.on(script)
		return nil
	}
	const goesOff = "fleetd: nobody has logged in for 90 s"
	for _, fault := range []struct {
		name string
		set  func(ctx context.Context, i int, pattern string) error
		// says is what the console has of it.
		says string
		// reset: nothing else helps.
		reset bool
	}{
		{"a unit fails", unit, "reboot: Restarting system", false},
		{"no network", m.lab.NoNetworkOn, goesOff, false},
		{"emergency.target", m.lab.EmergencyOn, goesOff, false},
		{"no root file system", noRoot, "Boot has failed", false},
		{"hangs in the initramfs", hang, "initramfs: hangs on request", true},
	} {
		if err := fault.set(ctx, 1, "*elrepo*"); err != nil {
			m.t.Fatal(err)
		}
		console, err := m.lab.Console(1)
		if err != nil {
			m.t.Fatal(err)
		}
		started := time.Now()
		out := m.do(steps[:3])
		m.t.Logf("%s: after %.0f s %s", fault.name, time.Since(started).Seconds(), out.Message)
		switch {
		case fault.reset && out.Kind == rollout.Unreachable:
			if err := errors.Join(m.lab.Node(1).Kill(), m.lab.Node(1).PowerOn(), m.lab.WaitReady(ctx)); err != nil {
				m.t.Fatal(err)
			}
			m.undo(2, steps[2])
		case fault.reset, out.Kind != rollout.Failed, !strings.Contains(out.Message, "came back on "+before.Running):
			m.t.Fatalf("%s: %s %s", fault.name, out.Kind, out.Message)
		}
		if now, err := m.lab.Console(1); err != nil || !strings.Contains(now[len(console):], fault.says) {
			m.t.Errorf("%s: the console does not say %q, so the fault was another one (%v)", fault.name, fault.says, err)
		}
		f := m.facts()
		if f.Running != before.Running || f.Boot.DefaultRelease() != before.Running {
			m.t.Errorf("%s: running %s, default %s", fault.name, f.Running, f.Boot.DefaultRelease())
		}
		m.nothingLeft(f)
		if err := fault.set(ctx, 1, ""); err != nil {
			m.t.Fatal(err)
		}
	}
	// Without the faults the same kernel is taken, and stays: its switch is disarmed.
	// It has its time, on a machine as busy as this.
	m.args = args
	if out := m.do(m.plan()); out.Bad() {
		m.t.Fatal("the upgrade failed")
	}
	m.nothingLeft(m.facts())
}

func (m *machine) upgrades(before node.Facts) []rollout.Change {
	m.t.Helper()
	steps := m.plan()
	m.cutOff(steps)
	installed, boot := m.bootFiles(), m.facts().BootID
	const stuck = "cd /proc/sys/kernel; grep . panic panic_on_oops softlockup_panic hung_task_panic 2>/dev/null || true"
	panics := m.on(stuck)
	// The node's clock is years ahead, and jumps back while it reboots.
	m.on("date -s '2040-01-01 00:00:00'")
	m.cutOffForGood(steps)
	steps = append(steps[:2:2], m.plan()[2:]...)
	if !strings.HasPrefix(steps[2].Summary, "end the trial of ") || !steps[2].Disruptive {
		m.t.Errorf("the next plan does not end the trial: %s %s", steps[2].Action, steps[2].Summary)
	}
	if out := m.do(steps); out.Bad() {
		m.t.Fatal("the upgrade failed")
	}
	if left := m.on("ls -A " + node.StageDir + " 2>/dev/null || true"); left != "" {
		m.t.Errorf("left of what was staged: %s", left)
	}
	kernels := m.lab.Node(1).Kernels
	m.companionsAre([]string{kernels.MLPrevious, kernels.ML}, kernels.ML)
	if year := m.on("date +%Y"); strings.HasPrefix(year, "2040") {
		m.t.Error("the clock did not jump: the test did not test")
	}
	f := m.facts()
	if f.Running == before.Running || f.Running != strings.TrimSpace(m.on("uname -r")) || f.Boot.DefaultRelease() != f.Running || f.BootID == before.BootID {
		m.t.Errorf("running %s, default %s, boot_id %s", f.Running, f.Boot.DefaultRelease(), f.BootID)
	}
	if !strings.Contains(f.Cmdline, "fleetd.trial="+boot) || !strings.Contains(f.Cmdline, "rd.emergency=reboot") {
		m.t.Errorf("the trial was booted without its arguments: %s", f.Cmdline)
	}
	m.nothingLeft(f)
	if now := m.on(stuck); now != panics {
		m.t.Errorf("what makes the kernel panic was\n%s\nbefore the trial, and is\n%s", panics, now)
	}
	if now := m.bootFiles(); now != installed {
		m.t.Errorf("the boot entries were\n%s\nbefore the trial, and are\n%s", installed, now)
	}
	return steps
}

// nothingLeft: no trial has left anything on the node.
func (m *machine) nothingLeft(f node.Facts) {
	m.t.Helper()
	for _, e := range f.Boot.Entries {
		if strings.Contains(e.Args, "rd.shell=0") {
			m.t.Errorf("left: an entry %q with args %q", e.Title, e.Args)
		}
	}
	if f.Boot.NextEntry != "" || f.Boot.DeadMan != "" {
		m.t.Errorf("left: next_entry %q, dead-man switch %q", f.Boot.NextEntry, f.Boot.DeadMan)
	}
	if left := m.on("find /etc/systemd -name 'fleetd-*'; ls /var/lib/fleetd | grep -x trial; systemctl show -p ActiveState fleetd-trial.service"); strings.TrimSpace(left) != "ActiveState=inactive" {
		m.t.Errorf("left: %s", left)
	}
}

// bootFiles is what GRUB reads of entries: files, or the menu in grub.cfg.
func (m *machine) bootFiles() string {
	return m.on("cd /boot/loader/entries 2>/dev/null && exec tail -n +1 *; sed -n '/^menuentry/,/^}/p' /boot/grub2/grub.cfg")
}

// killedAfter is fleetd's way to a node until it is killed: after a command of
// this name, whose answer it does not get.
type killedAfter struct {
	node.Remote
	command string
	dead    bool
}

func (k *killedAfter) Run(ctx context.Context, host string, c sshexec.Command) (sshexec.Result, error) {
	if k.dead {
		return sshexec.Result{}, errors.New("fleetd was killed")
	}
	res, err := k.Remote.Run(ctx, host, c)
	if len(c.Argv) > 0 && c.Argv[0] == k.command {
		k.dead = true
		return sshexec.Result{}, errors.New("fleetd was killed")
	}
	return res, err
}

// cutOff kills fleetd between grub2-reboot and the reboot: the next plan shows
// what it left, and an undo takes it away.
func (m *machine) cutOff(steps []rollout.Change) {
	m.t.Helper()
	if out := m.do(steps[:2]); out.Bad() {
		m.t.Fatal("the package was not installed")
	}
	m.on("ip route del blackhole 10.0.2.100") // what was staged is installed; a new plan asks the repository
	was := m.bootFiles()
	k := &killedAfter{Remote: m.fleet, command: "grub2-reboot"}
	if out := m.drive("trial_boot, cut off", kernel.Modules(k)[play[2]].Do, steps[2]); !k.dead || !out.Bad() {
		m.t.Fatalf("%s %s", out.Kind, out.Message)
	}
	f := m.facts()
	i := slices.IndexFunc(f.Boot.Entries, node.BootEntry.Trial)
	if i < 0 || f.Boot.NextEntry == "" {
		m.t.Fatalf("the facts show no trial: next %q, entries %+v", f.Boot.NextEntry, f.Boot.Entries)
	}
	files := m.bootFiles()
	m.t.Logf("left behind: next_entry %q\n%s", f.Boot.NextEntry, files)
	if strings.Contains(was, "$kernelopts") && !strings.Contains(files, "$kernelopts $tuned_params fleetd.trial=") {
		m.t.Error("the trial's entry does not follow $kernelopts and $tuned_params")
	}
	again := m.plan()
	if fields := again[2].Fields; fields[1].Before != f.Boot.NextEntry || !strings.Contains(fields[len(fields)-1].Name, "earlier trial") {
		m.t.Errorf("the plan does not show it: %+v", fields)
	}
	m.undo(2, steps[2])
	m.nothingLeft(m.facts())
	if now := m.bootFiles(); now != was {
		m.t.Errorf("the boot entries were\n%s\nand are\n%s", was, now)
	}
}

// cutOffForGood kills fleetd right after the reboot of a trial, and nobody resumes it.
func (m *machine) cutOffForGood(steps []rollout.Change) {
	m.t.Helper()
	k := &killedAfter{Remote: m.fleet, command: "uname"}
	if out := m.drive("trial_boot, cut off after the reboot", kernel.Modules(k)[play[2]].Do, steps[2]); !k.dead || !out.Bad() {
		m.t.Fatalf("%s %s", out.Kind, out.Message)
	}
	m.t.Logf("the node's own record of the trial:\n%s", m.on("cat /var/lib/fleetd/trial"))
}

func (m *machine) changesNothingMore() {
	m.t.Helper()
	for i, c := range m.plan() {
		if c.Action != rollout.NoOp {
			m.t.Errorf("a second plan: %s: %s %s", play[i], c.Action, c.Summary)
		}
	}
}

func (m *machine) takesBack(before node.Facts, steps []rollout.Change) {
	m.t.Helper()
	for i, c := range slices.Backward(steps) {
		if c.Action.Writes() {
			m.undo(i, c)
		}
	}
	f := m.facts()
	if f.Running != before.Running || f.Boot.DefaultRelease() != before.Boot.DefaultRelease() || len(f.Installed) != len(before.Installed) || len(f.Boot.Entries) != len(before.Boot.Entries) {
		m.t.Errorf("after undo: running %s, default %s, %d packages, %d entries", f.Running, f.Boot.DefaultRelease(), len(f.Installed), len(f.Boot.Entries))
	}
	kernels := m.lab.Node(1).Kernels
	m.companionsAre([]string{kernels.MLPrevious}, kernels.ML)
}

// recorder logs what the journal would hold.
type recorder struct{ t *testing.T }

func (r *recorder) Record(o rollout.Operation) {
	r.t.Logf("  %s %5.1f s  %s  → %s", o.Kind, o.Took.Seconds(), o.Text, o.Result)
}
func (r *recorder) Progress(text string) { r.t.Logf("  %s", text) }
