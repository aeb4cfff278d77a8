package calico

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/fleetd/fleetd/pkg/cluster"
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
		"preflight: a degraded operator": func(t *testing.T) waiting {
			f := recorded(t, "iptables")
			mod, c := planned(t, f, "fleetd.calico.preflight", rollout.Args{"api_host": "10.0.0.3"})
			f.custom(t, conditionsOf(t, f.get(t, "TigeraStatus", "calico"), "Degraded", "True", "a conflict"))
			return waiting{mod, rollout.Localhost, c, settle}
		},
		"dataplane: a degraded operator": func(t *testing.T) waiting {
			f := recorded(t, "iptables")
			endpointDone(t, f)
			mod, c := planned(t, f, "fleetd.calico.dataplane", rollout.Args{"linux_dataplane": "BPF", "on_failure": "wait"})
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
			return waiting{mod, rollout.Localhost, c, cluster.OutagePatience + time.Second}
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

// A write that is refused again and again for a reason that may pass is an
// outage, too, however well the reads before it go.
func TestRefusedWritesAreAnOutage(t *testing.T) {
	f := recorded(t, "bpf")
	mod, c := planned(t, f, "fleetd.calico.external_service_mode", rollout.Args{"mode": "DSR"})
	refuse := true
	f.dyn.PrependReactor("patch", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
		return refuse, nil, apierrors.NewInternalError(errors.New("failed calling webhook"))
	})
	m := &clustertest.Machine{}
	o := m.Run(t, mod, rollout.Localhost, c)
	if o.Kind != rollout.Failed || m.Now < cluster.OutagePatience || !strings.Contains(o.Message, "failed calling webhook") {
		t.Errorf("%+v after %s", o, m.Now)
	}
	// One that passes begins anew the next time.
	m = &clustertest.Machine{}
	m.Once(mod, rollout.Localhost, c)
	m.Now += cluster.OutagePatience
	refuse = false
	if o := m.Once(mod, rollout.Localhost, c); o.Kind != rollout.Changed {
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
	m := &clustertest.Machine{}
	for _, away = range []bool{true, false, true, true} {
		o := m.Once(mod, rollout.Localhost, c)
		if o.Final() {
			t.Fatalf("after %s: %+v", m.Now, o)
		}
		m.Now += cluster.OutagePatience - time.Second
	}
	m.Now += 2 * time.Second
	if o := m.Once(mod, rollout.Localhost, c); o.Kind != rollout.Failed {
		t.Errorf("%+v", o)
	}
}
