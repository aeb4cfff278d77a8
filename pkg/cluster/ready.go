package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

const (
	defaultReadyTimeout = 10 * time.Minute
	// defaultSettle is longer than the first restarts of a pod that crashes are
	// apart (the kubelet's back-off begins with 10 s).
	defaultSettle = 15 * time.Second
)

// readyModule is fleetd.cluster.ready: after a reboot, the kubelet of the
// present boot reports Ready, the node has its network, and the pods that stay on
// it are as well as they were before it was drained. A kernel on which they do not
// run is no kernel to make the default.
type readyModule struct{ d Deps }

type readyData struct {
	Node       string `json:"node"`
	Timeout    string `json:"timeout"`
	DaemonSets string `json:"daemonsets"`
	Settle     string `json:"settle"`
}

func (readyModule) About() rollout.About {
	return rollout.About{
		Params: rollout.Params{
			"timeout":    {Type: rollout.Duration, Help: "how long the node may take after the boot until all of it holds (10m)"},
			"daemonsets": {Type: rollout.String, Choices: []string{allDaemonSets, calicoOnly, noDaemonSets}, Help: "whose pods have to be ready again, of those that were before the drain; none looks at the Node only (all)"},
			"settle":     {Type: rollout.Duration, Help: "how long none of these pods may restart (15s)"},
		},
		Guards: rollout.Changes,
	}
}

func (readyModule) Reads(rollout.Args) []rollout.Read {
	return []rollout.Read{{Section: Kubernetes.Name()}}
}

func (readyModule) Diff(host string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	timeout, err1 := ArgTimeout(args, defaultReadyTimeout)
	settle, err2 := argDuration(args, "settle", defaultSettle)
	which, err3 := ArgChoice(args, "daemonsets", allDaemonSets, allDaemonSets, calicoOnly, noDaemonSets)
	if err := errors.Join(err1, err2, err3); err != nil {
		return rollout.Change{}, nil, err
	}
	n, err := Kubernetes.Get(before)
	if err != nil {
		return rollout.Change{}, nil, err
	}
	switch {
	case n.Name == "":
		return NoOp("%s", n.none(host)), before, nil
	case n.Drained == nil:
		return NoOp("Node %s was not drained: it is not waited for", n.Name), before, nil
	}
	also := map[string]string{allDaemonSets: ", and its DaemonSets' pods as before", calicoOnly: ", and calico-node as before"}[which]
	return rollout.Change{
		Action:  rollout.ReadOnly,
		Summary: fmt.Sprintf("wait until Node %s is Ready in its present boot%s (at most %s)", n.Name, also, timeout),
		Data:    Pack(readyData{Node: n.Name, Timeout: timeout.String(), DaemonSets: which, Settle: settle.String()}),
	}, before, nil
}

func (m readyModule) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	return Act(s, func(c *Call, d readyData) rollout.Outcome {
		o := m.d.healthy(forHost(ctx, c.Host), c, d)
		if o.Kind == rollout.Failed {
			o.Hint += fmt.Sprintf("; the default kernel is still the old one: a reboot of %s goes back to it", c.Host)
		}
		return o
	})
}

// healthy is one look at a node after its reboot, and at the pods that stay on it.
func (d Deps) healthy(ctx context.Context, c *Call, data readyData) rollout.Outcome {
	doing := fmt.Sprintf("call Node %s healthy", data.Node)
	n, waiting := d.back(ctx, c, data.Node, data.Timeout, doing)
	if waiting != nil {
		return *waiting
	}
	timeout, err1 := time.ParseDuration(data.Timeout)
	settle, err2 := time.ParseDuration(data.Settle)
	if err := errors.Join(err1, err2); err != nil {
		return rollout.Fail(err)
	}
	pods, err := d.Client.podsOn(data.Node).look(ctx)
	if err != nil {
		return c.Failed(err)
	}
	daemonSets, err := d.Client.shared().daemonSets.look(ctx)
	if err != nil {
		return c.Failed(err)
	}
	h := readHealth(n)
	why, left := h.ill(data.DaemonSets, n, pods, daemonSets), timeout
	if why == "" {
		if data.DaemonSets == noDaemonSets || c.Steady("pulse", h.pulse(data.DaemonSets, pods)) >= settle {
			return rollout.AlreadyDone("Node %s is Ready on %s", data.Node, n.Status.NodeInfo.KernelVersion)
		}
		// What came up at the last moment may still settle.
		why, left = "its pods are ready, and have to stay so for "+settle.String(), timeout+settle
	} else {
		c.Steady("pulse", "")
	}
	if c.Elapsed < left {
		return rollout.WaitFor(PollEvery, "Node %s: %s", data.Node, why)
	}
	return rollout.Fail(stays(&rollout.Problem{
		Message: fmt.Sprintf("cannot %s: %s after %s", doing, why, data.Timeout),
		Hint:    fmt.Sprintf("see kubectl get pods -A --field-selector spec.nodeName=%s -o wide, and kubectl describe and logs --previous of the pod", data.Node),
	}, data.Node))
}

