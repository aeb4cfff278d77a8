package boot

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestFailedScript runs the script in a real shell.
func TestFailedScript(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lib", "failed-trials")
	record := func(release, run string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "sh", "-c", failedScript)
		cmd.Env = append(os.Environ(), "failed="+file, "release="+release, "run="+run)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, l := range strings.Split(strings.TrimSpace(string(raw)), "\n") {
			if w := strings.Fields(l); len(w) == 3 && strings.HasSuffix(w[2], "Z") {
				l = w[0] + " " + w[1]
			}
			lines = append(lines, l)
		}
		return strings.Join(lines, ", ")
	}
	for _, c := range []struct{ release, run, want string }{
		{"6.1", "", ""}, {"6.1", "a", "6.1 a"}, {"6.1", "a", "6.1 a"}, {"6.10", "b", "6.1 a, 6.10 b"},
		{"6.1", "c", "6.1 a, 6.10 b, 6.1 c"}, {"6.1", "", "6.10 b"},
	} {
		if got := record(c.release, c.run); got != c.want {
			t.Errorf("after %q %q: %q, want %q", c.release, c.run, got, c.want)
		}
	}
}

// TestRecordScript runs the script in a real shell; what it wrote is replaced as a whole.
func TestRecordScript(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lib", "trial")
	for _, text := range []string{"RUN 4.18 6.1\nroute default via 10.0.0.1 dev eth0\nfailed a\\x2db.swap\n", "OTHER 4.18 6.1\n"} {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", recordScript)
		cmd.Env = append(os.Environ(), "record="+file, "text="+text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != text+"\n" {
			t.Errorf("%q, %v, want %q", got, err, text)
		}
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}
