package cluster

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fleetd/fleetd/pkg/cluster/clustertest"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// apiServer stands in for an API server, with lists, watches from a
// resourceVersion and evictions, and counts what it is asked. An evicted pod is
// terminating until it is taken away. It does not show admission, budgets or
// rights, and its lists have one page.
type apiServer struct {
	*Client
	mu      sync.Mutex
	version int
	nodes   map[string]*corev1.Node
	pods    map[string]*corev1.Pod
	watches map[*watching]bool
	asked   map[string]int
	// busy refuses evictions as priority and fairness do.
	busy bool
}

// watching is one watch, on the nodes or on the pods of a node.
type watching struct {
	kind, node string
	events     chan []byte
}

func newAPIServer(t *testing.T) *apiServer {
	t.Helper()
	s := &apiServer{nodes: map[string]*corev1.Node{}, pods: map[string]*corev1.Pod{}, watches: map[*watching]bool{}, asked: map[string]int{}}
	srv := httptest.NewServer(s)
	var err error
	if s.Client, err = Connect(kubeconfig(t, srv.URL), Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.stopWatching()
		s.hangUp()
		srv.Close()
	})
	return s
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.Trim(r.URL.Path, "/")
	parts := strings.Split(path, "/")
	kind := parts[len(parts)-1]
	_, node, _ := strings.Cut(r.URL.Query().Get("fieldSelector"), "spec.nodeName=")
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.URL.Query().Get("watch") != "":
		s.watch(w, r, &watching{kind: kind, node: node, events: make(chan []byte, 10000)})
	case r.Method == http.MethodGet && slices.Contains([]string{"nodes", "pods", "poddisruptionbudgets", "daemonsets", "volumeattachments"}, kind):
		s.list(w, kind, node)
	case r.Method == http.MethodPatch:
		s.cordon(w, r, kind)
	case kind == "eviction":
		s.evict(w, parts[len(parts)-4]+"/"+parts[len(parts)-2])
	default:
		http.Error(w, r.Method+" "+r.URL.String(), http.StatusNotFound)
	}
}

func (s *apiServer) list(w http.ResponseWriter, kind, node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked["list "+kind]++
	items := []any{}
	for _, n := range s.nodes {
		if kind == "nodes" {
			items = append(items, n)
		}
	}
	for _, p := range s.pods {
		if kind == "pods" && p.Spec.NodeName == node {
			items = append(items, p)
		}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"metadata": map[string]any{"resourceVersion": fmt.Sprint(s.version)}, "items": items})
}

func (s *apiServer) watch(w http.ResponseWriter, r *http.Request, me *watching) {
	s.mu.Lock()
	s.asked["watch "+me.kind]++
	s.watches[me] = true
	// What came between the list and this is told first.
	if r.URL.Query().Get("resourceVersion") != fmt.Sprint(s.version) {
		for _, n := range s.nodes {
			s.send(me, "MODIFIED", n)
		}
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watches, me)
	}()
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	for {
		select {
		case e, ok := <-me.events:
			if !ok {
				return
			}
			_, _ = w.Write(e)
			_ = http.NewResponseController(w).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// tell sends a change to everybody who watches; with the lock held.
func (s *apiServer) tell(what string, object any) {
	s.version++
	for me := range s.watches {
		s.send(me, what, object)
	}
}

func (s *apiServer) send(me *watching, what string, object any) {
	switch o := object.(type) {
	case *corev1.Node:
		o.Kind, o.APIVersion = "Node", "v1"
		if me.kind != "nodes" {
			return
		}
	case *corev1.Pod:
		o.Kind, o.APIVersion = "Pod", "v1"
		if me.kind != "pods" || me.node != o.Spec.NodeName {
			return
		}
	}
	raw, err := json.Marshal(map[string]any{"type": what, "object": object})
	if err != nil {
		panic(err)
	}
	me.events <- append(raw, '\n')
}

func (s *apiServer) cordon(w http.ResponseWriter, r *http.Request, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked["patch nodes"]++
	var patch struct {
		Metadata struct{ Annotations map[string]*string }
		Spec     struct{ Unschedulable bool }
	}
	if err := json.NewDecoder(r.Body).Decode(&patch); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	n := s.nodes[name].DeepCopy()
	n.Spec.Unschedulable, n.Annotations = patch.Spec.Unschedulable, map[string]string{}
	for k, v := range patch.Metadata.Annotations {
		if v != nil {
			n.Annotations[k] = *v
		}
	}
	s.nodes[name] = n
	s.tell("MODIFIED", n)
	_ = json.NewEncoder(w).Encode(n)
}

func (s *apiServer) evict(w http.ResponseWriter, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked["evict"]++
	if s.busy {
		// As it stands: a body of text, and the time in a header.
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Retry-After", "7")
		http.Error(w, "Too many requests, please try again later.", http.StatusTooManyRequests)
		return
	}
	p := s.pods[name].DeepCopy()
	p.DeletionTimestamp = &metav1.Time{Time: time.Now()}
	s.pods[name] = p
	s.tell("MODIFIED", p)
	_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Success"}`))
}

// takeAway ends the terminating pods.
func (s *apiServer) takeAway() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, p := range s.pods {
		if p.DeletionTimestamp != nil {
			delete(s.pods, name)
			s.tell("DELETED", p)
		}
	}
}

// hangUp ends all watches, as a server that goes away does.
func (s *apiServer) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for me := range s.watches {
		close(me.events)
		delete(s.watches, me)
	}
}

