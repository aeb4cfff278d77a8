package boot

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/pkg/kernel/kerneltest"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

// TestTrialEntry: the entry that is booted is the real one with the trial's
// arguments, and is never the first that a path or saved_entry finds.
func TestTrialEntry(t *testing.T) {
	const host = "node2"
	for _, flavour := range []kerneltest.Flavour{kerneltest.EL7, kerneltest.EL8, kerneltest.EL9} {
		old, newer := kerneltest.OldRelease(flavour), kerneltest.NewRelease(flavour)
		fleet := kerneltest.New(map[string]kerneltest.Flavour{host: flavour})
		n, image := fleet.Node(host), map[bool]string{true: "kernel-ml", false: "kernel-ml-core"}[flavour == kerneltest.EL7]
		n.AddPackage(node.Package{Name: image, EVR: strings.TrimSuffix(newer, ".x86_64"), Arch: "x86_64"})
		n.SetArgs(old, "ro panic=0 quiet debug")
		n.SetArgs(newer, "ro quiet $tuned_params console=tty0 console=ttyS0")
		l := Loader{t.Context(), fleet, rollout.Step{Host: host, Become: true}}
		boot, err := l.Entries()
		if err != nil {
			t.Fatal(err)
		}
		e, err := l.addTrial(boot, old, newer, "RUN", 90*time.Second)
		if err != nil {
			t.Errorf("%s: %v", flavour, err)
			continue
		}
		want := "ro quiet $tuned_params console=tty0 console=ttyS0 fleetd.trial=RUN rd.timeout=90 rd.shell=0 rd.emergency=reboot panic=10 oops=panic softlockup_panic=1 hung_task_panic=1 nmi_watchdog=panic"
		if diff := cmp.Diff(sorted(want), sorted(e.Args)); diff != "" {
			t.Errorf("%s: args (-want +got):\n%s", flavour, diff)
		}
		now, err := l.Entries()
		if err != nil {
			t.Fatal(err)
		}
		if real, _ := now.Entry(newer); real.Trial() || names(now, entryName(e), newer) {
			t.Errorf("%s: the trial's entry passes for the real one: %+v", flavour, real)
		}
	}
}

// TestCopyFile runs the script in a real shell on a file as EL8's kernels bring it.
func TestCopyFile(t *testing.T) {
	dir := t.TempDir()
	real, trial := filepath.Join(dir, "id-6.1.conf"), filepath.Join(dir, "id-6.1~fleetd.conf")
	const text = "title\tRocky Linux (6.1) 8.10 (Green Obsidian)\nversion 6.1\nlinux /vmlinuz-6.1\ninitrd /initramfs-6.1.img $tuned_initrd\n%s\ngrub_users $grub_users\n"
	before := fmt.Sprintf(text, "options $kernelopts $tuned_params")
	if err := os.WriteFile(real, []byte(before), 0o640); err != nil {
		t.Fatal(err)
	}
	server := sshtest.New(t)
	pool := sshexec.NewPool(sshexec.Options{})
	defer pool.Close()
	run := func(from string) int {
		t.Helper()
		res, err := pool.Run(t.Context(), server.Target("node1"), sshexec.Command{Script: copyFileScript, Env: map[string]string{
			"real": from, "trial": trial, "title": "fleetd trial of 6.1", "args": "fleetd.trial=x rd.shell=0",
		}})
		if err != nil {
			t.Fatal(err)
		}
		return res.ExitStatus
	}
	if status := run(filepath.Join(dir, "missing.conf")); status == 0 {
		t.Error("a file that is missing is copied")
	}
	if _, err := os.Stat(trial); err == nil {
		t.Error("and something is there")
	}
	if status := run(real); status != 0 {
		t.Errorf("exit status %d", status)
	}
	want := strings.Replace(fmt.Sprintf(text, "options $kernelopts $tuned_params fleetd.trial=x rd.shell=0"), "title\tRocky Linux (6.1) 8.10 (Green Obsidian)", "title fleetd trial of 6.1", 1)
	for file, want := range map[string]string{trial: want, real: before} {
		got, err := os.ReadFile(file)
		if diff := cmp.Diff(want, string(got)); err != nil || diff != "" {
			t.Errorf("%s (-want +got), %v:\n%s", filepath.Base(file), err, diff)
		}
	}
	if info, err := os.Stat(trial); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.new")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
