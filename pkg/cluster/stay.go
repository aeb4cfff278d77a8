package cluster

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// sorting tells the pods of a node that a drain moves from those that stay.
type sorting struct {
	DrainOptions
	daemonSets []*appsv1.DaemonSet
}

// unmovable are pods that must not be moved without leave.
type unmovable struct {
	node string
	// bare have no controller that would start them again, orphans a DaemonSet that
	// is not there any more; scratch would lose what is in their emptyDir.
	bare, orphans, scratch []string
}

func (u *unmovable) none() bool { return len(u.bare)+len(u.orphans)+len(u.scratch) == 0 }

func (u *unmovable) problem() *rollout.Problem {
	var why, allow []string
	add := func(pods []string, reason, option string) {
		if len(pods) > 0 {
			why = append(why, Few(pods)+" "+reason)
			if !slices.Contains(allow, option) {
				allow = append(allow, option)
			}
		}
	}
	add(u.bare, "(no controller would start them again)", "force")
	add(u.orphans, "(their DaemonSet is gone)", "force")
	add(u.scratch, "(the data in their emptyDir would be lost)", "delete_emptydir_data")
	return &rollout.Problem{
		Message: fmt.Sprintf("cannot drain Node %s: %s", u.node, strings.Join(why, "; ")),
		Hint:    "move these pods by hand, or allow it with the task's " + strings.Join(allow, " and "),
	}
}

// movable are the pods that a drain moves. DaemonSets' and static pods stay:
// they would be started again at once.
func (s sorting) movable(node string, pods []*corev1.Pod) ([]*corev1.Pod, error) {
	only, err := s.selector()
	if err != nil {
		return nil, err
	}
	var out []*corev1.Pod
	u := &unmovable{node: node}
	for _, p := range pods {
		name := p.Namespace + "/" + p.Name
		over := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
		owner := metav1.GetControllerOf(p)
		ofDaemonSet := owner != nil && isDaemonSet(owner)
		switch {
		case isStatic(p), !only.Matches(labels.Set(p.Labels)), ofDaemonSet && !over && s.has(p.Namespace, owner.Name):
			continue
		case over:
		case ofDaemonSet && !s.Force:
			u.orphans = append(u.orphans, name)
		case owner == nil && !s.Force:
			u.bare = append(u.bare, name)
		case !s.DeleteEmptyDirData && slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.EmptyDir != nil }):
			u.scratch = append(u.scratch, name)
		}
		out = append(out, p)
	}
	if !u.none() {
		return nil, u.problem()
	}
	return out, nil
}

// selector is the task's pod_selector.
func (o DrainOptions) selector() (labels.Selector, error) {
	sel, err := labels.Parse(o.PodSelector)
	if err != nil {
		return nil, fmt.Errorf("pod_selector is %q, not a label selector: %w", o.PodSelector, err)
	}
	return sel, nil
}

// blockers are pods of the node for which a drain has to wait.
func (o DrainOptions) blockers(pods []*corev1.Pod) ([]string, error) {
	var out []string
	var errs []error
	for _, text := range o.BlockingPodSelectors {
		sel, err := labels.Parse(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("blocking_pod_selectors has %q, which is not a label selector: %w", text, err))
			continue
		}
		for _, p := range pods {
			if p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed && sel.Matches(labels.Set(p.Labels)) {
				out = append(out, fmt.Sprintf("%s/%s (%s)", p.Namespace, p.Name, text))
			}
		}
	}
	return out, errors.Join(errs...)
}

func (s sorting) has(namespace, name string) bool {
	return slices.ContainsFunc(s.daemonSets, func(d *appsv1.DaemonSet) bool { return d.Namespace == namespace && d.Name == name })
}

func isDaemonSet(o *metav1.OwnerReference) bool {
	return o.Kind == "DaemonSet" && strings.HasPrefix(o.APIVersion, appsv1.GroupName+"/")
}

// isStatic tells a pod of the kubelet's own, which the API only mirrors.
func isStatic(p *corev1.Pod) bool {
	_, mirror := p.Annotations[corev1.MirrorPodAnnotationKey]
	return mirror
}
