package node

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
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
case $* in *VENDOR*) echo "glibc 0 2.28 251.el8 x86_64 1690000000 1680000000 Rocky Enterprise Software Foundation"; echo "kernel-ml 0 6.1.4 1.el7.elrepo x86_64 1 2 (none)"; exit 9;; esac
for a in "$@"; do case $a in kernel-ml) echo "kernel-ml 0 6.1.4 1.el7.elrepo x86_64";; kernel*) echo "package $a is not installed";; esac; done; exit 23`)
			tool(t, bin, "yum", `cat; echo "$@" > `+tmp+`/asked
for a in "$@"; do case $a in --setopt=cachedir=*) touch "${a#--setopt=cachedir=}/metadata";; esac; done
echo "Available Packages"; echo "kernel-ml.x86_64   6.1.4-1.el7.elrepo"; echo "      elrepo-kernel"`)
			tool(t, bin, "grubby", `case $1 in --info=ALL) printf 'index=0\nkernel=/boot/vmlinuz-6.1.4\nargs="ro quiet"\n';; *) echo /boot/vmlinuz-6.1.4;; esac`)
			tool(t, bin, "kubelet", `echo "Kubernetes v1.34.4"`)
			file := filepath.Join(tmp, "a file")
			if err := os.WriteFile(file, []byte("hello\n"), 0o640); err != nil {
				t.Fatal(err)
			}
			keys := []string{"", PackageKey("kernel-ml", "elrepo-kernel"), FileKey(file), FileKey(tmp), FileKey("/nonexistent"), UpkeepKey}
			f := runScript(t, shell, bin, tmp, programFor(keys))

			if f.Running != strings.TrimSpace(string(release)) || f.BootID != strings.TrimSpace(string(bootID)) || f.Arch == "" {
				t.Errorf("running %q, boot_id %q, arch %q", f.Running, f.BootID, f.Arch)
			}
			if id, err := os.ReadFile("/etc/machine-id"); err == nil && len(id) > 0 && f.MachineID != strings.TrimSpace(string(id)) {
				t.Errorf("machine-id %q, want %s", f.MachineID, id)
			}
			if u := f.Upkeep; u == nil || u.Uptime <= 0 || u.BootTime <= 0 {
				t.Errorf("upkeep %+v", u)
			} else if diff := cmp.Diff([]DatedPackage{
				{Name: "glibc", EVR: "2.28-251.el8", Arch: "x86_64", Vendor: "Rocky Enterprise Software Foundation", Installed: 1690000000, Built: 1680000000},
				{Name: "kernel-ml", EVR: "6.1.4-1.el7.elrepo", Arch: "x86_64", Installed: 1, Built: 2},
			}, u.Packages); diff != "" {
				t.Errorf("dated packages (-want +got):\n%s", diff)
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
			if got := f.Files[file]; !got.Exists || got.SHA256 != hello || got.Mode != "640" || got.Size != 6 || got.State() != Regular || got.Real != file || got.Self.Perm() != 0o640 {
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
			out := scriptOutput(t, shell, t.TempDir(), t.TempDir(), programFor([]string{PackageKey("kernel-ml", "no-such-repo")}))
			f, err := Parse(out)
			if name == "busybox" {
				// Its own rpm has no -q of this kind, and says how it is used.
				if err == nil || !strings.Contains(err.Error(), "rpm -q ended with exit status 1") {
					t.Errorf("an rpm that is none: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
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

// TestScriptOfABrokenNode: a tool that is there and fails is an error of the
// host, in the tool's words; nothing that it says reaches a terminal raw.
func TestScriptOfABrokenNode(t *testing.T) {
	const rpm = `echo "kernel 0 3.10.0 1160.el7 x86_64"; echo "package kernel-lt is not installed"; exit 1`
	const grubby = `case $1 in --info=ALL) printf 'index=0\nkernel="/boot/vmlinuz-6.1.4"\nargs="ro"\ntitle="Linux"\nid="x-6.1.4"\n'; esac`
	for _, c := range []struct{ name, rpm, grubby, want string }{
		{"rpmdb", `echo "error: rpmdb: BDB0113 Thread/process 812/1 failed: BDB1507 Thread died in Berkeley DB library" >&2