// Undo has nothing to take back.
func (readyModule) Undo(context.Context, rollout.Step) rollout.Outcome {
	return rollout.AlreadyDone("a wait changes nothing")
}

// back is one look at a node after its reboot: has the kubelet of the present
// boot reported, and is it Ready? Ready alone proves nothing: through a whole
// reboot a Node can stay Ready with the old boot's ID and kernel. While the node
// is not back, the outcome says what to do; doing names what it is needed for.
func (d Deps) back(ctx context.Context, c *Call, name, within, doing string) (*corev1.Node, *rollout.Outcome) {
	end := func(o rollout.Outcome) (*corev1.Node, *rollout.Outcome) { return nil, &o }
	timeout, err := time.ParseDuration(within)
	if err != nil {
		return end(rollout.Fail(err))
	}
	late := c.Elapsed >= timeout
	boot, err := d.bootID(ctx, c.Host)
	if err != nil {
		if late || !worthRetrying(err) {
			return end(rollout.Fail(stays(err, name)))
		}
		return end(rollout.RetryAfter(PollEvery, err))
	}
	n, err := d.Client.node(ctx, name)
	if err != nil {
		return end(c.Failed(err))
	}
	why := notBack(n, boot)
	switch {
	case why == "":
		return n, nil
	case !late:
		return end(rollout.WaitFor(PollEvery, "%s", why))
	}
	return end(rollout.Fail(stays(&rollout.Problem{
		Message: fmt.Sprintf("cannot %s: %s after %s", doing, why, within),
		Hint:    fmt.Sprintf("see kubectl describe node %s, and journalctl -u kubelet on %s", name, c.Host),
	}, name)))
}

// notBack says what is missing for a node to be back from a reboot.
func notBack(n *corev1.Node, boot string) string {
	f := nodeFacts(n)
	switch {
	case f.BootID != boot:
		return fmt.Sprintf("Node %s still shows boot ID %s, its machine is in boot %s: the kubelet has not reported since", f.Name, orWord(f.BootID, "none"), boot)
	case !f.Ready:
		return fmt.Sprintf("Node %s is not Ready", f.Name)
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeNetworkUnavailable && c.Status == corev1.ConditionTrue {
			return fmt.Sprintf("Node %s has no network: NetworkUnavailable, %s", f.Name, orWord(c.Message, c.Reason))
		}
	}
	return ""
}

// bootID reads the machine's own boot ID over SSH.
func (d Deps) bootID(ctx context.Context, host string) (string, error) {
	res, err := d.Hosts.Run(ctx, host, sshexec.Command{Argv: []string{"cat", "/proc/sys/kernel/random/boot_id"}, Timeout: 30 * time.Second})
	if err != nil {
		return "", err // sshexec says what and where
	}
	id := strings.TrimSpace(string(res.Stdout))
	if res.ExitStatus != 0 || id == "" {
		return "", fmt.Errorf("cannot read the boot ID of %s: exit status %d: %s", host, res.ExitStatus, strings.TrimSpace(string(res.Stderr)))
	}
	return id, nil
}

// worthRetrying reports whether a host may answer a moment later.
func worthRetrying(err error) bool {
	var e *sshexec.Error
	if !errors.As(err, &e) {
		return true
	}
	switch e.Kind {
	case sshexec.KindUnreachable, sshexec.KindTimeout, sshexec.KindLost, sshexec.KindUnknown:
		return true
	}
	return false
}
