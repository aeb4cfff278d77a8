//go:build lab

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh/knownhosts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/fleetd/fleetd/integration/lab/controlplane"
	"github.com/fleetd/fleetd/integration/lab/controlplane/netns"
	"github.com/fleetd/fleetd/pkg/kernel/kerneltest"
	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

// crowd is a real control plane whose nodes are kwok's, and whose hosts are STAND-INS
// that answer over SSH in this process. True in them: SSH, the boot ID, the facts of
// an EL8 node (kerneltest's), and that each Felix follows bpfEnabled, a while later.
// What they do not show: machines, packets, and how long an answer takes.
type crowd struct {
	*controlplane.Lab
	t       *testing.T
	kube    kubernetes.Interface
	dynamic dynamic.Interface
	dir     string
	fleetd  string
	kernels *kerneltest.Fleet
	boots   map[string]string

	mu sync.Mutex
	// since is when FelixConfiguration asked for the mode that it asks for; the zero
	// time: from the beginning.
	since time.Time
	bpf   bool
	// lag is how much later each host's Felix follows; refuses are those that never
	// do. proven is when a host was first seen with BPF.
	lag     map[string]time.Duration
	refuses map[string]bool
	proven  map[string]time.Time
}

const sshPort = 2222

func startCrowd(t *testing.T, cfg controlplane.Config) *crowd {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("this test makes a network namespace: run it as root")
	}
	ctx, dir := t.Context(), t.TempDir()
	if err := controlplane.Build(ctx, "", os.Stderr); err != nil {
		t.Fatal(err)
	}
	c := &crowd{
		t: t, dir: dir, fleetd: filepath.Join(dir, "fleetd"), boots: map[string]string{},
		lag: map[string]time.Duration{}, refuses: map[string]bool{}, proven: map[string]time.Time{},
	}
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", c.fleetd, "../cmd/fleetd").CombinedOutput(); err != nil {
		t.Fatalf("cannot build fleetd: %v\n%s", err, out)
	}
	started := time.Now()
	cfg.Dir, cfg.Netns, cfg.Log, cfg.Calico = filepath.Join(dir, "lab"), fmt.Sprintf("fleetd-crowd-%d", os.Getpid()), os.Stderr, true
	for i := range cfg.Nodes {
		cfg.Nodes[i].KernelVersion = kerneltest.NewRelease(kerneltest.EL8)
	}
	var err error
	if c.Lab, err = controlplane.Start(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Errorf("cannot stop the lab: %v", err)
		}
	})
	t.Logf("the lab was up after %.0f s", time.Since(started).Seconds())
	if c.kube, err = c.Client(); err != nil {
		t.Fatal(err)
	}
	if c.dynamic, err = c.Dynamic(); err != nil {
		t.Fatal(err)
	}
	c.listen()
	c.followFelix()
	return c
}

