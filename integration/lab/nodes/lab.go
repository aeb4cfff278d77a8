package nodes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Lab is a set of running (or stopped) nodes.
type Lab struct {
	Dir          string // everything the lab wrote
	Netns        string // namespace of the machines and the mirror
	IdentityFile string // private key that root, centos and ops of every node accept
	KnownHosts   string // known_hosts file with the nodes' true keys, by address and by name

	state   state
	mu      sync.Mutex
	clients map[int]*client
	log     io.Writer
}

// Node is one machine of a lab.
type Node struct {
	Index   int // from 1
	Name    string
	Flavour Flavour
	Address string // inside the lab's namespace
	Port    int
	HostKey string // public key of its sshd, as in an authorized_keys line
	Kernels Kernels

	lab *Lab
}

// state is what another process needs to know to find and stop the lab: DIR/lab.json.
type state struct {
	Netns     string
	OwnsNetns bool
	MemoryMB  int
	APIServer string
	// Kubernetes: each machine has a second interface, on the bridge.
	Kubernetes bool
	Nodes      []nodeState
}

type nodeState struct {
	Name    string
	Flavour Flavour
	HostKey string
	Image   string // folder in the cache
	Kernels Kernels
}

func (l *Lab) statePath() string       { return filepath.Join(l.Dir, "lab.json") }
func (l *Lab) nodeDir(i int) string    { return filepath.Join(l.Dir, fmt.Sprintf("n%d", i)) }
func (l *Lab) mirrorProcess() procFile { return procFile(filepath.Join(l.Dir, "mirror.proc")) }
func (n *Node) process() procFile {
	return procFile(filepath.Join(n.lab.nodeDir(n.Index), "qemu.proc"))
}
func address(i int) string { return fmt.Sprintf("127.0.1.%d", i) }

