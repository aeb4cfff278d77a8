package nodes

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite the expected part of the golden files from what the stand-ins do")

// Each golden file is a node's boot files, a script of grubby calls under "script", and under "want" what
// a person sees who types them: "$ command", its output, "[rc N]" unless 0, and after the last command
// the files that "show" named. Files whose name starts with / make up the node before the script runs.
func TestGrubby(t *testing.T) {
	for dialect, stand := range map[string]string{"el7": "grubby.el7", "el8": "grubby.bls", "el9": "grubby.bls"} {
		files, err := filepath.Glob("testdata/" + dialect + "/*.txtar")
		if err != nil || len(files) == 0 {
			t.Fatalf("no golden files for %s: %v", dialect, err)
		}
		for _, file := range files {
			t.Run(dialect+"/"+strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
				t.Parallel()
				testGrubby(t, file, stand)
			})
		}
	}
}

func testGrubby(t *testing.T, file, stand string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	var script, want string
	for _, f := range archive.Files {
		switch {
		case f.Name == "script":
			script = string(f.Data)
		case f.Name == "want":
			want = string(f.Data)
		default:
			// A file "common" brings in another archive's files: every test of a dialect starts alike.
			if f.Name == "common" {
				common, err := txtar.ParseFile(filepath.Join(filepath.Dir(file), strings.TrimSpace(string(f.Data))))
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range common.Files {
					writeGuestFile(t, root, c.Name, c.Data)
				}
				continue
			}
			writeGuestFile(t, root, f.Name, f.Data)
		}
	}
	got := play(t, root, stand, script)
	if *update {
		for i := range archive.Files {
			if archive.Files[i].Name == "want" {
				archive.Files[i].Data = []byte(got)
			}
		}
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what one sees differs (-want +got):\n%s", diff)
	}
	block, err := os.ReadFile(filepath.Join(root, "boot/grub2/grubenv"))
	if err != nil || len(block) != 1024 || !bytes.HasPrefix(block, []byte("# GRUB Environment Block\n")) {
		t.Errorf("grubenv is not a block that GRUB can write to: %d bytes, %v", len(block), err)
	}
}

// writeGuestFile writes a file of the node; grubenv is padded to the 1024 bytes that GRUB insists on.
func writeGuestFile(t *testing.T, root, name string, data []byte) {
	t.Helper()
	if filepath.Base(name) == "grubenv" {
		data = append([]byte("# GRUB Environment Block\n"), data...)
		data = append(data, bytes.Repeat([]byte("#"), 1024-len(data))...)
	}
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// play runs the script's lines: "grubby …" in a shell, "env" prints grubenv, "cat FILE" a file,
// "ls FOLDER" names.
func play(t *testing.T, root, stand, script string) string {
	t.Helper()
	guest, err := filepath.Abs("image/guest")
	if err != nil {
		t.Fatal(err)
	}
	const prelude = `
grubby() { sh "$GUEST/$STAND" "$@"; }
env() { sed '1d; s/#*$//; /^$/d' "$GRUBBY_ROOT/boot/grub2/grubenv"; }
cat() { command cat "$GRUBBY_ROOT$1"; }
ls() { command ls "$GRUBBY_ROOT$1"; }
touch() { mkdir -p "$GRUBBY_ROOT${1%/*}"; : > "$GRUBBY_ROOT$1"; }
`
	var out strings.Builder
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		out.WriteString("$ " + line + "\n")
		cmd := exec.Command("sh", "-c", prelude+line+"\nrc=$?; [ $rc = 0 ] || echo \"[rc $rc]\"")
		cmd.Env = append(os.Environ(), "LC_ALL=C", "GUEST="+guest, "STAND="+stand, "GRUBBY_ROOT="+root, "GRUBBY_LIBEXEC="+guest)
		text, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		out.WriteString(strings.ReplaceAll(string(text), root, ""))
	}
	return out.String()
}
