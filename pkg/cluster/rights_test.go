package cluster

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	clienttesting "k8s.io/client-go/testing"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// manifest is what deploy/rbac.yaml holds.
func manifest(t *testing.T) []runtime.Object {
	t.Helper()
	raw, err := os.ReadFile("../../deploy/rbac.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var out []runtime.Object
	for doc := range strings.SplitSeq(string(raw), "\n---\n") {
		o, _, err := scheme.Codecs.UniversalDeserializer().Decode([]byte(doc), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, o)
	}
	return out
}

// The manifest grants what a drain asks for, and no right to everything.
func TestManifestGrantsTheRights(t *testing.T) {
	var role *rbacv1.ClusterRole
	for _, o := range manifest(t) {
		if r, ok := o.(*rbacv1.ClusterRole); ok {
			role = r
		}
	}
	for _, r := range drainRights() {
		resource := r.resource
		if r.subresource != "" {
			resource += "/" + r.subresource
		}
		if !slices.ContainsFunc(role.Rules, func(p rbacv1.PolicyRule) bool {
			return slices.Contains(p.APIGroups, r.group) && slices.Contains(p.Resources, resource) && slices.Contains(p.Verbs, r.verb)
		}) {
			t.Errorf("the manifest does not grant: %s", r)
		}
	}
	for _, p := range role.Rules {
		if slices.Contains(slices.Concat(p.Verbs, p.Resources, p.APIGroups), "*") || slices.Contains(p.Resources, "secrets") {
			t.Errorf("the manifest grants too much: %v", p)
		}
	}
}

// What the kubeconfig's user may not do is said when the plan is made, and only
// where something is drained.
func TestMissingRightsAreFoundByThePlan(t *testing.T) {
	f := newFakes(t, aNode(nil), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: kubeNamespace}})
	denied := []string{"eviction"}
	asked := 0
	f.kube.PrependReactor("create", "selfsubjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		asked++
		r := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview)
		r.Status.Allowed = !slices.Contains(denied, r.Spec.ResourceAttributes.Subresource)
		return true, r, nil
	})
	observe := func() rollout.State {
		so := Observer(f.Client, nil).Observe(context.Background(), map[string][]string{drained: {""}})[drained]
		if so.Err != nil {
			t.Fatal(so.Err)
		}
		return rollout.State{Kubernetes.Name(): rollout.Encoded(so.Value)}
	}
	st := observe()
	observe()
	if asked != len(drainRights()) {
		t.Errorf("%d questions, want each of the %d once", asked, len(drainRights()))
	}
	mods := Modules(Deps{Client: f.Client})
	_, _, err := mods["fleetd.cluster.drain"].Diff(drained, st, nil)
	p := rollout.AsProblem(err)
	if err == nil || p.Message != "cannot drain Node el-0002: the user of the kubeconfig may not create pods --subresource=eviction" ||
		!strings.Contains(p.Hint, "kubectl auth can-i create pods --subresource=eviction") || !strings.Contains(p.Hint, "deploy/rbac.yaml") {
		t.Errorf("%+v", p)
	}
	if _, _, err := mods["fleetd.cluster.drain"].Diff(drained, st, rollout.Args{"disable_eviction": true}); err != nil {
		t.Errorf("deleting needs no eviction: %v", err)
	}
	if _, _, err := mods["fleetd.cluster.uncordon"].Diff(drained, st, nil); err != nil {
		t.Error(err)
	}
}

// A budget that will never let a pod go is shown before a node is cordoned for
// nothing. One that only has no room at the moment moves by itself.
func TestBudgetsThatBlockAreRisksOfThePlan(t *testing.T) {
	tight := budget()
	loose := budget()
	loose.Name, loose.Spec.Selector.MatchLabels = "ill", map[string]string{"app": "ill"}
	loose.Status.CurrentHealthy = 1
	f := newFakes(t, aNode(nil), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: kubeNamespace}}, tight, loose, aPod("a", ready), aPod("b", ready),
		aPod("c", func(p *corev1.Pod) { ready(p); p.Labels = map[string]string{"app": "ill"} }))
	so := Observer(f.Client, nil).Observe(context.Background(), map[string][]string{drained: {""}})[drained]
	if so.Err != nil {
		t.Fatal(so.Err)
	}
	drain := Modules(Deps{Client: f.Client})["fleetd.cluster.drain"]
	const want = "the drain will not end: pods on the node have PodDisruptionBudget web/web-budget, which lets none go although all are healthy"
	for _, noEviction := range []bool{false, true} {
		c, _, err := drain.Diff(drained, rollout.State{Kubernetes.Name(): rollout.Encoded(so.Value)}, rollout.Args{"disable_eviction": noEviction})
		if err != nil || slices.Contains(c.Risks, want) == noEviction {
			t.Errorf("disable_eviction %v: %q, %v", noEviction, c.Risks, err)
		}
	}
}
