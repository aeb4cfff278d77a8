package packages

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/kernel/wanted"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

// TestYumOutlivesFleetd runs the script over SSH with a yum that takes its time,
// and loses the connection under it: what was begun comes to its end, is found
// by its name, and is not begun twice.
func TestYumOutlivesFleetd(t *testing.T) {
	bin, tmp := t.TempDir(), t.TempDir()
	script := "#!/bin/sh\necho \"$@\"\necho >>" + tmp + "/began\nwhile [ ! -e " + tmp + "/go ]; do sleep 0.05; done\nexit 3\n"
	if err := os.WriteFile(filepath.Join(bin, "yum"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	server := sshtest.New(t, sshtest.Env("PATH="+bin+":"+os.Getenv("PATH")))
	dir := filepath.Join(tmp, "log")
	// Each look is over a connection of its own.
	look := func(name string) string {
		t.Helper()
		pool := sshexec.NewPool(sshexec.Options{})
		defer pool.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		res, err := pool.Run(ctx, server.Target("node1"), sshexec.Command{
			Script: yumScript("install", "-y", "kernel-ml-6.1.4-1.el7.elrepo.x86_64"), Env: map[string]string{"fleetd_yum": name, "dir": dir},
		})
		if err != nil || len(res.Stderr) > 0 {
			t.Fatalf("%v, %s", err, res.Stderr)
		}
		return strings.TrimSpace(string(res.Stdout))
	}
	want := func(name, answer string) {
		t.Helper()
		if got := look(name); got != answer {
			t.Errorf("a look for %s: %q, want %q", name, got, answer)
		}
	}
	want("FIRST", "started")
	waitFor(t, filepath.Join(tmp, "began"))
	want("FIRST", "working")
	want("SECOND", "busy")
	if err := os.WriteFile(filepath.Join(tmp, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	// It has written down how it ended a moment before it is gone.
	for end := time.Now().Add(time.Minute); look("FIRST") == "working" && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	want("FIRST", "ended 3")
	if said, err := os.ReadFile(filepath.Join(dir, "yum.log")); err != nil || string(said) != "install -y kernel-ml-6.1.4-1.el7.elrepo.x86_64\n" {
		t.Errorf("the log has %q, %v", said, err)
	}
	if began, err := os.ReadFile(filepath.Join(tmp, "began")); err != nil || len(began) != 1 {
		t.Errorf("yum was begun %d times, %v", len(began), err)
	}

	// One that is killed has no end, and stands in nobody's way.
	if err := os.Remove(filepath.Join(tmp, "go")); err != nil {
		t.Fatal(err)
	}
	want("THIRD", "started")
	var pid int
	for deadline := time.Now().Add(time.Minute); pid == 0 && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		job, _ := os.ReadFile(filepath.Join(dir, "yum.job"))
		if name, number, found := strings.Cut(strings.TrimSpace(string(job)), " "); found && name == "THIRD" {
			pid, _ = strconv.Atoi(number)
		}
	}
	if err := syscall.Kill(-pid, syscall.SIGKILL); pid <= 1 || err != nil {
		t.Fatalf("process group %d: %v", pid, err)
	}
	for deadline := time.Now().Add(time.Minute); look("THIRD") == "working" && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
	}
	want("THIRD", "gone")
	// Its number is somebody else's by now: it is told by what it was started with.
	if err := os.WriteFile(filepath.Join(dir, "yum.job"), []byte("THIRD "+strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	want("THIRD", "gone")
	if err := os.WriteFile(filepath.Join(tmp, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	want("FOURTH", "started")
	for deadline := time.Now().Add(time.Minute); look("FOURTH") == "working" && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
	}
	want("FOURTH", "ended 3")
}

// TestOneQuestion: what the facts ask yum last is what it is told to do, but for the
// answer, also where the version is what yum says.
func TestOneQuestion(t *testing.T) {
	const evr = "6.1.4-1.el7.elrepo"
	for _, version := range []string{evr, wanted.Latest} {
		bin := t.TempDir()
		for name, script := range map[string]string{
			"yum":    "case \"$*\" in *--assumeno*) echo \"$@\" >>" + bin + "/asked; echo ' kernel-ml x86_64 " + evr + " elrepo-kernel 93 M';; esac; echo Transaction Summary; exit 1",
			"grubby": "", "uname": "echo x86_64",
			"rpm": "echo 'package kernel is not installed'; for p in '' -devel -headers; do echo kernel-ml$p 0 6.0.1 1.el7.elrepo x86_64; done; exit 1",
		} {
			if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		server := sshtest.New(t, sshtest.Env("PATH="+bin+":"+os.Getenv("PATH")))
		pool := sshexec.NewPool(sshexec.Options{})
		defer pool.Close()
		args := rollout.Args{"version": version}
		var keys []string
		for _, r := range wanted.Reads(args) {
			keys = append(keys, r.Key)
		}
		f, err := node.Gather(t.Context(), node.NewFleet(pool, map[string]sshexec.Target{"node1": server.Target("node1")}), "node1", false, keys[1:]...)
		if err != nil || len(f.InstallErrors) > 0 {
			t.Fatalf("%v, %v", err, f.InstallErrors)
		}
		raw, _ := os.ReadFile(filepath.Join(bin, "asked"))
		asked := strings.Split(strings.TrimSpace(string(raw)), "\n")
		// Where the metadata and the log go is the question's own.
		question := strings.Join(slices.DeleteFunc(strings.Fields(asked[len(asked)-1]), func(w string) bool { return strings.HasPrefix(w, "--setopt=") }), " ")
		p := node.Package{Name: "kernel-ml", EVR: evr, Arch: "x86_64"}
		told := strings.Join(Transaction{Package: p, Repo: "elrepo-kernel", With: inStep(f, p, nil)}.args(false, "-y"), " ")
		if want := strings.Replace(strings.ReplaceAll(told, ".x86_64", ""), " -y ", " --assumeno ", 1); question != want || !strings.HasSuffix(question, " kernel-ml-headers-"+evr) {
			t.Errorf("%s: the plan asks yum %q, the apply tells it %q", version, asked, told)
		}
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