// listen starts a host for each node, and writes the inventory.
func (c *crowd) listen() {
	c.t.Helper()
	nodes, err := c.kube.CoreV1().Nodes().List(c.t.Context(), metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	flavours := map[string]kerneltest.Flavour{}
	for _, n := range nodes.Items {
		c.boots[n.Name], flavours[n.Name] = n.Status.NodeInfo.BootID, kerneltest.EL8
	}
	c.kernels = kerneltest.New(flavours)
	hostKey := sshtest.NewKey()
	var known, servers, workers strings.Builder
	key := ""
	for _, n := range c.Nodes() {
		address := net.JoinHostPort(n.InternalIP, fmt.Sprint(sshPort))
		dir := filepath.Join(c.dir, "ssh", n.Name)
		options := []sshtest.Option{
			sshtest.Listen(address), sshtest.HostKey(hostKey), sshtest.HandlesBootID(), sshtest.Sudo(sshtest.SudoPolicy{}), sshtest.Handler(c.answer(n.Name)),
		}
		var srv *sshtest.Server
		if err := netns.Do(c.Netns, func() (err error) { srv, err = sshtest.Start(dir, options...); return err }); err != nil {
			c.t.Fatal(err)
		}
		c.t.Cleanup(srv.Close)
		key = srv.ClientKeyFile()
		known.WriteString(knownhosts.Line([]string{address}, hostKey.PublicKey()) + "\n")
		line := fmt.Sprintf("%s ansible_host=%s ansible_ssh_private_key_file=%s\n", n.Name, n.InternalIP, key)
		if n.ControlPlane {
			servers.WriteString(line)
		} else {
			workers.WriteString(line)
		}
	}
	c.file("known_hosts", known.String())
	c.file("hosts", fmt.Sprintf("[kube_control_plane]\n%s[kube_node]\n%s[all:vars]\nansible_port=%d\nansible_user=%s\nansible_ssh_common_args='-o UserKnownHostsFile=%s'\nkubeconfig=%s\n",
		&servers, &workers, sshPort, sshtest.User, filepath.Join(c.dir, "known_hosts"), c.Kubeconfig))
}

func (c *crowd) file(name, text string) string {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// followFelix keeps an eye on what FelixConfiguration asks for.
func (c *crowd) followFelix() {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	c.t.Cleanup(func() { stop(); <-done })
	go func() {
		defer close(done)
		for ; ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
			o, err := c.dynamic.Resource(controlplane.FelixConfigurations).Get(ctx, "default", metav1.GetOptions{})
			if err != nil {
				continue
			}
			on, _, _ := unstructured.NestedBool(o.Object, "spec", "bpfEnabled")
			c.mu.Lock()
			if on != c.bpf {
				c.bpf, c.since = on, time.Now()
			}
			c.mu.Unlock()
		}
	}()
}

// answer is what a host says. What each script is, its own words tell.
func (c *crowd) answer(host string) func(*sshtest.Request) sshtest.Response {
	return func(r *sshtest.Request) sshtest.Response {
		switch {
		case strings.Contains(r.Command, "random/boot_id"):
			return sshtest.Response{Stdout: c.boots[host] + "\n"}
		case strings.Contains(r.Script, "calico-node -felix"):
			return sshtest.Response{Stdout: c.felix(host)}
		case strings.Contains(r.Script, "fleetd-probe"):
			return sshtest.Response{Stdout: "at 100000 0.5\npath 0 ClusterIP dns-udp 10.96.0.10 53 - kube-system/kube-dns\nstate 0 20 0 20 0 0 0 0 100000 100000 unseen\n"}
		case r.Env["host"] != "" && r.Env["ca"] != "":
			return sshtest.Response{Stdout: "answers\n"}
		}
		res, err := c.kernels.Run(r.Context, host, sshexec.Command{Argv: r.Argv, Script: r.Script, Env: r.Env, Become: r.Become != ""})
		if err != nil {
			return sshtest.Response{Stderr: err.Error() + "\n", Exit: 1}
		}
		return sshtest.Response{Stdout: string(res.Stdout), Stderr: string(res.Stderr), Exit: res.ExitStatus}
	}
}

// felix is what a host shows of its Felix.
func (c *crowd) felix(host string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	followed := time.Since(c.since) >= c.lag[host]
	switch {
	case c.bpf && c.refuses[host]:
		return "felix 4242@2000 0\nlog x BPF dataplane mode enabled but not supported by the kernel.  Disabling BPF mode.\n"
	case c.bpf != followed: // off and off since long, or on and not yet
		return "felix 4242@1000 0\n"
	}
	if _, seen := c.proven[host]; !seen {
		c.proven[host] = time.Now()
	}
	return "felix 4242@1000 14\npinned cali_v4_nat_fe3\nattached eth0\n"
}

// behaves sets how each Felix follows from now on, and forgets what was seen.
func (c *crowd) behaves(lag map[string]time.Duration, refuses ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lag, c.proven, c.refuses = lag, map[string]time.Time{}, map[string]bool{}
	for _, host := range refuses {
		c.refuses[host] = true
	}
}

// provenAll is when the last node was first seen with BPF.
func (c *crowd) provenAll() (last time.Time, nodes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, at := range c.proven {
		if at.After(last) {
			last = at
		}
	}
	return last, len(c.proven)
}

// cost is what one command of fleetd's took.
type cost struct {
	result
	took, cpu time.Duration
	peak      int64 // bytes
	began     time.Time
}

// run types a fleetd command, in the namespace.
func (c *crowd) run(args ...string) cost {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 25*time.Minute)
	defer cancel()
	cmd := c.Command(ctx, c.fleetd, args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "HOME="+c.dir, "XDG_STATE_HOME="+filepath.Join(c.dir, "state"), "SSH_AUTH_SOCK=", "KUBECONFIG=")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Fatal(err)
	}
	use := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	out := cost{
		result: result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()},
		took:   time.Since(began), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), peak: use.Maxrss << 10, began: began,
	}
	c.t.Logf("$ fleetd %s\n%s\n(%.1f s, of a processor %.1f s, %d MiB)", strings.Join(args, " "), tail(out.String(), 60), out.took.Seconds(), out.cpu.Seconds(), out.peak>>20)
	return out
}

// want types a command and says if its exit code or its words are others.
func (c *crowd) want(code int, words []string, args ...string) cost {
	c.t.Helper()
	r := c.run(args...)
	if r.code != code {
		c.t.Fatalf("exit code %d, want %d", r.code, code)
	}
	for _, w := range words {
		if !strings.Contains(r.stdout+r.stderr, w) {
			c.t.Errorf("not said: %q", w)
		}
	}
	return r
}

// requests are those that fleetd has made from then on.
func (c *crowd) requests(from time.Time) []controlplane.Request {
	c.t.Helper()
	all, err := c.Requests(controlplane.AdminUser)
	if err != nil {
		c.t.Fatal(err)
	}
	for i, r := range all {
		if !r.Time.Before(from) {
			return all[i:]
		}
	}
	return nil
}

// writes are those of them that change something of the data plane, as they were
// asked for.
func (c *crowd) writes(from time.Time) []controlplane.Request {
	c.t.Helper()
	var out []controlplane.Request
	for _, r := range c.requests(from) {
		switch r.Verb {
		case "create", "update", "patch", "delete":
			switch r.Resource {
			case "installations", "felixconfigurations", "daemonsets", "configmaps":
				out = append(out, r)
			}
		}
	}
	return out
}

// saying is a write in the words of a test: what it is to and what it asks for.
func saying(r controlplane.Request) string {
	var body struct {
		Spec struct {
			CalicoNetwork          map[string]any `json:"calicoNetwork"`
			BPFExternalServiceMode string         `json:"bpfExternalServiceMode"`
			Template               struct {
				Spec struct{ NodeSelector map[string]any }
			}
		}
	}
	_ = json.Unmarshal(r.Body, &body) // a body of another shape says nothing
	switch r.Resource {
	case "installations":
		return fmt.Sprint("data plane ", body.Spec.CalicoNetwork["linuxDataplane"])
	case "felixconfigurations":
		return "external services " + body.Spec.BPFExternalServiceMode
	case "daemonsets":
		if body.Spec.Template.Spec.NodeSelector["non-calico"] == "true" {
			return "kube-proxy off"
		}
		return "kube-proxy on"
	}
	return r.Verb + " " + r.Resource // a create does not name what it is to make
}