func (s *apiServer) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[what]
}

// TestDrainsOfABatchAreCheap drains 250 nodes at once, whose pods take five minutes
// to go, and counts what the API server is asked besides the evictions.
func TestDrainsOfABatchAreCheap(t *testing.T) {
	const fleet, podsEach, took = 250, 1, 5 * time.Minute
	s := newAPIServer(t)
	drain := Modules(Deps{Client: s.Client})["fleetd.cluster.drain"]
	machines, changes := map[string]*clustertest.Machine{}, map[string]rollout.Change{}
	for i := range fleet {
		name := fmt.Sprintf("n%03d", i)
		s.nodes[name] = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		for j := range podsEach {
			p := aPod(fmt.Sprintf("%s-%d", name, j), func(p *corev1.Pod) { p.Spec.NodeName, p.UID = name, types.UID(fmt.Sprint(i, j)) })
			s.pods["web/"+p.Name] = p
		}
		c, _, err := drain.Diff(name, clustertest.State(t, clustertest.With(Kubernetes, Node{Name: name})), nil)
		if err != nil {
			t.Fatal(err)
		}
		machines[name], changes[name] = &clustertest.Machine{}, c
	}
	due := map[string]time.Duration{}
	var now time.Duration
	for ; len(machines) > 0; now += PollEvery {
		if now == took {
			s.takeAway()
		}
		if now > took+time.Minute {
			t.Fatalf("%d nodes are not drained; asked %v", len(machines), s.asked)
		}
		for name, m := range machines {
			if due[name] > now {
				continue
			}
			m.Now = now
			o := m.Once(drain, name, changes[name])
			due[name] = now + o.After
			switch {
			case o.Kind == rollout.Changed:
				delete(machines, name)
			case o.Kind != rollout.Waiting:
				t.Fatalf("%s: %+v", name, o)
			}
		}
		time.Sleep(5 * time.Millisecond) // for the watches
	}
	if got := s.count("evict"); got > fleet*podsEach*11/10 {
		t.Errorf("%d evictions of %d pods", got, fleet*podsEach)
	}
	total := 0
	for what, n := range s.asked {
		if what != "evict" {
			total += n
		}
	}
	rate := float64(total) / now.Seconds()
	t.Logf("%d requests in %s of the run's clock, %.1f a second: %v", total, now, rate, s.asked)
	if rate > 4 {
		t.Errorf("%.1f requests a second for %d nodes: %v", rate, fleet, s.asked)
	}
}

// An API server with too much to do says for how long it wants to be left alone.
func TestBusyServerIsLeftAloneForAsLongAsItAsks(t *testing.T) {
	s := newAPIServer(t)
	s.nodes[drained] = aNode(nil)
	s.pods["web/a"], s.pods["web/b"] = aPod("a", nil), aPod("b", nil)
	s.busy = true
	drain := Modules(Deps{Client: s.Client})["fleetd.cluster.drain"]
	c, _, err := drain.Diff(drained, clustertest.State(t, clustertest.With(Kubernetes, Node{Name: drained})), nil)
	if err != nil {
		t.Fatal(err)
	}
	m := &clustertest.Machine{}
	m.Once(drain, drained, c) // cordons
	if o := m.Once(drain, drained, c); o.Kind != rollout.Waiting || o.After != 7*time.Second || s.count("evict") != 1 || strings.Contains(o.Message, "Budget") {
		t.Errorf("%+v, asked %v", o, s.asked)
	}
}

// A watch that has ended must not leave an old answer behind.
func TestViewListsAnewAfterItsWatch(t *testing.T) {
	s := newAPIServer(t)
	s.pods["web/a"] = aPod("a", nil)
	v := s.podsOn(drained)
	look := func() int {
		pods, err := v.look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(pods)
	}
	for range 2 {
		if n := look(); n != 1 || s.count("list pods") != 1 {
			t.Fatalf("%d pods, asked %v", n, s.asked)
		}
	}
	s.mu.Lock()
	b := aPod("b", nil)
	s.pods["web/b"] = b
	s.tell("ADDED", b)
	s.mu.Unlock()
	eventually(t, func() bool { return look() == 2 })
	if s.count("list pods") != 1 {
		t.Errorf("the watch was not listened to: %v", s.asked)
	}
	s.hangUp()
	s.mu.Lock()
	delete(s.pods, "web/a")
	delete(s.pods, "web/b")
	s.mu.Unlock()
	eventually(t, func() bool { return look() == 0 })
	if s.count("list pods") != 2 || s.count("watch pods") != 2 {
		t.Errorf("%v", s.asked)
	}
}
