package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/kernel/kerneltest"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// TestRunScript carries runs out on three nodes, n1 (EL7), n2 (EL8) and n3 (EL9):
// the real program, over real SSH, with what an engineer does to it in between.
func TestRunScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/run",
		RequireExplicitExec: true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("XDG_STATE_HOME", e.WorkDir+"/state")
			e.Setenv("SSH_AUTH_SOCK", "")
			e.Setenv("KUBECONFIG", "")
			n, err := startNodes(e.WorkDir, map[string]kerneltest.Flavour{"n1": kerneltest.EL7, "n2": kerneltest.EL8, "n3": kerneltest.EL9})
			if err != nil {
				return err
			}
			e.Defer(n.close)
			e.Values["nodes"] = n
			e.Defer(func() { _ = unix.Unmount(filepath.Join(e.WorkDir, "small"), unix.MNT_DETACH) }) // where a script left it
			return os.WriteFile(filepath.Join(e.WorkDir, "kernels.yml"), []byte(kernelsPlaybook), 0o600)
		},
		Condition: func(cond string) (bool, error) {
			if cond != "mount" {
				return false, fmt.Errorf("unknown condition %q", cond)
			}
			return mounts(t), nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await": await, "fetch": fetch, "send": send, "running": running, "counts": counts, "behave": behave, "swap": swap, "remember": remember, "await-reboot": awaitReboot, "await-done": awaitDone, "ran": ran,
		},
	})
}

// mounts reports whether this process may mount a file system.
func mounts(t *testing.T) bool {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		return false
	}
	return unix.Unmount(dir, 0) == nil
}

// kernelsPlaybook is site.yml's kernel play without a cluster.
const kernelsPlaybook = `
- name: Kernels
  hosts: all
  become: true
  strategy: free
  serial: "{{ batches | default('100%') }}"
  max_fail_percentage: "{{ tolerance | default(0) }}"
  tasks:
    - name: Node is fit for the change
      fleetd.kernel.preflight: {retry_failed: "{{ retry_failed_kernels | default(omit) }}"}
    - name: Kernel package is installed
      fleetd.kernel.package:
    - name: Node boots the new kernel on trial
      fleetd.kernel.trial_boot: {timeout: 15m, retry_failed: "{{ retry_failed_kernels | default(omit) }}", ignore_units: "{{ kernel_ignore_units | default(omit) }}"}
    - name: New kernel is the default
      fleetd.kernel.default:
`

func nodesOf(ts *testscript.TestScript) *nodes { return ts.Value("nodes").(*nodes) }

// counts compares what has been done to a node: counts n1 reboots=1 yum=1.
func counts(ts *testscript.TestScript, neg bool, args []string) {
	c := nodesOf(ts).fleet.Node(args[0]).Counts()
	got := fmt.Sprintf("reboots=%d yum=%d", c.Reboots, c.Transactions)
	if want := strings.Join(args[1:], " "); (got == want) == neg {
		ts.Fatalf("%s has seen %s, expected %s", args[0], got, want)
	}
}

// behave says what comes of the new kernel on a node: behave n1 panics.
func behave(ts *testscript.TestScript, _ bool, args []string) {
	n := nodesOf(ts).fleet.Node(args[0])
	n.Behave(func(b *kerneltest.Behaviour) {
		switch args[1] {
		case "hangs": // no command on it comes to an end
			nodesOf(ts).hanging.Store(args[0])
		case "answers":
			nodesOf(ts).hanging.Store("")
		case "kubelet": // one is installed
			b.Kubelet = "1.34.4"
		case "full": // its /boot
			b.BootFreeMB = 30 + int(args[0][1]-'0') // each node another size
		case "fixed": // is its default
			b.GrubDefault = "0"
		case "gone": // is every repository
			b.RepoGone = true
		case "ill": // is the node on its new kernel
			b.Health = func(release string, _ int) string {
				if release == kerneltest.OldRelease(kerneltest.EL7) {
					return kerneltest.Healthy
				}
				return kerneltest.Healthy + "failed iscsid.service\n"
			}
		case "slow": // it takes its time to come back
			b.BootTakes = 3
		default:
			b.Kernels = map[string]kerneltest.Fate{}
			for _, f := range []kerneltest.Flavour{kerneltest.EL7, kerneltest.EL8, kerneltest.EL9} {
				b.Kernels[kerneltest.NewRelease(f)] = kerneltest.Fate(args[1])
			}
		}
	})
}

// ran says that something was run on a node since it was asked last, and each time what
// begins so: ran n1 '# read the facts'.
func ran(ts *testscript.TestScript, _ bool, args []string) {
	n := nodesOf(ts)
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.ran[args[0]]) == 0 {
		ts.Fatalf("nothing was run on %s", args[0])
	}
	for _, script := range n.ran[args[0]] {
		if !strings.HasPrefix(script, args[1]) {
			ts.Fatalf("on %s was run:\n%s", args[0], script)
		}
	}
	n.ran[args[0]] = nil
}

// swap gives two nodes each other's address in the inventory.
func swap(ts *testscript.TestScript, _ bool, args []string) {
	n := nodesOf(ts)
	n.servers[args[0]], n.servers[args[1]] = n.servers[args[1]], n.servers[args[0]]
	ts.Check(os.WriteFile(ts.MkAbs("hosts"), []byte(n.inventory()), 0o600))
}

// remember sets a variable to the first match of a field in the last output:
// remember DIGEST 'digest ([0-9a-f]{64})'.
func remember(ts *testscript.TestScript, _ bool, args []string) {
	m := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if m == nil {
		ts.Fatalf("%s does not match", args[1])
	}
	ts.Setenv(args[0], m[1])
}

// awaitReboot waits until a node was asked to reboot.
func awaitReboot(ts *testscript.TestScript, _ bool, args []string) {
	until(ts, args[0]+" reboots", func() bool { return nodesOf(ts).fleet.Node(args[0]).Counts().Reboots > 0 })
}

// running waits until the last run of the journal has begun a step.
func running(ts *testscript.TestScript, _ bool, _ []string) {
	dir := ts.Getenv("XDG_STATE_HOME") + "/fleetd"
	until(ts, "a run goes on", func() bool {
		j, err := journal.OpenReadOnly(dir)
		if err != nil {
			return false
		}
		defer j.Close()
		runs, err := j.Runs(context.Background())
		return err == nil && len(runs) > 0 && runs[0].Err == nil && runs[0].Run.Status == rollout.Running && runs[0].Run.Seq > 1
	})
}

// awaitDone waits until the journal has a run that is done and nobody holds the
// lock.
func awaitDone(ts *testscript.TestScript, _ bool, _ []string) {
	dir := ts.Getenv("XDG_STATE_HOME") + "/fleetd"
	until(ts, "a run is done", func() bool {
		j, err := journal.OpenReadOnly(dir)
		if err != nil {
			return false
		}
		defer j.Close()
		runs, err := j.Runs(context.Background())
		_, held, lerr := journal.Holder(dir)
		return err == nil && lerr == nil && !held && len(runs) > 0 && runs[0].Err == nil && runs[0].Run.Status == rollout.Done
	})
}

func until(ts *testscript.TestScript, what string, holds func() bool) {
	for end := time.Now().Add(2 * time.Minute); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("waited in vain: %s", what)
		}
	}
}
