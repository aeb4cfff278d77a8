package boot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

// TestRebootOfOneBootOnly runs the script in a real shell, with an init that
// only notes that it was called: one that comes late does nothing.
func TestRebootOfOneBootOnly(t *testing.T) {
	bin := t.TempDir()
	called := filepath.Join(bin, "called")
	if err := os.WriteFile(filepath.Join(bin, "init"), []byte("#!/bin/sh\necho \"$@\" >>"+called+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "sync"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	now, err := os.ReadFile(sshexec.BootIDFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, tool := range []string{"logger", "wall"} { // as on a machine that logs, and on one whose terminals are stuck
		script := map[string]string{"logger": "#!/bin/sh\necho \"$5\" >>" + bin + "/logged\n", "wall": "#!/bin/sh\nwhile [ -d " + bin + " ]; do sleep 0.1; done\n"}[tool]
		if err := os.WriteFile(filepath.Join(bin, tool), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	server := sshtest.New(t, sshtest.Env("PATH="+bin+":"+os.Getenv("PATH")))
	pool := sshexec.NewPool(sshexec.Options{})
	defer pool.Close()
	for _, c := range []struct {
		id     string
		status int
		calls  string
	}{
		{"00000000-0000-4000-8000-000000000001", 75, ""},
		{strings.TrimSpace(string(now)), 0, "6\n"},
	} {
		res, err := pool.Run(t.Context(), server.Target("node1"), sshexec.Command{Script: rebootScript(c.id, "it's time")})
		if err != nil || res.ExitStatus != c.status {
			t.Errorf("for boot %s: exit status %d, %v", c.id, res.ExitStatus, err)
		}
		if got, _ := os.ReadFile(called); string(got) != c.calls {
			t.Errorf("for boot %s: init was called with %q", c.id, got)
		}
		if got, _ := os.ReadFile(filepath.Join(bin, "logged")); (string(got) == "it's time\n") != (c.calls != "") {
			t.Errorf("for boot %s: logged %q", c.id, got)
		}
	}
}
