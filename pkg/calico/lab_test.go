package calico

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/cluster/clustertest"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// The tests of this file run against a real API server with the real operator.
// They are asked for by naming its kubeconfig:
//
//	FLEETD_TEST_KUBECONFIG=… go test ./pkg/calico -run Lab -v
//
// The cluster is left as it was found: Iptables, with kube-proxy.
const labKubeconfig = "FLEETD_TEST_KUBECONFIG"

func labClient(t *testing.T) *cluster.Client {
	t.Helper()
	file := os.Getenv(labKubeconfig)
	if file == "" {
		t.Skipf("needs a control plane with Calico's operator: set %s to a kubeconfig that may be written to", labKubeconfig)
	}
	c, err := cluster.Connect(file, cluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// labStep plans a task on the cluster as it is and executes it.
func labStep(t *testing.T, c *cluster.Client, module string, args rollout.Args) (rollout.Change, rollout.Outcome, *clustertest.Machine) {
	t.Helper()
	mod := Modules(labDeps(c))[module]
	f, err := ReadFacts(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	change, after, err := mod.Diff(rollout.Localhost, clustertest.State(t, clustertest.With(Section, f), clustertest.With(reach, nil)), args)
	if err != nil {
		t.Fatalf("%s: %v", module, err)
	}
	m := &clustertest.Machine{Pause: 300 * time.Millisecond, Limit: 3 * time.Minute}
	if change.Action == rollout.NoOp {
		return change, rollout.AlreadyDone("%s", change.Summary), m
	}
	started := time.Now()
	o := m.Run(t, mod, rollout.Localhost, change)
	t.Logf("%s %v: %s: %s (%.1f s, %d calls)\n\twrote %s\n\tsaid %s", module, args, o.Kind, o.Message, time.Since(started).Seconds(), m.Attempt,
		strings.Join(m.Wrote(), "\n\t      "), strings.Join(m.Messages, "\n\t     "))
	if o.Bad() {
		t.Fatalf("%s: %s\n%s", module, o.Message, o.Hint)
	}
	// What Diff said the cluster would be is what it is: a second look finds
	// nothing to do.
	again, err := ReadFacts(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := mod.Diff(rollout.Localhost, clustertest.State(t, clustertest.With(Section, again), clustertest.With(reach, nil)), args)
	if err != nil || second.Action.Writes() {
		t.Fatalf("%s: a second look still finds %+v, %v", module, second, err)
	}
	projected, err := Section.Get(after)
	if err != nil {
		t.Fatal(err)
	}
	if projected.Endpoint != again.Endpoint || projected.Felix != again.Felix || projected.Installation.DataPlane() != again.Installation.DataPlane() {
		t.Errorf("%s: projected %+v %+v %s, found %+v %+v %s", module, projected.Endpoint, projected.Felix, projected.Installation.DataPlane(),
			again.Endpoint, again.Felix, again.Installation.DataPlane())
	}
	return change, o, m
}

func labKernels(t *testing.T, c *cluster.Client, kernel string) {
	t.Helper()
	nodes, err := c.Nodes(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		patch := []byte(`{"status":{"nodeInfo":{"kernelVersion":"` + kernel + `"}}}`)
		if _, err := c.Kube.CoreV1().Nodes().Patch(context.Background(), n.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLabThereAndBack(t *testing.T) {
	c := labClient(t)
	const host = "10.0.0.3"
	pre := rollout.Args{"api_host": host, "api_port": int64(6443)}

	labKernels(t, c, "3.10.0-1160.el7.x86_64")
	mod := Modules(labDeps(c))["fleetd.calico.preflight"]
	f, err := ReadFacts(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	change, _, err := mod.Diff(rollout.Localhost, clustertest.State(t, clustertest.With(Section, f), clustertest.With(reach, nil)), pre)
	if err != nil {
		t.Fatal(err)
	}
	o := (&clustertest.Machine{Pause: time.Second}).Run(t, mod, rollout.Localhost, change)
	if o.Kind != rollout.Failed || !strings.Contains(o.Message, "el-0003 (3.10.0-1160.el7.x86_64: too old)") {
		t.Fatalf("old kernels: %+v", o)
	}
	labKernels(t, c, "6.1.4-1.el7.elrepo.x86_64")

	services, err := findServices(context.Background(), c)
	if err != nil || len(services.Paths) == 0 || services.Paths[0].Name != "default/kubernetes" {
		t.Errorf("%+v, %v", services, err)
	}

	labStep(t, c, "fleetd.calico.preflight", pre)
	labStep(t, c, "fleetd.calico.api_endpoint", rollout.Args{"host": host, "port": int64(6443)})
	labStep(t, c, "fleetd.calico.dataplane", rollout.Args{"linux_dataplane": "BPF"})
	labStep(t, c, "fleetd.calico.kube_proxy", rollout.Args{"state": "disabled"})
	labStep(t, c, "fleetd.calico.external_service_mode", rollout.Args{"mode": "DSR"})
	labStep(t, c, "fleetd.calico.verify", rollout.Args{"linux_dataplane": "BPF"})

	labStep(t, c, "fleetd.calico.external_service_mode", rollout.Args{"mode": "Tunnel"})
	labStep(t, c, "fleetd.calico.preflight", rollout.Args{"linux_dataplane": "Iptables"})
	labStep(t, c, "fleetd.calico.kube_proxy", rollout.Args{"state": "enabled"})
	labStep(t, c, "fleetd.calico.dataplane", rollout.Args{"linux_dataplane": "Iptables"})
	labStep(t, c, "fleetd.calico.api_endpoint", rollout.Args{"state": "absent"})
	labStep(t, c, "fleetd.calico.verify", rollout.Args{"linux_dataplane": "Iptables"})
}

// TestLabUndo does the flip by each module's Do and takes it back by its Undo,
// in reverse.
func TestLabUndo(t *testing.T) {
	c := labClient(t)
	labKernels(t, c, "6.1.4-1.el7.elrepo.x86_64")
	before, err := ReadFacts(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	mods := Modules(labDeps(c))
	type done struct {
		module string
		change rollout.Change
	}
	var did []done
	for _, s := range []struct {
		module string
		args   rollout.Args
	}{
		{"fleetd.calico.api_endpoint", rollout.Args{"host": "10.0.0.3"}},
		{"fleetd.calico.kube_proxy", rollout.Args{"state": "disabled"}}, // the article's order
		{"fleetd.calico.dataplane", rollout.Args{"linux_dataplane": "BPF"}},
		{"fleetd.calico.external_service_mode", rollout.Args{"mode": "DSR"}},
	} {
		change, _, _ := labStep(t, c, s.module, s.args)
		did = append(did, done{s.module, change})
	}
	for i := len(did) - 1; i >= 0; i-- {
		m := &clustertest.Machine{Pause: 300 * time.Millisecond, Limit: 3 * time.Minute, Undo: true}
		if o := m.Run(t, mods[did[i].module], rollout.Localhost, did[i].change); o.Bad() {
			t.Fatalf("undo %s: %s\n%s", did[i].module, o.Message, o.Hint)
		}
	}
	after, err := ReadFacts(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if after.Endpoint != before.Endpoint || after.Felix.ExternalServiceMode != before.Felix.ExternalServiceMode ||
		after.Installation.DataPlane() != before.Installation.DataPlane() || after.bpfEnabled() || after.KubeProxies[0].Disabled() {
		t.Errorf("not as before:\n%+v\n%+v", before, after)
	}
}

// TestLabByHand: with bpfEnabled set by hand the operator would end degraded;
// fleetd says so before it touches anything.
func TestLabByHand(t *testing.T) {
	c := labClient(t)
	ctx := context.Background()
	patch := func(v string) {
		if _, err := c.Dynamic.Resource(felixconfigs).Patch(ctx, "default", types.MergePatchType, []byte(`{"spec":{"bpfEnabled":`+v+`}}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	was, err := ReadFacts(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	patch("true")
	defer patch(cmp.Or(was.Felix.BPFEnabled, "null"))
	f, err := ReadFacts(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = Modules(Deps{})["fleetd.calico.dataplane"].Diff(rollout.Localhost, clustertest.State(t, clustertest.With(Section, f), clustertest.With(reach, nil)), rollout.Args{"linux_dataplane": "BPF"})
	if err == nil || !strings.Contains(err.Error(), "by hand") {
		t.Errorf("got %v", err)
	}
}

// TestLabDegraded brings the operator into trouble in the middle of a flip: its
// own note on FelixConfiguration says something else than the field.
func TestLabDegraded(t *testing.T) {
	c := labClient(t)
	ctx := context.Background()
	labKernels(t, c, "6.1.4-1.el7.elrepo.x86_64")
	labStep(t, c, "fleetd.calico.api_endpoint", rollout.Args{"host": "10.0.0.3"})
	felix := func(annotation, value string) {
		body := `{"metadata":{"annotations":{"` + bpfAnnotation + `":"` + annotation + `"}},"spec":{"bpfEnabled":` + value + `}}`
		if _, err := c.Dynamic.Resource(felixconfigs).Patch(ctx, "default", types.MergePatchType, []byte(body), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	mod := Modules(labDeps(c))["fleetd.calico.dataplane"]
	f, err := ReadFacts(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	change, _, err := mod.Diff(rollout.Localhost, clustertest.State(t, clustertest.With(Section, f), clustertest.With(reach, nil)), rollout.Args{"linux_dataplane": "BPF"})
	if err != nil {
		t.Fatal(err)
	}
	m := &clustertest.Machine{Pause: 300 * time.Millisecond}
	m.Look = func(attempt int) {
		if attempt == 2 {
			felix("true", "false")
		}
	}
	o := m.Run(t, mod, rollout.Localhost, change)
	t.Logf("%s: %s\n%s\n\tsaid %s", o.Kind, o.Message, o.Hint, strings.Join(m.Messages, "\n\t     "))
	if o.Kind != rollout.Failed || !strings.Contains(o.Message, "modified by someone else") {
		t.Errorf("%+v", o)
	}
	felix("false", "false")
	u := &clustertest.Machine{Pause: 300 * time.Millisecond, Undo: true}
	if o := u.Run(t, mod, rollout.Localhost, change); o.Bad() {
		t.Errorf("undo: %+v", o)
	}
	labStep(t, c, "fleetd.calico.api_endpoint", rollout.Args{"state": "absent"})
}

// TestLabRefusals: what the real API server says no to, and how it is told.
func TestLabRefusals(t *testing.T) {
	c := labClient(t)
	ctx := context.Background()
	err := patchInstallation(ctx, c, installationPatch{Network: map[string]any{"linuxDataplan": "BPF"}})
	if err == nil || !strings.Contains(err.Error(), "linuxDataplan") {
		t.Errorf("a field that does not exist was taken: %v", err)
	}
	cfg, err := clientcmd.LoadFromFile(os.Getenv(labKubeconfig))
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range cfg.AuthInfos {
		user.Impersonate = "deployer"
	}
	file := filepath.Join(t.TempDir(), "deployer")
	if err := clientcmd.WriteToFile(*cfg, file); err != nil {
		t.Fatal(err)
	}
	weak, err := cluster.Connect(file, cluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []struct {
		do   func() error
		hint string
	}{
		{func() error { _, err := weak.Nodes(ctx); return err }, "kubectl auth can-i list nodes --all-namespaces"},
		{func() error {
			return patchInstallation(ctx, weak, installationPatch{Network: map[string]any{"linuxDataplane": "BPF"}})
		}, "kubectl auth can-i patch installations.operator.tigera.io --all-namespaces"},
		{func() error {
			return selectNodes(ctx, weak, proxySelector{Name: "kube-proxy", After: "true"})
		}, "kubectl auth can-i patch daemonsets.apps -n kube-system"},
	} {
		err := w.do()
		if p := rollout.AsProblem(errors.Join(err)); err == nil || !strings.Contains(p.Hint, w.hint) {
			t.Errorf("want %q, got %+v", w.hint, p)
		}
	}
}
