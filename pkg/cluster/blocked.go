package cluster

import (
	"context"
	"slices"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// blocked finds the PodDisruptionBudgets that let no pod go although all of theirs
// are healthy, by the nodes on which such pods run. It costs one list, and one more
// for each such budget. Whoever may not list them is told so by his rights.
func (c *Client) blocked(ctx context.Context) (map[string][]string, error) {
	budgets, _, err := c.shared().budgets.read(ctx)
	if apierrors.IsForbidden(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[string][]string{}
	for _, b := range sorted(budgets) {
		sel, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil || !never(b) {
			continue
		}
		name := b.Namespace + "/" + b.Name
		o := metav1.ListOptions{LabelSelector: sel.String(), Limit: pageOfObjects}
		for {
			l, err := c.Kube.CoreV1().Pods(b.Namespace).List(ctx, o)
			if apierrors.IsForbidden(err) {
				return nil, nil
			}
			if err != nil {
				return nil, c.Explain(err, "list the pods of PodDisruptionBudget %s", name)
			}
			for i := range l.Items {
				p := &l.Items[i]
				if purpose(p) == "" && len(covers([]*policyv1.PodDisruptionBudget{b}, p)) > 0 && !slices.Contains(out[p.Spec.NodeName], name) {
					out[p.Spec.NodeName] = append(out[p.Spec.NodeName], name)
				}
			}
			if o.Continue = l.Continue; o.Continue == "" {
				break
			}
		}
	}
	return out, nil
}
