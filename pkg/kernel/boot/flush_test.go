package boot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

// TestFlushScript runs the script in a real shell, with tools that note how they
// were called. That freezing empties the log is the kernel's word (fsfreeze(8)).
func TestFlushScript(t *testing.T) {
	server := sshtest.New(t)
	pool := sshexec.NewPool(sshexec.Options{})
	defer pool.Close()
	const sync, frozen = "sync -f ROOT/boot ROOT/boot/grub2/grubenv", "fsfreeze -f ROOT/boot, fsfreeze -u ROOT/boot"
	for _, c := range []struct {
		name, mounts string
		files        map[string]string
		fails        string // the call that does
		called       string
		status       int
	}{
		{"xfs", "/dev/vda1 ROOT/boot xfs rw 0 0\n", nil, "", sync + ", " + frozen, 0},
		{"ext4, with an automount on top", "systemd-1 ROOT/boot autofs rw 0 0\n/dev/vda1 ROOT/boot ext4 rw 0 0\n", nil, "", sync + ", " + frozen, 0},
		{"vfat", "/dev/vda1 ROOT/boot vfat rw 0 0\n", nil, "", sync, 0},
		{"in the root file system", "/dev/vda1 / xfs rw 0 0\n", nil, "", sync, 0},
		{"EL7's sync", "", nil, "sync -f", sync + ", sync", 0},
		{"no sync", "", nil, "sync", sync + ", sync", 1},
		{"frozen by somebody else", "/dev/vda1 ROOT/boot xfs rw 0 0\n", nil, "fsfreeze -f", sync + ", fsfreeze -f ROOT/boot", 0},
		{"not thawed", "/dev/vda1 ROOT/boot xfs rw 0 0\n", nil, "fsfreeze -u", sync + ", " + frozen, 1},
		{"grub.cfg", "", map[string]string{"etc/grub2.cfg": ""}, "", sync + ", grub2-script-check ROOT/etc/grub2.cfg", 0},
		{"grub.cfg broken", "", map[string]string{"etc/grub2.cfg": ""}, "grub2-script-check", sync + ", grub2-script-check ROOT/etc/grub2.cfg", 65},
		{"grub.cfg of UEFI", "", map[string]string{"etc/grub2.cfg": "", "etc/grub2-efi.cfg": "", "sys/firmware/efi/x": ""}, "", sync + ", grub2-script-check ROOT/etc/grub2-efi.cfg", 0},
		{"entries in files", "", map[string]string{"etc/grub2.cfg": "", "boot/loader/entries/a.conf": ""}, "", sync, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			bin := filepath.Join(root, "bin")
			files := map[string]string{"proc/mounts": strings.ReplaceAll(c.mounts, "ROOT", root)}
			for _, tool := range []string{"sync", "fsfreeze", "grub2-script-check"} {
				fails := "no such call"
				if strings.HasPrefix(c.fails, tool) {
					fails = c.fails
				}
				files["bin/"+tool] = "#!/bin/sh\necho " + tool + " \"$@\" >>" + root + "/called\ncase \"" + tool + " $*\" in '" + fails + "'*) exit 1 ;; esac\n"
			}
			for name, text := range c.files {
				files[name] = text
			}
			for name, text := range files {
				path := filepath.Join(root, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			res, err := pool.Run(t.Context(), server.Target("node1"), sshexec.Command{
				Script: flushScript, Env: map[string]string{"PATH": bin + ":" + os.Getenv("PATH"), "root": root},
			})
			if err != nil || res.ExitStatus != c.status {
				t.Errorf("exit status %d, want %d; %v: %s", res.ExitStatus, c.status, err, res.Stderr)
			}
			raw, _ := os.ReadFile(filepath.Join(root, "called"))
			got := strings.ReplaceAll(strings.TrimSpace(strings.ReplaceAll(string(raw), root, "ROOT")), "\n", ", ")
			if got != c.called {
				t.Errorf("called %q, want %q", got, c.called)
			}
		})
	}
}
