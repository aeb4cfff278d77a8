package cluster

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// laggards names the pods of a DaemonSet that are not ready, where they are and
// why, for the message of a roll that got stuck. "" when it cannot be told.
func (c *Client) laggards(ctx context.Context, ds DaemonSet) string {
	pods, err := c.Kube.CoreV1().Pods(ds.Namespace).List(ctx, metav1.ListOptions{LabelSelector: ds.Selector})
	if err != nil {
		return "" // the message that this would adorn is on its way already
	}
	var out []string
	for i := range pods.Items {
		p := &pods.Items[i]
		if why := notReady(p); why != "" {
			out = append(out, fmt.Sprintf("%s on %s: %s", p.Name, orWord(p.Spec.NodeName, "no node"), why))
		}
	}
	slices.Sort(out)
	return few(out)
}

// notReady says why a pod is not ready, "" if it is.
func notReady(p *corev1.Pod) string {
	if p.DeletionTimestamp != nil {
		return "terminating"
	}
	why := "not ready"
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
