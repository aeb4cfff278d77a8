//go:build lab

package integration

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/fleetd/fleetd/integration/lab/controlplane"
)

// rollingDrain is what moves work about, and boots nothing.
const rollingDrain = `
- name: Every node is emptied once
  hosts: kube_node
  gather_facts: false
  serial: [1, "10%"]
  strategy: free
  max_fail_percentage: 0
  tasks:
    - fleetd.cluster.drain: {timeout: 20m}
    - fleetd.cluster.uncordon:
`

// TestThousandNodes says what a plan of 1,000 nodes costs and what a drain of all of
// them asks of the API server, and has it exceed no PodDisruptionBudget. It takes longer
// than the gate has: `make crowd-lab` runs it.
func TestThousandNodes(t *testing.T) {
	if testing.Short() {
		t.Skip("a thousand nodes take long: make crowd-lab")
	}
	const count, replicas, unavailable = 1000, 200, 10
	cfg := controlplane.Config{Workloads: true}
	for i := range count {
		cfg.Nodes = append(cfg.Nodes, controlplane.NodeSpec{Name: fmt.Sprintf("node%04d", i+1), ControlPlane: i == 0})
	}
	c := startCrowd(t, cfg)

	plan := c.want(2, []string{"install kernel-ml"}, "plan", "hosts", "--playbook", "playbooks/kernels.yml")
	asked := len(c.requests(plan.began))
	t.Logf("plan of %d nodes: %.1f s, %.1f s of a processor, %d MiB, %d requests", count, plan.took.Seconds(), plan.cpu.Seconds(), plan.peak>>20, asked)
	if plan.peak > 300<<20 {
		t.Errorf("the plan took %d MiB, want at most 300", plan.peak>>20)
	}
	if asked > 50 {
		t.Errorf("the plan made %d requests: some are made for each node", asked)
	}

	patch := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("cannot change %s: %v", what, err)
		}
	}
	_, err := c.kube.AppsV1().Deployments("shop").Patch(t.Context(), "web", types.MergePatchType, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas), metav1.PatchOptions{})
	patch("shop/web", err)
	_, err = c.kube.PolicyV1().PodDisruptionBudgets("shop").Patch(t.Context(), "web", types.MergePatchType, fmt.Appendf(nil, `{"spec":{"maxUnavailable":%d}}`, unavailable), metav1.PatchOptions{})
	patch("its budget", err)
	healthy := c.watchHealthy(t, "shop", "app=web", replicas)

	drain := c.want(0, []string{"Done"}, "apply", "hosts", "--playbook", c.file("drain.yml", rollingDrain), "--yes")
	requests, verbs := c.requests(drain.began), map[string]int{}
	for _, r := range requests {
		verbs[strings.TrimSpace(r.Verb+" "+r.Resource+" "+r.Subresource)]++
	}
	fewest := healthy()
	t.Logf("drain of %d nodes: %.1f s, %.1f s of a processor, %d MiB; %.1f requests a second, %.1f a node: %v; at the fewest %d of %d pods were healthy",
		count-1, drain.took.Seconds(), drain.cpu.Seconds(), drain.peak>>20, float64(len(requests))/drain.took.Seconds(), float64(len(requests))/(count-1), verbs, fewest, replicas)
	if fewest < replicas-unavailable {
		t.Errorf("%d pods were healthy at the fewest: the budget leaves %d", fewest, replicas-unavailable)
	}
	nodes, err := c.kube.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes.Items {
		if n.Spec.Unschedulable {
			t.Errorf("%s stays cordoned", n.Name)
		}
	}
}

// watchHealthy waits until so many pods are healthy, as a budget counts them, and
// returns a function that ends the watching and says how few were since.
func (c *crowd) watchHealthy(t *testing.T, namespace, selector string, count int) (fewest func() int) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	events, err := c.kube.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		t.Fatal(err)
	}
	all, done := make(chan struct{}), make(chan struct{})
	least := count
	go func() {
		defer close(done)
		healthy := map[string]bool{}
		reached := sync.OnceFunc(func() { close(all) })
		whole := false
		for e := range events.ResultChan() {
			pod, ok := e.Object.(*corev1.Pod)
			if !ok {
				t.Errorf("the watch ends: %v", e.Object)
				return
			}
			if e.Type == watch.Deleted || pod.DeletionTimestamp != nil || !ready(pod) {
				delete(healthy, pod.Name)
			} else {
				healthy[pod.Name] = true
			}
			if len(healthy) >= count {
				whole = true
				reached()
			}
			if whole {
				least = min(least, len(healthy))
			}
		}
		if ctx.Err() == nil {
			t.Error("the watch ended in the middle")
		}
	}()
	select {
	case <-all:
	case <-time.After(10 * time.Minute):
		t.Fatalf("%s/%s does not come to %d pods", namespace, selector, count)
	}
	return func() int { stop(); <-done; return least }
}

func ready(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
