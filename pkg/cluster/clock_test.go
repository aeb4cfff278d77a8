package cluster

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/fleetd/fleetd/pkg/cluster/clustertest"
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
			return waiting{drain, drained, d, OutagePatience + time.Second}
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
			c, _, err := ready.Diff(drained, clustertest.State(t, clustertest.With(Kubernetes, Node{Name: drained, Drained: &DrainOptions{}})), nil)
			if err != nil {
				t.Fatal(err)
			}
			return waiting{ready, drained, c, defaultReadyTimeout}
		},
		"drain: the quorum": func(t *testing.T) waiting {
			f := newFakes(t, controlPlane([]string{"m1", "m2", "m3"}, true, "etcd m2")...)
			drain := Modules(Deps{Client: f.Client})["fleetd.cluster.drain"]
			d, _, err := drain.Diff("m1", clustertest.State(t, clustertest.With(Kubernetes, Node{Name: "m1"})), nil)
			if err != nil {
				t.Fatal(err)
			}
			return waiting{drain, "m1", d, defaultDrainTimeout}
		},
		"ready: the kubelet": func(t *testing.T) waiting {
			f := newFakes(t, aNode(nil))
			ready := Modules(Deps{Client: f.Client, Hosts: &bootIDs{ids: map[string]string{drained: "boot-2"}}})["fleetd.cluster.ready"]
			c, _, err := ready.Diff(drained, clustertest.State(t, clustertest.With(Kubernetes, Node{Name: drained, Drained: &DrainOptions{}})), nil)
			if err != nil {
				t.Fatal(err)
			}
			return waiting{ready, drained, c, defaultReadyTimeout}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := begin(t)
				m := &clustertest.Machine{Now: 3 * time.Hour, Began: 3 * time.Hour} // the run is no longer young
				look := func(want rollout.OutcomeKind) {
					t.Helper()
					o := m.Once(w.mod, w.host, w.change)
					if o.Final() != (want == rollout.Failed) || o.Final() && o.Kind != want {
						t.Fatalf("%+v, want %s", o, want)
					}
				}
				look(rollout.Waiting)
				if m.SoFar[beginningKey] != "" {
					look(rollout.Waiting) // the first look cordoned
				}
				time.Sleep(24 * time.Hour) // by every clock but the run's
				look(rollout.Waiting)
				m.Now += w.bound - time.Second
				look(rollout.Waiting)
				m.Now += time.Second
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
			m := &clustertest.Machine{Now: time.Minute}
			o := m.Call(drain, drained, d)
			if o.Kind != rollout.Intends || len(f.writes()) > 0 || strings.Contains(o.Notes[beginningKey], "u-1") != (change != nil) {
				t.Fatalf("%+v, wrote %q", o, f.writes())
			}
			for range 3 {
				before := len(f.writes())
				if o = m.Call(drain, drained, d); o.Kind == rollout.Intends {
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
