package cluster

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fleetd/fleetd/pkg/cluster/clustertest"
	"github.com/fleetd/fleetd/pkg/rollout"
)

func attachment(volume, node string) *storagev1.VolumeAttachment {
	return &storagev1.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{Name: "csi-" + volume},
		Spec:       storagev1.VolumeAttachmentSpec{NodeName: node, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &volume}},
	}
}

// A node does not go down with volumes attached that its pods have left behind.
// Those of pods that stay are no matter.
func TestVolumesAreDetachedBeforeTheNodeGoes(t *testing.T) {
	agent := ofDaemonSet("agent-x", "agent")
	agent.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "shared"}}}}
	f := newFakes(t, aNode(nil), daemonSet("web", "agent"), agent, attachment("pv-1", drained), attachment("pv-2", drained), attachment("pv-3", "other"),
		&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "shared"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pv-2"}})
	drain, _, d, _ := drains(t, f, nil, rollout.Args{"timeout": "3m"})
	m := &clustertest.Machine{}
	m.Once(drain, drained, d) // cordons
	if o := m.Once(drain, drained, d); o.Kind != rollout.Waiting || o.Message != "Node el-0002 is empty; volumes that are attached still: pv-1" {
		t.Fatalf("%+v", o)
	}
	late := &clustertest.Machine{Now: 3 * time.Minute, SoFar: m.SoFar}
	if o := late.Once(drain, drained, d); o.Kind != rollout.Failed || !strings.Contains(o.Message, "attached still: pv-1") || !strings.Contains(o.Hint, "wait_for_volumes: false") {
		t.Errorf("%+v", o)
	}
	if err := f.kube.Tracker().Delete(storagev1.SchemeGroupVersion.WithResource("volumeattachments"), "", "csi-pv-1"); err != nil {
		t.Fatal(err)
	}
	if o := m.Once(drain, drained, d); o.Kind != rollout.Changed {
		t.Errorf("%+v", o)
	}
}

func TestVolumesNeedNotBeWaitedFor(t *testing.T) {
	f := newFakes(t, aNode(nil), attachment("pv-1", drained))
	drain, _, d, _ := drains(t, f, nil, rollout.Args{"wait_for_volumes": false})
	if o := (&clustertest.Machine{}).Run(t, drain, drained, d); o.Kind != rollout.Changed {
		t.Errorf("%+v", o)
	}
}
