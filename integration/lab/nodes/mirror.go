package nodes

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The mirror is one process that serves each node its flavour's repositories, at <node's address>:80 of
// the namespace. It is this program started again, because it must outlive it: the lab stays up after
// the command that started it.
const mirrorEnv = "FLEETD_LAB_MIRROR"

func init() {
	dir := os.Getenv(mirrorEnv)
	if dir == "" {
		return
	}
	if err := serveMirror(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(1)
}

// MirrorMode is how a node's yum mirror behaves.
type MirrorMode string

// The modes. QEMU accepts a node's connections itself, so a node never sees one refused: MirrorRefuse
// ends it at once, before an answer; MirrorHang takes the request and never answers; MirrorMissing says
// 404 to all.
const (
	MirrorServe   MirrorMode = "serve"
	MirrorRefuse  MirrorMode = "refuse"
	MirrorHang    MirrorMode = "hang"
	MirrorMissing MirrorMode = "missing"
)

func (l *Lab) mirrorModePath(i int) string { return filepath.Join(l.nodeDir(i), "mirror-mode") }

// SetMirror sets how the mirror behaves towards node i from the next request on.
func (l *Lab) SetMirror(i int, mode MirrorMode) error {
	return os.WriteFile(l.mirrorModePath(i), []byte(mode), 0o644)
}

// StopMirror makes the mirror refuse or hang for all nodes; StartMirror ends that.
func (l *Lab) StopMirror(mode MirrorMode) error {
	for _, n := range l.Nodes() {
		if err := l.SetMirror(n.Index, mode); err != nil {
			return err
		}
	}
	return nil
}

// StartMirror makes the mirror serve all nodes again.
func (l *Lab) StartMirror() error { return l.StopMirror(MirrorServe) }

func (l *Lab) startMirror() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	logfile, err := os.Create(filepath.Join(l.Dir, "mirror.log"))
	if err != nil {
		return err
	}
	defer logfile.Close()
	ready, pipe, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), mirrorEnv+"="+l.Dir)
	cmd.Stdout, cmd.Stderr = logfile, logfile
	cmd.ExtraFiles = []*os.File{pipe}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	inheritNothing()
	err = inNetns(l.Netns, cmd.Start)
	pipe.Close()
	if err != nil {
		return fmt.Errorf("cannot start the mirror: %w", err)
	}
	if err := l.mirrorProcess().write(cmd.Process.Pid); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // reaps it, if this process lives on when it ends
	_ = ready.SetReadDeadline(time.Now().Add(30 * time.Second))
	if n, _ := ready.Read(make([]byte, 1)); n == 0 {
		why, _ := os.ReadFile(logfile.Name())
		return fmt.Errorf("cannot start the mirror: %s", strings.TrimSpace(string(why)))
	}
	return nil
}

// serveMirror is the mirror's process. It already runs in the namespace.
func serveMirror(dir string) error {
	l, err := Load(dir)
	if err != nil {
		return err
	}
	failed := make(chan error)
	for i, s := range l.state.Nodes {
		ln, err := net.Listen("tcp4", address(i+1)+":80")
		if err != nil {
			return err
		}
		mode := func() MirrorMode {
			content, _ := os.ReadFile(l.mirrorModePath(i + 1)) // no file: serve
			return MirrorMode(strings.TrimSpace(string(content)))
		}
		server := &http.Server{Handler: mirrorHandler(s.Name, image{dir: s.Image}.www(), mode)}
		go func() { failed <- server.Serve(ln) }()
	}
	ready := os.NewFile(3, "ready")
	_, _ = ready.Write([]byte{'\n'})
	ready.Close()
	return <-failed
}

func mirrorHandler(node, www string, mode func() MirrorMode) http.Handler {
	files := http.FileServer(http.Dir(www))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m := mode()
		log.Println(node, m, r.Method, r.URL)
		switch m {
		case MirrorRefuse:
			panic(http.ErrAbortHandler)
		case MirrorMissing:
			http.NotFound(w, r)
		case MirrorHang:
			hang(r.Context(), mode)
			panic(http.ErrAbortHandler)
		default:
			files.ServeHTTP(w, r)
		}
	})
}

// hang returns when the client has given up, or the mode has changed.
func hang(ctx context.Context, mode func() MirrorMode) {
	for mode() == MirrorHang {
		select {
		case <-ctx.Done():
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}
