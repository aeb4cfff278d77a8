//go:build lab

package integration

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/httpstream/spdy"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"

	"github.com/fleetd/fleetd/integration/lab/controlplane"
	"github.com/fleetd/fleetd/integration/lab/fleet"
	"github.com/fleetd/fleetd/integration/lab/nodes"
)

// TestRealNodes does on real nodes what kwok's cannot show: a kubelet runs pods, a
// Service's address leads to them by rules in a kernel, and calico-node, which is a
// stand-in in a pod, is replaced, restarts and fails there. It takes longer than the gate
// has: `make realnodes-lab` runs it.
func TestRealNodes(t *testing.T) {
	if testing.Short() {
		t.Skip("machines with kubelets take long to start: make realnodes-lab")
	}
	if err := controlplane.BuildNodes(t.Context(), "", os.Stderr); err != nil {
		t.Fatal(err)
	}
	b := start(t, fleet.Config{Kubernetes: true, Nodes: nodes.Uniform(2, nodes.EL8)})
	b.inTurn([]step{
		{"nodes", realNodes},
		{"flip", realFlip},
		{"way back", realWayBack},
		{"a flip that one node refuses", realFlipRefused},
		{"kernels", realKernels},
	})
}

// realNodes shows that the machines are real nodes, as far as the others stand on it.
func realNodes(t *testing.T, b *bastion) {
	pods := b.pods(t, "shop", "app=web")
	if len(pods) != 4 {
		t.Fatalf("%d pods of shop/web, want 4", len(pods))
	}
	pod := pods[0]
	log, err := b.client(t).CoreV1().Pods("shop").GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(t.Context())
	if err != nil || !strings.Contains(string(log), "listens on :8080") {
		t.Errorf("logs of %s: %q, %v", pod.Name, log, err)
	}
	b.servicesAnswer(t)
	for i := range b.Nodes.Nodes() {
		// They are the node's own processes, not somebody's word.
		if n := b.on(i+1, "pgrep -xc pod"); n == "0" {
			t.Errorf("node %d runs no pod", i+1)
		}
	}
}

// servicesAnswer asks shop/web by its ClusterIP from a pod and from each node, and by
// its NodePort from the bastion.
func (b *bastion) servicesAnswer(t *testing.T) {
	t.Helper()
	pod := b.pods(t, "shop", "app=web")[0]
	web := b.clusterIP(t, "shop", "web")
	out, err := b.exec(t, pod, "/usr/bin/pod", "get", "http://"+web)
	if err != nil || !strings.Contains(out, "answers") {
		t.Errorf("the ClusterIP from %s: %q, %v", pod.Name, out, err)
	}
	for i := range b.Nodes.Nodes() {
		if out := b.on(i+1, "curl -sS --max-time 10 http://"+web); !strings.Contains(out, "answers") {
			t.Errorf("the ClusterIP from node %d: %q", i+1, out)
		}
		port := fmt.Sprintf("http://%s:30080", nodes.ClusterAddress(i+1))
		if out, err := b.ControlPlane.Command(t.Context(), "curl", "-sS", "--max-time", "10", port).CombinedOutput(); err != nil || !strings.Contains(string(out), "answers") {
			t.Errorf("%s from the bastion: %q, %v", port, out, err)
		}
	}
}

func (b *bastion) client(t *testing.T) kubernetes.Interface {
	t.Helper()
	kube, err := b.ControlPlane.Client()
	if err != nil {
		t.Fatal(err)
	}
	return kube
}

func (b *bastion) pods(t *testing.T, namespace, selector string) []corev1.Pod {
	t.Helper()
	pods, err := b.client(t).CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		t.Fatal(err)
	}
	return pods.Items
}

func (b *bastion) clusterIP(t *testing.T, namespace, service string) string {
	t.Helper()
	s, err := b.client(t).CoreV1().Services(namespace).Get(t.Context(), service, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s.Spec.ClusterIP
}

// exec is `kubectl exec`.
func (b *bastion) exec(t *testing.T, pod corev1.Pod, command ...string) (string, error) {
	t.Helper()
	config, err := b.ControlPlane.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	req := b.client(t).CoreV1().RESTClient().Post().Namespace(pod.Namespace).Resource("pods").Name(pod.Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: pod.Spec.Containers[0].Name, Command: command, Stdout: true, Stderr: true}, scheme.ParameterCodec)
	// client-go's own executors dial by themselves and ignore config.Dial.
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		t.Fatal(err)
	}
	upgrader, err := spdy.NewRoundTripperWithConfig(spdy.RoundTripperConfig{
		UpgradeTransport: &http.Transport{DialContext: config.Dial, TLSClientConfig: tlsConfig},
	})
	if err != nil {
		t.Fatal(err)
	}
	executor, err := remotecommand.NewSPDYExecutorForTransports(upgrader, upgrader, "POST", req.URL())
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer // two: they are filled at the same time
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &stdout, Stderr: &stderr})
	return stdout.String() + stderr.String(), err
}
