package nodes

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

//go:embed image
var imageFiles embed.FS

// Kernels are the exact `uname -r` of the kernels that a flavour's image and repositories hold.
type Kernels struct {
	Base       string // the distribution's, installed in the image
	ML         string // kernel-ml in elrepo-kernel, the newest
	MLPrevious string // kernel-ml in elrepo-kernel-archive, one version before
}

// image is one flavour, built: its folder in the cache.
type image struct {
	dir     string
	kernels Kernels
}

func (i image) disk() string { return filepath.Join(i.dir, "base.qcow2") }
func (i image) www() string  { return filepath.Join(i.dir, "www") }

// Build makes the repositories and disk images that the cache lacks. A second call with the same scripts
// and flavours builds nothing and needs no network. Concurrent calls, also of other processes, wait for
// each other.
func Build(ctx context.Context, opts Options) error {
	if len(opts.Flavours) == 0 {
		opts.Flavours = []Flavour{EL7}
	}
	for _, f := range opts.Flavours {
		if _, err := ensureImage(ctx, opts, f); err != nil {
			return err
		}
	}
	return nil
}

// digest names a build by everything that goes into it, but for the packages of the mirror: those are
// taken as they are on the day of the build.
func digest(salt string, paths ...string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, salt)
	for _, root := range paths {
		err := fs.WalkDir(imageFiles, root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			content, err := imageFiles.ReadFile(path)
			fmt.Fprintf(h, "%s %d\n%s", path, len(content), content)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:12], nil
}

func ensureImage(ctx context.Context, opts Options, flavour Flavour) (image, error) {
	if opts.CacheDir == "" {
		dir, err := DefaultCacheDir()
		if err != nil {
			return image{}, err
		}
		opts.CacheDir = dir
	}
	log := opts.Log
	if log == nil {
		log = io.Discard
	}
	b := builder{cache: opts.CacheDir, log: log, kubernetes: opts.Kubernetes}
	img, err := b.image(ctx, flavour)
	if err != nil {
		return image{}, fmt.Errorf("cannot build the %s image of the node lab: %w", flavour, err)
	}
	return img, nil
}

type builder struct {
	cache      string
	log        io.Writer
	kubernetes *Kubernetes
}

func (b builder) image(ctx context.Context, flavour Flavour) (image, error) {
	key, err := digest(string(flavour), "image")
	if err != nil {
		return image{}, err
	}
	if b.kubernetes != nil {
		programs, err := b.kubernetes.digest()
		if err != nil {
			return image{}, err
		}
		key += "-kubernetes-" + programs
	}
	dir := filepath.Join(b.cache, string(flavour)+"-"+key)
	if img, err := readImage(dir); err == nil {
		return img, nil
	}
	if os.Geteuid() != 0 {
		return image{}, errors.New("needs root, for chroot and file owners")
	}
	if err := os.MkdirAll(b.cache, 0o755); err != nil {
		return image{}, err
	}
	unlock, err := lock(ctx, filepath.Join(b.cache, "lock"))
	if err != nil {
		return image{}, err
	}
	defer unlock()
	if img, err := readImage(dir); err == nil { // somebody else has built it meanwhile
		return img, nil
	}

	work, err := os.MkdirTemp(b.cache, "build-")
	if err != nil {
		return image{}, err
	}
	defer os.RemoveAll(work)
	// Folders that mkdtemp makes are private; the image's own files must be readable in it.
	if err := os.Chmod(work, 0o755); err != nil {
		return image{}, err
	}
	scripts, err := unpackScripts(work)
	if err != nil {
		return image{}, err
	}
	start := time.Now()
	kernels, root, err := b.downloads(ctx, scripts)
	if err != nil {
		return image{}, err
	}
	out := filepath.Join(work, "out")
	fmt.Fprintf(b.log, "node lab: building the %s repositories and disk image (about half a minute)\n", flavour)
	mkrepo, mkimage := []string{string(flavour), kernels, out}, []string{string(flavour), root, out}
	if b.kubernetes != nil {
		programs := filepath.Join(work, "programs")
		if err := b.kubernetes.collect(programs); err != nil {
			return image{}, err
		}
		mkrepo, mkimage = append(mkrepo, "kubernetes"), append(mkimage, programs)
	}
	if err := run(ctx, scripts+"/mkrepo.sh", mkrepo...); err != nil {
		return image{}, err
	}
	if err := run(ctx, scripts+"/mkimage.sh", mkimage...); err != nil {
		return image{}, err
	}
	if err := os.Rename(out, dir); err != nil {
		return image{}, err
	}
	fmt.Fprintf(b.log, "node lab: %s built in %.0f s\n", flavour, time.Since(start).Seconds())
	return readImage(dir)
}

// downloads fetches what comes from the Debian mirror. It is kept apart from the images: a changed
// script costs seconds, not a new download.
func (b builder) downloads(ctx context.Context, scripts string) (kernels, root string, err error) {
	kernelKey, err := digest("", "image/mkkernels.sh")
	if err != nil {
		return "", "", err
	}
	rootKey, err := digest("", "image/mkroot.sh")
	if err != nil {
		return "", "", err
	}
	kernels = filepath.Join(b.cache, "kernels-"+kernelKey)
	root = filepath.Join(b.cache, "root-"+rootKey+".tar")
	var packages []string
	if b.kubernetes != nil {
		root = filepath.Join(b.cache, "root-kubernetes-"+rootKey+".tar")
		packages = kubernetesPackages
	}
	g, ctx := errgroup.WithContext(ctx)
	fetch := func(script, target string, args ...string) {
		if _, err := os.Stat(target); err == nil {
			return
		}
		fmt.Fprintf(b.log, "node lab: %s fetches Debian packages (about a minute)\n", script)
		g.Go(func() error {
			tmp := strings.TrimSuffix(target, ".tar") + ".new" + filepath.Ext(target)
			if err := os.RemoveAll(tmp); err != nil {
				return err
			}
			if err := run(ctx, filepath.Join(scripts, script), append([]string{tmp}, args...)...); err != nil {
				return err
			}
			return os.Rename(tmp, target)
		})
	}
	fetch("mkkernels.sh", kernels)
	fetch("mkroot.sh", root, packages...)
	return kernels, root, g.Wait()
}

func readImage(dir string) (image, error) {
	env, err := os.ReadFile(filepath.Join(dir, "kernels.env"))
	if err != nil {
		return image{}, err
	}
	if _, err := os.Stat(filepath.Join(dir, "base.qcow2")); err != nil {
		return image{}, err
	}
	img := image{dir: dir}
	for line := range strings.Lines(string(env)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch name {
		case "BASE":
			img.kernels.Base = value
		case "ML":
			img.kernels.ML = value
		case "ML_PREVIOUS":
			img.kernels.MLPrevious = value
		}
	}
	return img, nil
}

// unpackScripts writes the embedded files to a folder; embedding loses the mode, and all of them may run.
func unpackScripts(work string) (string, error) {
	err := fs.WalkDir(imageFiles, "image", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(work, path)
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		content, err := imageFiles.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, content, 0o755)
	})
	return filepath.Join(work, "image"), err
}

// run runs a program to its end; its output is in the error, if there is one. When ctx ends, its whole
// process group is killed: the build scripts have children that outlive them otherwise.
func run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	text := strings.TrimSpace(string(out))
	if len(text) > 2000 {
		text = "…" + text[len(text)-2000:]
	}
	return fmt.Errorf("%s: %w\n%s", filepath.Base(name), err, text)
}

func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("cannot lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}
