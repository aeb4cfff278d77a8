package sshexec_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/opensshtest"
)

// TestLoginsAreBounded: a directory server gets no more logins at a time than there
// are places, however slow it is; and those that wait do not time out.
func TestLoginsAreBounded(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int32
	h := newHostile(t, func(c net.Conn, conf *ssh.ServerConfig) {
		conf.PasswordCallback = func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) {
			n := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(300 * time.Millisecond)
			return nil, nil
		}
		if conn, chans, reqs, err := ssh.NewServerConn(c, conf); err == nil {
			go ssh.DiscardRequests(reqs)
			go func() {
				for range chans {
				}
			}()
			_ = conn.Wait()
		}
	})
	known, err := os.ReadFile(h.target.KnownHosts[0])
	if err != nil {
		t.Fatal(err)
	}
	_, key, _ := strings.Cut(string(known), " ")
	file := writeFile(t, "web* "+key)
	p := newPool(t, sshexec.Options{MaxDials: 2})
	var wg sync.WaitGroup
	for i := range 12 {
		target := h.target
		target.Password, target.KnownHosts, target.ConnectTimeout = "pw", []string{file}, time.Second
		target.HostKeyAlias = "web" + string(rune('a'+i))
		wg.Go(func() {
			if err := p.Connect(testContext(t), target); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := most.Load(); n != 2 {
		t.Errorf("%d logins at once, want 2", n)
	}
}

// A watchedContent tells of a read that comes when nobody may read.
type watchedContent struct {
	*bytes.Reader
	cancel func()
	over   atomic.Bool
	late   atomic.Bool
}

func (w *watchedContent) Read(b []byte) (int, error) {
	if w.Len() < 12<<20 {
		w.cancel()
		time.Sleep(50 * time.Millisecond)
	}
	if w.over.Load() {
		w.late.Store(true)
	}
	return w.Reader.Read(b)
}

// TestUploadLeavesItsContentAlone: once Upload has returned, the caller may close
// the file.
func TestUploadLeavesItsContentAlone(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{})
	ctx, cancel := context.WithCancel(testContext(t))
	const size = 16 << 20
	content := &watchedContent{Reader: bytes.NewReader(make([]byte, size)), cancel: cancel}
	p := newPool(t, sshexec.Options{})
	err := p.Upload(ctx, s.Target("web1"), sshexec.Upload{Path: t.TempDir() + "/f", Content: content, Size: size, SHA256: strings.Repeat("a", 64)})
	content.over.Store(true)
	if sshexec.KindOf(err) != sshexec.KindCanceled {
		t.Error(err)
	}
	p.Close()
	if content.late.Load() {
		t.Error("the content was read after Upload had returned")
	}
}

func TestUploadToAFullFileSystem(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("needs root: it mounts a small file system: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, 0) })
	s := opensshtest.Start(t, opensshtest.Config{})
	for _, without := range []bool{false, true} {
		var o sshexec.Options
		if without {
			sshexec.WithoutSFTP(&o)
		}
		err := newPool(t, o).Upload(testContext(t), s.Target("web1"), upload(dir+"/f", strings.Repeat("x", 1<<20)))
		want := "is the file system full"
		if without {
			want = "No space left on device"
		}
		if err == nil || sshexec.KindOf(err) != sshexec.KindFile || !strings.Contains(err.Error()+sshexec.HintOf(err), want) {
			t.Errorf("%v, want %s", err, want)
		}
		if left := listDir(t, dir); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}
