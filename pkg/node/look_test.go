package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/words"
)

// What is at a path, whatever it and the ends of links are called.
func TestLook(t *testing.T) {
	for name, shell := range shells(t) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			hostile := filepath.Join(dir, "a\npath x\n\xff\x1b[31m $(id) '")
			if err := os.WriteFile(hostile, []byte("hello\n"), 0o640); err != nil {
				t.Fatal(err)
			}
			link := filepath.Join(dir, "link")
			if err := os.Symlink("no\nself 0\n\xfe", link); err != nil {
				t.Fatal(err)
			}
			over := filepath.Join(dir, "over")
			if err := os.Symlink(hostile, over); err != nil {
				t.Fatal(err)
			}
			paths := []string{hostile, link, over, dir, filepath.Join(dir, "none")}
			var argv []string
			for _, p := range paths {
				argv = append(argv, words.Quote(p))
			}
			out := scriptOutput(t, shell, t.TempDir(), t.TempDir(), LookScript(argv, "echo note done y")+"sees\n")
			seen, err := ParseLook(sshexec.Result{Stdout: out})
			if err != nil {
				t.Fatal(err)
			}
			for i, p := range paths {
				if seen.Places[i].Path != p {
					t.Errorf("path %q, want %q", seen.Places[i].Path, p)
				}
			}
			file, dangling, led, folder, none := seen.Places[0], seen.Places[1], seen.Places[2], seen.Places[3], seen.Places[4]
			if file.State() != Regular || file.Self.Perm() != 0o640 || file.Size != 6 || file.SHA1 != "f572d396fae9206628714fb2ce00f72e94f2258f" || file.Real != hostile {
				t.Errorf("file %+v", file)
			}
			if dangling.State() != Symlink || dangling.Link != "no\nself 0\n\xfe" || dangling.Leads() != nil || dangling.Exists {
				t.Errorf("link to nothing %+v", dangling)
			}
			if led.State() != Symlink || led.Link != hostile || led.Real != hostile || led.Leads().ID != file.Self.ID {
				t.Errorf("link %+v", led)
			}
			if folder.State() != Directory || none.State() != Absent || seen.Notes["done"] != "y" {
				t.Errorf("folder %+v, none %+v, notes %v", folder, none, seen.Notes)
			}
		})
	}
}

// An answer that is cut off, or that failed, is no answer.
func TestLookIsWhole(t *testing.T) {
	whole := "umask 0022\npath 2f\nreal 2f\nlooked\n"
	if _, err := ParseLook(sshexec.Result{Stdout: []byte(whole)}); err != nil {
		t.Error(err)
	}
	for i := range len(whole) - 1 {
		if _, err := ParseLook(sshexec.Result{Stdout: []byte(whole[:i])}); err == nil {
			t.Errorf("%q passes for an answer", whole[:i])
		}
	}
	for _, r := range []sshexec.Result{{Stdout: []byte(whole), ExitStatus: 1}, {Stdout: []byte(whole), Truncated: true}} {
		if _, err := ParseLook(r); err == nil {
			t.Errorf("%+v passes for an answer", r)
		}
	}
}

func FuzzParseLook(f *testing.F) {
	f.Add([]byte("umask 0022\npath 2f\n755 4096 directory\nreal 2f\nself 41ed 0 0 4096 2 1.2:root:root\nlooked\n"))
	f.Add([]byte("path 2f78\nmissing\nself a1ff 0 0 4 1 1.3:a b:c\nlink 6e6f\nnote x y z\nlooked"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		seen, err := ParseLook(sshexec.Result{Stdout: raw})
		if err != nil {
			return
		}
		for _, p := range seen.Places {
			if p.State() != Absent && p.Self == nil || strings.Contains(p.SHA256, "\n") {
				t.Errorf("%q: %+v", raw, p)
			}
		}
	})
}
