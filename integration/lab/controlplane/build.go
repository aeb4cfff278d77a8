package controlplane

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	kubernetesVersion = "v1.34.4"
	kwokVersion       = "v0.7.0"
	operatorVersion   = "v1.36.5"
	// CalicoVersion is what the operator of operatorVersion rolls out.
	CalicoVersion = "v3.29.2"
)

// A tool is one program of the lab and how it is built.
type tool struct {
	name    string
	module  string // folder of the Go module that pins it, below this package's
	pkg     string
	ldflags string
	sources []string // beside go.mod and go.sum, what its digest depends on
}

// Without these linker flags the API server says v0.0.0-master and clients
// that look at its version go astray.
const kubernetesFlags = "-s -w" +
	" -X k8s.io/component-base/version.gitVersion=" + kubernetesVersion +
	" -X k8s.io/component-base/version.gitMajor=1" +
	" -X k8s.io/component-base/version.gitMinor=34"

var tools = []tool{
	{name: "etcd", module: "tools-k8s", pkg: "go.etcd.io/etcd/server/v3", ldflags: "-s -w"},
	{name: "kube-apiserver", module: "tools-k8s", pkg: "k8s.io/kubernetes/cmd/kube-apiserver", ldflags: kubernetesFlags},
	{name: "kube-controller-manager", module: "tools-k8s", pkg: "k8s.io/kubernetes/cmd/kube-controller-manager", ldflags: kubernetesFlags},
	{name: "kube-scheduler", module: "tools-k8s", pkg: "k8s.io/kubernetes/cmd/kube-scheduler", ldflags: kubernetesFlags},
	{name: "kwok", module: "tools-kwok", pkg: "sigs.k8s.io/kwok/cmd/kwok", ldflags: "-s -w -X sigs.k8s.io/kwok/pkg/consts.Version=" + kwokVersion},
	{name: "tigera-operator", module: "tools-operator", pkg: "github.com/tigera/operator", ldflags: "-s -w -X github.com/tigera/operator/version.VERSION=" + operatorVersion},
	{name: "calico-node", module: ".", pkg: "./standin/calico-node", ldflags: "-s -w", sources: calicoNodeSources},
}

// nodeTools are what the machines of real nodes have.
var nodeTools = []tool{
	{name: "kubelet", module: "tools-k8s", pkg: "k8s.io/kubernetes/cmd/kubelet", ldflags: kubernetesFlags},
	{name: "kube-proxy", module: "tools-k8s", pkg: "k8s.io/kubernetes/cmd/kube-proxy", ldflags: kubernetesFlags},
	{name: "pod", module: ".", pkg: "./standin/pod", ldflags: "-s -w", sources: []string{"standin/pod/main.go"}},
}

var calicoNodeSources = []string{
	"standin/calico-node/main.go", "standin/calico-node/api.go", "standin/calico-node/answers.go",
	"standin/calico-node/felix.go", "standin/calico-node/faults.go", "standin/calico-node/services.go",
}

var buildFlags = []string{"-trimpath", "-buildvcs=false", "-mod=readonly"}

// CacheDir is where the binaries are kept unless a caller says otherwise:
// $XDG_CACHE_HOME/fleetd-lab, or ~/.cache/fleetd-lab.
func CacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cannot find a cache folder: %w", err)
	}
	return filepath.Join(dir, "fleetd-lab"), nil
}

// Build makes the lab's programs in cacheDir/bin ("" is CacheDir) and says on
// log what it builds and how long that took. A program that is there and was
// built from the same go.mod, go.sum, flags and Go version is left alone; when
// all are, Build says nothing and returns at once. It needs the source tree,
// the Go tool and, for the first time, a module proxy; 6 to 8 minutes on two
// cores from nothing, 20 s from a warm build cache.
//
// Two Builds on one cacheDir wait for each other.
func Build(ctx context.Context, cacheDir string, log io.Writer) error {
	return build(ctx, cacheDir, log, tools)
}

// BuildNodes is Build for the programs that run on the machines of real nodes.
func BuildNodes(ctx context.Context, cacheDir string, log io.Writer) error {
	return build(ctx, cacheDir, log, nodeTools)
}

