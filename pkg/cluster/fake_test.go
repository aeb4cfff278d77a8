package cluster

import (
	"errors"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/apimachinery/pkg/watch"
	discoveryfake "k8s.io/client-go/discovery/fake"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/fleetd/fleetd/pkg/cluster/clustertest"
)

// fakes are client-go's stand-ins for an API server: they store objects and
// play back. They have no controllers, no field selectors, no validation and, so
// that a test sees what it wrote at once, no watches: each look is a list. What
// depends on those is tested on the lab, and on apiserver_test.go's server.
type fakes struct {
	*Client
	kube *kubefake.Clientset
}

func newFakes(t *testing.T, objects ...runtime.Object) fakes {
	t.Helper()
	kube := kubefake.NewClientset(objects...)
	kube.PrependWatchReactor("*", func(clienttesting.Action) (bool, watch.Interface, error) {
		return true, nil, errors.New("no watches here")
	})
	kube.PrependReactor("create", "selfsubjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		review := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview)
		review.Status.Allowed = true
		return true, review, nil
	})
	kube.Discovery().(*discoveryfake.FakeDiscovery).FakedServerVersion = &version.Info{GitVersion: "v1.34.4"}
	return fakes{&Client{Kube: kube, Server: "https://10.0.0.3:6443"}, kube}
}

func (f fakes) writes() []string { return clustertest.Writes(f.kube.Actions()) }
