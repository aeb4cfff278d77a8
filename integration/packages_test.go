//go:build lab

package integration

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fleetd/fleetd/integration/lab/controlplane"
	"github.com/fleetd/fleetd/integration/lab/nodes"
)

// Two packages have tests that need more than a machine has by itself, and
// take it by an environment variable. They are run here with what the labs have.

// TestClusterModules runs the tests of pkg/cluster and pkg/calico against a real
// API server with the real operator.
func TestClusterModules(t *testing.T) {
	if err := controlplane.Build(t.Context(), "", os.Stderr); err != nil {
		t.Fatal(err)
	}
	var specs []controlplane.NodeSpec
	for i, name := range []string{"el-0001", "el-0002", "el-0003", "el-0004", "el-0005", "el-0006"} {
		specs = append(specs, controlplane.NodeSpec{Name: name, ControlPlane: i == 0})
	}
	lab, err := controlplane.Start(t.Context(), controlplane.Config{
		Dir: filepath.Join(t.TempDir(), "lab"), Netns: "fleetd-cluster-test", Nodes: specs, Calico: true, Log: os.Stderr,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Stop(); err != nil {
			t.Error(err)
		}
	})
	for _, dir := range []string{"../pkg/cluster", "../pkg/calico"} {
		binary := compileTests(t, dir)
		runTests(t, lab.Command(t.Context(), binary, "-test.run=Lab", "-test.v", "-test.timeout=20m"), dir, "FLEETD_TEST_KUBECONFIG="+lab.Kubeconfig)
	}
}

// TestBPFOnOtherKernels loads the BPF objects on the oldest and the newest
// kernel of the lab.
func TestBPFOnOtherKernels(t *testing.T) {
	if err := nodes.Build(t.Context(), nodes.Options{Log: os.Stderr}); err != nil {
		t.Fatal(err)
	}
	cache, err := nodes.DefaultCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	images, err := filepath.Glob(filepath.Join(cache, "kernels-*", "*", "boot", "vmlinuz-*"))
	if err != nil || len(images) < 2 {
		t.Fatalf("the lab's kernels are not in %s: %q, %v", cache, images, err)
	}
	binary := compileTests(t, "../bpf")
	runTests(t, exec.CommandContext(t.Context(), binary, "-test.run=TestKernels", "-test.v", "-test.timeout=20m"), "../bpf", "FLEETD_BPF_KERNELS="+strings.Join(images, ":"))
}

func compileTests(t *testing.T, pkg string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "package.test")
	c := exec.Command("go", "test", "-c", "-o", binary, pkg)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("cannot compile the tests of %s: %v\n%s", pkg, err, out)
	}
	return binary
}

// runTests runs a test binary in its package's folder; its tests must pass and
// none may be skipped.
func runTests(t *testing.T, c *exec.Cmd, dir string, env ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	defer cancel()
	context.AfterFunc(ctx, func() {
		if c.Process != nil {
			_ = c.Process.Kill()
		}
	})
	c.Dir = dir
	if c.Env == nil {
		c.Env = os.Environ()
	}
	c.Env = append(c.Env, env...)
	out, err := c.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("tests of %s: %v", dir, err)
	}
	if strings.Contains(string(out), "--- SKIP") || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("tests of %s did not all run", dir)
	}
}
