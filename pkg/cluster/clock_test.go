package cluster

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// waiting is a step in the middle of a wait that has a bound.
type waiting struct {
	mod    rollout.Module
	host   string
	change rollout.Change
	// bound is how long it may go on.
	bound time.Duration
}

// A fleetd that stood still for a day, or a machine whose clock was set, has not
// worked at the step meanwhile: nothing is late. Time in which it did work
// counts.
func TestOnlyTheRunsClockCounts(t *testing.T) {
	for name, begin := range map[string]func(*testing.T) waiting{
		"drain: a budget": func(t *testing.T) waiting {
			f := newFakes(t, aNode(nil), budget(), aPod("a", nil))
			f.evicting(func(string) error { return overBudget() })
			drain, _, d, _ := drains(t, f, nil, nil)
			return waiting{drain, drained, d, defaultDrainTimeout}
		},
		"drain: what cannot be listed": func(t *testing.T) waiting {
			f := newFakes(t, aNode(nil), aPod("a", nil))
			f.kube.PrependReactor("list", "daemonsets", func(clienttesting.Action) (bool, runtime.Object, error) {
				return true, nil, apierrors.NewServiceUnavailable("broken for a moment")
			})
			drain, _, d, _ := drains(t, f, nil, nil)
			return waiting{drain, drained, d, outagePatience + time.Second}
		},
		"drain: a volume that stays attached": func(t *testing.T) waiting {
			f := newFakes(t, aNode(nil), attachment("pv-1", drained))
			drain, _, d, _ := drains(t, f, nil, nil)
			return waiting{drain, drained, d, defaultDrainTimeout}
		},
		"ready: a pod": func(t *testing.T) waiting {
			f := newFakes(t, aNode(func(n *corev1.Node) {
				n.Annotations = map[string]string{BeforeAnnotation: `{"ready":{"calico-system/calico-node":"x"}}`}
			}), calicoNode("c-1", "CrashLoopBackOff"))
			ready := Modules(Deps{Client: f.Client, Hosts: &bootIDs{ids: map[string]string{drained: "boot-1"}}})["fleetd.cluster.ready"]
			c, _, err := ready.Diff(drained, state(t, with(Kubernetes, Node{Name: drained, Drained: &DrainOptions{}})), nil)
			if err != nil {
				t.Fatal(err)
			}
			return waiting{ready, drained, c, defaultReadyTimeout}
		},
		"drain: the quorum": func(t *testing.T) waiting {
			f := newFakes(t, controlPlane([]string{"m1", "m2", "m3"}, true, "etcd m2")...)
			drain := Modules(Deps{Client: f.Client})["fleetd.cluster.drain"]
			d, _, err := drain.Diff("m1", state(t, with(Kubernetes, Node{Name: "m1"})), nil)
			if err != nil {
				t.Fatal(err)
			}
			return waiting{drain, "m1", d, defaultDrainTimeout}
		},
		"ready: the kubelet": func(t *testing.T) waiting {
			f := newFakes(t, aNode(nil))
			ready := Modules(Deps{Client: f.Client, Hosts: &bootIDs{ids: map[string]string{drained: "boot-2"}}})["fleetd.cluster.ready"]
			c, _, err := ready.Diff(drained, state(t, with(Kubernetes, Node{Name: drained, Drained: &DrainOptions{}})), nil)
			if err != nil {
				t.Fatal(err)
			}
			return waiting{ready, drained, c, defaultReadyTimeout}
		},
		"preflight: a degraded operator": func(t *testing.T) waiting {
			f := recorded(t, "iptables")
			mod, c := planned(t, f, "fleetd.calico.preflight", rollout.Args{"api_host": "10.0.0.3"})
			f.custom(t, conditionsOf(t, f.get(t, "TigeraStatus", "calico"), "Degraded", "True", "a conflict"))
			return waiting{mod, rollout.Localhost, c, settle}
		},
		"dataplane: a degraded operator": func(t *testing.T) waiting {
			f := recorded(t, "iptables")
			endpointDone(t, f)
			mod, c := planned(t, f, "fleetd.calico.dataplane", rollout.Args{"linux_dataplane": "BPF"})
			f.custom(t, set(t, f.get(t, "Installation", "default"), "BPF", "spec", "calicoNetwork", "linuxDataplane"))
			f.custom(t, conditionsOf(t, f.get(t, "TigeraStatus", "calico"), "Degraded", "True", "a conflict"))
			return waiting{mod, rollout.Localhost, c, degradedPatience}
		},
		"api_endpoint: a roll that stands still": func(t *testing.T) waiting {
			f := recorded(t, "iptables")
			endpointDone(t, f)
			f.mutate(t, "calico-system", "calico-node", func(ds *appsv1.DaemonSet) { ds.Status.NumberReady = 4 })
			f.tell(t, "10.0.0.9", "6443")
			mod, c := planned(t, f, "fleetd.calico.api_endpoint", rollout.Args{"host": "10.0.0.3"})
			return waiting{mod, rollout.Localhost, c, defaultStall}
		},
		"verify: what does not hold": func(t *testing.T) waiting {
			f := recorded(t, "iptables")
			mod, c := planned(t, f, "fleetd.calico.verify", rollout.Args{"linux_dataplane": "BPF"})
			return waiting{mod, rollout.Localhost, c, defaultVerifyTimeout}
		},
		"an API server that is away": func(t *testing.T) waiting {
			f := recorded(t, "iptables")
			mod, c := planned(t, f, "fleetd.calico.verify", rollout.Args{"linux_dataplane": "BPF", "timeout": "1h"})
			f.kube.PrependReactor("*", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
				return true, nil, apierrors.NewServiceUnavailable("etcd has no leader")
			})
			return waiting{mod, rollout.Localhost, c, outagePatience + time.Second}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := begin(t)
				m := &machine{now: 3 * time.Hour, began: 3 * time.Hour} // the run is no longer young
				look := func(want rollout.OutcomeKind) {
					t.Helper()
					o := m.once(w.mod, w.host, w.change)
					if o.Final() != (want == rollout.Failed) || o.Final() && o.Kind != want {
						t.Fatalf("%+v, want %s", o, want)
					}
				}
				look(rollout.Waiting)
				if m.soFar[beginningKey] != "" {
					look(rollout.Waiting) // the first look cordoned
				}
				time.Sleep(24 * time.Hour) // by every clock but the run's
				look(rollout.Waiting)
				m.now += w.bound - time.Second
				look(rollout.Waiting)
				m.now += time.Second
				look(rollout.Failed)
			})
		})
	}
}

