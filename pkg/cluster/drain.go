package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kubectl/pkg/drain"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

const (
	defaultDrainTimeout = 10 * time.Minute
	// askAgain is how often pods that a budget holds back are asked to leave, as
	// kubectl drain does.
	askAgain = 5 * time.Second
)

// drainModule is fleetd.cluster.drain: no new pods on a node, and those that
// are there moved away, before it is rebooted.
type drainModule struct{ d Deps }

type drainData struct {
	Node string `json:"node"`
	// Before is the node's cordon, which the way back leaves as it was. What
	// somebody else cordoned is not cordoned anew.
	Before Cordon `json:"before"`
	DrainOptions
}

func (drainModule) About() rollout.About {
	return rollout.About{
		Params: rollout.Params{
			"timeout":              {Type: rollout.Duration, Help: "how long pods may take to leave, waiting for PodDisruptionBudgets included; a control-plane node waits as long for the others to be healthy (10m)"},
			"grace_period":         {Type: rollout.Int, Help: "seconds that each pod gets to end; -1 is the pod's own (-1)"},
			"disable_eviction":     {Type: rollout.Bool, Help: "delete pods instead of evicting them: no PodDisruptionBudget is asked (no)"},
			"delete_emptydir_data": {Type: rollout.Bool, Help: "also move pods with emptyDir volumes, whose contents are lost (yes)"},
			"force":                {Type: rollout.Bool, Help: "also delete pods that no controller would start again (no)"},
		},
		Guards: rollout.Disruptions,
	}
}

// Reads asks also for the machine itself where there is no cluster to ask.
func (m drainModule) Reads(rollout.Args) []rollout.Read {
	out := []rollout.Read{{Section: Kubernetes.Name()}}
	if m.d.Client == nil {
		out = append(out, rollout.Read{Section: node.Section.Name()})
	}
	return out
}

func drainOptions(a rollout.Args) (o DrainOptions, err error) {
	timeout, err1 := ArgTimeout(a, defaultDrainTimeout)
	grace, err2 := ArgInt(a, "grace_period", -1)
	noEviction, err3 := argBool(a, "disable_eviction", false)
	emptyDir, err4 := argBool(a, "delete_emptydir_data", true)
	force, err5 := argBool(a, "force", false)
	return DrainOptions{
		Timeout: timeout.String(), GracePeriod: grace, DisableEviction: noEviction, DeleteEmptyDirData: emptyDir, Force: force,
	}, errors.Join(err1, err2, err3, err4, err5)
}

func (m drainModule) Diff(host string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	o, err := drainOptions(args)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	n, err := Kubernetes.Get(before)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	if n.Unknown {
		f, err := node.Section.Get(before)
		if err != nil {
			return rollout.Change{}, nil, err
		}
		if f.Kubelet != "" {
			return rollout.Change{}, nil, &rollout.Problem{
				Message: fmt.Sprintf("cannot take %s out of service: it has a kubelet (%s), and no cluster is configured that could be told", host, f.Kubelet),
				Hint:    kubeconfigHint + "; or the variable kubernetes: false for it, if it is no node of a cluster",
			}
		}
	}
	if n.Name == "" {
		return NoOp("%s: there is nothing to drain", n.none(host)), before, nil
	}
	c := rollout.Change{
		Action: rollout.Update, Disruptive: true,
		Summary: fmt.Sprintf("drain Node %s (at most %s)", n.Name, o.Timeout),
		Back:    fmt.Sprintf("leave Node %s cordoned, as it was before", n.Name),
		Risks:   o.risks(),
		Data:    Pack(drainData{Node: n.Name, Before: n.Cordon(), DrainOptions: o}),
	}
	switch {
	case n.Cordon().Ours():
		c.Reasons = []string{"the node is still cordoned by an earlier run of fleetd"}
	case n.Cordon().Foreign():
		c.Reasons = []string{"somebody else cordoned the node: it stays cordoned afterwards"}
	default:
		c.Summary = fmt.Sprintf("cordon and drain Node %s (at most %s)", n.Name, o.Timeout)
		c.Fields = []rollout.Field{{Name: "unschedulable", Before: "false", After: "true"}}
		c.Back = fmt.Sprintf("uncordon Node %s once it is Ready in its present boot", n.Name)
		n.Unschedulable, n.CordonedBy = true, cordonedByFleetd
	}
	n.Drained = &o
	after, err := Kubernetes.With(before, n)
	return c, after, err
}

