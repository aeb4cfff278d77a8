//go:build lab

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fleetd/fleetd/integration/lab/controlplane"
	"github.com/fleetd/fleetd/integration/lab/fleet"
	"github.com/fleetd/fleetd/integration/lab/nodes"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/view"
)

// The shipped playbooks that are called by their names.
const (
	enableBPF  = "playbooks/enable_ebpf.yml"
	disableBPF = "playbooks/disable_ebpf.yml"
)

// bastion is where the tests type: a fleet and the fleetd that was built.
type bastion struct {
	*fleet.Fleet
	t      *testing.T
	fleetd string
}

// startFleet builds fleetd and brings up a control plane and its machines; the
// first is the control plane's.
func startFleet(t *testing.T, machines ...nodes.NodeConfig) *bastion {
	t.Helper()
	if err := nodes.Build(t.Context(), nodes.Options{Flavours: []nodes.Flavour{nodes.EL7, nodes.EL8}, Log: os.Stderr}); err != nil {
		t.Fatal(err)
	}
	return start(t, fleet.Config{Nodes: machines})
}

func start(t *testing.T, c fleet.Config) *bastion {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("this test starts virtual machines in a network namespace: run it as root")
	}
	ctx := t.Context()
	if err := controlplane.Build(ctx, "", os.Stderr); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	bin := filepath.Join(dir, "fleetd")
	build := exec.Command("go", "build", "-o", bin, "../cmd/fleetd")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build fleetd: %v\n%s", err, out)
	}
	started := time.Now()
	c.Dir, c.Netns, c.Log = filepath.Join(dir, "lab"), fmt.Sprintf("fleetd-e2e-%d", os.Getpid()), os.Stderr
	f, err := fleet.Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for i := range c.Nodes {
				if text, err := f.Nodes.Console(i + 1); err == nil {
					t.Logf("console of %s:\n%s", f.Nodes.Node(i+1).Name, tail(text, 40))
				}
			}
		}
		if err := f.Stop(); err != nil {
			t.Errorf("cannot stop the lab: %v", err)
		}
	})
	t.Logf("the lab was up after %.0f s", time.Since(started).Seconds())
	return &bastion{f, t, bin}
}

// step is a part of a test whose lab others use after it.
type step struct {
	name string
	test func(*testing.T, *bastion)
}

// inTurn takes steps until one fails: what follows stands on it.
func (b *bastion) inTurn(steps []step) {
	for _, s := range steps {
		ok := b.t.Run(s.name, func(t *testing.T) {
			here := *b
			here.t = t
			s.test(t, &here)
		})
		if !ok {
			b.t.Fatalf("%q failed; what follows stands on it", s.name)
		}
	}
}

func tail(text string, lines int) string {
	all := strings.Split(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// result is what the engineer sees of one command.
type result struct {
	code   int
	stdout string
	stderr string
}

func (r result) String() string {
	return fmt.Sprintf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
}

// run types a fleetd command and logs it as she would see it.
func (b *bastion) run(args ...string) result {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 40*time.Minute)
	defer cancel()
	c := b.Command(ctx, b.fleetd, args...)
	c.Dir = b.Dir
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	started := time.Now()
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		b.t.Fatal(err)
	}
	r := result{c.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	if len(args) == 0 || args[len(args)-1] != "json" {
		b.t.Logf("$ fleetd %s\n%s\n(%.1f s)", strings.Join(args, " "), r, time.Since(started).Seconds())
	}
	return r
}

// killAt types a command and kills fleetd, as a dying bastion would, right after
// an event of the run.
func (b *bastion) killAt(at func(rollout.Event) bool, args ...string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 15*time.Minute)
	defer cancel()
	c := b.Command(ctx, b.fleetd, append(args, "-o", "json")...)
	c.Dir = b.Dir
	stdout, err := c.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		b.t.Fatal(err)
	}
	killed := false
	for dec := json.NewDecoder(stdout); !killed; {
		var e rollout.Event
		if err := dec.Decode(&e); err != nil {
			break
		}
		killed = at(e)
	}
	if err := c.Process.Kill(); err != nil && killed {
		b.t.Fatal(err)
	}
	err = c.Wait()
	if !killed {
		b.t.Fatalf("fleetd %s ended before the event: %v", strings.Join(args, " "), err)
	}
	b.t.Logf("$ fleetd %s\nkilled", strings.Join(args, " "))
}

// want runs a command that must end with the code and print the texts.
func (b *bastion) want(code int, texts []string, args ...string) result {
	b.t.Helper()
	r := b.run(args...)
	if r.code != code {
		b.t.Fatalf("fleetd %s ended with %d, want %d", strings.Join(args, " "), r.code, code)
	}
	for _, text := range texts {
		if !strings.Contains(r.stdout+r.stderr, text) {
			b.t.Errorf("fleetd %s does not say %q", strings.Join(args, " "), text)
		}
	}
	return r
}

