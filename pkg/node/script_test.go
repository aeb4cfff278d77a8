package node

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// shells are those that EL nodes and their relatives have as /bin/sh.
func shells(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for name, argv := range map[string][]string{"sh": {"sh"}, "dash": {"dash"}, "bash": {"bash", "--posix"}, "busybox": {"busybox", "sh"}} {
		if _, err := exec.LookPath(argv[0]); err == nil {
			out[name] = argv
		}
	}
	if len(out) == 0 {
		t.Fatal("no POSIX shell here")
	}
	return out
}

// TestScript runs the script itself on this machine, with stand-ins for the
// tools that it lacks first in PATH, and parses what it prints. That the real
// tools print what the fixtures hold is shown on virtual machines.
func TestScript(t *testing.T) {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	bootID, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	for name, shell := range shells(t) {
		if name == "busybox" {
			continue // it takes its own rpm before the one in PATH
		}
		t.Run(name, func(t *testing.T) {
			bin, tmp := t.TempDir(), t.TempDir()
			tool(t, bin, "rpm", `[ "$1" = -q ] || exit 9
for a in "$@"; do case $a in kernel-ml) echo "kernel-ml 0 6.1.4 1.el7.elrepo x86_64";; esac; done; exit 23`)
			tool(t, bin, "yum", `cat; echo "$@" > `+tmp+`/asked
for a in "$@"; do case $a in --setopt=cachedir=*) touch "${a#--setopt=cachedir=}/metadata";; esac; done
echo "Available Packages"; echo "kernel-ml.x86_64   6.1.4-1.el7.elrepo"; echo "      elrepo-kernel"`)
			tool(t, bin, "grubby", `case $1 in --info=ALL) printf 'index=0\nkernel=/boot/vmlinuz-6.1.4\nargs="ro quiet"\n';; *) echo /boot/vmlinuz-6.1.4;; esac`)
			tool(t, bin, "kubelet", `echo "Kubernetes v1.34.4"`)
			file := filepath.Join(tmp, "a file")
			if err := os.WriteFile(file, []byte("hello\n"), 0o640); err != nil {
				t.Fatal(err)
			}
			keys := []string{"", PackageKey("kernel-ml", "elrepo-kernel"), FileKey(file), FileKey(tmp), FileKey("/nonexistent")}
			f := runScript(t, shell, bin, tmp, programFor(keys))

			if f.Running != strings.TrimSpace(string(release)) || f.BootID != strings.TrimSpace(string(bootID)) || f.Arch == "" {
				t.Errorf("running %q, boot_id %q, arch %q", f.Running, f.BootID, f.Arch)
			}
			if id, err := os.ReadFile("/etc/machine-id"); err == nil && len(id) > 0 && f.MachineID != strings.TrimSpace(string(id)) {
				t.Errorf("machine-id %q, want %s", f.MachineID, id)
			}
			ml := []Package{{Name: "kernel-ml", EVR: "6.1.4-1.el7.elrepo", Arch: "x86_64"}}
			if diff := cmp.Diff(ml, f.Installed); diff != "" {
				t.Errorf("installed (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(map[string][]Package{"kernel-ml@elrepo-kernel": ml}, f.Available); diff != "" {
				t.Errorf("available (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]BootEntry{{Kernel: "/boot/vmlinuz-6.1.4", Args: "ro quiet"}}, f.Boot.Entries); diff != "" {
				t.Errorf("entries (-want +got):\n%s", diff)
			}
			const hello = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
			if got := f.Files[file]; got != (File{Exists: true, SHA256: hello, Mode: "640", Size: 6}) {
				t.Errorf("file %+v", got)
			}
			if got := f.Files[tmp]; !got.Exists || got.SHA256 != "" {
				t.Errorf("folder %+v", got)
			}
			if got, asked := f.Files["/nonexistent"]; got.Exists || !asked {
				t.Errorf("missing file %+v, %v", got, asked)
			}
			if _, ok := f.Mount("/"); !ok || f.Kubelet != "1.34.4" {
				t.Errorf("mounts %+v, kubelet %q", f.Mounts, f.Kubelet)
			}
			asked, _ := os.ReadFile(filepath.Join(tmp, "asked"))
			if !strings.Contains(string(asked), "--disablerepo=* --enablerepo=elrepo-kernel") {
				t.Errorf("yum was asked %q", asked)
			}
			if left, _ := filepath.Glob(filepath.Join(tmp, "fleetd-facts.*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// TestScriptWithoutTools: a node without rpm, yum and grubby still has facts.
func TestScriptWithoutTools(t *testing.T) {
	for name, shell := range shells(t) {
		t.Run(name, func(t *testing.T) {
			f := runScript(t, shell, t.TempDir(), t.TempDir(), programFor([]string{PackageKey("kernel-ml", "no-such-repo")}))
			if f.Running == "" || f.RepoErrors["no-such-repo"] == "" {
				t.Errorf("running %q, repository errors %v", f.Running, f.RepoErrors)
			}
		})
	}
}

// TestBriefScript: what GatherPackages reads is there, the rest is not.
func TestBriefScript(t *testing.T) {
	f := runScript(t, []string{"sh"}, t.TempDir(), t.TempDir(), programFor(brief))
	if f.Running == "" || f.BootID == "" || f.Mounts != nil || f.Interfaces != nil {
		t.Errorf("%+v", f)
	}
}

func tool(t *testing.T, dir, name, script string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// runScript feeds the script to a shell's standard input, the hardest way to
// run it: a command that reads its own input would eat the rest of it.
func runScript(t *testing.T, shell []string, bin, tmp, program string) Facts {
	t.Helper()
	c := exec.Command(shell[0], shell[1:]...)
	c.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "TMPDIR="+tmp)
	c.Stdin = strings.NewReader(program)
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", shell, err, out)
	}
	f, err := Parse(out)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return f
}
