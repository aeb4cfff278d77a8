package kernel

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

// TestYumOutlivesFleetd runs the script over SSH with a yum that takes its time,
// and gives up on it: what was begun comes to its end.
func TestYumOutlivesFleetd(t *testing.T) {
	bin, tmp := t.TempDir(), t.TempDir()
	began, done := filepath.Join(tmp, "began"), filepath.Join(tmp, "done")
	script := "#!/bin/sh\ntouch " + began + "\nwhile [ ! -e " + tmp + "/go ]; do sleep 0.05; done\necho \"$@\"\ntouch " + done + "\n"
	if err := os.WriteFile(filepath.Join(bin, "yum"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	server := sshtest.New(t, sshtest.Env("PATH="+bin+":"+os.Getenv("PATH")))
	pool := sshexec.NewPool(sshexec.Options{})
	defer pool.Close()
	log := filepath.Join(tmp, "log", "yum.log")

	ctx, abandon := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := pool.Run(ctx, server.Target("node1"), sshexec.Command{Script: yumScript(log, "install", "-y", "kernel-ml-6.1.4-1.el7.elrepo.x86_64")})
		ended <- err
	}()
	waitFor(t, began)
	abandon()
	if err := <-ended; err == nil {
		t.Error("an abandoned command ended well")
	}
	if err := os.WriteFile(filepath.Join(tmp, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	waitFor(t, done)
	said, err := os.ReadFile(log)
	if err != nil || string(said) != "install -y kernel-ml-6.1.4-1.el7.elrepo.x86_64\n" {
		t.Errorf("the log has %q, %v", said, err)
	}

	// Left alone, its exit status is the script's.
	if err := os.WriteFile(filepath.Join(bin, "yum"), []byte("#!/bin/sh\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	res, err := pool.Run(t.Context(), server.Target("node1"), sshexec.Command{Script: yumScript(log, "remove")})
	if err != nil || res.ExitStatus != 3 {
		t.Errorf("exit status %d, %v; want 3", res.ExitStatus, err)
	}
}

func waitFor(t *testing.T, file string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(file); err == nil {
			return
		}
	}
	t.Fatalf("%s did not appear", file)
}