// on runs a command on machine i by the lab's own connection.
func (b *bastion) on(i int, command string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 3*time.Minute)
	defer cancel()
	out, err := b.Nodes.Run(ctx, i, command)
	if err != nil {
		b.t.Fatalf("on %s: %s: %v", b.Nodes.Node(i).Name, command, err)
	}
	return out
}

// fault makes machine i's Felix fail.
func (b *bastion) fault(i int, f fleet.Fault) {
	b.t.Helper()
	if err := b.SetFault(b.t.Context(), i, f, 0); err != nil {
		b.t.Fatal(err)
	}
}

// mend takes every fault of machine i's Felix away.
func (b *bastion) mend(i int) {
	b.t.Helper()
	if err := b.ClearFaults(b.t.Context(), i); err != nil {
		b.t.Fatal(err)
	}
}

// runs lists what was run, the newest first.
func (b *bastion) runs() []view.RunRow {
	b.t.Helper()
	var rows []view.RunRow
	if err := json.Unmarshal([]byte(b.run("runs", "-o", "json").stdout), &rows); err != nil {
		b.t.Fatal(err)
	}
	return rows
}

// lastRun reads the journal of the newest run.
func (b *bastion) lastRun() (*rollout.Run, []rollout.Event) {
	b.t.Helper()
	r := b.run("runs", "show", "-o", "json")
	var events []rollout.Event
	dec := json.NewDecoder(strings.NewReader(r.stdout))
	for dec.More() {
		var e rollout.Event
		if err := dec.Decode(&e); err != nil {
			b.t.Fatal(err)
		}
		events = append(events, e)
	}
	run, err := rollout.Fold(events)
	if err != nil {
		b.t.Fatal(err)
	}
	return run, events
}

// variant writes the inventory anew with changes and returns its path. Hosts
// that change adds are workers.
func (b *bastion) variant(name string, change func(host map[string]map[string]any)) string {
	b.t.Helper()
	raw, err := os.ReadFile(b.Inventory)
	if err != nil {
		b.t.Fatal(err)
	}
	var inv map[string]any
	if err := yaml.Unmarshal(raw, &inv); err != nil {
		b.t.Fatal(err)
	}
	hosts := map[string]map[string]any{}
	for _, g := range inv["all"].(map[string]any)["children"].(map[string]any) {
		for h, vars := range g.(map[string]any)["hosts"].(map[string]any) {
			hosts[h] = vars.(map[string]any)
		}
	}
	workers := inv["all"].(map[string]any)["children"].(map[string]any)["kube_node"].(map[string]any)["hosts"].(map[string]any)
	known := maps.Clone(hosts)
	change(hosts)
	for h, vars := range hosts {
		if known[h] == nil {
			workers[h] = vars
		}
	}
	if raw, err = yaml.Marshal(inv); err != nil {
		b.t.Fatal(err)
	}
	file := filepath.Join(b.Dir, name)
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		b.t.Fatal(err)
	}
	return file
}

// file writes a file and returns its path.
func (b *bastion) file(name, text string) string {
	b.t.Helper()
	file := filepath.Join(b.Dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return file
}

// node reads a Node object.
func (b *bastion) node(t *testing.T, name string) *corev1.Node {
	t.Helper()
	kube, err := b.ControlPlane.Client()
	if err != nil {
		t.Fatal(err)
	}
	n, err := kube.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// cluster is what the test looks at in the cluster.
type cluster struct {
	dataplane  string
	bpfEnabled bool
	kubeProxy  int32
	mode       string
	endpoint   bool
}

func (b *bastion) wantCluster(t *testing.T, want cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	kube, err := b.ControlPlane.Client()
	if err != nil {
		t.Fatal(err)
	}
	dyn, err := b.ControlPlane.Dynamic()
	if err != nil {
		t.Fatal(err)
	}
	ins, err := dyn.Resource(controlplane.Installations).Get(ctx, "default", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	felix, err := dyn.Resource(controlplane.FelixConfigurations).Get(ctx, "default", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := kube.AppsV1().DaemonSets("kube-system").Get(ctx, "kube-proxy", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = kube.CoreV1().ConfigMaps("tigera-operator").Get(ctx, "kubernetes-services-endpoint", metav1.GetOptions{})
	got := cluster{kubeProxy: proxy.Status.DesiredNumberScheduled, endpoint: err == nil}
	got.dataplane, _, _ = unstructured.NestedString(ins.Object, "spec", "calicoNetwork", "linuxDataplane")
	got.bpfEnabled, _, _ = unstructured.NestedBool(felix.Object, "spec", "bpfEnabled")
	got.mode, _, _ = unstructured.NestedString(felix.Object, "spec", "bpfExternalServiceMode")
	if got != want {
		t.Errorf("the cluster is %+v, want %+v", got, want)
	}
}
