package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/journal"
	"github.com/fleetd/fleetd/pkg/kernel/kerneltest"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// TestKilledAtRandom kills the real program with SIGKILL at 30 random moments of
// one run on six nodes, and resumes it each time: it comes to its end, and no
// node was rebooted twice, no package installed twice.
func TestKilledAtRandom(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	flavours := map[string]kerneltest.Flavour{}
	for i := range 6 {
		flavours[fmt.Sprintf("n%d", i+1)] = []kerneltest.Flavour{kerneltest.EL7, kerneltest.EL8, kerneltest.EL9}[i%3]
	}
	n, err := startNodes(dir, flavours)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.close)
	playbook := filepath.Join(dir, "kernels.yml")
	if err := os.WriteFile(playbook, []byte(kernelsPlaybook), 0o600); err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	state := filepath.Join(dir, "state")
	args := []string{"apply", filepath.Join(dir, "hosts"), "--playbook", playbook, "--yes", "--state", state}
	for kills := 0; ; {
		out, killed := fleetdFor(t, dir, args, lifetime(random, kills))
		if begun(t, state) {
			args = []string{"resume", "--state", state}
		}
		if !killed {
			if !strings.Contains(out, "Done") {
				t.Fatalf("after %d kills:\n%s", kills, out)
			}
			if kills < 30 {
				t.Fatalf("the run was over after %d kills", kills)
			}
			break
		}
		kills++
	}
	for h := range flavours {
		if c := n.fleet.Node(h).Counts(); c.Reboots != 1 || c.Transactions != 1 {
			t.Errorf("%s has seen %+v", h, c)
		}
		if w := n.fleet.Node(h).World(); w.Running != kerneltest.NewRelease(flavours[h]) || w.Next != "" {
			t.Errorf("%s is %+v", h, w)
		}
	}
}

// lifetime is how long a fleetd lives before it is killed: long enough to get
// somewhere, too short to get through. After 30 it is left alone.
func lifetime(random *rand.Rand, kills int) time.Duration {
	if kills >= 30 {
		return 0
	}
	return 100*time.Millisecond + time.Duration(random.Int64N(int64(400*time.Millisecond)))
}

// fleetdFor runs the program, and kills it after a while that is not 0.
func fleetdFor(t *testing.T, home string, args []string, life time.Duration) (out string, killed bool) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// testscript.Main is fleetd when it is called so.
	name := filepath.Join(home, "fleetd")
	if _, err := os.Lstat(name); err != nil {
		if err := os.Symlink(self, name); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), "HOME="+home, "SSH_AUTH_SOCK=", "KUBECONFIG=")
	var b bytes.Buffer
	c.Stdout, c.Stderr = &b, &b
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if life > 0 {
		timer := time.AfterFunc(life, func() { _ = c.Process.Kill() })
		defer timer.Stop()
	}
	err = c.Wait()
	killed = c.ProcessState.ExitCode() == -1
	if err != nil && !killed {
		t.Fatalf("fleetd %s: %v\n%s", strings.Join(args, " "), err, &b)
	}
	return b.String(), killed
}

// begun reports whether the journal has a run that can be resumed.
func begun(t *testing.T, state string) bool {
	j, err := journal.OpenReadOnly(state)
	if err != nil {
		return false
	}
	defer j.Close()
	runs, err := j.Runs(t.Context())
	return err == nil && len(runs) > 0 && runs[0].Err == nil && runs[0].Run.Status != rollout.Done
}
