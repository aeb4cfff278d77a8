package calico

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fleetd/fleetd/pkg/cluster/clustertest"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// task is a task of a play, and what came of it.
type task struct {
	module string
	args   rollout.Args
	change rollout.Change
}

var automaticFlip = []task{
	{module: "fleetd.calico.preflight", args: rollout.Args{"automatic": true}},
	{module: "fleetd.calico.dataplane", args: rollout.Args{"linux_dataplane": "BPF", "automatic": true, "timeout": "1m"}},
	{module: "fleetd.calico.kube_proxy", args: rollout.Args{"state": "disabled", "automatic": true}},
}

var wayBack = []task{
	{module: "fleetd.calico.preflight", args: rollout.Args{"linux_dataplane": "Iptables"}},
	{module: "fleetd.calico.kube_proxy", args: rollout.Args{"state": "enabled"}},
	{module: "fleetd.calico.dataplane", args: rollout.Args{"linux_dataplane": "Iptables"}},
	{module: "fleetd.calico.verify", args: rollout.Args{"linux_dataplane": "Iptables"}},
}

// play plans all tasks, each on the state that the one before leaves.
func (o *operator140) play(tasks []task) []task {
	o.t.Helper()
	facts, err := o.Facts(context.Background())
	if err != nil {
		o.t.Fatal(err)
	}
	st := clustertest.State(o.t, clustertest.With(Section, facts), clustertest.With(reach, nil))
	out := make([]task, len(tasks))
	for i, k := range tasks {
		mod := Modules(o.deps())[k.module]
		if k.change, st, err = mod.Diff(rollout.Localhost, st, k.args); err != nil {
			o.t.Fatalf("%s: %v", k.module, err)
		}
		out[i] = k
	}
	return out
}

// do does them, and says how the last one ended that was done.
func (o *operator140) do(tasks []task) rollout.Outcome {
	o.t.Helper()
	var last rollout.Outcome
	for _, k := range tasks {
		if k.change.Action == rollout.NoOp {
			continue
		}
		m := &clustertest.Machine{Look: func(int) { o.look() }}
		if last = m.Run(o.t, Modules(o.deps())[k.module], rollout.Localhost, k.change); last.Bad() {
			return last
		}
	}
	return last
}

func (o *operator140) undo(tasks []task) {
	o.t.Helper()
	for i := len(tasks) - 1; i >= 0; i-- {
		if k := tasks[i]; k.change.Action.Writes() {
			m := &clustertest.Machine{Undo: true, Look: func(int) { o.look() }}
			if out := m.Run(o.t, Modules(o.deps())[k.module], rollout.Localhost, k.change); out.Bad() {
				o.t.Fatalf("undo of %s: %+v", k.module, out)
			}
		}
	}
}