// risks say what the options allow.
func (o DrainOptions) risks() []string {
	var out []string
	if o.DeleteEmptyDirData {
		out = append(out, "pods with emptyDir volumes lose what is in them (delete_emptydir_data: false refuses to drain instead)")
	}
	if o.Force {
		out = append(out, "pods without a controller are deleted and do not come back (force)")
	}
	if o.DisableEviction {
		out = append(out, "pods are deleted without asking any PodDisruptionBudget (disable_eviction)")
	}
	return out
}

func (m drainModule) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	return Act(s, func(c *Call, d drainData) rollout.Outcome { return m.d.drain(ctx, c, d) })
}

// Undo makes the node take work again once it is back, if it did before.
func (m drainModule) Undo(ctx context.Context, s rollout.Step) rollout.Outcome {
	return Act(s, func(c *Call, d drainData) rollout.Outcome {
		return m.d.uncordon(ctx, c, d.Node, defaultReadyTimeout.String(), d.Before)
	})
}

// drain is one look at the node: note who is there, then cordon it, then ask
// every pod that has not been asked yet to leave, and say who is left.
func (d Deps) drain(ctx context.Context, c *Call, data drainData) rollout.Outcome {
	ctx = forHost(ctx, c.Host)
	timeout, err := time.ParseDuration(data.Timeout)
	if err != nil {
		return rollout.Fail(err)
	}
	h := &drain.Helper{
		Ctx: ctx, Client: d.Client.Kube, Force: data.Force, GracePeriodSeconds: data.GracePeriod,
		IgnoreAllDaemonSets: true, DeleteEmptyDirData: data.DeleteEmptyDirData, DisableEviction: data.DisableEviction,
		ChunkSize: 500,
	}
	n, err := d.Client.Kube.CoreV1().Nodes().Get(ctx, data.Node, metav1.GetOptions{})
	if err != nil {
		return c.Failed(d.Client.Explain(err, "read Node %s", data.Node))
	}
	// What cannot be moved is found before the node is touched.
	list, errs := h.GetPodsForDeletion(data.Node)
	if len(errs) > 0 {
		return d.cannotMove(c, data, timeout, errs)
	}
	began, begun, err := readBeginning(c)
	if err != nil {
		return rollout.Fail(err)
	}
	cordon := !n.Spec.Unschedulable && !data.Before.Foreign()
	if cordon || !begun {
		if o := d.mayTake(ctx, c, n, timeout); o != nil {
			return *o
		}
	}
	if !begun {
		return rollout.Intend(beginningKey, newBeginning(c, list.Pods()))
	}
	if cordon {
		if err := d.Client.setCordon(ctx, n, Cordon{On: true, By: cordonedByFleetd}); err != nil {
			return c.Failed(err)
		}
		// The next call lists the pods anew: one may have come before the cordon.
		return rollout.WaitFor(0, "Node %s is cordoned", data.Node)
	}
	return d.empty(ctx, h, data, began.leavers(list.Pods()), c.Now-began.At >= timeout)
}

// empty asks pods to leave a node.
func (d Deps) empty(ctx context.Context, h *drain.Helper, data drainData, pods []corev1.Pod, late bool) rollout.Outcome {
	if len(pods) == 0 {
		return rollout.Did("Node %s is drained", data.Node)
	}
	var going []string
	blocked := map[string][]string{} // by what holds them back
	for i := range pods {
		name := pods[i].Namespace + "/" + pods[i].Name
		why, err := d.evict(ctx, h, &pods[i])
		switch {
		case err != nil && !passing(err):
			return rollout.Fail(stays(d.Client.Explain(err, "evict pod %s from Node %s", name, data.Node), data.Node))
		case err != nil:
			blocked[err.Error()] = append(blocked[err.Error()], name)
		case why != "":
			blocked[why] = append(blocked[why], name)
		default:
			going = append(going, name)
		}
	}
	left := leftText(going, blocked)
	if late {
		return rollout.Fail(stays(&rollout.Problem{
			Message: fmt.Sprintf("cannot drain Node %s within %s: %s", data.Node, data.Timeout, left),
			Hint:    "free the pod (kubectl get pdb -A shows the budgets), then apply again",
		}, data.Node))
	}
	if len(going) == 0 {
		return rollout.WaitFor(askAgain, "%s", left)
	}
	return rollout.WaitFor(PollEvery, "%s", left)
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
}

