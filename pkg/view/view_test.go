package view

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/pkg/rollout"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-want +got), -update writes it anew:\n%s", name, d)
	}
}

func TestMain(m *testing.M) {
	time.Local = time.UTC
	os.Exit(m.Run())
}

// example is a plan with all there is: two groups of hosts, a problem, the
// cluster, risks.
func example() rollout.Plan {
	kernel := func(from string) []rollout.PlannedStep {
		return []rollout.PlannedStep{
			{Change: rollout.Change{Action: rollout.ReadOnly, Summary: "check space, repository, boot loader, drivers"}},
			{Change: rollout.Change{Action: rollout.Create, Summary: "install kernel-ml-6.1.176-1.el7.elrepo.x86_64", Reasons: []string{"latest in elrepo-kernel is 6.1.176-1.el7.elrepo"}}},
			{Change: rollout.Change{Action: rollout.Update, Summary: "cordon and drain", Disruptive: true, Risks: []string{"pods without a controller are lost"}}},
			{Change: rollout.Change{Action: rollout.Update, Summary: "boot 6.1.176 once, on trial", Disruptive: true, Fields: []rollout.Field{
				{Name: "running kernel", Before: from, After: "6.1.176-1.el7.elrepo.x86_64"},
				{Name: "next_entry", After: "CentOS Linux (6.1.176-1.el7.elrepo.x86_64) 7 (Core)"},
			}, Risks: []string{"a kernel that does not come up costs one boot; the old one returns by itself"}}},
		}
	}
	tasks := []rollout.PlannedTask{
		{Name: "Node is fit for the change", Module: "fleetd.kernel.preflight", Steps: map[string]rollout.PlannedStep{}},
		{Name: "Kernel package is installed", Module: "fleetd.kernel.package", Steps: map[string]rollout.PlannedStep{}},
		{Name: "Node is drained", Module: "fleetd.cluster.drain", Steps: map[string]rollout.PlannedStep{}},
		{Name: "Node boots the new kernel on trial", Module: "fleetd.kernel.trial_boot", Steps: map[string]rollout.PlannedStep{}},
	}
	put := func(host string, steps []rollout.PlannedStep) {
		for i := range steps {
			tasks[i].Steps[host] = steps[i]
		}
	}
	put("node1", kernel("5.10.262-1.el7.x86_64"))
	put("node2", kernel("5.10.262-1.el7.x86_64"))
	put("node3", kernel("5.10.262-1.el7.x86_64"))
	put("node5", []rollout.PlannedStep{{Change: rollout.Change{Action: rollout.NoOp}}, {Change: rollout.Change{Action: rollout.NoOp}}})
	down := &rollout.Problem{Message: "cannot connect to HOST: no route to host", Unreachable: true, Hint: "look at its console; then plan again"}
	for _, h := range []string{"node4", "node6"} {
		p := *down
		p.Message = strings.ReplaceAll("cannot read facts on HOST: no route to host", "HOST", h)
		put(h, []rollout.PlannedStep{{Change: rollout.Change{Action: rollout.NoOp}, Problem: &p}})
	}
	zero := 0.0
	calico := rollout.PlannedStep{Change: rollout.Change{Action: rollout.Update, Summary: "set the data plane to BPF", Disruptive: true,
		Fields: []rollout.Field{{Name: "linuxDataplane", Before: "Iptables", After: "BPF"}, {Name: "hostPorts", Before: "Enabled", After: ""}},
		Risks:  []string{"services may be unreachable for seconds;\nopen NodePort connections may be cut"}}}
	p := rollout.Plan{
		Schema: rollout.PlanSchema,
		Source: rollout.Source{Inventories: []string{"inventory.yaml"}, Playbook: "playbooks/site.yml (built in)"},
		Plays: []rollout.PlannedPlay{
			{Name: "Kernels on the workers", Position: rollout.Position{File: "playbooks/kernels.yml", Line: 3}, Strategy: rollout.Free, MaxFailPercentage: &zero,
				Batches: [][]string{{"node1"}, {"node2", "node3"}, {"node4", "node5"}, {"node6"}}, Tasks: tasks},
			{Name: "Calico moves to eBPF", Position: rollout.Position{File: "playbooks/enable_ebpf.yml", Line: 1}, Strategy: rollout.Linear, Batches: [][]string{{rollout.Localhost}},
				Tasks: []rollout.PlannedTask{{Name: "Data plane is BPF", Module: "fleetd.calico.dataplane", Steps: map[string]rollout.PlannedStep{rollout.Localhost: calico}}}},
		},
	}
	if err := p.Seal(); err != nil {
		panic(err)
	}
	return p
}

func TestPlan(t *testing.T) {
	p := example()
	var out bytes.Buffer
	Plan(&out, Style{}, &p)
	golden(t, "plan.txt", out.Bytes())
	if strings.Contains(out.String(), "\x1b") {
		t.Error("colour without being asked")
	}
	out.Reset()
	Plan(&out, Style{Colour: true}, &p)
	if !strings.Contains(out.String(), "\x1b[") {
		t.Error("no colour")
	}
}

func TestSummary(t *testing.T) {
	none := rollout.Plan{Plays: []rollout.PlannedPlay{{Batches: [][]string{{"a", "b"}, {rollout.Localhost}}}}}
	if got, want := Summary(&none), "No changes. 2 hosts and the cluster are as the playbook wants."; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