// What must not be forgotten is asked to be made durable before anything is
// done, and not again once it is; a drain of a node without such pods, too.
func TestDrainIntendsBeforeItActs(t *testing.T) {
	tolerant := func(p *corev1.Pod) {
		p.UID, p.Spec.Tolerations = "u-1", []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	}
	for name, change := range map[string]func(*corev1.Pod){"with residents": tolerant, "without": nil} {
		t.Run(name, func(t *testing.T) {
			f := newFakes(t, aNode(nil), aPod("a", change))
			f.evicting(func(string) error { return nil })
			drain, _, d, _ := drains(t, f, nil, nil)
			m := &machine{now: time.Minute}
			o := m.call(drain, drained, d)
			if o.Kind != rollout.Intends || len(f.writes()) > 0 || strings.Contains(o.Notes[beginningKey], "u-1") != (change != nil) {
				t.Fatalf("%+v, wrote %q", o, f.writes())
			}
			for range 3 {
				before := len(f.writes())
				if o = m.call(drain, drained, d); o.Kind == rollout.Intends {
					t.Fatalf("intended again: %+v", o)
				}
				if n := len(f.writes()) - before; n > 1 {
					t.Errorf("%d effects in one call: %q", n, f.writes()[before:])
				}
				if o.Final() {
					break
				}
			}
			if o.Kind != rollout.Changed {
				t.Errorf("%+v", o)
			}
		})
	}
}

// A write that is refused again and again for a reason that may pass is an
// outage, too, however well the reads before it go.
func TestRefusedWritesAreAnOutage(t *testing.T) {
	f := recorded(t, "bpf")
	mod, c := planned(t, f, "fleetd.calico.external_service_mode", rollout.Args{"mode": "DSR"})
	refuse := true
	f.dyn.PrependReactor("patch", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
		return refuse, nil, apierrors.NewInternalError(errors.New("failed calling webhook"))
	})
	m := &machine{}
	o := m.run(t, mod, rollout.Localhost, c)
	if o.Kind != rollout.Failed || m.now < outagePatience || !strings.Contains(o.Message, "failed calling webhook") {
		t.Errorf("%+v after %s", o, m.now)
	}
	// One that passes begins anew the next time.
	m = &machine{}
	m.once(mod, rollout.Localhost, c)
	m.now += outagePatience
	refuse = false
	if o := m.once(mod, rollout.Localhost, c); o.Kind != rollout.Changed {
		t.Errorf("%+v", o)
	}
}

// An outage that passed is forgotten, so that a later one is judged by itself.
func TestOutagesDoNotAddUp(t *testing.T) {
	f := recorded(t, "iptables")
	mod, c := planned(t, f, "fleetd.calico.verify", rollout.Args{"linux_dataplane": "BPF", "timeout": "10h"})
	away := true
	f.kube.PrependReactor("*", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
		return away, nil, apierrors.NewServiceUnavailable("etcd has no leader")
	})
	m := &machine{}
	for _, away = range []bool{true, false, true, true} {
		o := m.once(mod, rollout.Localhost, c)
		if o.Final() {
			t.Fatalf("after %s: %+v", m.now, o)
		}
		m.now += outagePatience - time.Second
	}
	m.now += 2 * time.Second
	if o := m.once(mod, rollout.Localhost, c); o.Kind != rollout.Failed {
		t.Errorf("%+v", o)
	}
}