func newBeginning(c *Call, pods []corev1.Pod) string {
	b := beginning{At: c.Now}
	for _, p := range pods {
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
func (b beginning) leavers(pods []corev1.Pod) []corev1.Pod {
	return slices.DeleteFunc(pods, func(p corev1.Pod) bool {
		return toleratesCordon(p) && !slices.Contains(b.Residents, p.UID)
	})
}

func toleratesCordon(p corev1.Pod) bool {
	cordon := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	return slices.ContainsFunc(p.Spec.Tolerations, func(t corev1.Toleration) bool { return t.ToleratesTaint(&cordon) })
}

func leftText(going []string, blocked map[string][]string) string {
	var parts []string
	for _, why := range slices.Sorted(maps.Keys(blocked)) {
		parts = append(parts, fmt.Sprintf("held back: %s (%s)", Few(blocked[why]), why))
	}
	if len(going) > 0 {
		parts = append(parts, "leaving: "+Few(going))
	}
	return strings.Join(parts, "; ")
}

// evict asks one pod to leave. The text says what keeps it for now.
func (d Deps) evict(ctx context.Context, h *drain.Helper, p *corev1.Pod) (string, error) {
	if p.DeletionTimestamp != nil {
		return "", nil // asked already, by us or by another
	}
	var err error
	if h.DisableEviction {
		err = h.DeletePod(*p)
	} else {
		err = h.EvictPod(*p, policyv1.SchemeGroupVersion)
	}
	switch {
	case err == nil, apierrors.IsNotFound(err):
		return "", nil
	case apierrors.IsTooManyRequests(err):
		return d.budgets(ctx, p, err), nil
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return "its namespace is being deleted", nil
	case apierrors.IsInternalError(err) && strings.Contains(err.Error(), "more than one PodDisruptionBudget"):
		return "", fmt.Errorf("%s; %w", d.budgets(ctx, p, nil), errors.New("the API server evicts no pod that has more than one"))
	}
	return "", err
}

// budgets names the PodDisruptionBudgets that cover a pod, and what the API
// server said about them.
func (d Deps) budgets(ctx context.Context, p *corev1.Pod, refusal error) string {
	var names []string
	list, err := d.Client.Kube.PolicyV1().PodDisruptionBudgets(p.Namespace).List(ctx, metav1.ListOptions{})
	if err == nil {
		for _, b := range list.Items {
			sel, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
			if err == nil && sel.Matches(labels.Set(p.Labels)) {
				names = append(names, b.Name)
			}
		}
	}
	slices.Sort(names)
	text := "PodDisruptionBudget " + strings.Join(names, ", ")
	if len(names) == 0 {
		text = "a PodDisruptionBudget"
	}
	var st apierrors.APIStatus
	if errors.As(refusal, &st) && st.Status().Details != nil {
		for _, cause := range st.Status().Details.Causes {
			if cause.Type == policyv1.DisruptionBudgetCause && cause.Message != "" {
				text += ": " + cause.Message
			}
		}
	}
	return text
}

// cannotMove is the outcome when pods stand in the way, or the list of them
// could not be had.
func (d Deps) cannotMove(c *Call, data drainData, timeout time.Duration, errs []error) rollout.Outcome {
	err := errors.Join(errs...)
	for _, e := range errs {
		var st apierrors.APIStatus
		if errors.As(e, &st) || unreachable(e) {
			return c.Failed(d.Client.Explain(e, "list the pods of Node %s", data.Node))
		}
	}
	if !final(err.Error()) && c.Elapsed < timeout {
		// kubectl looks up the DaemonSet of every pod, and reports its failure
		// as a reason of the pod.
		return rollout.RetryAfter(PollEvery, err)
	}
	return rollout.Fail(&rollout.Problem{
		Message: fmt.Sprintf("cannot drain Node %s: %s", data.Node, strings.ReplaceAll(err.Error(), "\n", "; ")),
		Hint:    "move these pods by hand, or allow it with the task's force or delete_emptydir_data",
	})
}

// final reports whether kubectl's reasons against moving a pod will still be
// there a moment later.
func final(reasons string) bool {
	for _, r := range []string{"local storage", "declare no controller", "not found"} {
		if strings.Contains(reasons, r) {
			return true
		}
	}
	return false
}

// stays adds to an error that the node stays cordoned, and how to take it back.
func stays(err error, name string) error {
	p := *rollout.AsProblem(err)
	back := fmt.Sprintf("the node stays cordoned; to give it up: kubectl uncordon %s && kubectl annotate node %s %s-", name, name, CordonedByAnnotation)
	p.Hint = strings.TrimPrefix(p.Hint+"; "+back, "; ")
	return &p
}
