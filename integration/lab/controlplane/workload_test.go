//go:build lab

package controlplane_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/httpstream/spdy"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/kubectl/pkg/drain"

	"github.com/fleetd/fleetd/integration/lab/controlplane/netns"
)

// admin is a client for the kubeconfig that the lab hands out.
func (s *suite) admin(t *testing.T) kubernetes.Interface {
	config, err := clientcmd.BuildConfigFromFlags("", s.lab.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.Dial = netns.Dialer(s.lab.Netns)
	return kubernetes.NewForConfigOrDie(config)
}

func (s *suite) drain(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var evicted, log bytes.Buffer
	helper := &drain.Helper{
		Ctx: ctx, Client: s.client, IgnoreAllDaemonSets: true, DeleteEmptyDirData: true, GracePeriodSeconds: -1, Timeout: 90 * time.Second,
		Out: &log, ErrOut: &log,
		OnPodDeletionOrEvictionFinished: func(pod *corev1.Pod, usingEviction bool, err error) {
			fmt.Fprintf(&evicted, "%s/%s eviction=%v err=%v\n", pod.Namespace, pod.Name, usingEviction, err)
		},
	}
	node, err := s.client.CoreV1().Nodes().Get(ctx, "node2", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := drain.RunCordonOrUncordon(helper, node, true); err != nil {
		t.Fatal(err)
	}
	if err := drain.RunNodeDrain(helper, "node2"); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	t.Logf("evicted:\n%s", evicted.String())
	if !strings.Contains(evicted.String(), "shop/web-") {
		t.Error("no pod of shop/web was evicted")
	}
	node, err = s.client.CoreV1().Nodes().Get(ctx, "node2", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := drain.RunCordonOrUncordon(helper, node, false); err != nil {
		t.Fatal(err)
	}
	s.eventually(t, "shop/web is whole again", func() (bool, string) {
		d, err := s.client.AppsV1().Deployments("shop").Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		return d.Status.AvailableReplicas == 4, fmt.Sprintf("%d available", d.Status.AvailableReplicas)
	})
}

func (s *suite) execRefused(t *testing.T) {
	out, err := s.exec(t, "calico-node", "-bpf", "counters", "dump", "--iface=eth0")
	if err == nil || !strings.Contains(out, "bpfEnabled is not true") {
		t.Errorf("error %v, output %q", err, out)
	}
}

func (s *suite) execAnswers(t *testing.T) {
	for question, want := range map[string]string{
		"calico-node -bpf counters dump --iface=eth0": "packets",
		"calico-node -bpf conntrack dump":             "TCP",
		"calico-node -bpf routes dump":                "10.0.0.5/32",
	} {
		out, err := s.exec(t, strings.Fields(question)...)
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%s: error %v, output %q", question, err, out)
		}
	}
	// What is not there is an error, as in a container without that program.
	if out, err := s.exec(t, "sh", "-c", "id"); err == nil {
		t.Errorf("a program of the host ran in a pod: %q", out)
	}
}

// exec is `kubectl exec -n calico-system ds/calico-node -- …`.
func (s *suite) exec(t *testing.T, command ...string) (string, error) {
	pods, err := s.client.CoreV1().Pods("calico-system").List(t.Context(), metav1.ListOptions{LabelSelector: "k8s-app=calico-node"})
	if err != nil || len(pods.Items) == 0 {
		t.Fatalf("no calico-node pods: %v", err)
	}
	config, err := s.lab.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	req := s.client.CoreV1().RESTClient().Post().Namespace("calico-system").Resource("pods").Name(pods.Items[0].Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: "calico-node", Command: command, Stdout: true, Stderr: true}, scheme.ParameterCodec)
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
