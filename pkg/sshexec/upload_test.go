package sshexec_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/opensshtest"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

func upload(path, content string) sshexec.Upload {
	return sshexec.Upload{Path: path, Content: strings.NewReader(content), Size: int64(len(content)), SHA256: digestOf([]byte(content))}
}

func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

func fileFacts(t testing.TB, name string) string {
	t.Helper()
	st, err := os.Lstat(name)
	if err != nil {
		return err.Error()
	}
	sys := st.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%s %d:%d", st.Mode(), sys.Uid, sys.Gid)
}

func TestOpenSSHUpload(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{Users: true})
	const deployID = 48500
	for _, noSFTP := range []bool{false, true} {
		t.Run(fmt.Sprintf("sftp=%v", !noSFTP), func(t *testing.T) {
			opts := sshexec.Options{}
			if noSFTP {
				sshexec.WithoutSFTP(&opts)
			}
			p := newPool(t, opts)
			root := s.As("root")
			sudo := s.As(opensshtest.DeployUser)
			sudo.Become.Password = opensshtest.DeployPassword
			dir := t.TempDir()
			_ = os.Chmod(dir, 0o755)
			_ = os.Chmod(filepath.Dir(dir), 0o755)
			check := func(t *testing.T, name, content, facts string) {
				t.Helper()
				b, err := os.ReadFile(name)
				if err != nil || string(b) != content {
					t.Errorf("%s: %d bytes, %v", name, len(b), err)
				}
				if got := fileFacts(t, name); got != facts {
					t.Errorf("%s: %s, want %s", name, got, facts)
				}
				if left, _ := filepath.Glob(filepath.Dir(name) + "/.fleetd-*"); left != nil {
					t.Errorf("left behind: %v", left)
				}
			}
			big := make([]byte, 5<<20+13)
			_, _ = rand.NewChaCha8([32]byte{}).Read(big)
			for _, tc := range []struct {
				name    string
				target  sshexec.Target
				before  string // content of the target before, mode 0o751, owner 7:8
				up      sshexec.Upload
				want    string
				wantErr string
				hint    string
			}{
				{name: "new", target: root, up: upload(dir+"/new", "text"), want: "-rw-r--r-- 0:0"},
				{name: "empty", target: root, up: upload(dir+"/empty", ""), want: "-rw-r--r-- 0:0"},
				{name: "big", target: root, up: upload(dir+"/big", string(big)), want: "-rw-r--r-- 0:0"},
				{name: "odd name", target: root, up: upload(dir+"/a 'b' $c\n\\n*", "x"), want: "-rw-r--r-- 0:0"},
				{name: "keeps what is there", target: root, before: "old", up: upload(dir+"/old", "new"), want: "-rwxr-x--x 7:8"},
				{name: "mode and owner", target: root, before: "old", up: func() sshexec.Upload {
					u := upload(dir+"/owned", "x")
					u.Mode, u.Owner, u.Group = 0o600, "daemon", "sys"
					return u
				}(), want: fmt.Sprintf("-rw------- %d:%d", uid(t, "daemon"), gid(t, "sys"))},
				{name: "setuid", target: root, up: func() sshexec.Upload {
					u := upload(dir+"/setuid", "x")
					u.Mode, u.Owner = 0o755|fs.ModeSetuid, "daemon"
					return u
				}(), want: fmt.Sprintf("urwxr-xr-x %d:0", uid(t, "daemon"))},
				{name: "makes directories", target: root, up: func() sshexec.Upload {
					u := upload(dir+"/d1/d2/f", "x")
					u.MkdirMode = 0o750
					return u
				}(), want: "-rw-r--r-- 0:0"},
				{name: "sudo", target: sudo, up: func() sshexec.Upload { u := upload(dir+"/by-sudo", string(big)); u.Become = true; return u }(), want: "-rw-r--r-- 0:0"},
				{name: "own home", target: sudo, up: upload(s.Path("home-"+opensshtest.DeployUser)+"/f", "x"), want: fmt.Sprintf("-rw-r--r-- %d:%d", deployID, deployID)},
				{name: "no directory", target: root, up: upload(dir+"/none/f", "x"), wantErr: "cannot write " + dir + "/none/f on web1: there is no directory " + dir + "/none", hint: "MkdirMode"},
				{name: "not allowed", target: sudo, up: upload(dir+"/denied", "x"), wantErr: "no permission to write in " + dir, hint: "use become"},
				{name: "a directory is there", target: root, up: upload(dir+"/d1", "x"), wantErr: "there is a directory of that name"},
				{name: "unknown owner", target: root, up: func() sshexec.Upload { u := upload(dir+"/who", "x"); u.Owner = "nobody-of-that-name"; return u }(), wantErr: "cannot set the owner nobody-of-that-name"},
				{name: "wrong digest", target: root, up: func() sshexec.Upload {
					u := upload(dir+"/digest", "x")
					u.SHA256 = strings.Repeat("0", 64)
					return u
				}(), wantErr: "the digest on the node is 2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881, not what was sent"},
				{name: "content too short", target: root, up: func() sshexec.Upload {
					u := upload(dir+"/short", "x")
					u.Size, u.SHA256 = 10, strings.Repeat("0", 64)
					return u
				}(), wantErr: "the content has 1 bytes, not 10"},
				{name: "no digest", target: root, up: func() sshexec.Upload { u := upload(dir+"/any", "x"); u.SHA256 = ""; return u }(), wantErr: "is no SHA-256"},
				{name: "relative path", target: root, up: upload("f", "x"), wantErr: "not a clean absolute path"},
			} {
				t.Run(tc.name, func(t *testing.T) {
					if tc.before != "" {
						if err := os.WriteFile(tc.up.Path, []byte(tc.before), 0o600); err != nil {
							t.Fatal(err)
						}
						_ = os.Chmod(tc.up.Path, 0o751)
						_ = os.Chown(tc.up.Path, 7, 8)
					}
					err := p.Upload(testContext(t), tc.target, tc.up)
					if tc.wantErr != "" {
						if err == nil || !strings.Contains(err.Error(), tc.wantErr) || !strings.Contains(sshexec.HintOf(err), tc.hint) {
							t.Errorf("got %v (%s), want %s", err, sshexec.HintOf(err), tc.wantErr)
						}
						if left, _ := filepath.Glob(dir + "/.fleetd-*"); left != nil {
							t.Errorf("left behind: %v", left)
						}
						return
					}
					if err != nil {
						t.Fatal(err)
					}
					_, _ = tc.up.Content.Seek(0, io.SeekStart)
					want, _ := io.ReadAll(tc.up.Content)
					check(t, tc.up.Path, string(want), tc.want)
				})
			}
		})
	}
}

