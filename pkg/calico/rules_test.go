package calico

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// ruled holds a host and a cluster against a rule.
func ruled(t *testing.T, name string, args rollout.Args, state, cluster rollout.State) string {
	t.Helper()
	for _, r := range Rules() {
		if r.Name != name {
			continue
		}
		judge, err := r.With(args)
		if err != nil {
			return "refused: " + err.Error()
		}
		f, err := judge(rollout.Look{Host: "n1", State: state, Cluster: cluster})
		switch {
		case err != nil:
			return "not judged: " + err.Error()
		case !f.Drift:
			return "holds: " + f.Text
		}
		out := "drifts: " + f.Text
		for _, d := range f.Fields {
			out += " [" + d.Before + " → " + d.After + "]"
		}
		return out
	}
	t.Fatalf("there is no rule %s", name)
	return ""
}

func section[T any](t *testing.T, s rollout.Section[T], v T) rollout.State {
	t.Helper()
	st := s.With(nil, v)
	return st
}

func TestRules(t *testing.T) {
	bpf := Facts{Install: Operator, CalicoVersion: "v3.31.0", Installation: Installation{Exists: true, LinuxDataplane: BPF}, Felix: Felix{Exists: true, BPFEnabled: "true", Operator: "true"},
		CalicoNode: DaemonSet{Exists: true}, TigeraStatus: []TigeraStatus{{Name: "calico", Conditions: []Condition{{Type: "Available", Status: "True"}}}}}
	with := func(edit func(*Facts)) Facts {
		f := bpf
		edit(&f)
		return f
	}
	running := func(release string) rollout.State {
		return section(t, node.Section, node.Facts{Running: release})
	}
	felix := func(s felixState) rollout.State { return section(t, FelixSection, s) }
	proven := felixState{Process: "7@1", Maps: 12, Pinned: []string{"cali_v4_nat_fe3"}, Attached: []string{"eth0"}}
	for _, c := range []struct {
		rule    string
		args    rollout.Args
		state   rollout.State
		cluster Facts
		want    string
	}{
		{"calico-verified", nil, nil, bpf, "holds: data plane BPF, kube-proxy off, TigeraStatus calico, nodes Ready"},
		{"calico-verified", rollout.Args{"linux_dataplane": "BPF"}, nil, with(func(f *Facts) {
			f.KubeProxies = []KubeProxy{{DaemonSet: DaemonSet{Namespace: "kube-system", Name: "kube-proxy", Desired: 3}}}
			f.Nodes = []cluster.Node{{Name: "w1"}}
		}), "drifts: the data plane BPF does not hold; kube-proxy off: DaemonSet kube-system/kube-proxy runs on 3 nodes; nodes Ready: not Ready: w1"},
		{"calico-verified", rollout.Args{"linux_dataplane": "VPP"}, nil, bpf, `refused: linux_dataplane is "VPP", not one of ["BPF" "Iptables"]`},
		{"calico-bpf-proven", nil, felix(proven), Facts{}, "holds: Felix runs the eBPF data plane: 12 maps, programs on eth0"},
		{"calico-bpf-proven", nil, felix(felixState{Process: "7@1", Log: "Disabling BPF mode"}), Facts{},
			`drifts: does not run the eBPF data plane [Felix goes on without BPF, it logged "Disabling BPF mode" → its maps held, its programs attached]`},
		{"calico-kernel", nil, running("5.14.0-427.el9.x86_64"), bpf, "holds: 5.14.0-427.el9.x86_64 is enough for Calico v3.31.0"},
		{"calico-kernel", nil, running("4.18.0-193.el8.x86_64"), bpf,
			"drifts: runs a kernel that Calico v3.31.0 cannot use for eBPF [4.18.0-193.el8.x86_64, too old → 5.10, or 4.18.0-305 of EL 8]"},
		{"calico-kernel", nil, running("6.1.4"), with(func(f *Facts) { f.CalicoVersion = "latest" }), `not judged: what Calico "latest" needs is not known`},
		{"calico-kernel", nil, running("6.1.4"), Facts{Install: NoCalico}, "not judged: the cluster has no Calico"},
	} {
		if got := ruled(t, c.rule, c.args, c.state, section(t, Section, c.cluster)); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.rule, got, c.want)
		}
	}
}

// answers are hosts that print what their Felix does.
type answers map[string]sshexec.Result

func (a answers) Run(_ context.Context, host string, c sshexec.Command) (sshexec.Result, error) {
	if !c.Harmless || c.Script != felixScript {
		return sshexec.Result{}, errors.New("something else is run than the script that looks")
	}
	r, ok := a[host]
	if !ok {
		return r, errors.New("no route to host")
	}
	return r, nil
}

// TestFelixObserver: each host has its answer, or why there is none, and nothing is run
// that does more than look.
func TestFelixObserver(t *testing.T) {
	hosts := answers{
		"n1": {Stdout: []byte("felix 7@1 12\npinned cali_v4_nat_fe3\nattached eth0\n")},
		"n2": {ExitStatus: 126, Stderr: []byte("sudo: a password is required\n")},
	}
	keys := map[string][]string{"n1": {""}, "n2": {""}, "n3": {""}}
	got := felixObserver{Deps{Hosts: hosts}}.Observe(t.Context(), keys)
	if s := string(got["n1"].Value); got["n1"].Err != nil || s != `{"process":"7@1","maps":12,"pinned":["cali_v4_nat_fe3"],"attached":["eth0"]}` {
		t.Errorf("n1: %s, %v", s, got["n1"].Err)
	}
	for host, want := range map[string]string{"n2": "exit status 126", "n3": "no route to host"} {
		if err := got[host].Err; err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), host) {
			t.Errorf("%s: %v", host, err)
		}
	}
	if len(got) != 3 {
		t.Error(fmt.Sprint(got))
	}
}
