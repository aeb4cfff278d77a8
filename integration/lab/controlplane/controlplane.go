// Package controlplane runs a real Kubernetes control plane with the real Tigera
// operator on one machine, for tests and for a demonstration.
//
// etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kwok and the
// operator are built from their Go modules (Build) and run as plain processes
// in a network namespace that has only loopback (Start). Nothing they do can
// leave the machine. Nodes are kwok's: they turn Ready and their pods turn
// Ready, but nothing runs on them. README.md says what is real and what is a
// stand-in.
//
// A lab outlives the process that started it: Load finds it again by its
// folder, Stop ends it and removes its namespace. Programs under test run
// inside the namespace (Command), where the API server is at APIAddress, or
// reach it from outside with RESTConfig.
//
// It needs root (namespaces), iproute2 and util-linux; nothing else of the host.
package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/fleetd/fleetd/integration/lab/controlplane/netns"
)

// DefaultNetns is the namespace of a lab whose Config names none.
const DefaultNetns = "fleetd-lab"

// A Lab is a running control plane.
type Lab struct {
	// Kubeconfig is the path of a cluster-admin kubeconfig for AdminUser. Its
	// server is APIAddress, so it works inside the namespace only.
	Kubeconfig string
	// Netns is the namespace's name, as in `ip netns exec`.
	Netns string

	dir   string
	state state
	log   io.Writer
	start time.Time
}

// state is what a later process must know to stop the lab.
type state struct {
	Netns string `json:"netns"`
	// NetnsCreated: a namespace that was there before the lab stays after it.
	NetnsCreated bool       `json:"netnsCreated"`
	Nodes        []NodeSpec `json:"nodes"`
	Processes    []Process  `json:"processes"`
}

const stateFile = "lab.json"

// Start brings a lab up and returns when its nodes are Ready, and with Calico
// when that is available: 10 s without, 30 s with it, on two cores and warm
// caches. On an error everything that was started is stopped again; the logs
// stay in Dir/log.
func Start(ctx context.Context, cfg Config) (lab *Lab, err error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("cannot start the control plane: %w", err)
	}
	l := &Lab{
		Kubeconfig: kubeconfigPath(cfg.Dir, "admin"), Netns: cfg.Netns,
		dir: cfg.Dir, log: cfg.Log, start: time.Now(),
		state: state{Netns: cfg.Netns, Nodes: cfg.Nodes},
	}
	if err := l.claim(); err != nil {
		return nil, fmt.Errorf("cannot start the control plane: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("cannot start the control plane: %w", err), l.Stop())
		}
	}()
	l.state.NetnsCreated, err = netns.Ensure(ctx, cfg.Netns)
	if err != nil {
		return nil, err
	}
	if err := l.save(); err != nil {
		return nil, err
	}
	if err := l.run(ctx, cfg); err != nil {
		return nil, err
	}
	l.say("control plane is up: %d nodes in network namespace %s", len(cfg.Nodes), cfg.Netns)
	return l, nil
}

func (l *Lab) run(ctx context.Context, cfg Config) error {
	if err := writeCredentials(l.dir, cfg); err != nil {
		return fmt.Errorf("cannot write certificates: %w", err)
	}
	if err := l.writeConfiguration(cfg); err != nil {
		return fmt.Errorf("cannot write configuration: %w", err)
	}
	if err := l.launch(etcd(cfg.BinDir, l.dir), apiServer(cfg.BinDir, l.dir, cfg.AdvertiseAddress)); err != nil {
		return err
	}
	c, err := l.connect("lab")
	if err != nil {
		return err
	}
	if err := l.await(ctx, "the API server to be ready", c.ready); err != nil {
		return err
	}
	l.say("API server ready")
	if err := l.launch(controllerManager(cfg.BinDir, l.dir), scheduler(cfg.BinDir, l.dir), kwok(cfg.BinDir, l.dir)); err != nil {
		return err
	}
	if err := l.populate(ctx, c, cfg); err != nil {
		return err
	}
	if cfg.Calico {
		return l.installCalico(ctx, c, cfg)
	}
	return nil
}

// Load finds the lab in dir, started by whatever process. A lab that is not
// there is fs.ErrNotExist.
func Load(dir string) (*Lab, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot load the lab: %w", err)
	}
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return nil, fmt.Errorf("cannot load the lab in %s: %w", dir, err)
	}
	l := &Lab{Kubeconfig: kubeconfigPath(dir, "admin"), dir: dir, log: io.Discard, start: time.Now()}
	if err := json.Unmarshal(b, &l.state); err != nil {
		return nil, fmt.Errorf("cannot load the lab in %s: %w", dir, err)
	}
	l.Netns = l.state.Netns
	return l, nil
}

