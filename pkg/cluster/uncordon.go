package cluster

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// uncordonModule is fleetd.cluster.uncordon: once the kubelet of the present
// boot has reported, the node takes work again.
type uncordonModule struct{ d Deps }

type uncordonData struct {
	Node    string `json:"node"`
	Timeout string `json:"timeout"`
	// Before and After are the node's cordon. They are equal where the cordon is
	// somebody else's, and the step only waits.
	Before Cordon `json:"before"`
	After  Cordon `json:"after"`
	// Drain is how the node was drained before; the way back does it again.
	Drain *DrainOptions `json:"drain,omitempty"`
}

func (uncordonModule) About() rollout.About {
	return rollout.About{Params: rollout.Params{
		"timeout": {Type: rollout.Duration, Help: "how long the kubelet may take to report Ready after the boot (10m)"},
	}}
}

func (uncordonModule) Reads(rollout.Args) []rollout.Read {
	return []rollout.Read{{Section: Kubernetes.Name()}}
}

func (m uncordonModule) Diff(host string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	timeout, err := ArgTimeout(args, defaultReadyTimeout)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	n, err := Kubernetes.Get(before)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	data := uncordonData{Node: n.Name, Timeout: timeout.String(), Before: n.Cordon(), After: n.Cordon(), Drain: n.Drained}
	c := rollout.Change{Action: rollout.Update}
	switch {
	case n.Name == "":
		return NoOp("%s: there is nothing to uncordon", n.none(host)), before, nil
	case n.Cordon().Ours():
		c.Summary = fmt.Sprintf("uncordon Node %s once it is Ready in its present boot", n.Name)
		c.Back, c.BackDisruptive = fmt.Sprintf("cordon and drain Node %s again", n.Name), true
		c.Fields = []rollout.Field{{Name: "unschedulable", Before: "true", After: "false"}}
		if n.Drained == nil {
			c.Back = fmt.Sprintf("cordon Node %s again", n.Name)
			c.Reasons = []string{"the node is still cordoned by an earlier run of fleetd"}
		}
		data.After = Cordon{}
	case n.CordonedBy != "" && !n.CordonedElsewhere:
		// Left alone, it would make the next cordon by a person look like ours.
		c.Summary = fmt.Sprintf("remove the mark of an earlier run from Node %s", n.Name)
		c.Back = fmt.Sprintf("put the mark of the earlier run back on Node %s", n.Name)
		c.Fields = []rollout.Field{{Name: CordonedByAnnotation, Before: n.CordonedBy}}
		data.After = Cordon{}
	case n.Drained != nil:
		// It is no mere wait: the way back has to drain the node again.
		c.Summary = fmt.Sprintf("wait until Node %s is Ready in its present boot; it stays cordoned, as %s left it", n.Name, n.Cordon().whose())
		c.Back, c.BackDisruptive = fmt.Sprintf("drain Node %s again", n.Name), true
	case n.Unschedulable:
		return NoOp("Node %s stays cordoned: it was %s that cordoned it", n.Name, n.Cordon().whose()), before, nil
	default:
		return NoOp("Node %s takes work already", n.Name), before, nil
	}
	c.Data = Pack(data)
	n.Unschedulable, n.CordonedBy, n.CordonedElsewhere, n.Drained = data.After.On, data.After.By, data.After.Elsewhere, nil
	return c, Kubernetes.With(before, n), nil
}

func (m uncordonModule) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	return Act(s, func(c *Call, d uncordonData) rollout.Outcome { return m.d.uncordon(ctx, c, d.Node, d.Timeout, d.After) })
}

// Undo drains the node again, because on the way back it is about to be rebooted
// again. Where no drain came before, only the cordon or its mark is put back.
func (m uncordonModule) Undo(ctx context.Context, s rollout.Step) rollout.Outcome {
	return Act(s, func(c *Call, d uncordonData) rollout.Outcome {
		if d.Drain == nil {
			return m.d.recordon(ctx, c, d.Node, d.Before)
		}
		return m.d.drain(ctx, c, drainData{Node: d.Node, Before: d.Before, DrainOptions: *d.Drain})
	})
}

