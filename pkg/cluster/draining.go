package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// drain is one look at the node: note who is there, then cordon it, then ask
// every pod that has not been asked yet to leave, and say who is left.
func (d Deps) drain(ctx context.Context, c *Call, data drainData) rollout.Outcome {
	ctx = forHost(ctx, c.Host)
	timeout, err := time.ParseDuration(data.Timeout)
	if err != nil {
		return rollout.Fail(err)
	}
	n, err := d.Client.node(ctx, data.Node)
	if err != nil {
		return c.Failed(err)
	}
	// What cannot be moved is found before the node is touched.
	there, leave, err := d.pods(ctx, data, d.Client.podsOn(data.Node).look)
	if err != nil {
		return c.Failed(err)
	}
	began, begun, err := readBeginning(c)
	if err != nil {
		return rollout.Fail(err)
	}
	if !begun {
		if o := d.mayBegin(ctx, c, data, n, there, timeout); o != nil {
			return *o
		}
		return rollout.Intend(beginningKey, d.newBeginning(c, n, there, leave))
	}
	want := d.Client.cordonOf(n)
	if !want.On {
		if o := d.mayCordon(ctx, c, data, n, timeout); o != nil {
			return *o
		}
		want = Cordon{On: true, By: d.Client.by.mark()}
	}
	if !n.Spec.Unschedulable || n.Annotations[BeforeAnnotation] != began.Before {
		if err := d.Client.setCordon(ctx, n, want, began.Before); err != nil {
			return c.Failed(err)
		}
		// The next call looks at the pods anew: one may have come before the cordon.
		if n.Spec.Unschedulable {
			return rollout.WaitFor(0, "it is noted on Node %s how the pods were that stay on it", data.Node)
		}
		return rollout.WaitFor(0, "Node %s is cordoned", data.Node)
	}
	late := c.Now-began.At >= timeout
	if leave = began.leavers(leave); len(leave) > 0 {
		return d.empty(ctx, c, data, leave, late)
	}
	return d.detached(ctx, c, data, began, there, late)
}

// pods are those that look finds on the node, and those of them that the drain
// moves.
func (d Deps) pods(ctx context.Context, data drainData, look func(context.Context) ([]*corev1.Pod, error)) (there, leave []*corev1.Pod, err error) {
	daemonSets, err := d.Client.shared().daemonSets.look(ctx)
	if err != nil {
		return nil, nil, err
	}
	if there, err = look(ctx); err != nil {
		return nil, nil, err
	}
	leave, err = sorting{data.DrainOptions, daemonSets}.movable(data.Node, there)
	return there, leave, err
}

// mayBegin is the outcome of a drain that must not begin yet; nil if it may.
func (d Deps) mayBegin(ctx context.Context, c *Call, data drainData, n *corev1.Node, there []*corev1.Pod, timeout time.Duration) *rollout.Outcome {
	if o := d.mayTake(ctx, c, n, timeout); o != nil {
		return o
	}
	blockers, err := data.blockers(there)
	if err != nil {
		o := rollout.Fail(err)
		return &o
	}
	why, hint := "", "wait until these pods have done their work (blocking_pod_selectors)"
	if len(blockers) > 0 {
		why = "it runs " + Few(blockers)
	} else {
		if why, err = d.alerted(ctx, c, data.AlertOptions); err != nil {
			o := rollout.Fail(err)
			return &o
		}
		hint = "see to what is named, or have alert_filter_regexp match alerts that do not matter here"
	}
	if why == "" {
		return nil
	}
	o := rollout.WaitFor(askAgain, "Node %s is not drained yet: %s", data.Node, why)
	if c.Elapsed >= timeout {
		o = rollout.Fail(&rollout.Problem{
			Message: fmt.Sprintf("cannot drain Node %s within %s: %s", data.Node, timeout, why),
			Hint:    hint + ", then apply again; Node " + data.Node + " was not touched",
		})
	}
	return &o
}

// mayCordon is the outcome of a drain that must not cordon its node; nil if it may.
func (d Deps) mayCordon(ctx context.Context, c *Call, data drainData, n *corev1.Node, timeout time.Duration) *rollout.Outcome {
	if data.Before.Foreign() {
		o := rollout.Fail(&rollout.Problem{
			Message: fmt.Sprintf("cannot drain Node %s: when the plan was made %s had cordoned it, and now it takes work", data.Node, data.Before.whose()),
			Hint:    "plan again: fleetd then cordons the node, and uncordons it afterwards",
		})
		return &o
	}
	return d.mayTake(ctx, c, n, timeout)
}