func uid(t testing.TB, name string) int {
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(u.Uid)
	return n
}

func gid(t testing.TB, name string) int {
	g, err := user.LookupGroup(name)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(g.Gid)
	return n
}

// TestOpenSSHUploadCanceled stops uploads in the middle: the node removes the
// temporary file by itself.
func TestOpenSSHUploadCanceled(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{})
	dir := t.TempDir()
	for _, how := range []string{"context", "pool closed"} {
		t.Run(how, func(t *testing.T) {
			p := newPool(t, sshexec.Options{})
			ctx, cancel := context.WithCancel(testContext(t))
			defer cancel()
			var once sync.Once
			stop := cancel
			if how == "pool closed" {
				stop = func() { go p.Close() }
			}
			content := &hookReader{Reader: bytes.NewReader(make([]byte, 64<<20)), after: 8 << 20, hook: func() { once.Do(stop) }}
			err := p.Upload(ctx, s.Target("web1"), sshexec.Upload{Path: dir + "/f", Content: content, Size: 64 << 20, SHA256: strings.Repeat("a", 64)})
			if k := sshexec.KindOf(err); k != sshexec.KindCanceled && k != sshexec.KindLost {
				t.Errorf("got %v", err)
			}
			waitFor(t, func() bool { return len(listDir(t, dir)) == 0 }, func() string { return fmt.Sprint(listDir(t, dir)) })
		})
	}
}

type hookReader struct {
	*bytes.Reader
	after int64
	hook  func()
}

func (r *hookReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if r.after -= int64(n); r.after < 0 {
		r.hook()
	}
	return n, err
}

func TestUploadsOfOneFileAtOnce(t *testing.T) {
	srv := sshtest.New(t)
	p := newPool(t, sshexec.Options{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			u := upload("/etc/f", strings.Repeat(strconv.Itoa(i), 100_000))
			if err := p.Upload(testContext(t), srv.Target("web1"), u); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	b, err := srv.ReadFile("/etc/f")
	if err != nil || len(b) != 100_000 || strings.Trim(string(b), string(b[:1])) != "" {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if left := listDir(t, srv.Path("/etc")); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}
