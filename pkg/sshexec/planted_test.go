package sshexec_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/opensshtest"
	"github.com/fleetd/fleetd/pkg/sshexec/internal/wire"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

// The tests of this file are of bugs that somebody planted and that no other test
// saw.

// TestTargetBehindAJumpHostIsVerified: that the jump host is the right one says
// nothing of what it leads to.
func TestTargetBehindAJumpHostIsVerified(t *testing.T) {
	t.Parallel()
	jump, node := sshtest.New(t), sshtest.New(t)
	target := node.Target("node")
	target.ProxyJump = []sshexec.Target{jump.Target("jump")}
	p := newPool(t, sshexec.Options{})
	if err := runTrue(t, p, target); err != nil {
		t.Fatal(err)
	}
	for what, line := range map[string]string{"unknown": "", "changed": fmt.Sprintf("[127.0.0.1]:%d %s\n", target.Port, keyText(sshtest.NewKey().PublicKey()))} {
		target.KnownHosts = []string{writeFile(t, line)}
		if err := runTrue(t, p, target); sshexec.KindOf(err) != sshexec.KindHostKey || !strings.Contains(err.Error(), "on node") && !strings.Contains(err.Error(), "to node") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestOpenSSHUploadReplaces: who has the old file open reads the old content.
func TestOpenSSHUploadReplaces(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{})
	name := writeFile(t, "old")
	reader, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := newPool(t, sshexec.Options{}).Upload(testContext(t), s.Target("web1"), upload(name, "new")); err != nil {
		t.Fatal(err)
	}
	if old, err := io.ReadAll(reader); err != nil || string(old) != "old" {
		t.Errorf("the open file reads %q, %v", old, err)
	}
	if now, err := os.ReadFile(name); err != nil || string(now) != "new" {
		t.Errorf("%q, %v", now, err)
	}
}

// A spying content looks at the directory that it is written to, before its last
// bytes are read.
type spying struct {
	io.ReadSeeker
	dir   string
	left  int
	modes []fs.FileMode
}

func (s *spying) Read(b []byte) (int, error) {
	if s.left == 0 { // the file is there by now, or soon
		for end := time.Now().Add(30 * time.Second); s.modes == nil && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			found, _ := filepath.Glob(s.dir + "/.fleetd-*")
			for _, f := range found {
				if st, err := os.Stat(f); err == nil {
					s.modes = append(s.modes, st.Mode().Perm())
				}
			}
		}
	}
	s.left--
	return s.ReadSeeker.Read(b[:min(len(b), 1000)])
}

// TestOpenSSHUploadIsReadableByNobodyElse: what is uploaded may be a secret, and gets
// its mode last.
func TestOpenSSHUploadIsReadableByNobodyElse(t *testing.T) {
	t.Parallel()
	s := opensshtest.Start(t, opensshtest.Config{})
	for _, plain := range []bool{false, true} {
		o := sshexec.Options{}
		if plain {
			sshexec.WithoutSFTP(&o)
		}
		dir := t.TempDir()
		u := upload(dir+"/file", strings.Repeat("x", 5000))
		u.Mode = 0o644
		content := &spying{ReadSeeker: u.Content, dir: dir, left: 3}
		u.Content = content
		if err := newPool(t, o).Upload(testContext(t), s.Target("web1"), u); err != nil {
			t.Fatal(err)
		}
		if len(content.modes) == 0 || slices.ContainsFunc(content.modes, func(m fs.FileMode) bool { return m&0o077 != 0 }) {
			t.Errorf("plain=%v: modes while it is written: %v", plain, content.modes)
		}
	}
}

// TestPlainUploadIsFlushed: without SFTP the script has the disk written.
func TestPlainUploadIsFlushed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/sync", []byte("#!/bin/sh\ntest -s "+dir+"/temp && echo flushed\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", wire.UploadScript)
	cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "fl_plain=1", "fl_want=ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "fl_target=" + dir + "/file", "fl_dir=" + dir, "fl_temp=" + dir + "/temp", "fl_nonce=n"}
	cmd.Stdin = strings.NewReader("abc")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "flushed") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestUploadIsFlushed: by SFTP, after the last write and before the file is closed.
func TestUploadIsFlushed(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var calls []string
	h := newHostile(t, program(func(ch ssh.Channel, command string) {
		answerProgram(ch, command)
		line, err := bufio.NewReaderSize(ch, 1).ReadString('\n')
		if err != nil {
			return
		}
		_, nonce, _ := strings.Cut(line, "fl_nonce=")
		nonce, _, _ = strings.Cut(nonce, " ")
		nonce, _, _ = strings.Cut(nonce, ";")
		say := func(s string) { _, _ = fmt.Fprintf(ch.Stderr(), "fleetd-%s %s\n", strings.Trim(nonce, "'"), s) }
		say("sftp")
		got := serveSFTP(ch)
		mu.Lock()
		calls = got
		mu.Unlock()
		say("digest ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
		_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{0}))
		ch.Close()
	}))
	if err := newPool(t, sshexec.Options{}).Upload(testContext(t), h.target, upload("/tmp/file", "abc")); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"open", "write", "fsync", "close"}; !slices.Equal(calls, want) {
		t.Errorf("calls %v, want %v", calls, want)
	}
}

// serveSFTP says yes to everything, and returns what was asked.
func serveSFTP(rw io.ReadWriter) (calls []string) {
	send := func(kind byte, payload []byte) {
		b := binary.BigEndian.AppendUint32(nil, uint32(len(payload)+1))
		_, _ = rw.Write(append(append(b, kind), payload...))
	}
	str := func(b []byte, s string) []byte {
		return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	for {
		var head [5]byte
		if _, err := io.ReadFull(rw, head[:]); err != nil {
			return calls
		}
		body := make([]byte, binary.BigEndian.Uint32(head[:])-1)
		if _, err := io.ReadFull(rw, body); err != nil {
			return calls
		}
		switch head[4] {
		case 1: // init
			send(2, str(str(binary.BigEndian.AppendUint32(nil, 3), "fsync@openssh.com"), "1"))
			continue
		case 3:
			calls = append(calls, "open")
			send(102, str(slices.Clone(body[:4]), "handle"))
			continue
		case 4:
			calls = append(calls, "close")
		case 6:
			calls = append(calls, "write")
		case 200:
			calls = append(calls, strings.TrimSuffix(string(body[8:8+binary.BigEndian.Uint32(body[4:])]), "@openssh.com"))
		}
		send(101, str(str(append(slices.Clone(body[:4]), 0, 0, 0, 0), ""), ""))
	}
}