// empty asks pods to leave a node.
func (d Deps) empty(ctx context.Context, c *Call, data drainData, pods []*corev1.Pod, late bool) rollout.Outcome {
	l, err := d.askToLeave(ctx, data, pods)
	if err != nil {
		if passing(err) {
			return c.Failed(err)
		}
		return d.giveUp(ctx, c, data, err)
	}
	if skipped := d.skipped(c, data, pods); skipped != "" {
		return rollout.Did("Node %s is drained but for pods that have been terminating for %s: %s", data.Node, data.SkipWait, skipped)
	}
	if late {
		return d.giveUp(ctx, c, data, &rollout.Problem{
			Message: fmt.Sprintf("cannot drain Node %s within %s: %s", data.Node, data.Timeout, l.text()),
			Hint:    "free the pod (kubectl get pdb -A shows the budgets), then apply again",
		})
	}
	return rollout.WaitFor(l.wait(), "%s", l.text())
}

// skipped are the pods that are left, if all of them have been terminating for as
// long as skip_wait_for_delete_timeout says, "" while they are waited for.
func (d Deps) skipped(c *Call, data drainData, pods []*corev1.Pod) string {
	if data.SkipWait == "" {
		return ""
	}
	skip, err := time.ParseDuration(data.SkipWait)
	if err != nil {
		return "" // Diff has checked it
	}
	var names []string
	left := ""
	for _, p := range pods {
		if p.DeletionTimestamp == nil {
			c.Steady(terminatingKey, "")
			return ""
		}
		names = append(names, p.Namespace+"/"+p.Name)
		left += fmt.Sprintf("%s/%s/%s ", p.Namespace, p.Name, p.UID)
	}
	if c.Steady(terminatingKey, left) < skip {
		return ""
	}
	return Few(names)
}

// terminatingKey is the note of which pods are left, all of them terminating.
const terminatingKey = "terminating"

// detached ends the drain of an empty node when its volumes are detached, and it
// is empty by more than what a watch has told.
func (d Deps) detached(ctx context.Context, c *Call, data drainData, began beginning, there []*corev1.Pod, late bool) rollout.Outcome {
	if !data.LeaveVolumes {
		volumes, err := d.attached(ctx, data.Node, there)
		switch {
		case err != nil:
			return c.Failed(err)
		case len(volumes) > 0 && !late:
			return rollout.WaitFor(PollEvery, "Node %s is empty; volumes that are attached still: %s", data.Node, Few(volumes))
		case len(volumes) > 0:
			return d.giveUp(ctx, c, data, &rollout.Problem{
				Message: fmt.Sprintf("cannot drain Node %s within %s: it is empty, and volumes are attached still: %s", data.Node, data.Timeout, Few(volumes)),
				Hint:    "see kubectl get volumeattachments, and the log of the CSI driver's attacher; the task's wait_for_volumes: false does not wait for them",
			})
		}
	}
	_, leave, err := d.pods(ctx, data, d.Client.listPodsOn(data.Node))
	if err != nil {
		return c.Failed(err)
	}
	if leave = began.leavers(leave); len(leave) > 0 {
		return d.empty(ctx, c, data, leave, late)
	}
	return rollout.Did("Node %s is drained", data.Node)
}

// keeps looks whether the node is drained still. It asks the API server itself: this
// is the last look before the node goes down.
func (d Deps) keeps(ctx context.Context, s rollout.Step, data drainData) (rollout.Outcome, bool) {
	n, err := d.Client.Kube.CoreV1().Nodes().Get(ctx, data.Node, metav1.GetOptions{})
	if err != nil {
		return unkept(d.Client.Explain(err, "read Node %s", data.Node)), false
	}
	if !n.Spec.Unschedulable {
		return rollout.Fail(&rollout.Problem{
			Message: fmt.Sprintf("Node %s was drained, and takes work again: somebody has uncordoned it", data.Node),
			Hint:    "apply again, which drains it anew",
		}), false
	}
	_, leave, err := d.pods(ctx, data, d.Client.listPodsOn(data.Node))
	if err != nil {
		return unkept(err), false
	}
	began, _, err := readBeginning(&Call{Step: s})
	if err != nil {
		return rollout.Fail(err), false
	}
	var back []string
	for _, p := range began.leavers(leave) {
		if data.SkipWait == "" || p.DeletionTimestamp == nil {
			back = append(back, p.Namespace+"/"+p.Name)
		}
	}
	if len(back) > 0 {
		return rollout.Fail(&rollout.Problem{
			Message: fmt.Sprintf("Node %s was drained, and runs pods again: %s", data.Node, Few(back)),
			Hint:    "apply again, which drains it anew",
		}), false
	}
	return rollout.Outcome{}, true
}

