package calico

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	discoveryfake "k8s.io/client-go/discovery/fake"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	kubefake "k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/cluster/clustertest"
)

// fakes are client-go's stand-ins for an API server: they store objects and
// play back. They have no controllers, no field selectors and no validation;
// what depends on those is tested on the lab.
type fakes struct {
	*cluster.Client
	kube *kubefake.Clientset
	dyn  *dynamicfake.FakeDynamicClient
	ssh  *felixes
}

func newFakes(t *testing.T, objects ...runtime.Object) fakes {
	t.Helper()
	var typed, custom []runtime.Object
	for _, o := range objects {
		if _, ok := o.(*unstructured.Unstructured); ok {
			custom = append(custom, o)
		} else {
			typed = append(typed, o)
		}
	}
	kube := kubefake.NewClientset(typed...)
	kube.Discovery().(*discoveryfake.FakeDiscovery).FakedServerVersion = &version.Info{GitVersion: "v1.34.4"}
	dyn := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		installations: "InstallationList", tigeraStatuses: "TigeraStatusList", felixconfigs: "FelixConfigurationList", felixconfigsV3: "FelixConfigurationList",
	}, custom...)
	return fakes{&cluster.Client{Kube: kube, Dynamic: dyn, Server: "https://10.0.0.3:6443"}, kube, dyn, &felixes{}}
}

// Facts reads the fakes.
func (f fakes) Facts(ctx context.Context) (Facts, error) { return ReadFacts(ctx, f.Client) }

func (f fakes) writes() []string {
	return clustertest.Writes(slices.Concat(f.kube.Actions(), f.dyn.Actions()))
}

// objects decodes a stream of YAML documents.
func objects(t *testing.T, stream string) []runtime.Object {
	t.Helper()
	var out []runtime.Object
	for doc := range strings.SplitSeq(stream, "\n---\n") {
		var u unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(doc), &u.Object); err != nil {
			t.Fatal(err)
		}
		if !scheme.Scheme.Recognizes(u.GroupVersionKind()) {
			out = append(out, &u)
			continue
		}
		o, _, err := scheme.Codecs.UniversalDeserializer().Decode([]byte(doc), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, o)
	}
	return out
}

// recorded returns fakes with the objects of a recording.
func recorded(t *testing.T, name string) fakes {
	t.Helper()
	_, file := clustertest.ReadTxtar(t, filepath.Join("testdata", "read", name+".txtar"))
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: metav1.NamespaceSystem, UID: "11-22"}}
	ca := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: rootCA, Namespace: metav1.NamespaceSystem}, Data: map[string]string{"ca.crt": testCA}}
	return newFakes(t, append(objects(t, file("objects.yaml")), ns, ca)...)
}

// factsOf are the facts of a recording, with changes in YAML merged in.
func factsOf(t *testing.T, name, changes string) Facts {
	t.Helper()
	_, file := clustertest.ReadTxtar(t, filepath.Join("testdata", "read", name+".txtar"))
	var f Facts
	for _, text := range []string{file("facts.yaml"), changes} {
		if err := yaml.Unmarshal([]byte(text), &f); err != nil {
			t.Fatal(err)
		}
	}
	return f
}