// Stop ends every process of the lab, removes its namespace when Start made it,
// and deletes its data and keys. The logs stay. Stopping twice is no error.
func (l *Lab) Stop() error {
	var errs []error
	// Clients before servers, or they fill their logs with refused connections.
	for _, p := range slices.Backward(l.state.Processes) {
		errs = append(errs, p.stop(5*time.Second))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot stop the lab in %s: %w", l.dir, err)
	}
	l.state.Processes = nil
	if l.state.NetnsCreated {
		if err := netns.Delete(context.Background(), l.state.Netns); err != nil {
			return fmt.Errorf("cannot stop the lab in %s: %w", l.dir, err)
		}
		l.state.NetnsCreated = false
	}
	entries, err := os.ReadDir(l.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot stop the lab in %s: %w", l.dir, err)
	}
	for _, e := range entries {
		if slices.Contains(ownFiles, e.Name()) || filepath.Ext(e.Name()) == ".kubeconfig" {
			errs = append(errs, os.RemoveAll(filepath.Join(l.dir, e.Name())))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot clear the lab in %s: %w", l.dir, err)
	}
	return nil
}

// What Stop removes from Dir, which may hold files of others. The state goes
// with the rest, so a Stop that was cut short can be repeated.
var ownFiles = []string{"etcd", "pki", "standin", "kwok.yaml", "audit-policy.yaml", stateFile}

// Command is a program to run inside the namespace, with KUBECONFIG set to
// Kubeconfig and the rest of the environment as it is.
func (l *Lab) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := netns.Command(ctx, l.Netns, name, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+l.Kubeconfig)
	return cmd
}

// Launch starts a program of the user's in the background, in the namespace, with a
// socket that may be of another one. It ends with the lab; its output is in the Log
// of its Process.
func (l *Lab) Launch(name string, socket *os.File, path string, args ...string) (Process, error) {
	if err := l.launch(component{name: name, path: path, args: args, socket: socket}); err != nil {
		return Process{}, err
	}
	return l.state.Processes[len(l.state.Processes)-1], nil
}

// Processes lists the lab's programs.
func (l *Lab) Processes() []Process { return slices.Clone(l.state.Processes) }

// Nodes lists the nodes that the lab was started with, addresses filled in.
func (l *Lab) Nodes() []NodeSpec { return slices.Clone(l.state.Nodes) }

// Dir is the lab's folder; Dir/log holds a log per program.
func (l *Lab) Dir() string { return l.dir }

// RESTConfig is a client configuration for LabUser that works from outside the
// namespace as well as inside, without the usual rate limit.
func (l *Lab) RESTConfig() (*rest.Config, error) { return l.restConfig("lab") }

func (l *Lab) restConfig(user string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfigPath(l.dir, user))
	if err != nil {
		return nil, fmt.Errorf("cannot connect to the lab in %s: %w", l.dir, err)
	}
	config.Dial = netns.Dialer(l.Netns)
	config.QPS = -1
	return config, nil
}

// Client is a typed client on RESTConfig.
func (l *Lab) Client() (kubernetes.Interface, error) {
	config, err := l.RESTConfig()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

// Dynamic is an untyped client on RESTConfig, for the operator's and Calico's kinds.
func (l *Lab) Dynamic() (dynamic.Interface, error) {
	config, err := l.RESTConfig()
	if err != nil {
		return nil, err
	}
	return dynamic.NewForConfig(config)
}

// claim takes the lab's folder and makes the folders in it: O_EXCL on the state
// file keeps a second lab out.
func (l *Lab) claim() error {
	if err := os.MkdirAll(filepath.Join(l.dir, "log"), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(l.dir, stateFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s already holds a lab\nstop it first", l.dir)
	}
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	for _, name := range ownFiles {
		if name == stateFile {
			continue
		}
		// A Stop that was cut short may have left the data of an older cluster.
		if err := os.RemoveAll(filepath.Join(l.dir, name)); err != nil {
			return err
		}
	}
	for _, d := range []string{"pki", "etcd", "standin"} {
		if err := os.Mkdir(filepath.Join(l.dir, d), 0o700); err != nil {
			return err
		}
	}
	return l.save()
}

func (l *Lab) save() error {
	b, err := json.MarshalIndent(l.state, "", "  ")
	if err != nil {
		return err
	}
	tmp := filepath.Join(l.dir, "."+stateFile+".new")
	if err := os.WriteFile(tmp, append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(l.dir, stateFile))
}

// launch starts programs and records each before the next, so that no crash of
// ours loses sight of one.
func (l *Lab) launch(components ...component) error {
	for _, c := range components {
		p, err := startProcess(l.Netns, l.dir, c)
		if err != nil {
			return err
		}
		l.state.Processes = append(l.state.Processes, p)
		if err := l.save(); err != nil {
			return err
		}
	}
	return nil
}

// await polls until check says so. It gives up with ctx, and at once when a
// program of the lab has ended; the error then carries the end of its log.
func (l *Lab) await(ctx context.Context, what string, check func(context.Context) (bool, error)) error {
	var last error
	for {
		ok, err := check(ctx)
		if ok {
			return nil
		}
		if err != nil {
			last = err
		}
		for _, p := range l.state.Processes {
			if !p.Alive() {
				return fmt.Errorf("cannot wait for %s: %s has ended\n%s", what, p.Name, tailFile(p.Log))
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cannot wait for %s: %w", what, errors.Join(ctx.Err(), last))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (l *Lab) say(format string, args ...any) {
	fmt.Fprintf(l.log, "+%5.1fs %s\n", time.Since(l.start).Seconds(), fmt.Sprintf(format, args...))
}
