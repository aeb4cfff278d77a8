package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// etcdPods selects etcd's static pods: kubeadm and RKE2 label them so.
const etcdPods = "component=etcd,tier=control-plane"

// errEtcd is that the API server cannot count on its etcd.
var errEtcd = errors.New("the API server's own check of etcd fails")

// Members are etcd's voters, as far as the API shows them: one for each node
// with a static pod of etcd, by the name of the host that is the node, else the
// node's. None means that etcd does not run in such pods (it is external,
// managed, or part of another program, as in k3s), and the caller counts
// control-plane hosts instead.
//
// What this cannot see:
//
//   - The list of members itself. One that is registered in etcd and whose Node
//     is gone still counts for the quorum, and one that is only a learner does
//     not vote yet.
//   - More than that the process runs, where the pod has no readiness probe:
//     kubeadm gives it one from 1.31 on (etcd's /readyz, which needs a leader),
//     RKE2 from 2026 on. Before, such a pod is Ready once its start-up probe
//     passed, and stays so without a leader.
//   - A death at once. Only a kubelet tells of its static pods. When it is dead,
//     too, the node controller calls Node and pods not Ready after its grace
//     period: 40 s, from Kubernetes 1.32 on 50 s. And for some seconds after a
//     boot a pod may still show the Ready of the boot before.
func (c *Client) Members(ctx context.Context, hosts map[string]HostRef) ([]rollout.Member, error) {
	if err := c.etcdAnswers(ctx); err != nil {
		return nil, err
	}
	pods, err := c.Kube.CoreV1().Pods(kubeNamespace).List(ctx, metav1.ListOptions{LabelSelector: etcdPods})
	if err != nil {
		return nil, c.Explain(err, "list etcd's pods")
	}
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	hostOf := map[string]string{} // by Node
	for h, m := range matchNodes(slices.Collect(maps.Keys(hosts)), hosts, nodes) {
		if m.err == nil && m.node.Name != "" {
			hostOf[m.node.Name] = h
		}
	}
	var out []rollout.Member
	for i := range pods.Items {
		p := &pods.Items[i]
		if _, static := p.Annotations[corev1.MirrorPodAnnotationKey]; !static {
			continue
		}
		m := rollout.Member{Name: orWord(hostOf[p.Spec.NodeName], p.Spec.NodeName), Down: memberDown(p, nodes)}
		if at := slices.IndexFunc(out, func(o rollout.Member) bool { return o.Name == m.Name }); at >= 0 {
			// Some run a second etcd for events beside it: a node votes once, and
			// only if both are well.
			out[at].Down = orWord(out[at].Down, m.Down)
			continue
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b rollout.Member) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// memberDown says why the member of a pod does not vote. The reason is no more
// precise than that: it is part of the plan, and must not change from look to
// look while the member is down.
func memberDown(p *corev1.Pod, nodes []Node) string {
	i := slices.IndexFunc(nodes, func(n Node) bool { return n.Name == p.Spec.NodeName })
	switch {
	case i < 0:
		return fmt.Sprintf("Node %s is gone", p.Spec.NodeName)
	case nodes[i].Down() != "":
		return nodes[i].Down() // the pod is down because of it
	case NotReady(p) != "":
		return p.Name + " is not Ready"
	}
	return ""
}

// etcdAnswers asks the API server for its own check of etcd. It sees the one
// member that it talks to.
func (c *Client) etcdAnswers(ctx context.Context) error {
	rc := c.Kube.Discovery().RESTClient()
	if rc == nil {
		return nil // client-go's fakes have no health
	}
	// The answer of an API server that is not ready is an error, and has a body.
	// Whatever else is wrong with it, and whether this path may be read, is for
	// the requests that follow to say.
	body, _ := rc.Get().AbsPath("/readyz").Param("verbose", "true").DoRaw(ctx)
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, "[-]etcd") {
			return &Error{
				Doing: "count etcd's members", Err: fmt.Errorf("%w: %s", errEtcd, strings.TrimSpace(line)),
				What: "see kubectl get --raw '/readyz?verbose', and the log of etcd's pods in kube-system; no control-plane node is taken down before that is mended",
			}
		}
	}
	return nil
}

// mayTake is the outcome of a drain that must not begin, because without this
// control-plane node the cluster would lose its quorum; nil if it may.
func (d Deps) mayTake(ctx context.Context, c *Call, n *corev1.Node, timeout time.Duration) *rollout.Outcome {
	if !nodeFacts(n).ControlPlane() {
		return nil
	}
	members, err := d.Client.voters(ctx)
	if err != nil {
		o := c.Failed(err)
		return &o
	}
	why := lossOf(n.Name, members)
	if why == "" {
		return nil
	}
	o := rollout.WaitFor(PollEvery, "Node %s is not drained yet: %s", n.Name, why)
	if c.Elapsed >= timeout {
		o = rollout.Fail(&rollout.Problem{
			Message: fmt.Sprintf("cannot drain Node %s: %s, for %s", n.Name, why, timeout),
			Hint:    "bring these back first (kubectl -n kube-system get pods -l " + etcdPods + " -o wide), then apply again; Node " + n.Name + " was not touched",
		})
	}
	return &o
}

// voters are etcd's members by Node; where the API does not show them, the
// control-plane nodes stand for them.
func (c *Client) voters(ctx context.Context) ([]rollout.Member, error) {
	members, err := c.Members(ctx, nil)
	if err != nil || len(members) > 0 {
		return members, err
	}
	nodes, err := c.Nodes(ctx)
	for _, n := range nodes {
		if n.ControlPlane() {
			members = append(members, rollout.Member{Name: n.Name, Down: n.Down()})
		}
	}
	return members, err
}

// lossOf says what is wrong with taking the member on a node down, "" if
// nothing.
func lossOf(node string, members []rollout.Member) string {
	serving, down, ok := rollout.Spare(members, node)
	if ok {
		return ""
	}
	var why []string
	for _, m := range down {
		why = append(why, m.Down)
	}
	return fmt.Sprintf("without it %d of %d control-plane members would serve, and %s", serving, len(members), Few(why))
}
