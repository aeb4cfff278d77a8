//go:build lab

package integration

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/fleetd/fleetd/integration/lab/controlplane"
)

// drainOnly drains a batch and gives it back.
const drainOnly = `
- name: A batch is drained and given back
  hosts: batch
  gather_facts: false
  strategy: free
  serial: "100%"
  tasks:
    - fleetd.cluster.drain: {timeout: 20m}
    - fleetd.cluster.uncordon:
`

// TestThousandNodes measures what fleetd costs an API server with 1,000 nodes, and
// its own machine: the plan of the whole job, the drain of 250 nodes at once, the
// flip. docs/benchmarks.md has what came of it.
func TestThousandNodes(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a quarter of an hour and 4 GiB")
	}
	const nodes, batch = 1000, 250
	specs := make([]controlplane.NodeSpec, nodes)
	for i := range specs {
		specs[i] = controlplane.NodeSpec{Name: fmt.Sprintf("n%04d", i), ControlPlane: i < 3}
	}
	c := startCrowd(t, controlplane.Config{Nodes: specs, ReadyDelay: 5 * time.Second})
	// The operator's own roll of one node at a time would take most of an hour.
	roll := `{"spec":{"nodeUpdateStrategy":{"rollingUpdate":{"maxUnavailable":"10%"}}}}`
	if _, err := c.dynamic.Resource(controlplane.Installations).Patch(t.Context(), "default", types.MergePatchType, []byte(roll), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}

	plan := c.want(2, nil, "plan", "hosts", "-o", "json", "-e", "calico_api_host=10.0.2.101")
	c.tell("plan of the whole job", plan)

	t.Run("drain", func(t *testing.T) {
		apps := c.workloads(t, 20, 50, 2)
		var names []string
		for i := 3; i < 3+batch; i++ {
			names = append(names, specs[i].Name)
		}
		inv := c.file("hosts.d-batch", fmt.Sprintf("[batch]\n%s\n", strings.Join(names, "\n")))
		broken := c.watchBudgets(t, apps)
		r := c.want(0, nil, "apply", "-i", "hosts", "-i", inv, "--playbook", c.file("drain.yml", drainOnly), "--forks", fmt.Sprint(batch), "--yes")
		c.tell("drain of a batch", r)
		events, worst, wrong := broken()
		t.Logf("%d events of pods; at worst %d of an app's pods were down", events, worst)
		if len(wrong) > 0 {
			t.Errorf("a budget was exceeded: %q", wrong[:min(len(wrong), 5)])
		}
		if events < batch || worst == 0 {
			t.Error("nothing was moved: the test does not test")
		}
	})

	flip := c.want(0, nil, "apply", "hosts", "--playbook", "playbooks/enable_ebpf.yml", "-e", "calico_api_host=10.0.2.101", "--yes")
	c.tell("flip", flip)
}

// tell logs what a command cost and which requests it made.
func (c *crowd) tell(what string, r cost) {
	c.t.Helper()
	requests := c.requests(r.began)
	kinds, writes := map[string]int{}, 0
	for _, q := range requests {
		kinds[strings.TrimSuffix(q.Verb+" "+q.Resource+"/"+q.Subresource, "/")]++
		if q.Verb != "get" && q.Verb != "list" && q.Verb != "watch" {
			writes++
		}
	}
	c.t.Logf("%s: %.1f s, %.1f s of a processor, %d MiB; %d requests, %.1f a second, %d of them writes", what, r.took.Seconds(), r.cpu.Seconds(), r.peak>>20,
		len(requests), float64(len(requests))/r.took.Seconds(), writes)
	for _, kind := range slices.SortedFunc(maps.Keys(kinds), func(a, b string) int { return kinds[b] - kinds[a] }) {
		c.t.Logf("  %5d %s", kinds[kind], kind)
	}
}

// workloads makes Deployments, each with a budget of so many pods, and waits until
// they are whole.
func (c *crowd) workloads(t *testing.T, apps, replicas, budget int) map[string]int {
	t.Helper()
	ctx, healthy := t.Context(), map[string]int{}
	if _, err := c.kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "load"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for i := range apps {
		name := fmt.Sprintf("app%02d", i)
		labels := map[string]string{"app": name}
		sel := &metav1.LabelSelector{MatchLabels: labels}
		n, most := int32(replicas), intstr.FromInt(budget)
		_, err := c.kube.AppsV1().Deployments("load").Create(ctx, &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: appsv1.DeploymentSpec{Replicas: &n, Selector: sel, Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "registry.example/web:1"}}},
			}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.kube.PolicyV1().PodDisruptionBudgets("load").Create(ctx, &policyv1.PodDisruptionBudget{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: policyv1.PodDisruptionBudgetSpec{MaxUnavailable: &most, Selector: sel},
		}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		healthy[name] = replicas - budget
	}
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(time.Second) {
		l, err := c.kube.PolicyV1().PodDisruptionBudgets("load").List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		whole := 0
		for _, b := range l.Items {
			if b.Status.CurrentHealthy == int32(replicas) {
				whole++
			}
		}
		if whole == apps {
			return healthy
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d Deployments are whole", whole, apps)
		}
	}
}

// watchBudgets counts from the events of a watch how many pods of each app are well,
// which its budget's number must never be above. What it returns ends it.
func (c *crowd) watchBudgets(t *testing.T, atLeast map[string]int) func() (events, worst int, wrong []string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l, err := c.kube.CoreV1().Pods("load").List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	well, all := map[string]map[string]bool{}, map[string]int{}
	for app := range atLeast {
		well[app] = map[string]bool{}
	}
	for i := range l.Items {
		p := &l.Items[i]
		well[p.Labels["app"]][p.Name] = serves(p)
		all[p.Labels["app"]]++
	}
	w, err := c.kube.CoreV1().Pods("load").Watch(ctx, metav1.ListOptions{ResourceVersion: l.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	var events, worst int
	var wrong []string
	var done sync.WaitGroup
	done.Go(func() {
		for e := range w.ResultChan() {
			p, ok := e.Object.(*corev1.Pod)
			if !ok {
				wrong = append(wrong, fmt.Sprintf("the watch ended: %v", e.Object))
				return
			}
			events++
			app := p.Labels["app"]
			well[app][p.Name] = e.Type != watch.Deleted && serves(p)
			n := 0
			for _, ok := range well[app] {
				if ok {
					n++
				}
			}
			worst = max(worst, all[app]-n)
			if n < atLeast[app] {
				wrong = append(wrong, fmt.Sprintf("%s had %d pods, its budget wants %d", app, n, atLeast[app]))
			}
		}
	})
	return func() (int, int, []string) {
		stop()
		done.Wait()
		return events, worst, wrong
	}
}

// serves reports whether a pod is ready and not on its way out.
func serves(p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