// Automatic, but proven: bootstrap goes with the data plane, and the operator is left
// kube-proxy in a write of its own, once the slowest node runs BPF. Where the
// operator had kube-proxy already, it lets go of it meanwhile.
func TestAutomaticModeIsProven(t *testing.T) {
	for name, c := range map[string]struct {
		begin map[string]any
		want  string
	}{
		"manual before": {nil, `{"metadata":{"annotations":{"fleetd.io/host-ports-before-bpf":"Enabled"}},"spec":{"calicoNetwork":{"bpfNetworkBootstrap":"Enabled","hostPorts":null,"linuxDataplane":"BPF"}}}`},
		// What a person writes who follows Calico's page: the operator is Degraded until
		// the data plane moves.
		"both asked for before": {map[string]any{bootstrapField: enabledSpec, managementField: enabledSpec},
			`{"metadata":{"annotations":{"fleetd.io/host-ports-before-bpf":"Enabled"}},"spec":{"calicoNetwork":{"hostPorts":null,"kubeProxyManagement":"Disabled","linuxDataplane":"BPF"}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOperator140(t, "iptables")
			in := o.get(t, "Installation", "default")
			for field, v := range c.begin {
				set(t, in, v, "spec", "calicoNetwork", field)
			}
			o.custom(t, in)
			o.settled()
			o.slow = map[string]int{"host-of-el-0002": 12}
			before, err := o.Facts(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			tasks := o.play(automaticFlip)
			if out := o.do(tasks); out.Kind != rollout.Changed {
				t.Fatalf("%+v", out)
			}
			o.says()
			want := []string{"patch installations default " + c.want, `patch installations default {"spec":{"calicoNetwork":{"kubeProxyManagement":"Enabled"}}}`}
			if d := cmp.Diff(want, o.writes()); d != "" {
				t.Error(d)
			}
			after, err := o.Facts(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if off, why := after.KubeProxyOff(); !off {
				t.Errorf("kube-proxy is not gone: %s", why)
			}
			for _, k := range o.play(automaticFlip) {
				if k.change.Action.Writes() {
					t.Errorf("a second look still finds %+v", k.change)
				}
			}

			o.undo(tasks)
			o.settled()
			o.says()
			if after, err = o.Facts(context.Background()); err != nil {
				t.Fatal(err)
			}
			// Bootstrap cannot be Enabled with Iptables: the operator would be Degraded again.
			if before.Installation.Automatic() {
				before.Installation.BPFNetworkBootstrap = disabledSpec
				before.TigeraStatus = after.TigeraStatus
			}
			if d := cmp.Diff(before, after, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(DaemonSet{}, "Generation", "Observed"),
				cmpopts.IgnoreFields(Installation{}, "Computed", "ComputedKubeProxy")); d != "" {
				t.Errorf("not as before (-before +after):\n%s", d)
			}
		})
	}
}

// A node that refuses BPF takes the flip back, and kube-proxy was never touched.
func TestAutomaticModeGoesBack(t *testing.T) {
	o := newOperator140(t, "iptables")
	o.settled()
	o.slow = map[string]int{"host-of-el-0002": never}
	out := o.do(o.play(automaticFlip))
	if out.Kind != rollout.Failed || !strings.Contains(out.Message, "el-0002 (Felix goes on without BPF") || !strings.Contains(out.Message, "taken back to Iptables, and kube-proxy was not touched") {
		t.Errorf("%+v", out)
	}
	o.says()
	if in := installationFacts(o.get(t, "Installation", "default")); in.BPFNetworkBootstrap != "" || in.KubeProxyManagement != "" || in.DataPlane() != Iptables {
		t.Errorf("%+v", in)
	}
}

// A node that was proven and is not any more when the operator's turn comes.
func TestAutomaticModeProvesAgain(t *testing.T) {
	o := newOperator140(t, "iptables")
	o.settled()
	tasks := o.play(automaticFlip)
	if out := o.do(tasks[:2]); out.Kind != rollout.Changed {
		t.Fatalf("%+v", out)
	}
	o.slow = map[string]int{"host-of-el-0001": never}
	n := len(o.writes())
	m := &clustertest.Machine{Look: func(int) { o.look() }}
	for range 5 {
		out := m.Once(Modules(o.deps())[tasks[2].module], rollout.Localhost, tasks[2].change)
		if out.Kind != rollout.Waiting || !strings.Contains(out.Message, "kube-proxy is untouched") || !strings.Contains(out.Message, "el-0001") {
			t.Fatalf("%+v", out)
		}
	}
	o.says()
	if w := o.writes()[n:]; len(w) > 0 {
		t.Errorf("%q", w)
	}
}

// The way back has an order of its own: kube-proxy is taken from the operator, which
// would bring it only after eBPF, and runs everywhere before eBPF goes.
func TestAutomaticModeWayBack(t *testing.T) {
	o := newOperator140(t, "iptables")
	o.settled()
	if out := o.do(o.play(automaticFlip)); out.Bad() {
		t.Fatalf("%+v", out)
	}
	tasks := o.play(wayBack)
	if out := o.do(tasks); out.Bad() {
		t.Fatalf("%+v", out)
	}
	o.settled()
	o.says()
	want := []string{
		`patch daemonsets kube-proxy {"spec":{"template":{"spec":{"nodeSelector":{"operator.tigera.io/disable-kube-proxy":null}}}}}`,
		`patch installations default {"spec":{"calicoNetwork":{"kubeProxyManagement":"Disabled"}}}`,
		`patch installations default {"metadata":{"annotations":{"fleetd.io/host-ports-before-bpf":null}},"spec":{"calicoNetwork":{"bpfNetworkBootstrap":"Disabled","hostPorts":"Enabled","linuxDataplane":"Iptables"}}}`,
	}
	writes := o.writes() // the fakes keep those of each client apart
	if d := cmp.Diff(want, slices.Concat(clustertest.Only(writes, "daemonsets"), clustertest.Only(writes, "installations")[2:])); d != "" {
		t.Error(d)
	}
	// And taken back itself, it is automatic again, proven before kube-proxy goes.
	o.slow = map[string]int{"host-of-el-0001": 10}
	o.undo(tasks)
	o.says()
	after, err := o.Facts(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if off, why := after.KubeProxyOff(); !off || !after.Installation.Automatic() || after.Installation.KubeProxyManagement != enabledSpec {
		t.Errorf("%t %s %+v", off, why, after.Installation)
	}
}

// Cut off at any call and taken back, all is as before, and Services were served all
// the while.
func TestAutomaticModeCutOff(t *testing.T) {
	for cut := 1; ; cut++ {
		o := newOperator140(t, "iptables")
		o.settled()
		tasks, left, over := o.play(automaticFlip), cut, false
		var begun []task
		for _, k := range tasks {
			m := &clustertest.Machine{Look: func(int) { o.look() }}
			for over = false; left > 0 && !over; left-- {
				out := m.Once(Modules(o.deps())[k.module], rollout.Localhost, k.change)
				m.Now += out.After
				over = out.Final()
			}
			begun = append(begun, k)
			if !over {
				break
			}
		}
		o.undo(begun)
		o.settled()
		o.says()
		if in := installationFacts(o.get(t, "Installation", "default")); in.BPFNetworkBootstrap != "" || in.KubeProxyManagement != "" || in.DataPlane() != Iptables {
			t.Errorf("cut off at call %d: %+v", cut, in)
		}
		if over {
			return // nothing was cut off any more
		}
	}
}

// What the operator would refuse is refused before, or at the last moment.
func TestAutomaticModeRefused(t *testing.T) {
	modern := "{calico_version: v3.31.1, operator_version: v1.40.0}"
	for changes, want := range map[string]string{
		"{}": "needs Calico 3.31 with operator 1.40, and this is Calico v3.29.2",
		"{calico_version: v3.31.1, operator_version: v1.38.9}":                                                         "this is operator v1.38.9",
		"{calico_version: v4.0.0, operator_version: master}":                                                           "",
		"{calico_version: v3.31.1, operator_version: v1.40.0, endpoint: {exists: true, host: 10.0.0.3, port: '6443'}}": "while the ConfigMap tigera-operator/kubernetes-services-endpoint exists",
		modern: "",
	} {
		for _, module := range []string{"fleetd.calico.preflight", "fleetd.calico.dataplane"} {
			got, hint := refusal(t, factsOf(t, "iptables", changes), module, rollout.Args{"linux_dataplane": "BPF", "automatic": true})
			if want == "" && got != "" || !strings.Contains(got, want) || want != "" && hint == "" {
				t.Errorf("%s: %s: %q", changes, module, got)
			}
		}
	}
	if got, _ := refusal(t, factsOf(t, "iptables", modern), "fleetd.calico.preflight", rollout.Args{"automatic": true, "api_host": "10.0.0.3"}); !strings.Contains(got, "finds it by itself") {
		t.Errorf("%q", got)
	}
	// The ConfigMap comes between plan and apply: nothing is written.
	o := newOperator140(t, "iptables")
	o.settled()
	tasks := o.play(automaticFlip)
	o.endpoint()
	if out := o.do(tasks[1:]); out.Kind != rollout.Failed || out.Hint == "" || len(o.writes()) > 0 {
		t.Errorf("%+v %q", out, o.writes())
	}
	// A second kube-proxy is not the operator's to take away.
	f := factsOf(t, "bpf", `{installation: {bpf_network_bootstrap: Enabled}, endpoint: {exists: false}}`)
	f.KubeProxies[0].NodeSelector = map[string]string{operatorProxyLabel: "true"}
	arm := KubeProxy{Mode: "iptables"}
	arm.Namespace, arm.Name, arm.Desired = "kube-system", "kube-proxy-arm", 2
	f.KubeProxies = append(f.KubeProxies, arm)
	if got, hint := refusal(t, f, "fleetd.calico.kube_proxy", rollout.Args{"state": "disabled", "automatic": true}); !strings.Contains(got, "kube-proxy-arm") || hint == "" {
		t.Errorf("%q", got)
	}
}
