package cluster

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/fleetd/fleetd/pkg/cluster/clustertest"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// A node that was drained, and is about to be rebooted, is looked at again.
func TestKeeps(t *testing.T) {
	uncordoned := func(t *testing.T, f fakes) {
		n, err := f.kube.CoreV1().Nodes().Get(context.Background(), drained, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		n.Spec.Unschedulable = false
		if err := f.kube.Tracker().Update(corev1.SchemeGroupVersion.WithResource("nodes"), n, ""); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		meanwhile func(*testing.T, fakes)
		want      string
		kind      rollout.OutcomeKind
	}{
		"as it was left": {},
		"uncordoned":     {uncordoned, "Node el-0002 was drained, and takes work again: somebody has uncordoned it", rollout.Failed},
		"a pod came back": {func(t *testing.T, f fakes) {
			if err := f.kube.Tracker().Add(aPod("back", nil)); err != nil {
				t.Fatal(err)
			}
		}, "Node el-0002 was drained, and runs pods again: web/back", rollout.Failed},
		"no answer": {func(_ *testing.T, f fakes) {
			f.kube.PrependReactor("get", "nodes", func(clienttesting.Action) (bool, runtime.Object, error) {
				return true, nil, apierrors.NewServiceUnavailable("etcd has no leader")
			})
		}, "cannot read Node el-0002: etcd has no leader", rollout.Retrying},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakes(t, aNode(nil), aPod("tolerant", func(p *corev1.Pod) {
				p.UID, p.Spec.Tolerations = "u-1", []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
			}))
			f.evicting(func(string) error { return nil })
			drain, uncordon, d, u := drains(t, f, nil, nil)
			m := &clustertest.Machine{}
			if o := m.Run(t, drain, drained, d); o.Kind != rollout.Changed {
				t.Fatalf("%+v", o)
			}
			// What tolerates the cordon may have started here again.
			if err := f.kube.Tracker().Add(aPod("tolerant-again", func(p *corev1.Pod) {
				p.UID, p.Spec.Tolerations = "u-2", []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
			})); err != nil {
				t.Fatal(err)
			}
			if c.meanwhile != nil {
				c.meanwhile(t, f)
			}
			look := func(mod rollout.Module, change rollout.Change, undo bool) (rollout.Outcome, bool) {
				return mod.(rollout.Keeper).Keeps(context.Background(), rollout.Step{Host: drained, Change: change, SoFar: m.SoFar}, undo)
			}
			if o, holds := look(drain, d, false); holds != (c.want == "") || o.Message != c.want || o.Kind != c.kind || o.Kind == rollout.Failed && !strings.Contains(o.Hint, "drains it anew") {
				t.Errorf("%v %+v", holds, o)
			}
			// On the way back it is the undone uncordon that has drained it.
			if o, holds := look(uncordon, u, true); holds != (c.want == "") || o.Message != c.want {
				t.Errorf("undo: %v %+v", holds, o)
			}
			if _, holds := look(uncordon, u, false); !holds {
				t.Error("nothing is to be kept behind an uncordon")
			}
			if _, holds := look(drain, d, true); !holds {
				t.Error("nothing is to be kept behind a drain that was undone")
			}
		})
	}
}
