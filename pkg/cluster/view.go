package cluster

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// watchSeconds is how long the API server is asked to keep a watch. One that
// nobody looks at any more ends with it.
const watchSeconds = int64(600)

// pageOfObjects bounds one answer to a list.
const pageOfObjects = int64(500)

// view is what a list has shown, kept current by a watch: 250 nodes that are
// looked at every two seconds must not cost a list each. When the watch ends, for
// whatever reason, the next look lists anew, so that an API server that is away is
// an error and not an old answer.
type view[T any] struct {
	list  func(ctx context.Context, o metav1.ListOptions) ([]T, metav1.ListMeta, error)
	watch func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error)
	// fields is a field selector.
	fields string

	mu sync.Mutex
	// items are by namespace and name; nil: they have to be listed.
	items map[string]*T
	stop  context.CancelFunc
}

// look returns the objects by namespace and name. They are shared: nobody may
// change them.
func (v *view[T]) look(ctx context.Context) ([]*T, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	items, err := v.current(ctx)
	if err != nil {
		return nil, err
	}
	return sorted(items), nil
}

// one is the object with this key, nil if there is none.
func (v *view[T]) one(ctx context.Context, key string) (*T, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	items, err := v.current(ctx)
	return items[key], err
}

// current are the items, with the lock held.
func (v *view[T]) current(ctx context.Context) (map[string]*T, error) {
	if v.items != nil {
		return v.items, nil
	}
	items, version, err := v.read(ctx)
	if err != nil {
		return nil, err
	}
	v.follow(ctx, items, version)
	return items, nil
}

func sorted[T any](items map[string]*T) []*T {
	out := make([]*T, 0, len(items))
	for _, key := range slices.Sorted(maps.Keys(items)) {
		out = append(out, items[key])
	}
	return out
}

// read lists page by page, past what is known.
func (v *view[T]) read(ctx context.Context) (map[string]*T, string, error) {
	items := map[string]*T{}
	o := metav1.ListOptions{FieldSelector: v.fields, Limit: pageOfObjects}
	for {
		page, meta, err := v.list(ctx, o)
		if err != nil {
			return nil, "", err
		}
		for i := range page {
			items[keyOf(&page[i])] = &page[i]
		}
		if o.Continue = meta.Continue; o.Continue == "" {
			return items, meta.ResourceVersion, nil
		}
	}
}

// follow keeps the items current. Where that cannot be, they are listed again at
// the next look.
func (v *view[T]) follow(ctx context.Context, items map[string]*T, version string) {
	// The watch outlives the step that looked first.
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	late := time.AfterFunc(DefaultTimeout, stop)
	given := context.AfterFunc(ctx, stop)
	seconds := watchSeconds
	w, err := v.watch(watching, metav1.ListOptions{FieldSelector: v.fields, ResourceVersion: version, TimeoutSeconds: &seconds})
	late.Stop()
	given()
	if err != nil {
		stop()
		return
	}
	v.items, v.stop = items, stop
	go func() {
		defer stop()
		for e := range w.ResultChan() {
			if !v.take(e) {
				w.Stop()
				break
			}
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		v.items = nil
	}()
}

// take takes over what a watch says; false at its end.
func (v *view[T]) take(e watch.Event) bool {
	o, ok := any(e.Object).(*T)
	if !ok {
		return false // a Status: the server forgot what came before (410 Gone)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch e.Type {
	case watch.Added, watch.Modified:
		v.items[keyOf(o)] = o
	case watch.Deleted:
		delete(v.items, keyOf(o))
	}
	return true
}

// put takes over an object that a write has returned: the watch may tell of it
// a moment later.
func (v *view[T]) put(o *T) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.items != nil {
		v.items[keyOf(o)] = o
	}
}

func (v *view[T]) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.stop != nil {
		v.stop()
	}
}

func keyOf(o any) string {
	m := o.(metav1.Object) // all of them are objects
	return m.GetNamespace() + "/" + m.GetName()
}

