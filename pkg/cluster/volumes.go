package cluster

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// attached are the volumes that are attached to a node still, although no pod on
// it uses them. A node that goes down with them keeps them: the cluster attaches
// them elsewhere only after its six minutes (the attach/detach controller's
// maxWaitForUnmountDuration).
func (d Deps) attached(ctx context.Context, node string, staying []*corev1.Pod) ([]string, error) {
	all, err := d.Client.shared().attachments.look(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, a := range all {
		if a.Spec.NodeName == node {
			name := a.Name
			if v := a.Spec.Source.PersistentVolumeName; v != nil {
				name = *v
			}
			out = append(out, name)
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	used, err := d.volumesOf(ctx, staying)
	return slices.DeleteFunc(out, func(v string) bool { return slices.Contains(used, v) }), err
}

// volumesOf are the PersistentVolumes of pods.
func (d Deps) volumesOf(ctx context.Context, pods []*corev1.Pod) ([]string, error) {
	var out []string
	for _, p := range pods {
		for _, v := range p.Spec.Volumes {
			claim := ""
			switch {
			case v.PersistentVolumeClaim != nil:
				claim = v.PersistentVolumeClaim.ClaimName
			case v.Ephemeral != nil:
				claim = p.Name + "-" + v.Name // "Generic ephemeral volumes", the name of the claim
			default:
				continue
			}
			c, err := d.Client.Kube.CoreV1().PersistentVolumeClaims(p.Namespace).Get(ctx, claim, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				continue
			}
			if err != nil {
				return nil, d.Client.Explain(err, "read PersistentVolumeClaim %s/%s", p.Namespace, claim)
			}
			out = append(out, c.Spec.VolumeName)
		}
	}
	return out, nil
}
