package boot

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

// systemctl says what a real one does, of a unit whose process is there as long as
// the file "works" is. What systemd does at boot is shown on the lab's machines.
const systemctl = `#!/bin/sh
here=$(dirname "$0")
case $* in
"show -p LoadState "*) [ -s "$here/fleetd-trial.service" ] && echo LoadState=loaded || echo LoadState=not-found ;;
"show -p Wants "*) for t; do :; done; echo "Wants=a.mount $(ls "$here/$t.wants")" ;;
"show -p ActiveState "*) [ -e "$here/works" ] && echo ActiveState=active || echo ActiveState=inactive ;;
"stop fleetd-trial.service") [ -e "$here/stuck" ] || rm -f "$here/works" ;;
is-system-running) cat "$here/system" ;;
esac
`

// TestDeadManScripts runs the scripts in a real shell.
func TestDeadManScripts(t *testing.T) {
	server := sshtest.New(t)
	pool := sshexec.NewPool(sshexec.Options{})
	defer pool.Close()
	for _, c := range []struct {
		name   string
		files  map[string]string
		script string
		want   []string
		left   bool // the unit's file is there afterwards
	}{
		{"arm", map[string]string{"sys/kernel/panic": "0\n", "sys/kernel/hung_task_panic": "0\n"}, armScript, []string{"LoadState=loaded", "Wants=a.mount fleetd-trial.service", "Wants=a.mount fleetd-trial.service"}, true},
		{"nothing there", nil, disarmScript, []string{"ActiveState=inactive"}, false},
		{"armed", map[string]string{"fleetd-trial.service": "x", "works": ""}, disarmScript, []string{"there", "ActiveState=inactive"}, false},
		{"on the boot of the trial", map[string]string{
			"fleetd-trial.service": "# fleetd.trial=RUN\n[Unit]\nx y\n# was DIR/sys/kernel/panic 30\n", "works": "", "cmdline": "ro fleetd.trial=RUN panic=10\n", "sys/kernel/panic": "10\n",
		}, disarmScript, []string{"there", "ActiveState=inactive"}, false},
		{"on another boot", map[string]string{
			"fleetd-trial.service": "# fleetd.trial=RUN\n# was DIR/sys/kernel/panic 10\n", "cmdline": "ro fleetd.trial=RUN2\n", "sys/kernel/panic": "30\n",
		}, disarmScript, []string{"there", "ActiveState=inactive"}, false},
		{"the kernel does not let itself be told", map[string]string{
			"fleetd-trial.service": "# fleetd.trial=RUN\n# was /proc/version 30\n", "cmdline": "fleetd.trial=RUN\n",
		}, disarmScript, []string{"there", "stays /proc/version", "ActiveState=inactive"}, false},
		{"stuck", map[string]string{"fleetd-trial.service": "x", "works": "", "stuck": ""}, disarmScript, []string{"there", "ActiveState=active"}, false},
		{"gone off", map[string]string{"fleetd-trial.service": "x", "works": "", "system": "stopping"}, disarmScript, []string{"gone off"}, true},
		{"the node goes down otherwise", map[string]string{"fleetd-trial.service": "x", "system": "stopping"}, disarmScript, []string{"there", "ActiveState=inactive"}, false},
	} {
		dir := t.TempDir()
		for name, text := range map[string]string{"systemctl": systemctl, "system": "running\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for name, text := range c.files {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.ReplaceAll(text, "DIR", dir)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		res, err := pool.Run(t.Context(), server.Target("node1"), sshexec.Command{Script: c.script, Env: map[string]string{
			"PATH": dir + ":" + os.Getenv("PATH"), "dir": dir, "name": unitName, "proc": dir, "unit": deadManUnit("RUN", time.Minute),
		}})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Split(strings.TrimSpace(string(res.Stdout)), "\n"); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, and on standard error %s", c.name, got, res.Stderr)
		}
		unit, err := os.ReadFile(filepath.Join(dir, unitName))
		if (err == nil) != c.left {
			t.Errorf("%s: the unit's file: %v", c.name, err)
		}
		was := "# was " + dir + "/sys/kernel/panic 0\n# was " + dir + "/sys/kernel/hung_task_panic 0\n"
		if c.script == armScript && string(unit) != deadManUnit("RUN", time.Minute)+was {
			t.Errorf("%s: %s", c.name, unit)
		}
		if panics, err := os.ReadFile(filepath.Join(dir, "sys/kernel/panic")); err == nil && c.script == disarmScript && string(panics) != "30\n" {
			t.Errorf("%s: kernel.panic is %s", c.name, panics)
		}
	}
}

// TestDeadManUnit has systemd read the unit, where there is one.
func TestDeadManUnit(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("there is no systemd here: the lab's machines have one")
	}
	file := filepath.Join(t.TempDir(), unitName)
	if err := os.WriteFile(file, []byte(deadManUnit("0f0f-1", 90*time.Second)), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", file).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}
