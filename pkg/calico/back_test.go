package calico

import (
	"context"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/cluster/clustertest"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// The article's order, and a kernel that refuses BPF: kube-proxy, which the play has
// taken away, comes back before the data plane goes, at whatever moment of it fleetd
// is killed.
func TestArticleOrderGoesBack(t *testing.T) {
	for _, killed := range []bool{false, true} {
		f := recorded(t, "iptables")
		endpointDone(t, f)
		facts, err := f.Facts(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		mods := Modules(f.deps())
		off, st, err := mods["fleetd.calico.kube_proxy"].Diff(rollout.Localhost, clustertest.State(t, clustertest.With(Section, facts), clustertest.With(reach, nil)), rollout.Args{"state": "disabled"})
		if err != nil {
			t.Fatal(err)
		}
		flip, _, err := mods["fleetd.calico.dataplane"].Diff(rollout.Localhost, st, rollout.Args{"linux_dataplane": "BPF", "timeout": "1m"})
		if err != nil {
			t.Fatal(err)
		}
		if why := strings.Join(flip.Reasons, "; "); !strings.Contains(why, "brings it back first") {
			t.Errorf("the plan does not say it: %s", why)
		}
		operate := func(int) { f.operate(t) }
		if o := (&clustertest.Machine{Look: operate}).Run(t, mods["fleetd.calico.kube_proxy"], rollout.Localhost, off); o.Kind != rollout.Changed {
			t.Fatalf("%+v", o)
		}
		f.ssh.says = oneNode(felixRefused)
		m := &clustertest.Machine{Look: operate}
		if killed {
			m.Look = func(int) {
				f.operate(t)
				for k := range m.SoFar {
					if k != reverting && m.SoFar[reverting] != "" { // all that Intend made durable
						delete(m.SoFar, k)
					}
				}
			}
		}
		o := m.Run(t, mods["fleetd.calico.dataplane"], rollout.Localhost, flip)
		if o.Kind != rollout.Failed || !strings.Contains(o.Message, "el-0002") || !strings.Contains(o.Message, "taken back to Iptables, and kube-proxy runs again") {
			t.Errorf("killed %t: %+v", killed, o)
		}
		after, err := f.Facts(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if !after.kubeProxyServes() || after.Installation.DataPlane() != Iptables || after.Installation.HostPorts != facts.Installation.HostPorts {
			t.Errorf("killed %t: not as before: %+v", killed, after)
		}
	}
}

// While kube-proxy is on its way back, the data plane stays as it is.
func TestKubeProxyComesBackFirst(t *testing.T) {
	f := recorded(t, "bpf")
	d := dataplaneData{Before: Iptables, After: BPF, Stall: "1m", Proxies: []proxySelector{{Name: "kube-proxy", Before: "true"}}}
	m := &clustertest.Machine{SoFar: map[string]string{reverting: "it was refused"}}
	mod := Modules(f.deps())["fleetd.calico.dataplane"]
	c := rollout.Change{Data: cluster.Pack(d)}
	for range 5 { // kube-proxy's pods do not come
		if o := m.Once(mod, rollout.Localhost, c); o.Kind != rollout.Waiting || !strings.HasPrefix(o.Message, "taking the data plane back: ") {
			t.Fatalf("%+v", o)
		}
		f.mutate(t, "kube-system", "kube-proxy", func(ds *appsv1.DaemonSet) {
			ds.Status = appsv1.DaemonSetStatus{ObservedGeneration: ds.Generation, DesiredNumberScheduled: 6, CurrentNumberScheduled: 6, UpdatedNumberScheduled: 6}
		})
	}
	if w := clustertest.Only(f.writes(), "installations"); len(w) > 0 {
		t.Errorf("%q", w)
	}
	m.Now += time.Minute
	o := m.Once(mod, rollout.Localhost, c)
	if o.Kind != rollout.Failed || !strings.Contains(o.Message, "it was refused; and the data plane could not be taken back") || o.Hint == "" {
		t.Errorf("%+v", o)
	}
}

// Nodes that SSH does not reach once the data plane has moved take it back soon: the
// API server tells their Felix, and needs no SSH for it.
func TestNodeThatIsCutOffTakesTheFlipBack(t *testing.T) {
	f, mod, c, m := flipping(t, rollout.Args{})
	f.ssh.gone = map[string]bool{"host-of-el-0001": true}
	m.Look = func(int) { f.operate(t) }
	o := m.Run(t, mod, rollout.Localhost, c)
	if o.Kind != rollout.Failed || !strings.Contains(o.Message, "el-0001 (it cannot be asked: cannot connect") || !strings.Contains(o.Message, "taken back to Iptables") {
		t.Errorf("%+v", o)
	}
	if m.Now < cutPatience || m.Now > cutPatience+time.Minute {
		t.Errorf("after %s", m.Now)
	}
}

// One that comes back in time is no reason.
func TestNodeThatComesBackIsNoReason(t *testing.T) {
	f, mod, c, m := flipping(t, rollout.Args{})
	m.Look = func(int) { f.ssh.gone = map[string]bool{"host-of-el-0001": m.Now < cutPatience-time.Minute} }
	if o := m.Run(t, mod, rollout.Localhost, c); o.Kind != rollout.Changed {
		t.Errorf("%+v", o)
	}
}

// An API server that is out of reach from here: what to type, and where.
func TestOutageInTheFlipSaysTheWayBack(t *testing.T) {
	f, mod, c, m := flipping(t, rollout.Args{})
	f.dyn.PrependReactor("get", "installations", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewServiceUnavailable("no route to host")
	})
	o := m.Run(t, mod, rollout.Localhost, c)
	if o.Kind != rollout.Failed || !strings.Contains(o.Hint, `on a control-plane node: kubectl --kubeconfig /etc/kubernetes/admin.conf patch installation default --type merge -p '{"spec":{"calicoNetwork":{"linuxDataplane":"Iptables"}}}'`) {
		t.Errorf("%+v", o)
	}
}