echo "error: cannot open Packages database in /var/lib/rpm" >&2; for a in kernel kernel-lt; do echo "package $a is not installed"; done; exit 2`,
			grubby, "rpm -q ended with exit status 2: error: rpmdb: BDB0113 Thread/process 812/1 failed: BDB1507 Thread died in Berkeley DB library"},
		{"rpm crashes", `kill -SEGV $$`, grubby, "rpm -q ended with exit status 139: "},
		{"C grubby", rpm, `echo "grubby: error opening /boot/grub2/grub.cfg for read: No such file or directory" >&2; exit 1`,
			"grubby ended with exit status 1: grubby: error opening /boot/grub2/grub.cfg for read: No such file or directory"},
		{"grubby with colours", rpm, `printf '\033]0;owned\007\033[31mbroken\033[0m' >&2; exit 3`, "grubby ended with exit status 3: broken"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bin := t.TempDir()
			tool(t, bin, "rpm", c.rpm)
			tool(t, bin, "grubby", c.grubby)
			_, err := Gather(t.Context(), localShell{t, bin}, "node7", false)
			if err == nil {
				t.Fatal("no error")
			}
			p := rollout.AsProblem(err)
			if !strings.HasPrefix(p.Message, "cannot read the facts of node7: "+c.want) || !strings.HasPrefix(p.Hint, "on node7: ") || p.Unreachable {
				t.Errorf("%q, hint %q; want %q", p.Message, p.Hint, c.want)
			}
		})
	}
	t.Run("repository with colours", func(t *testing.T) {
		bin := t.TempDir()
		tool(t, bin, "rpm", rpm)
		tool(t, bin, "grubby", grubby+"\necho asked >>"+bin+"/asked")
		tool(t, bin, "yum", `printf '\033[2J\033]0;owned\007Error: \033[31mno mirror\033[0m\n'; exit 1`)
		f, err := Gather(t.Context(), localShell{t, bin}, "node7", false, PackageKey("kernel-ml", "elrepo-kernel"))
		if err != nil {
			t.Fatal(err)
		}
		if got := f.RepoErrors["elrepo-kernel"]; got != "Error: no mirror" {
			t.Errorf("the repository's error: %q", got)
		}
		if asked, _ := os.ReadFile(filepath.Join(bin, "asked")); string(asked) != "asked\n" {
			t.Errorf("grubby's script was asked %d times", strings.Count(string(asked), "asked"))
		}
		if f.Boot.Default != "/boot/vmlinuz-6.1.4" {
			t.Errorf("default %q", f.Boot.Default)
		}
	})
}

// localShell is a Remote that runs scripts here.
type localShell struct {
	t   *testing.T
	bin string
}

func (l localShell) Run(_ context.Context, _ string, c sshexec.Command) (sshexec.Result, error) {
	return sshexec.Result{Stdout: scriptOutput(l.t, []string{"sh"}, l.bin, l.bin, c.Script)}, nil
}

func (localShell) Upload(context.Context, string, sshexec.Upload) error {
	return errors.New("no uploads")
}
func (localShell) Forget(string) {}

// runScript is what the script finds.
func runScript(t *testing.T, shell []string, bin, tmp, program string) Facts {
	t.Helper()
	out := scriptOutput(t, shell, bin, tmp, program)
	f, err := Parse(out)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return f
}

// scriptOutput feeds the script to a shell's standard input, the hardest way to
// run it: a command that reads its own input would eat the rest of it.
func scriptOutput(t *testing.T, shell []string, bin, tmp, program string) []byte {
	t.Helper()
	c := exec.Command(shell[0], shell[1:]...)
	c.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "TMPDIR="+tmp)
	c.Stdin = strings.NewReader(program)
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", shell, err, out)
	}
	return out
}

// TestScriptsParts runs functions of the script on files that this machine lacks:
// the firmware's variables, and a disk that is a RAID with partitions.
func TestScriptsParts(t *testing.T) {
	dir := t.TempDir()
	const guid = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
	wide := func(text string) (out string) {
		for _, c := range text {
			out += string(c) + "\x00"
		}
		return out
	}
	for file, content := range map[string]string{
		"vars/BootCurrent-" + guid: "\x06\x00\x00\x00\x0a\x00",
		"vars/Boot000A-" + guid: "\x07\x00\x00\x00\x01\x00\x00\x00\x62\x00" + wide("Rocky Linux\x00") + "\x04\x01\x2a\x00\x01\x00\x00\x00" +
			"\x04\x04\x34\x00" + wide(`\EFI\rocky\shimx64.efi`+"\x00") + "\x7f\xff\x04\x00",
		"md127/md/level": "raid1\n", "md127/md127p1/partition": "1\n",
	} {
		file = filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	functions, _, _ := strings.Cut(script, "\nemit hostname ")
	functions = strings.Replace(functions, "/sys/firmware/efi/efivars", dir+"/vars", 1)
	for name, shell := range shells(t) {
		for call, want := range map[string]string{"efi_loader": `\EFI\rocky`, "layers " + dir + "/md127/md127p1": "layer raid"} {
			out := scriptOutput(t, shell, dir, dir, functions+"\n"+call+"\n")
			if _, said, _ := strings.Cut(strings.TrimSpace(string(out)), "\n"); said != want {
				t.Errorf("%s: %s: %q", name, call, said)
			}
		}
	}
}