// views are what the steps of all hosts share.
type views struct {
	mu          sync.Mutex
	pods        map[string]*view[corev1.Pod] // by node
	nodes       *view[corev1.Node]
	budgets     *view[policyv1.PodDisruptionBudget]
	daemonSets  *view[appsv1.DaemonSet]
	attachments *view[storagev1.VolumeAttachment]
}

// newView makes a view of what list and watch tell of; open takes a list apart.
func newView[T, L any](
	c *Client, what string,
	list func(context.Context, metav1.ListOptions) (*L, error),
	watch func(context.Context, metav1.ListOptions) (watch.Interface, error),
	open func(*L) ([]T, metav1.ListMeta),
) *view[T] {
	return &view[T]{watch: watch, list: func(ctx context.Context, o metav1.ListOptions) ([]T, metav1.ListMeta, error) {
		l, err := list(ctx, o)
		if err != nil {
			return nil, metav1.ListMeta{}, c.Explain(err, "list %s", what)
		}
		items, meta := open(l)
		return items, meta, nil
	}}
}

// shared returns the views; those of the whole cluster exist from then on.
func (c *Client) shared() *views {
	s := &c.views
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pods != nil {
		return s
	}
	long := c.watching()
	s.pods = map[string]*view[corev1.Pod]{}
	s.nodes = newView(c, "nodes", c.Kube.CoreV1().Nodes().List, long.CoreV1().Nodes().Watch,
		func(l *corev1.NodeList) ([]corev1.Node, metav1.ListMeta) { return l.Items, l.ListMeta })
	s.budgets = newView(c, "PodDisruptionBudgets", c.Kube.PolicyV1().PodDisruptionBudgets("").List, long.PolicyV1().PodDisruptionBudgets("").Watch,
		func(l *policyv1.PodDisruptionBudgetList) ([]policyv1.PodDisruptionBudget, metav1.ListMeta) {
			return l.Items, l.ListMeta
		})
	s.daemonSets = newView(c, "DaemonSets", c.Kube.AppsV1().DaemonSets("").List, long.AppsV1().DaemonSets("").Watch,
		func(l *appsv1.DaemonSetList) ([]appsv1.DaemonSet, metav1.ListMeta) { return l.Items, l.ListMeta })
	s.attachments = newView(c, "VolumeAttachments", c.Kube.StorageV1().VolumeAttachments().List, long.StorageV1().VolumeAttachments().Watch,
		func(l *storagev1.VolumeAttachmentList) ([]storagev1.VolumeAttachment, metav1.ListMeta) {
			return l.Items, l.ListMeta
		})
	return s
}

// watching is the client for watches.
func (c *Client) watching() kubernetes.Interface {
	if c.long != nil {
		return c.long
	}
	return c.Kube
}

// podsOn is the view of the pods of a node. Each node has its own: no field
// selector is true of several.
func (c *Client) podsOn(node string) *view[corev1.Pod] {
	s := c.shared()
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.pods[node]
	if v == nil {
		v = newView(c, "the pods of Node "+node, c.Kube.CoreV1().Pods("").List, c.watching().CoreV1().Pods("").Watch,
			func(l *corev1.PodList) ([]corev1.Pod, metav1.ListMeta) { return l.Items, l.ListMeta })
		v.fields = fields.OneTermEqualSelector("spec.nodeName", node).String()
		s.pods[node] = v
	}
	return v
}

// listPodsOn lists the pods of a node, past what a watch has told.
func (c *Client) listPodsOn(node string) func(context.Context) ([]*corev1.Pod, error) {
	return func(ctx context.Context) ([]*corev1.Pod, error) {
		items, _, err := c.podsOn(node).read(ctx)
		return sorted(items), err
	}
}

// node is a Node as the watch has it.
func (c *Client) node(ctx context.Context, name string) (*corev1.Node, error) {
	n, err := c.shared().nodes.one(ctx, "/"+name)
	if err == nil && n == nil {
		err = c.Explain(apierrors.NewNotFound(corev1.Resource("nodes"), name), "read Node %s", name)
	}
	return n, err
}

// stopWatching ends all watches.
func (c *Client) stopWatching() {
	s := c.shared()
	s.nodes.end()
	s.budgets.end()
	s.daemonSets.end()
	s.attachments.end()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.pods {
		v.end()
	}
}
