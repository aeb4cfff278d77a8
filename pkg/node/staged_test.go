package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestStagedFacts: yum is asked of what is staged where that answers this question, is
// all there, and is not installed; and of the repositories otherwise.
func TestStagedFacts(t *testing.T) {
	if !strings.Contains(script, "\nstage="+StageDir+"\n") {
		t.Fatal("the script looks elsewhere than in StageDir")
	}
	const note = "kernel-ml@elrepo-kernel kernel-ml-6.1.4-1.el8.elrepo.x86_64 2026-11-20T14:00:00Z"
	keys := []string{"", PackageKey("kernel-ml", "elrepo-kernel"), InstallKey("kernel-ml", "elrepo-kernel")}
	other := []string{"", PackageKey("kernel-ml", "elrepo-kernel"), InstallKey("kernel-ml-6.2", "elrepo-kernel")}
	for _, c := range []struct {
		name, note, rpm string
		keys            []string
		staged, offline bool
	}{
		{"nothing", "", "exit 1", keys, false, false},
		{"staged", note + "\nrepo/a.rpm\n", "exit 1", keys, true, true},
		{"asked anew", note + "\nrepo/a.rpm\n", "exit 1", append([]string{UnstagedKey}, keys...), true, false},
		{"another question", note + "\nrepo/a.rpm\n", "exit 1", other, true, false},
		{"a file is gone", note + "\nrepo/a.rpm\nrepo/b.rpm\n", "exit 1", keys, false, false},
		{"a file is empty", note + "\nrepo/a.rpm\nrepo/empty.rpm\n", "exit 1", keys, false, false},
		{"installed", note + "\nrepo/a.rpm\n", `[ "$2" = kernel-ml-6.1.4-1.el8.elrepo.x86_64 ]`, keys, false, false},
		{"cut off", "kernel-ml@elrepo-kernel", "exit 1", keys, false, false},
	} {
		for name, shell := range shells(t) {
			if name == "busybox" {
				continue // it takes its own rpm before the one in PATH
			}
			bin, dir := t.TempDir(), t.TempDir()
			tool(t, bin, "rpm", `case $# in 2) `+c.rpm+` ;; *) echo "kernel-ml-headers 0 6.0.1 1.el8.elrepo x86_64"; echo "package kernel is not installed"; exit 1 ;; esac`)
			tool(t, bin, "yum", `echo "$@" >>`+bin+`/asked; case $* in *" kernel-ml"*) echo "Installing:"; echo " kernel-ml   $(uname -m)"; echo "      6.1.4-1.el8.elrepo elrepo-kernel  13 M";; esac; echo "Transaction Summary"; echo "Total download size: 1.5 M"; exit 1`)
			tool(t, bin, "grubby", "")
			for file, content := range map[string]string{"repo/a.rpm": "a", "repo/empty.rpm": "", "staged": c.note} {
				if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(file)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			f := runScript(t, shell, bin, dir, strings.Replace(programFor(c.keys), "\nstage="+StageDir+"\n", "\nstage="+dir+"\n", 1))
			want := Staged{}
			if c.staged {
				want = Staged{Question: "kernel-ml@elrepo-kernel", Package: "kernel-ml-6.1.4-1.el8.elrepo.x86_64", Since: "2026-11-20T14:00:00Z", Asked: c.offline}
			}
			raw, _ := os.ReadFile(filepath.Join(bin, "asked"))
			asked := strings.Split(strings.TrimSpace(string(raw)), "\n")
			// Of the newest it is asked twice: which one it is, and with what is kept in step.
			spec, _, _ := strings.Cut(strings.TrimPrefix(c.keys[len(c.keys)-1], "install="), "@")
			times := 2
			if spec == "kernel-ml" {
				spec, times = "kernel-ml-6.1.4-1.el8.elrepo", 3
			}
			if f.Staged != want || len(asked) != times {
				t.Errorf("%s, %s: staged %+v, asked %q", c.name, name, f.Staged, asked)
			}
			for _, a := range asked {
				if offline := strings.HasPrefix(a, "-C ") && strings.Contains(a, "--setopt=cachedir="+dir+" "); offline != c.offline {
					t.Errorf("%s, %s: yum was asked %q", c.name, name, a)
				}
			}
			if inStep := " " + spec + " " + strings.Replace(spec, "kernel-ml", "kernel-ml-headers", 1); !strings.HasSuffix(asked[len(asked)-1], inStep) {
				t.Errorf("%s, %s: the headers are not asked for: %q", c.name, name, asked)
			}
		}
	}
}

func TestDownloadSize(t *testing.T) {
	for text, want := range map[string]int64{
		"Total download size: 93 M\n": 93 << 20, "x\nTotal download size: 1.5 G\n": 3 << 29, "Total download size: 980 k\nInstalled size: 3 M\n": 980 << 10,
		"Total size: 93 M\nTotal download size: 12 M\n": 12 << 20, "Total size: 93 M\n": 0, "": 0, "Total download size: 512\n": 512,
	} {
		if got := DownloadSize(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}
