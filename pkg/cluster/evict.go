package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// askAgain is how often it is looked whether a budget lets a pod go.
const askAgain = 5 * time.Second

// leaving is how the pods of a node stand on their way off it.
type leaving struct {
	going []string
	// held are those that stay for now, by the reason.
	held map[string][]string
	// busy is how long the API server wants to be left alone; 0: it does not.
	busy time.Duration
}

func (l leaving) text() string {
	var parts []string
	for _, why := range slices.Sorted(maps.Keys(l.held)) {
		parts = append(parts, fmt.Sprintf("held back: %s (%s)", Few(l.held[why]), why))
	}
	if len(l.going) > 0 {
		parts = append(parts, "leaving: "+Few(l.going))
	}
	return strings.Join(parts, "; ")
}

// wait is how long to leave them alone.
func (l leaving) wait() time.Duration {
	switch {
	case l.busy > 0:
		return l.busy
	case len(l.going) == 0:
		return askAgain
	}
	return PollEvery
}

// askToLeave asks each pod that has not been asked yet, unless its budget would
// refuse anyway: an answer that is known costs no request.
func (d Deps) askToLeave(ctx context.Context, data drainData, pods []*corev1.Pod) (leaving, error) {
	l := leaving{held: map[string][]string{}}
	var budgets []*policyv1.PodDisruptionBudget
	if !data.DisableEviction {
		var err error
		if budgets, err = d.Client.shared().budgets.look(ctx); err != nil {
			return l, err
		}
	}
	for _, p := range pods {
		name := p.Namespace + "/" + p.Name
		if p.DeletionTimestamp != nil {
			l.going = append(l.going, name) // asked already, by us or by another
			continue
		}
		covering := covers(budgets, p)
		if len(covering) > 1 {
			return l, &rollout.Problem{
				Message: fmt.Sprintf("cannot evict pod %s from Node %s: the API server evicts no pod that has more than one PodDisruptionBudget, and it has %s",
					name, data.Node, Few(namesOf(covering))),
				Hint: "leave the pod one budget (kubectl get pdb -n " + p.Namespace + "), then apply again",
			}
		}
		if len(covering) == 1 {
			if why := refuses(covering[0], p); why != "" {
				l.held[why] = append(l.held[why], name)
				continue
			}
		}
		if l.busy > 0 {
			l.held[serverBusy] = append(l.held[serverBusy], name)
			continue
		}
		why, busy, err := d.evict(ctx, data, p)
		switch {
		case err != nil && !passing(err):
			return l, d.Client.Explain(err, "evict pod %s from Node %s", name, data.Node)
		case err != nil:
			l.held[err.Error()] = append(l.held[err.Error()], name)
		case why != "":
			l.held[why], l.busy = append(l.held[why], name), busy
		default:
			l.going = append(l.going, name)
		}
	}
	return l, nil
}

// serverBusy is why a pod has not been asked to leave yet.
const serverBusy = "the API server has too much to do to evict it now"

// evict asks one pod to leave. why says what keeps it for now, busy how long the
// API server wants to be left alone.
func (d Deps) evict(ctx context.Context, data drainData, p *corev1.Pod) (why string, busy time.Duration, err error) {
	// A pod of the same name, on another node by now, is none of ours.
	o := metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(p.UID))}
	if data.GracePeriod >= 0 {
		seconds := int64(data.GracePeriod)
		o.GracePeriodSeconds = &seconds
	}
	ctx, asked := askedToWait(ctx)
	if data.DisableEviction {
		err = d.Client.Kube.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, o)
	} else {
		err = d.Client.Kube.PolicyV1().Evictions(p.Namespace).Evict(ctx, &policyv1.Eviction{
			ObjectMeta: metav1.ObjectMeta{Name: p.Name, Namespace: p.Namespace}, DeleteOptions: &o,
		})
	}
	cause, budget := apierrors.StatusCause(err, policyv1.DisruptionBudgetCause)
	switch {
	case err == nil, apierrors.IsNotFound(err):
		return "", 0, nil
	case apierrors.IsConflict(err):
		return "it has changed meanwhile", 0, nil
	case budget:
		return "PodDisruptionBudget: " + cause.Message, 0, nil
	case apierrors.IsTooManyRequests(err):
		return serverBusy, max(*asked, time.Second), nil
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return "its namespace is being deleted", 0, nil
	}
	return "", 0, err
}
