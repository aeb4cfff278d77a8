package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

const defaultDrainTimeout = 10 * time.Minute

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
			"timeout":                      {Type: rollout.Duration, Help: "how long pods may take to leave, waiting for PodDisruptionBudgets included; a control-plane node waits as long for the others to be healthy (10m)"},
			"grace_period":                 {Type: rollout.Int, Help: "seconds that each pod gets to end; -1 is the pod's own (-1)"},
			"disable_eviction":             {Type: rollout.Bool, Help: "delete pods instead of evicting them: no PodDisruptionBudget is asked (no)"},
			"delete_emptydir_data":         {Type: rollout.Bool, Help: "also move pods with emptyDir volumes, whose contents are lost (yes)"},
			"force":                        {Type: rollout.Bool, Help: "also delete pods that no controller would start again (no)"},
			"pod_selector":                 {Type: rollout.String, Help: "label selector of the pods that are moved; the others stay and go down with the node (all)"},
			"blocking_pod_selectors":       {Type: rollout.Strings, Help: "label selectors; while a pod of the node matches one of them, the node is left alone, up to the timeout (none)"},
			"skip_wait_for_delete_timeout": {Type: rollout.Duration, Help: "pods that are being deleted are not waited for any longer, once nothing else is left and nothing has moved for so long (as long as it takes)"},
			"wait_for_volumes":             {Type: rollout.Bool, Help: "wait until the volumes of the pods are detached (yes)"},
			"prometheus_url":               {Type: rollout.String, Help: "a Prometheus; while it tells of alerts, or does not answer, no drain begins, up to the timeout (none)"},
			"alert_filter_regexp":          {Type: rollout.String, Help: "names of alerts that hold nothing (none); those of the node's own absence belong here"},
			"alert_filter_match_only":      {Type: rollout.Bool, Help: "only the alerts of alert_filter_regexp hold (no)"},
			"alert_firing_only":            {Type: rollout.Bool, Help: "alerts that are pending hold nothing (no)"},
			"uncordon_on_failure":          {Type: rollout.Bool, Help: "let the node take work again if it cannot be drained (no)"},
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
	noEviction, err3 := ArgBool(a, "disable_eviction", false)
	emptyDir, err4 := ArgBool(a, "delete_emptydir_data", true)
	force, err5 := ArgBool(a, "force", false)
	volumes, err6 := ArgBool(a, "wait_for_volumes", true)
	uncordon, err7 := ArgBool(a, "uncordon_on_failure", false)
	skip, err8 := argDuration(a, "skip_wait_for_delete_timeout", 0)
	blocking, err9 := ArgStrings(a, "blocking_pod_selectors")
	alerts, err12 := alertOptions(a)
	o = DrainOptions{
		Timeout: timeout.String(), GracePeriod: grace, DisableEviction: noEviction, DeleteEmptyDirData: emptyDir, Force: force,
		PodSelector: ArgString(a, "pod_selector", ""), BlockingPodSelectors: blocking, LeaveVolumes: !volumes, UncordonOnFailure: uncordon,
		AlertOptions: alerts,
	}
	if skip > 0 {
		o.SkipWait = skip.String()
	}
	_, err10 := o.selector()
	_, err11 := o.blockers(nil)
	return o, errors.Join(err1, err2, err3, err4, err5, err6, err7, err8, err9, err10, err11, err12)
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
	if problem := o.mayNot(n); problem != nil {
		return rollout.Change{}, nil, problem
	}
	c := rollout.Change{
		Action: rollout.Update, Disruptive: true,
		Summary: fmt.Sprintf("drain Node %s (at most %s)", n.Name, o.Timeout),
		Back:    fmt.Sprintf("leave Node %s cordoned, as it was before", n.Name),
		Risks:   append(o.risks(), o.blockedBy(n)...),
		Data:    Pack(drainData{Node: n.Name, Before: n.Cordon(), DrainOptions: o}),
	}
	switch {
	case n.Cordon().Ours():
		c.Reasons = []string{"the node is still cordoned by an earlier run of fleetd"}
	case n.Cordon().Foreign():
		c.Reasons = []string{n.Cordon().whose() + " cordoned the node: it stays cordoned afterwards"}
	default:
		c.Summary = fmt.Sprintf("cordon and drain Node %s (at most %s)", n.Name, o.Timeout)
		c.Fields = []rollout.Field{{Name: "unschedulable", Before: "false", After: "true"}}
		c.Back = fmt.Sprintf("uncordon Node %s once it is Ready in its present boot", n.Name)
		n.Unschedulable, n.CordonedBy, n.CordonedElsewhere = true, cordonedByFleetd, false
	}
	if held := o.AlertOptions.text(); held != "" {
		c.Reasons = append(c.Reasons, held)
	}
	n.Drained = &o
	return c, Kubernetes.With(before, n), nil
}

// blockedBy says which budgets will hold the drain up.
func (o DrainOptions) blockedBy(n Node) []string {
	if len(n.Blocked) == 0 || o.DisableEviction {
		return nil
	}
	return []string{fmt.Sprintf("the drain will not end: pods on the node have PodDisruptionBudget %s, which lets none go although all are healthy", Few(n.Blocked))}
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
	if o.PodSelector != "" {
		out = append(out, fmt.Sprintf("pods that are not %s are not moved, and go down with the node (pod_selector)", o.PodSelector))
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

// Keeps looks whether the node is drained still. Undone, there is nothing to keep.
func (m drainModule) Keeps(ctx context.Context, s rollout.Step, undo bool) (rollout.Outcome, bool) {
	if undo {
		return rollout.Outcome{}, true
	}
	data, err := unpack[drainData](s)
	if err != nil {
		return rollout.Fail(err), false
	}
	return m.d.keeps(ctx, s, data)
}
