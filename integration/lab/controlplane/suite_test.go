//go:build lab

package controlplane_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/fleetd/fleetd/integration/lab/controlplane"
)

type suite struct {
	lab     *controlplane.Lab
	client  kubernetes.Interface
	dynamic dynamic.Interface
}

func (s *suite) generation(t *testing.T) int64 {
	ds, err := s.client.AppsV1().DaemonSets("calico-system").Get(t.Context(), "calico-node", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return ds.Generation
}

func (s *suite) rolled(t *testing.T, namespace, name string, want int32) {
	t.Helper()
	s.eventually(t, name+" has rolled", func() (bool, string) {
		ds, err := s.client.AppsV1().DaemonSets(namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		st := ds.Status
		return st.ObservedGeneration >= ds.Generation && st.DesiredNumberScheduled == want && st.UpdatedNumberScheduled == want && st.NumberAvailable == want,
			fmt.Sprintf("generation %d: %+v", ds.Generation, st)
	})
}

func (s *suite) available(t *testing.T) {
	t.Helper()
	s.eventually(t, "TigeraStatus calico is Available and not Progressing", func() (bool, string) {
		o, err := s.dynamic.Resource(controlplane.TigeraStatuses).Get(t.Context(), "calico", metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
		got := map[any]any{}
		for _, c := range conditions {
			m := c.(map[string]any)
			got[m["type"]] = m["status"]
		}
		return got["Available"] == "True" && got["Progressing"] == "False" && got["Degraded"] == "False", fmt.Sprint(got)
	})
}

func (s *suite) patch(t *testing.T, kind schema.GroupVersionResource, patch string) {
	t.Helper()
	if _, err := s.dynamic.Resource(kind).Patch(t.Context(), "default", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (s *suite) object(t *testing.T, kind schema.GroupVersionResource) *unstructured.Unstructured {
	t.Helper()
	o, err := s.dynamic.Resource(kind).Get(t.Context(), "default", metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	return o
}

// eventually gives every state three minutes: a deadline for a broken lab, not
// a measure of a slow machine.
func (s *suite) eventually(t *testing.T, what string, check func() (bool, string)) {
	t.Helper()
	var last string
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var ok bool
		if ok, last = check(); ok {
			return
		}
	}
	t.Fatalf("%s: not after 3 minutes: %s", what, last)
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}
