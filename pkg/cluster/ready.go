package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

const defaultReadyTimeout = 10 * time.Minute

// readyModule is fleetd.cluster.ready: after a reboot, the kubelet of the
// present boot reports Ready. A kernel on which the kubelet does not run is no
// kernel to make the default.
type readyModule struct{ d Deps }

type readyData struct {
	Node    string `json:"node"`
	Timeout string `json:"timeout"`
}

func (readyModule) About() rollout.About {
	return rollout.About{
		Params: rollout.Params{
			"timeout": {Type: rollout.Duration, Help: "how long the kubelet may take to report Ready after the boot (10m)"},
		},
		Guards: rollout.Changes,
	}
}

func (readyModule) Reads(rollout.Args) []rollout.Read {
	return []rollout.Read{{Section: Kubernetes.Name()}}
}

func (readyModule) Diff(host string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	timeout, err := ArgTimeout(args, defaultReadyTimeout)
	if err != nil {
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
	return rollout.Change{
		Action:  rollout.ReadOnly,
		Summary: fmt.Sprintf("wait until Node %s is Ready in its present boot (at most %s)", n.Name, timeout),
		Data:    Pack(readyData{Node: n.Name, Timeout: timeout.String()}),
	}, before, nil
}

func (m readyModule) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	return Act(s, func(c *Call, d readyData) rollout.Outcome {
		n, waiting := m.d.back(forHost(ctx, c.Host), c, d.Node, d.Timeout, fmt.Sprintf("call Node %s healthy", d.Node))
		if waiting != nil {
			if waiting.Kind == rollout.Failed {
				waiting.Hint += fmt.Sprintf("; the default kernel is still the old one: a reboot of %s goes back to it", c.Host)
			}
			return *waiting
		}
		return rollout.AlreadyDone("Node %s is Ready on %s", d.Node, n.Status.NodeInfo.KernelVersion)
	})
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
	n, err := d.Client.Kube.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return end(c.Failed(d.Client.Explain(err, "read Node %s", name)))
	}
	why := notBack(nodeFacts(n), boot)
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
func notBack(n Node, boot string) string {
	switch {
	case n.BootID != boot:
		return fmt.Sprintf("Node %s still shows boot ID %s, its machine is in boot %s: the kubelet has not reported since", n.Name, orWord(n.BootID, "none"), boot)
	case !n.Ready:
		return fmt.Sprintf("Node %s is not Ready", n.Name)
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
