package calico

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/cluster/clustertest"
	"github.com/fleetd/fleetd/pkg/probe"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// serving puts Services of every type into the fakes, and pods that serve names.
func serving(t *testing.T, f fakes) {
	t.Helper()
	service := func(ns, name string, spec corev1.ServiceSpec, ingress ...string) {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: spec}
		if name == "kube-dns" {
			s.Labels = map[string]string{"k8s-app": "kube-dns"}
		}
		for _, ip := range ingress {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
		}
		if _, err := f.kube.CoreV1().Services(ns).Create(context.Background(), s, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	service("kube-system", "kube-dns", corev1.ServiceSpec{
		ClusterIP: "10.96.0.10", ClusterIPs: []string{"10.96.0.10"}, Selector: map[string]string{"k8s-app": "kube-dns"},
		Ports: []corev1.ServicePort{{Port: 53, TargetPort: intstr.FromInt32(1053)}},
	})
	service("shop", "web", corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80, NodePort: 30080}}}, "203.0.113.7", "")
	service("shop", "udp-only", corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80, NodePort: 30081, Protocol: corev1.ProtocolUDP}}})
	for _, name := range []string{"a", "b", "c"} {
		service(name, "np", corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80, NodePort: 30090, Protocol: corev1.ProtocolTCP}}})
	}
	service("shop", "headless", corev1.ServiceSpec{ClusterIP: "None"})
	for name, ip := range map[string]string{"dns-1": "10.244.0.5", "dns-2": "10.244.1.5", "dns-3": ""} {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name, Labels: map[string]string{"k8s-app": "kube-dns"}},
			Status:     corev1.PodStatus{PodIP: ip, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
		}
		if _, err := f.kube.CoreV1().Pods("kube-system").Create(context.Background(), p, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// probingPlan plans a step behind a fleetd.calico.probe, which it plans, too.
func probingPlan(t *testing.T, f fakes, module string, args rollout.Args) (watch, step rollout.Change) {
	t.Helper()
	facts, err := f.Facts(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	found, err := findServices(context.Background(), f.Client)
	if err != nil {
		t.Fatal(err)
	}
	mods := Modules(f.deps())
	st := clustertest.State(t, clustertest.With(Section, facts), clustertest.With(reach, nil), clustertest.With(services, found))
	watch, st, err = mods["fleetd.calico.probe"].Diff(rollout.Localhost, st, rollout.Args{"paths": []any{"tcp://192.0.2.9:5432"}})
	if err != nil {
		t.Fatal(err)
	}
	step, _, err = mods[module].Diff(rollout.Localhost, st, args)
	if err != nil {
		t.Fatal(err)
	}
	return watch, step
}

// kept is the evidence that ended with a step.
func kept(t *testing.T, o rollout.Outcome) probe.Evidence {
	t.Helper()
	var e probe.Evidence
	if err := json.Unmarshal([]byte(o.Notes[probe.Note]), &e); err != nil {
		t.Fatalf("%v in %+v", err, o)
	}
	return e
}

// What there is to ask for is found, and is the same whatever pods there are.
func TestServicesAreFound(t *testing.T) {
	f := recorded(t, "iptables")
	serving(t, f)
	watch, _ := probingPlan(t, f, "fleetd.calico.verify", rollout.Args{"linux_dataplane": "BPF"})
	want := []string{
		"ClusterIP default/kubernetes 10.96.0.1:443 (https)",
		"ClusterIP kube-system/kube-dns 10.96.0.10:53 (dns-udp, dns-tcp, dns-open)",
		"Pod kube-system/kube-dns port 1053 (dns-udp, dns-tcp, dns-open)",
		"NodePort a/np port 30090 (tcp)", "NodePort a/np port 30090 of another node (tcp)",
		"NodePort b/np port 30090 (tcp)", "NodePort b/np port 30090 of another node (tcp)",
		"NodePort c/np port 30090 (tcp)", "NodePort c/np port 30090 of another node (tcp)",
		"tcp://192.0.2.9:5432",
	}
	if d := cmp.Diff([]string{"what answers now has to answer afterwards: " + strings.Join(want, ", ")}, watch.Reasons); d != "" {
		t.Error(d)
	}
	if watch.Action.Writes() || strings.Contains(string(watch.Data), "10.244.") {
		t.Errorf("%+v", watch)
	}
}

// Every node asks at itself and at the next one; the bastion asks what can be asked
// from outside.
func TestPathsOfEachMachine(t *testing.T) {
	nodes := []cluster.Node{{Name: "n1", InternalIPs: []string{"10.0.0.1"}}, {Name: "n2", InternalIPs: []string{"10.0.0.2"}}, {Name: "n3"}}
	paths := []probe.Path{
		{Name: "k", Kind: probe.ClusterIP, Protocol: probe.HTTPS, Address: "10.96.0.1", Port: 443}, {Name: "d", Kind: probe.Pod, Protocol: probe.DNSUDP, Port: 53},
		{Name: "w", Kind: probe.NodePort, Protocol: probe.TCP, Port: 30080}, {Name: "w", Kind: probe.Via, Protocol: probe.TCP, Port: 30080},
		{Name: "w", Kind: probe.LoadBalancer, Protocol: probe.TCP, Address: "203.0.113.7", Port: 80}, {Name: "g", Kind: probe.Given, Protocol: probe.TCP, Address: "db", Port: 1},
	}
	for name, want := range map[string]string{
		"n1":   "ClusterIP 10.96.0.1, Pod 10.244.0.1, Pod 10.244.0.2, NodePort 10.0.0.1, NodePort-via 10.0.0.2, LoadBalancer 203.0.113.7, Given db",
		"n2":   "ClusterIP 10.96.0.1, Pod 10.244.0.1, Pod 10.244.0.2, NodePort 10.0.0.2, LoadBalancer 203.0.113.7, Given db",
		"n3":   "ClusterIP 10.96.0.1, Pod 10.244.0.1, Pod 10.244.0.2, NodePort-via 10.0.0.1, LoadBalancer 203.0.113.7, Given db",
		"here": "NodePort-via 10.0.0.1, NodePort-via 10.0.0.2, LoadBalancer 203.0.113.7, Given db",
	} {
		var n *cluster.Node
		if i := slices.IndexFunc(nodes, func(n cluster.Node) bool { return n.Name == name }); i >= 0 {
			n = &nodes[i]
		}
		var got []string
		for _, p := range pathsFor(n, nodes, paths, []string{"10.244.0.1", "10.244.0.2", "10.244.0.3"}) {
			got = append(got, string(p.Kind)+" "+p.Address)
		}
		if d := cmp.Diff(want, strings.Join(got, ", ")); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	if got := others(&nodes[0], nodes[:1]); len(got) > 0 {
		t.Errorf("the only node asks at another: %q", got)
	}
}

// The baseline: started once on every node and here, marked after a while, and what
// does not answer is named. A crash in between starts nothing twice.
func TestProbesAreStarted(t *testing.T) {
	f := recorded(t, "iptables")
	serving(t, f)
	watch, _ := probingPlan(t, f, "fleetd.calico.verify", rollout.Args{"linux_dataplane": "BPF"})
	f.ssh.gone = map[string]bool{"host-of-el-0001": true}
	f.ssh.probes = func(host string, c sshexec.Command) string {
		if c.Env["mark"] == "" || host == rollout.Localhost {
			return ""
		}
		return "at 100000 0.5\n" + dnsPath + "path 1 Pod dns-udp 10.244.0.5 1053 - kube-system/kube-dns\nstate 0 0 0 20 0 0 0 0 100000 100000 unseen\nstate 1 0 0 0 9 0 0 9 1 100000 unseen\n"
	}
	m := &clustertest.Machine{}
	o := m.Run(t, Modules(f.deps())["fleetd.calico.probe"], rollout.Localhost, watch)
	if o.Kind != rollout.Unchanged || m.Now != baseline || !strings.Contains(o.Message, "2 of 3 paths to Services answer, asked from 2 nodes every 500ms; no evidence, because they do not answer now: Pod kube-system/kube-dns 10.244.0.5:1053 (dns-udp); nothing is known of el-0001 (it cannot be asked") {
		t.Errorf("after %s: %+v", m.Now, o)
	}
	slices.Sort(f.ssh.asked)
	if d := cmp.Diff([]string{"mark host-of-el-0002", "mark localhost", "start host-of-el-0002", "start localhost"}, f.ssh.asked); d != "" {
		t.Error(d)
	}
	if e := kept(t, o); !e.Baseline || e.Answering() != 2 {
		t.Errorf("%+v", e)
	}
}

// state1 is a path on one node that answered before: how it stands now.
func state1(state string) func(string, sshexec.Command) string {
	return func(host string, c sshexec.Command) string {
		if !strings.HasSuffix(host, "el-0002") {
			return ""
		}
		return "at 100000 0.5\n" + dnsPath + state
	}
}

const (
	answersNot = "state 0 20 0 3 30 0 0 30 85000 100000 unseen\n"
	gapBefore  = "state 0 20 0 30 4 2340 90000 0 99900 100000 unseen\n"
)

// Felix is in force on every node, and a path that answered before does not: the flip
// goes back by itself, soon, and says which path from where. It answers again then.
func TestFlipThatLosesServicesGoesBack(t *testing.T) {
	f := recorded(t, "iptables")
	endpointDone(t, f)
	serving(t, f)
	_, c := probingPlan(t, f, "fleetd.calico.dataplane", rollout.Args{"linux_dataplane": "BPF"})
	mod := Modules(f.deps())["fleetd.calico.dataplane"]
	f.ssh.probes = state1(answersNot)
	m := &clustertest.Machine{Look: func(int) { f.operate(t) }}
	o := m.Run(t, mod, rollout.Localhost, c)
	if o.Kind != rollout.Failed || !strings.Contains(o.Message, "ClusterIP kube-system/kube-dns 10.96.0.10:53 (dns-udp) from el-0002; the data plane was taken back to Iptables") {
		t.Errorf("%+v", o)
	}
	if m.Now < lostPatience || m.Now > lostPatience+time.Minute {
		t.Errorf("after %s", m.Now)
	}
	if in := f.get(t, "Installation", "default"); installationFacts(in).DataPlane() != Iptables {
		t.Error("the data plane is still asked for")
	}
	if e := kept(t, o); len(e.Lost()) != 1 || !slices.Contains(f.ssh.asked, "stop host-of-el-0002") || !slices.Contains(f.ssh.asked, "stop localhost") {
		t.Errorf("%+v %q", e, f.ssh.asked)
	}
}

// A gap that is over is told, and is no failure; the probes go on until verify.
func TestGapIsTold(t *testing.T) {
	f := recorded(t, "iptables")
	endpointDone(t, f)
	serving(t, f)
	_, c := probingPlan(t, f, "fleetd.calico.dataplane", rollout.Args{"linux_dataplane": "BPF"})
	f.ssh.probes = state1(gapBefore)
	o := (&clustertest.Machine{Look: func(int) { f.operate(t) }}).Run(t, Modules(f.deps())["fleetd.calico.dataplane"], rollout.Localhost, c)
	if o.Kind != rollout.Changed || !strings.Contains(o.Message, "proven on 2 nodes; paths to Services asked: 2, the longest gap 2.34s (ClusterIP kube-system/kube-dns 10.96.0.10:53 (dns-udp), from el-0002)") {
		t.Errorf("%+v", o)
	}
	if w := kept(t, o).Worst(); w == nil || w.Longest != 2340 || w.Ago != 10_000 {
		t.Errorf("%+v", w)
	}
	if slices.Contains(f.ssh.asked, "stop localhost") {
		t.Error("the probes were ended")
	}
}

// Without a fleetd.calico.probe before it, nobody is asked for probes.
func TestFlipWithoutProbes(t *testing.T) {
	f, mod, c, m := flipping(t, rollout.Args{})
	if o := m.Run(t, mod, rollout.Localhost, c); o.Kind != rollout.Changed || len(f.ssh.asked) > 0 || o.Notes[probe.Note] != "" {
		t.Errorf("%+v %q", o, f.ssh.asked)
	}
}

// At the end every path answers, by the data plane and not by what kube-proxy has
// left; then the probes end.
func TestVerifyJudgesProbes(t *testing.T) {
	left := "met 0 7\nbefore 0 20 0 20 0 0 0 0 100000 100000 unseen\nstill 0 %\nstate 0 20 0 24 0 0 0 0 100000 100000 unseen\n"
	for name, c := range map[string]struct {
		says, why string
		want      DataPlane
	}{
		"all is well":            {"", "", BPF},
		"lost":                   {answersNot, "what answered before does not now: ClusterIP kube-system/kube-dns 10.96.0.10:53 (dns-udp) from el-0002", BPF},
		"carried by old rules":   {strings.ReplaceAll(left, "%", "11"), "rules that kube-proxy has left still carry", BPF},
		"old rules, not met":     {strings.ReplaceAll(left, "%", "7"), "", BPF},
		"kube-proxy's, as it is": {strings.ReplaceAll(left, "%", "11"), "", Iptables},
	} {
		t.Run(name, func(t *testing.T) {
			f := recorded(t, strings.ToLower(string(c.want)))
			serving(t, f)
			_, change := probingPlan(t, f, "fleetd.calico.verify", rollout.Args{"linux_dataplane": string(c.want), "timeout": "1m"})
			if c.says != "" {
				f.ssh.probes = state1(c.says)
			}
			m := &clustertest.Machine{}
			o := m.Run(t, Modules(f.deps())["fleetd.calico.verify"], rollout.Localhost, change)
			if (o.Kind == rollout.Failed) != (c.why != "") || !strings.Contains(o.Message, c.why) {
				t.Errorf("%+v", o)
			}
			if !slices.Contains(f.ssh.asked, "stop host-of-el-0001") || len(kept(t, o).Paths) == 0 {
				t.Errorf("%q %+v", f.ssh.asked, o)
			}
		})
	}
}

// A path that nobody can ask for is a mistake of the playbook's.
func TestWrongPath(t *testing.T) {
	st := clustertest.State(t, clustertest.With(services, found{}))
	_, _, err := probeModule{}.Diff(rollout.Localhost, st, rollout.Args{"paths": "ftp://x"})
	if err == nil || !strings.Contains(err.Error(), `"ftp://x" cannot be probed`) {
		t.Error(err)
	}
}
