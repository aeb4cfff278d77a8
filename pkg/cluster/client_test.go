package cluster

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fleetd/fleetd/pkg/cluster/clustertest"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// kubeconfig writes one for a server.
func kubeconfig(t *testing.T, server string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: c,
contexts: [{name: c, context: {cluster: c, user: u}}, {name: other, context: {cluster: other, user: u}}],
clusters: [{name: c, cluster: {server: %q}}, {name: other, cluster: {server: "http://127.0.0.1:1"}}], users: [{name: u, user: {token: not-to-be-seen}}]}`, server)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	c, err := Connect(kubeconfig(t, srv.URL), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWritesAreRecordedByTheConnection(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.Contains(r.URL.Path, "/refused") {
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","message":"strict decoding error: unknown field \"spec.x\"","reason":"Invalid","code":422}`))
			return
		}
		_, _ = w.Write([]byte(`{"kind":"Node","apiVersion":"v1","metadata":{"name":"n"}}`))
	})
	n := &clustertest.Notes{}
	ctx := rollout.WithRecorder(context.Background(), n)
	nodes := c.Kube.CoreV1().Nodes()
	_, _ = nodes.Get(ctx, "n", metav1.GetOptions{})
	if len(n.Ops) > 0 {
		t.Fatalf("a read was recorded: %+v", n.Ops)
	}
	if _, err := nodes.Patch(forHost(ctx, "web1"), "n", types.MergePatchType, []byte(`{"spec":{"unschedulable":true}}`), StrictPatch()); err != nil {
		t.Fatal(err)
	}
	if _, err := nodes.Patch(ctx, "refused", types.MergePatchType, []byte(`{"spec":{"x":1}}`), StrictPatch()); err == nil || !strings.Contains(err.Error(), "unknown field") {
		t.Fatalf("the client must still see the answer: %v", err)
	}
	_, _ = c.Kube.CoreV1().Secrets("ns").Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, StringData: map[string]string{"k": "hunter2"}}, metav1.CreateOptions{})
	big := `{"data":"` + strings.Repeat("x", 3*maxRecordedBody) + `"}`
	_, _ = nodes.Patch(ctx, "n", types.MergePatchType, []byte(big), metav1.PatchOptions{})
	if len(n.Ops) != 4 {
		t.Fatalf("%d operations", len(n.Ops))
	}
	first := n.Ops[0]
	if first.Kind != "api" || first.Host != "web1" || first.Result != "200 OK" || first.Took <= 0 || first.Started.IsZero() ||
		first.Text != `PATCH /api/v1/nodes/n?fieldManager=fleetd&fieldValidation=Strict {"spec":{"unschedulable":true}}` {
		t.Errorf("%+v", first)
	}
	if got := n.Ops[1]; got.Host != rollout.Localhost || got.Result != `422 Unprocessable Entity: strict decoding error: unknown field "spec.x"` {
		t.Errorf("%+v", got)
	}
	if got := n.Ops[2].Text; !strings.HasSuffix(got, " (body withheld)") {
		t.Errorf("%s", got)
	}
	if got := n.Ops[3].Text; len(got) > maxRecordedBody+200 || !strings.Contains(got, "bytes)") {
		t.Errorf("%d bytes kept: …%s", len(got), got[max(0, len(got)-50):])
	}
	for _, o := range n.Ops {
		if strings.Contains(o.Text+o.Result, "hunter2") || strings.Contains(o.Text+o.Result, "not-to-be-seen") {
			t.Errorf("a secret was recorded: %s", o.Text)
		}
	}
}

// A refused eviction with Retry-After must come back at once: client-go would
// wait it out inside the call.
func TestRefusedEvictionDoesNotBlock(t *testing.T) {
	var calls atomic.Int32
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Retry-After", "30")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","message":"still being processed","reason":"TooManyRequests","details":{"retryAfterSeconds":30},"code":429}`))
	})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err := c.Kube.PolicyV1().Evictions("ns").Evict(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns"}})
	if err == nil || ctx.Err() != nil || calls.Load() != 1 {
		t.Errorf("%v after %d calls", err, calls.Load())
	}
}

func TestConnectErrors(t *testing.T) {
	hint := func(err error) string { return rollout.AsProblem(err).Hint }
	if _, err := Connect("", Options{}); err == nil || !strings.Contains(hint(err), "--kubeconfig") {
		t.Error(err)
	}
	if _, err := Connect("/nonexistent/kubeconfig", Options{}); err == nil || !strings.Contains(err.Error(), "cannot read kubeconfig /nonexistent/kubeconfig: ") {
		t.Error(err)
	}
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Connect(broken, Options{}); err == nil {
		t.Error("a broken kubeconfig was read")
	}
	if _, err := Connect(kubeconfig(t, "http://127.0.0.1:1"), Options{Context: "nowhere"}); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Error(err)
	}
}

func TestUnreachableServerSaysSo(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := "http://" + l.Addr().String()
	_ = l.Close()
	c, err := Connect(kubeconfig(t, addr), Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Nodes(context.Background())
	p := rollout.AsProblem(err)
	if !strings.Contains(p.Message, "cannot list nodes: API server "+addr+" does not answer: ") || !strings.Contains(p.Message, "connection refused") || !strings.Contains(p.Hint, "/readyz") || !passing(err) {
		t.Errorf("%+v", p)
	}
}

func TestSilentServerTimesOut(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer srv.Close()
	defer close(release)
	c, err := Connect(kubeconfig(t, srv.URL), Options{Timeout: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Nodes(context.Background()); err == nil || !strings.Contains(err.Error(), "does not answer") || !passing(err) {
		t.Error(err)
	}
}

func TestUnauthorized(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}`))
	})
	_, err := c.Nodes(context.Background())
	if p := rollout.AsProblem(err); passing(err) || !strings.Contains(p.Hint, "credentials") {
		t.Errorf("%+v", p)
	}
}

// The API server can be reached through a node.
func TestDial(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"kind":"NodeList","apiVersion":"v1","items":[{"metadata":{"name":"n"}}]}`))
	}))
	defer srv.Close()
	asked := ""
	c, err := Connect(kubeconfig(t, "http://api.example:6443"), Options{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		asked = address
		return (&net.Dialer{}).DialContext(ctx, network, srv.Listener.Addr().String())
	}})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := c.Nodes(context.Background()); err != nil || len(n) != 1 || asked != "api.example:6443" {
		t.Errorf("%v %v, dialled %q", n, err, asked)
	}
}

func TestListsAreReadPageByPage(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("continue") == "" {
			_, _ = w.Write([]byte(`{"kind":"NodeList","apiVersion":"v1","metadata":{"continue":"more"},"items":[{"metadata":{"name":"b"}},{"metadata":{"name":"win"},"status":{"nodeInfo":{"operatingSystem":"windows"}}}]}`))
			return
		}
		_, _ = w.Write([]byte(`{"kind":"NodeList","apiVersion":"v1","items":[{"metadata":{"name":"a"}}]}`))
	})
	n, err := c.Nodes(context.Background())
	if err != nil || len(n) != 2 || n[0].Name != "a" || n[1].Name != "b" {
		t.Errorf("%v %v", n, err)
	}
}