func build(ctx context.Context, cacheDir string, log io.Writer, tools []tool) error {
	if cacheDir == "" {
		var err error
		if cacheDir, err = CacheDir(); err != nil {
			return err
		}
	}
	src, err := sourceDir()
	if err != nil {
		return fmt.Errorf("cannot build the lab's programs: %w", err)
	}
	bin := filepath.Join(cacheDir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return fmt.Errorf("cannot build the lab's programs: %w", err)
	}
	unlock, err := lockFile(filepath.Join(bin, ".lock"))
	if err != nil {
		return fmt.Errorf("cannot build the lab's programs: %w", err)
	}
	defer unlock()

	stamps, err := readStamps(bin)
	if err != nil {
		return fmt.Errorf("cannot build the lab's programs: %w", err)
	}
	var todo []tool
	digests := map[string]string{}
	for _, t := range tools {
		d, err := t.digest(src)
		if err != nil {
			return fmt.Errorf("cannot build %s: %w", t.name, err)
		}
		digests[t.name] = d
		if _, err := os.Stat(filepath.Join(bin, t.name)); err != nil || stamps[t.name] != d {
			todo = append(todo, t)
		}
	}
	if len(todo) == 0 {
		return nil
	}
	fmt.Fprintf(log, "building %d programs of the lab into %s (up to 8 minutes the first time, cached afterwards)\n", len(todo), bin)
	all := time.Now()
	for i, t := range todo {
		fmt.Fprintf(log, "[%d/%d] %s ...", i+1, len(todo), t.name)
		start := time.Now()
		if err := t.build(ctx, src, bin); err != nil {
			fmt.Fprintln(log, " failed")
			return err
		}
		// Stamped one by one: an interrupted build goes on where it was.
		stamps[t.name] = digests[t.name]
		if err := writeStamps(bin, stamps); err != nil {
			return fmt.Errorf("cannot build the lab's programs: %w", err)
		}
		fmt.Fprintf(log, " %s\n", time.Since(start).Round(100*time.Millisecond))
	}
	fmt.Fprintf(log, "built in %s\n", time.Since(all).Round(time.Second))
	return nil
}

func (t tool) build(ctx context.Context, src, bin string) error {
	// To a temporary name and renamed: a running lab keeps its program, and
	// nobody starts half of one.
	tmp := filepath.Join(bin, "."+t.name+".new")
	args := append([]string{"build"}, buildFlags...)
	args = append(args, "-ldflags="+t.ldflags, "-o", tmp, t.pkg)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = filepath.Join(src, t.module)
	// GOWORK=off: a go.work above the tree would join modules that must not be joined.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build %s: %w\n%s", t.name, err, lastLines(string(out), 20))
	}
	if err := os.Rename(tmp, filepath.Join(bin, t.name)); err != nil {
		return fmt.Errorf("cannot build %s: %w", t.name, err)
	}
	return nil
}

// digest tells two builds apart: whatever changes the program is in it.
func (t tool) digest(src string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, t.name, t.pkg, t.ldflags, buildFlags, runtime.Version(), runtime.GOARCH)
	files := t.sources
	if t.module != "." {
		files = append([]string{filepath.Join(t.module, "go.mod"), filepath.Join(t.module, "go.sum")}, files...)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(src, f))
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, f, len(b))
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// sourceDir finds this package's folder. Its modules cannot be embedded (Go
// refuses to embed across a go.mod), so the tree must be there: beside the file
// this was compiled from, or above the current folder when -trimpath has
// removed that name.
func sourceDir() (string, error) {
	isOurs := func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, "tools-k8s", "go.mod"))
		return err == nil
	}
	if _, file, _, ok := runtime.Caller(0); ok && isOurs(filepath.Dir(file)) {
		return filepath.Dir(file), nil
	}
	wd, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := wd; ; dir = filepath.Dir(dir) {
		if p := filepath.Join(dir, "integration", "lab", "controlplane"); isOurs(p) {
			return p, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no source tree at or above %s\nrun this inside a checkout of fleetd", wd)
		}
	}
}

const stampFile = "digests.json"

func readStamps(bin string) (map[string]string, error) {
	stamps := map[string]string{}
	b, err := os.ReadFile(filepath.Join(bin, stampFile))
	if errors.Is(err, fs.ErrNotExist) {
		return stamps, nil
	}
	if err != nil {
		return nil, err
	}
	if json.Unmarshal(b, &stamps) != nil {
		return map[string]string{}, nil // cut short by a crash: build again
	}
	return stamps, nil
}

func writeStamps(bin string, stamps map[string]string) error {
	b, err := json.MarshalIndent(stamps, "", "  ")
	if err != nil {
		return err
	}
	tmp := filepath.Join(bin, "."+stampFile+".new")
	if err := os.WriteFile(tmp, append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(bin, stampFile))
}

func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}
