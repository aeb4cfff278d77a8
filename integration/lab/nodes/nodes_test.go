package nodes

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestProcFileKillsOnlyWhatItStarted(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	file := procFile(filepath.Join(t.TempDir(), "sleep.proc"))
	if err := file.write(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	start, _, err := procStat(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}

	// The ID has gone to another process, one that started at another time.
	if err := os.WriteFile(string(file), fmt.Appendf(nil, "%d %s9\n", cmd.Process.Pid, start), 0o644); err != nil {
		t.Fatal(err)
	}
	if pid := file.pid(); pid != 0 {
		t.Errorf("took process %d for its own", pid)
	}
	if err := file.kill(); err != nil {
		t.Error(err)
	}
	select {
	case <-exited:
		t.Fatal("killed a process that it did not start")
	default:
	}

	if err := file.write(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if err := file.kill(); err != nil {
		t.Error(err)
	}
	<-exited
	if err := file.kill(); err != nil {
		t.Errorf("the second time: %v", err)
	}
}

func TestMirrorModes(t *testing.T) {
	www := t.TempDir()
	if err := os.WriteFile(filepath.Join(www, "key"), []byte("a key\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	modeFile := filepath.Join(t.TempDir(), "mode")
	set := func(m MirrorMode) {
		if err := os.WriteFile(modeFile, []byte(m), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewServer(mirrorHandler("node1", www, func() MirrorMode {
		content, _ := os.ReadFile(modeFile)
		return MirrorMode(content)
	}))
	defer server.Close()
	get := func(patience time.Duration) (int, string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/key", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body), err
	}

	if code, body, err := get(time.Minute); err != nil || code != 200 || body != "a key\n" {
		t.Errorf("serve: %d %q %v", code, body, err)
	}
	set(MirrorMissing)
	if code, _, err := get(time.Minute); err != nil || code != 404 {
		t.Errorf("missing: %d %v", code, err)
	}
	set(MirrorRefuse)
	if _, _, err := get(time.Minute); err == nil || strings.Contains(err.Error(), "deadline") {
		t.Errorf("refuse: %v", err)
	}
	set(MirrorHang)
	if _, _, err := get(300 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "deadline") {
		t.Errorf("hang: %v", err)
	}
}

func TestSeed(t *testing.T) {
	files := Kubelet{CA: []byte("ca"), Token: "secret"}.files("node1")
	files["/home/ops/.ssh/authorized_keys"] = File{Content: []byte("key"), Mode: 0o600, UID: 1001}
	seed, err := seedTar(files)
	if err != nil {
		t.Fatal(err)
	}
	if len(seed)%512 != 0 {
		t.Errorf("%d bytes: not a disk", len(seed))
	}
	got := map[string]string{}
	for r := tar.NewReader(bytes.NewReader(seed)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = fmt.Sprintf("%o %d %s", h.Mode, h.Uid, content)
	}
	for name, want := range map[string]string{
		"home/ops/.ssh/":                "700 1001 ",
		"home/ops/.ssh/authorized_keys": "600 1001 key",
		"etc/kubelet-standin/token":     "600 0 secret\n",
		"etc/kubelet-standin/server":    "644 0 https://10.0.2.101:6443\n",
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
	if _, err := seedTar(map[string]File{"/etc/../x": {}}); err == nil {
		t.Error("took a path that is not clean")
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no nodes":    {},
		"a name used": {Nodes: []NodeConfig{{Name: "a"}, {Name: "a"}}},
		"not a name":  {Nodes: []NodeConfig{{Name: "a b"}}},
	} {
		if err := cfg.complete(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	cfg := Config{Nodes: append(Uniform(2, EL8), NodeConfig{})}
	if err := cfg.complete(); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(cfg.Nodes[2].Name, cfg.Nodes[2].Flavour, cfg.flavours()); got != "node3el7[el8 el7]" {
		t.Errorf("defaults: %s", got)
	}
}

// Whoever meets one of these files on a node, or in a process list, must see that it is not the real one.
func TestStandInsSayWhatTheyAre(t *testing.T) {
	for _, name := range []string{"grubby.el7", "grubby.bls", "blscfg", "new-kernel-pkg", "installkernel", "kernel-install", "dracut", "node-identity", "kubelet-standin"} {
		content, err := imageFiles.ReadFile("image/guest/" + name)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.SplitN(string(content), "\n", 3)
		if lines[0] != "#!/bin/sh" || !strings.Contains(lines[1], "stand-in") {
			t.Errorf("%s begins with %q", name, lines[:2])
		}
	}
}

func TestDigestFollowsScripts(t *testing.T) {
	a, err := digest("el7", "image")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := digest("el8", "image")
	c, _ := digest("el7", "image/mkroot.sh")
	if a == b || a == c || len(a) != 12 {
		t.Errorf("digests %s %s %s", a, b, c)
	}
}
