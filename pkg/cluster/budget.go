package cluster

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// covers are the budgets that an eviction of the pod has to ask. A pod that is not
// running yet or any more asks none (the API server's eviction.go, canIgnorePDB).
func covers(budgets []*policyv1.PodDisruptionBudget, p *corev1.Pod) []*policyv1.PodDisruptionBudget {
	switch p.Status.Phase {
	case corev1.PodSucceeded, corev1.PodFailed, corev1.PodPending:
		return nil
	}
	var out []*policyv1.PodDisruptionBudget
	for _, b := range budgets {
		if b.Namespace != p.Namespace {
			continue
		}
		// An empty selector means all pods of the namespace, none at all no pod.
		sel, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err == nil && sel.Matches(labels.Set(p.Labels)) {
			out = append(out, b)
		}
	}
	return out
}

func namesOf(budgets []*policyv1.PodDisruptionBudget) []string {
	out := make([]string, 0, len(budgets))
	for _, b := range budgets {
		out = append(out, b.Name)
	}
	return out
}

// refuses says why a budget lets the pod not go now, "" if it does: by its status,
// as the API server decides.
func refuses(b *policyv1.PodDisruptionBudget, p *corev1.Pod) string {
	s := b.Status
	always := policyv1.AlwaysAllow
	if policy := b.Spec.UnhealthyPodEvictionPolicy; NotReady(p) != "" &&
		(policy != nil && *policy == always || s.CurrentHealthy >= s.DesiredHealthy && s.DesiredHealthy > 0) {
		return "" // it serves nobody
	}
	switch {
	case s.ObservedGeneration < b.Generation:
		return fmt.Sprintf("PodDisruptionBudget %s has not been worked out yet", b.Name)
	case s.DisruptionsAllowed > 0:
		return ""
	}
	return fmt.Sprintf("PodDisruptionBudget %s needs %d healthy pods and has %d", b.Name, s.DesiredHealthy, s.CurrentHealthy)
}

// never reports whether a budget lets no pod go although all of them are healthy:
// waiting will not help. What is only so at the moment moves by itself.
func never(b *policyv1.PodDisruptionBudget) bool {
	s := b.Status
	return s.ObservedGeneration >= b.Generation && s.ExpectedPods > 0 && s.DisruptionsAllowed == 0 && s.CurrentHealthy >= s.ExpectedPods
}
