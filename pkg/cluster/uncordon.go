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
	// Uncordon is false when the cordon is somebody else's.
	Uncordon bool `json:"uncordon"`
	// Drain is how the node was drained before; the way back does it again.
	Drain *DrainOptions `json:"drain,omitempty"`
}

func (uncordonModule) Params() rollout.Params {
	return rollout.Params{
		"timeout": {Type: rollout.Duration, Help: "how long the kubelet may take to report Ready after the boot (10m)"},
	}
}

func (uncordonModule) Reads(rollout.Args) []rollout.Read {
	return []rollout.Read{{Section: Kubernetes.Name()}}
}

func (m uncordonModule) Diff(host string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	timeout, err := argTimeout(args, defaultReadyTimeout)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	n, err := Kubernetes.Get(before)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	data := uncordonData{Node: n.Name, Timeout: timeout.String(), Uncordon: n.CordonedBy != "", Drain: n.Drained}
	c := rollout.Change{Action: rollout.Update, Data: pack(data)}
	switch {
	case n.Name == "":
		return noOp("%s is no node of the cluster: there is nothing to uncordon", host), before, nil
	case n.Ours():
		c.Summary = fmt.Sprintf("uncordon Node %s once it is Ready in its present boot", n.Name)
		c.Fields = []rollout.Field{{Name: "unschedulable", Before: "true", After: "false"}}
		if n.Drained == nil {
			c.Reasons = []string{"the node is still cordoned by an earlier run of fleetd"}
		}
	case n.CordonedBy != "":
		// Left alone, it would make the next cordon by a person look like ours.
		c.Summary = fmt.Sprintf("remove the mark of an earlier run from Node %s", n.Name)
		c.Fields = []rollout.Field{{Name: CordonedByAnnotation, Before: n.CordonedBy}}
	case n.Drained != nil:
		c.Action = rollout.ReadOnly
		c.Summary = fmt.Sprintf("wait until Node %s is Ready in its present boot; it stays cordoned, as somebody else left it", n.Name)
	case n.Unschedulable:
		return noOp("Node %s stays cordoned: it was not fleetd that cordoned it", n.Name), before, nil
	default:
		return noOp("Node %s takes work already", n.Name), before, nil
	}
	if data.Uncordon {
		n.Unschedulable, n.CordonedBy = false, ""
	}
	n.Drained = nil
	after, err := Kubernetes.With(before, n)
	return c, after, err
}

func (m uncordonModule) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	d, err := unpack[uncordonData](s)
	if err != nil {
		return rollout.Fail(err)
	}
	return m.d.uncordon(ctx, s, d)
}

// Undo drains the node again: on the way back it is about to be rebooted again.
func (m uncordonModule) Undo(ctx context.Context, s rollout.Step) rollout.Outcome {
	d, err := unpack[uncordonData](s)
	if err != nil {
		return rollout.Fail(err)
	}
	if d.Drain == nil {
		return rollout.AlreadyDone("Node %s was not drained by this run", d.Node)
	}
	return m.d.drain(ctx, s, drainData{Node: d.Node, Cordon: d.Uncordon, DrainOptions: *d.Drain})
}

// uncordon gives the node work again once it is back.
func (d Deps) uncordon(ctx context.Context, s rollout.Step, data uncordonData) rollout.Outcome {
	ctx = forHost(ctx, s.Host)
	n, waiting := d.back(ctx, s, data.Node, data.Timeout, fmt.Sprintf("give work to Node %s again", data.Node))
	if waiting != nil {
		return *waiting
	}
	f := nodeFacts(n)
	switch {
	case !data.Uncordon && f.Unschedulable:
		return rollout.AlreadyDone("Node %s is Ready in its present boot; it stays cordoned, as somebody else left it", data.Node)
	case !data.Uncordon || f.CordonedBy == "" && !f.Unschedulable:
		return rollout.AlreadyDone("Node %s is Ready in its present boot and takes work", data.Node)
	case f.CordonedBy == "":
		// The mark is gone, the cordon is not: somebody has taken the node over.
		return rollout.AlreadyDone("Node %s is Ready in its present boot; it stays cordoned, as somebody else cordoned it meanwhile", data.Node)
	}
	if err := d.Client.patchNode(ctx, n, map[string]any{CordonedByAnnotation: nil}, false); err != nil {
		return failure(ctx, s, err)
	}
	return rollout.Did("Node %s is Ready on %s and takes work again", data.Node, f.KernelVersion)
}

// patchNode sets the cordon and its mark in one write. The resourceVersion
// makes it fail when the Node has changed since it was read: a person's cordon
// in between must not become ours.
func (c *Client) patchNode(ctx context.Context, n *corev1.Node, annotations map[string]any, unschedulable bool) error {
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"annotations": annotations, "resourceVersion": n.ResourceVersion},
		"spec":     map[string]any{"unschedulable": unschedulable},
	})
	if err != nil {
		return fmt.Errorf("cannot encode a patch: %w", err)
	}
	_, err = c.Kube.CoreV1().Nodes().Patch(ctx, n.Name, types.MergePatchType, body, strictPatch())
	doing := "cordon"
	if !unschedulable {
		doing = "uncordon"
	}
	return c.explain(err, "%s Node %s", doing, n.Name)
}

// strictPatch makes the API server refuse a field that it does not know. Left
// alone it drops the field and says 200 OK.
func strictPatch() metav1.PatchOptions {
	return metav1.PatchOptions{FieldManager: fieldManager, FieldValidation: metav1.FieldValidationStrict}
}
