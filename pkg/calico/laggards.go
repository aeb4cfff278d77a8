package calico

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fleetd/fleetd/pkg/cluster"
)

// laggards names the pods of a DaemonSet that are not ready, where they are and
// why, for the message of a roll that got stuck. "" when it cannot be told.
func laggards(ctx context.Context, c *cluster.Client, ds DaemonSet) string {
	pods, err := c.Kube.CoreV1().Pods(ds.Namespace).List(ctx, metav1.ListOptions{LabelSelector: ds.Selector})
	if err != nil {
		return "" // the message that this would adorn is on its way already
	}
	var out []string
	for i := range pods.Items {
		p := &pods.Items[i]
		if why := cluster.NotReady(p); why != "" {
			out = append(out, fmt.Sprintf("%s on %s: %s", p.Name, cmp.Or(p.Spec.NodeName, "no node"), why))
		}
	}
	slices.Sort(out)
	return cluster.Few(out)
}
