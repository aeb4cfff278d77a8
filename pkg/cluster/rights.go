package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// right is one thing that a drain and what comes after it need to be allowed, in
// all namespaces. deploy/rbac.yaml grants them.
type right struct{ verb, group, resource, subresource string }

// toEvict and toDelete are how pods are made to leave; a task needs one of them.
var (
	toEvict  = right{"create", "", "pods", "eviction"}
	toDelete = right{"delete", "", "pods", ""}
)

func drainRights() []right {
	out := []right{
		{"get", "", "nodes", ""}, {"patch", "", "nodes", ""}, toEvict, toDelete,
		{"get", "", "persistentvolumeclaims", ""},
	}
	for _, r := range []right{
		{"", "", "nodes", ""}, {"", "", "pods", ""}, {"", "policy", "poddisruptionbudgets", ""},
		{"", "apps", "daemonsets", ""}, {"", "storage.k8s.io", "volumeattachments", ""},
	} {
		for _, verb := range []string{"list", "watch"} {
			out = append(out, right{verb, r.group, r.resource, ""})
		}
	}
	return out
}

// String is the right in the words of `kubectl auth can-i`.
func (r right) String() string {
	text := r.verb + " " + r.resource
	if r.group != "" {
		text += "." + r.group
	}
	if r.subresource != "" {
		text += " --subresource=" + r.subresource
	}
	return text
}

// reviewed are the rights that the kubeconfig's user lacks. They are asked for once.
type reviewed struct {
	mu    sync.Mutex
	asked bool
	lacks []string
}

// lacks asks the API server which of the rights of a drain the kubeconfig's user does
// not have. Where it answers no such question, none is known to be missing.
func (c *Client) lacks(ctx context.Context) ([]string, error) {
	c.rights.mu.Lock()
	defer c.rights.mu.Unlock()
	if c.rights.asked {
		return c.rights.lacks, nil
	}
	all := drainRights()
	refused := make([]string, len(all))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for i, r := range all {
		g.Go(func() error {
			review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
				ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: r.verb, Group: r.group, Resource: r.resource, Subresource: r.subresource},
			}}
			answer, err := c.Kube.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
			switch {
			case apierrors.IsForbidden(err), apierrors.IsNotFound(err):
				return nil
			case err != nil:
				return c.Explain(err, "ask whether fleetd may %s", r)
			case !answer.Status.Allowed:
				refused[i] = r.String()
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	c.rights.lacks, c.rights.asked = slices.DeleteFunc(refused, func(s string) bool { return s == "" }), true
	return c.rights.lacks, nil
}

// mayNot is the problem of a drain without the rights that it needs; nil if it has
// them.
func (o DrainOptions) mayNot(n Node) *rollout.Problem {
	unneeded := toDelete
	if o.DisableEviction {
		unneeded = toEvict
	}
	missing := slices.DeleteFunc(slices.Clone(n.Lacks), func(s string) bool { return s == unneeded.String() })
	if len(missing) == 0 {
		return nil
	}
	return &rollout.Problem{
		Message: fmt.Sprintf("cannot drain Node %s: the user of the kubeconfig may not %s", n.Name, strings.Join(missing, ", ")),
		Hint:    fmt.Sprintf("deploy/rbac.yaml grants what fleetd needs; check with: kubectl auth can-i %s --all-namespaces", missing[0]),
	}
}