// Start builds what the cache lacks, makes the namespace if there is none, and starts the mirror and the
// machines. It returns while they boot: known_hosts and keys are there, SSH answers some 15 s later.
// When it fails it stops what it had started.
func Start(ctx context.Context, cfg Config) (lab *Lab, err error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("cannot start the node lab: %w", err)
	}
	if old, err := Load(cfg.Dir); err == nil {
		for _, n := range old.Nodes() {
			if n.Running() {
				return nil, fmt.Errorf("cannot start the node lab in %s: node %s of an earlier one still runs there\nstop it first", cfg.Dir, n.Name)
			}
		}
	}
	images := map[Flavour]image{}
	for _, f := range cfg.flavours() {
		img, err := ensureImage(ctx, Options{CacheDir: cfg.CacheDir, Log: cfg.Log, Kubernetes: cfg.Kubernetes}, f)
		if err != nil {
			return nil, err
		}
		images[f] = img
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot start the node lab: %w", err)
	}

	l := newLab(cfg.Dir, state{Netns: cfg.Netns, MemoryMB: cfg.MemoryMB, APIServer: cfg.APIServer, Kubernetes: cfg.Kubernetes != nil}, cfg.Log)
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot start the node lab: %w", errors.Join(err, l.Stop()))
		}
	}()
	login, err := newKey(l.IdentityFile)
	if err != nil {
		return nil, err
	}
	for i, n := range cfg.Nodes {
		if cfg.Kubernetes != nil {
			cfg.Kubernetes.addFiles(&n, i+1, len(cfg.Nodes))
		}
		hostKey, err := l.prepare(i+1, n, images[n.Flavour], login, cfg.Kubelet)
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", n.Name, err)
		}
		l.state.Nodes = append(l.state.Nodes, nodeState{Name: n.Name, Flavour: n.Flavour, HostKey: hostKey, Image: images[n.Flavour].dir, Kernels: images[n.Flavour].kernels})
	}
	if err := l.writeKnownHosts(); err != nil {
		return nil, err
	}
	if l.state.OwnsNetns, err = ensureNetns(ctx, cfg.Netns); err != nil {
		return nil, err
	}
	if cfg.Kubernetes != nil {
		if err := addBridge(ctx, cfg.Netns, len(cfg.Nodes)); err != nil {
			return nil, err
		}
	}
	if err := l.save(); err != nil { // from here on another process can stop it
		return nil, err
	}
	if err := l.startMirror(); err != nil {
		return nil, err
	}
	for _, n := range l.Nodes() {
		if err := n.PowerOn(); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func newLab(dir string, s state, log io.Writer) *Lab {
	if log == nil {
		log = io.Discard
	}
	return &Lab{
		Dir: dir, Netns: s.Netns, IdentityFile: filepath.Join(dir, "id_ed25519"), KnownHosts: filepath.Join(dir, "known_hosts"),
		state: s, clients: map[int]*client{}, log: log,
	}
}

// Load finds a lab again from the folder that it was started in, running or not.
func Load(dir string) (*Lab, error) {
	if dir == "" {
		cache, err := DefaultCacheDir()
		if err != nil {
			return nil, err
		}
		dir = filepath.Join(cache, "run")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	content, err := os.ReadFile(filepath.Join(dir, "lab.json"))
	if err != nil {
		return nil, fmt.Errorf("cannot find a node lab in %s: %w", dir, err)
	}
	var s state
	if err := json.Unmarshal(content, &s); err != nil {
		return nil, fmt.Errorf("cannot read the node lab in %s: %w", dir, err)
	}
	return newLab(dir, s, nil), nil
}

func (l *Lab) save() error {
	content, err := json.MarshalIndent(l.state, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(l.statePath(), append(content, '\n'), 0o644)
}

// Node is node i, from 1. It panics when there is none.
func (l *Lab) Node(i int) *Node {
	s := l.state.Nodes[i-1]
	return &Node{Index: i, Name: s.Name, Flavour: s.Flavour, Address: address(i), Port: 22, HostKey: s.HostKey, Kernels: s.Kernels, lab: l}
}

// Nodes are all nodes, in order.
func (l *Lab) Nodes() []*Node {
	list := make([]*Node, len(l.state.Nodes))
	for i := range list {
		list[i] = l.Node(i + 1)
	}
	return list
}

// WaitReady waits until every node runs a command over SSH.
func (l *Lab) WaitReady(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range l.Nodes() {
		g.Go(func() error { _, err := n.WaitBoot(ctx, ""); return err })
	}
	return g.Wait()
}

// WaitBoot waits until the node answers with a boot ID other than previous, and returns that.
func (n *Node) WaitBoot(ctx context.Context, previous string) (bootID string, err error) {
	// Impatient at first, because a new attempt finds a booted guest sooner than an old one; but each
	// attempt costs the guest's slow CPU something, so on a loaded machine it must be left to finish.
	for patience := 9 * time.Second; ; patience = min(patience*5/4, 2*time.Minute) {
		attempt, cancel := context.WithTimeout(ctx, 2*patience)
		bootID, err = n.lab.run(attempt, n.Index, "cat /proc/sys/kernel/random/boot_id", patience)
		cancel()
		if err == nil && bootID != previous {
			return bootID, nil
		}
		if err == nil {
			err = errors.New("it has not rebooted yet")
		}
		n.lab.forget(n.Index) // the connection may be one to the boot before
		if !n.Running() {
			return "", fmt.Errorf("cannot reach node %s: its machine is not running", n.Name)
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("cannot reach node %s: %w (last: %w)\nits console: %s", n.Name, context.Cause(ctx), err, n.consolePath())
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// Stop ends the machines and the mirror, removes the namespace if Start made it, and the disks. Keys,
// consoles and lab.json stay. Stopping twice is no error.
func (l *Lab) Stop() error {
	for i := range l.state.Nodes {
		l.forget(i + 1)
	}
	var errs []error
	for _, n := range l.Nodes() {
		errs = append(errs, n.Kill(), os.RemoveAll(n.diskPath()))
	}
	errs = append(errs, l.mirrorProcess().kill())
	if l.state.OwnsNetns {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		errs = append(errs, removeNetns(ctx, l.Netns))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot stop the node lab in %s: %w", l.Dir, err)
	}
	return nil
}