// Keeps looks whether the node is drained still, where the way back has drained it.
func (m uncordonModule) Keeps(ctx context.Context, s rollout.Step, undo bool) (rollout.Outcome, bool) {
	data, err := unpack[uncordonData](s)
	switch {
	case err != nil:
		return rollout.Fail(err), false
	case !undo || data.Drain == nil:
		return rollout.Outcome{}, true
	}
	return m.d.keeps(ctx, s, drainData{Node: data.Node, Before: data.Before, DrainOptions: *data.Drain})
}

// uncordon gives the node work again once it is back, or leaves it cordoned, as
// it was.
func (d Deps) uncordon(ctx context.Context, c *Call, node, timeout string, want Cordon) rollout.Outcome {
	ctx = forHost(ctx, c.Host)
	n, waiting := d.back(ctx, c, node, timeout, fmt.Sprintf("give work to Node %s again", node))
	if waiting != nil {
		return *waiting
	}
	have := d.Client.cordonOf(n)
	switch {
	case have.On && want.On && !have.Elsewhere && n.Annotations[BeforeAnnotation] != "":
		want = have // only what fleetd noted beside it is taken away
	case have.On && want.On:
		return c.Done("Node %s is Ready in its present boot; it stays cordoned, as it was before", node)
	case have == want || want.On:
		return c.Done("Node %s is Ready in its present boot and takes work", node)
	case have.Foreign():
		// Another mark or none: somebody has taken the node over.
		return c.Done("Node %s is Ready in its present boot; it stays cordoned, as %s cordoned it meanwhile", node, have.whose())
	}
	if err := d.Client.setCordon(ctx, n, want, ""); err != nil {
		return c.Failed(err)
	}
	if want.On {
		return rollout.Did("Node %s is Ready on %s; it stays cordoned, as it was before", node, n.Status.NodeInfo.KernelVersion)
	}
	return rollout.Did("Node %s is Ready on %s and takes work again", node, n.Status.NodeInfo.KernelVersion)
}

// recordon puts back a cordon that an uncordon took, unless the node is cordoned
// by now.
func (d Deps) recordon(ctx context.Context, c *Call, node string, before Cordon) rollout.Outcome {
	ctx = forHost(ctx, c.Host)
	n, err := d.Client.Kube.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		return c.Failed(d.Client.Explain(err, "read Node %s", node))
	}
	if have := d.Client.cordonOf(n); have.On || have == before {
		return c.Done("Node %s is as it was before", node)
	}
	if err := d.Client.setCordon(ctx, n, before, ""); err != nil {
		return c.Failed(err)
	}
	return rollout.Did("Node %s is as it was before", node)
}

// setCordon sets the cordon with its mark and what was before (BeforeAnnotation)
// in one write: a crash between two would leave a cordon that looks like somebody
// else's. The resourceVersion makes it fail when the Node has changed since it was
// read: a person's cordon in between must not become ours.
func (c *Client) setCordon(ctx context.Context, n *corev1.Node, want Cordon, before string) error {
	orNull := func(s string) any {
		if s == "" {
			return nil // takes the annotation away
		}
		return s
	}
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{
			"annotations":     map[string]any{CordonedByAnnotation: orNull(want.By), BeforeAnnotation: orNull(before)},
			"resourceVersion": n.ResourceVersion,
		},
		"spec": map[string]any{"unschedulable": want.On},
	})
	if err != nil {
		return fmt.Errorf("cannot encode a patch: %w", err)
	}
	written, err := c.Kube.CoreV1().Nodes().Patch(ctx, n.Name, types.MergePatchType, body, StrictPatch())
	if err == nil {
		c.shared().nodes.put(written)
	}
	doing := "cordon"
	if !want.On {
		doing = "uncordon"
	}
	return c.Explain(err, "%s Node %s", doing, n.Name)
}

// StrictPatch makes the API server refuse a field that it does not know. Left
// alone it drops the field and says 200 OK.
func StrictPatch() metav1.PatchOptions {
	return metav1.PatchOptions{FieldManager: FieldManager, FieldValidation: metav1.FieldValidationStrict}
}
