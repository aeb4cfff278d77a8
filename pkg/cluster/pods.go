package cluster

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// notReady is what is said of a pod that is up and does not answer as it should.
const notReady = "not ready"

// NotReady says why a pod is not ready, "" if it is.
func NotReady(p *corev1.Pod) string {
	if p.DeletionTimestamp != nil {
		return "terminating"
	}
	why := notReady
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return ""
		}
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			why = "not scheduled: " + c.Message
		}
	}
	for _, cs := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if w := cs.State.Waiting; w != nil && w.Reason != "" {
			return w.Reason
		}
	}
	return why
}