// unkept is the outcome where it cannot be told whether a node is drained still.
func unkept(err error) rollout.Outcome {
	if passing(err) {
		return rollout.RetryAfter(PollEvery, err)
	}
	return rollout.Fail(err)
}

// giveUp ends a drain that failed. The node stays cordoned, or takes work again
// where the task says so.
func (d Deps) giveUp(ctx context.Context, c *Call, data drainData, why error) rollout.Outcome {
	if !data.UncordonOnFailure || data.Before.On {
		return rollout.Fail(stays(why, data.Node))
	}
	n, err := d.Client.Kube.CoreV1().Nodes().Get(ctx, data.Node, metav1.GetOptions{})
	if err != nil {
		return c.Failed(d.Client.Explain(err, "read Node %s", data.Node))
	}
	if !d.Client.cordonOf(n).Ours() {
		return rollout.Fail(why) // somebody has taken the node over, or given it back
	}
	if err := d.Client.setCordon(ctx, n, Cordon{}, ""); err != nil {
		return c.Failed(err)
	}
	p := *rollout.AsProblem(why)
	p.Message += "; the node takes work again (uncordon_on_failure)"
	return rollout.Fail(&p)
}

// beginningKey is the note of a drain that has begun.
const beginningKey = "beginning"

// beginning is what a drain has to know of its own, also after a crash.
type beginning struct {
	// At is when it was, by the run's clock. What a control-plane node waited
	// before does not count.
	At time.Duration `json:"at"`
	// Residents are the UIDs of the pods that were on the node and that a cordon
	// does not keep away.
	Residents []types.UID `json:"residents,omitempty"`
	// Before is what the Node is told of the pods that stay (BeforeAnnotation).
	Before string `json:"before,omitempty"`
}

func (d Deps) newBeginning(c *Call, n *corev1.Node, there, leave []*corev1.Pod) string {
	b := beginning{At: c.Now, Before: healthOf(there)}
	if was := n.Annotations[BeforeAnnotation]; was != "" && n.Spec.Unschedulable && n.Annotations[CordonedByAnnotation] != "" {
		b.Before = was // before an earlier run, whose boot may have broken them
	}
	for _, p := range leave {
		if toleratesCordon(p) {
			b.Residents = append(b.Residents, p.UID)
		}
	}
	return string(Pack(b))
}

// readBeginning also says whether the drain has begun.
func readBeginning(c *Call) (b beginning, begun bool, err error) {
	note, begun := c.SoFar[beginningKey]
	if !begun {
		return b, false, nil
	}
	if err := json.Unmarshal([]byte(note), &b); err != nil {
		return b, false, fmt.Errorf("cannot read which pods were on the node when its drain began: %w", err)
	}
	return b, true, nil
}

// leavers are the pods that the drain moves. A pod that tolerates the cordon
// (the Tigera operator's tolerates everything) is asked to leave once: its
// replacement may well start on this same node, and chasing that one too would
// never end.
func (b beginning) leavers(pods []*corev1.Pod) []*corev1.Pod {
	return slices.DeleteFunc(pods, func(p *corev1.Pod) bool {
		return toleratesCordon(p) && !slices.Contains(b.Residents, p.UID)
	})
}

func toleratesCordon(p *corev1.Pod) bool {
	cordon := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	return slices.ContainsFunc(p.Spec.Tolerations, func(t corev1.Toleration) bool { return t.ToleratesTaint(&cordon) })
}

// stays adds to an error that the node stays cordoned, and how to take it back.
func stays(err error, name string) error {
	p := *rollout.AsProblem(err)
	back := fmt.Sprintf("the node stays cordoned; to give it up: kubectl uncordon %s && kubectl annotate node %s %s- %s-", name, name, CordonedByAnnotation, BeforeAnnotation)
	p.Hint = strings.TrimPrefix(p.Hint+"; "+back, "; ")
	return &p
}
