package calico

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
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
)

var update = flag.Bool("update", false, "write the golden files anew")

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

// writes lists what was written to the fakes, as "patch daemonsets kube-proxy".
func (f fakes) writes() []string {
	var out []string
	for _, a := range slices.Concat(f.kube.Actions(), f.dyn.Actions()) {
		switch a.GetVerb() {
		case "get", "list", "watch":
			continue
		}
		line := a.GetVerb() + " " + a.GetResource().Resource
		if a.GetSubresource() != "" {
			line += "/" + a.GetSubresource()
		}
		if n, ok := a.(interface{ GetName() string }); ok {
			line += " " + n.GetName()
		}
		if p, ok := a.(interface{ GetPatch() []byte }); ok {
			line += " " + string(p.GetPatch())
		}
		out = append(out, line)
	}
	return out
}

func readTxtar(t *testing.T, file string) (*txtar.Archive, func(string) string) {
	t.Helper()
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return a, func(name string) string {
		for _, f := range a.Files {
			if f.Name == name {
				return string(f.Data)
			}
		}
		return ""
	}
}

// golden compares with a file of the archive, or writes it.
func golden(t *testing.T, file string, a *txtar.Archive, name, got string) {
	t.Helper()
	i := slices.IndexFunc(a.Files, func(f txtar.File) bool { return f.Name == name })
	if *update {
		if i < 0 {
			a.Files = append(a.Files, txtar.File{Name: name})
			i = len(a.Files) - 1
		}
		a.Files[i].Data = []byte(got)
		if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if i < 0 {
		t.Fatalf("%s has no %s (run with -update and read it)", file, name)
	}
	if d := cmp.Diff(string(a.Files[i].Data), got); d != "" {
		t.Errorf("%s: %s differs (-golden +got):\n%s", file, name, d)
	}
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
	_, file := readTxtar(t, filepath.Join("testdata", "read", name+".txtar"))
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: metav1.NamespaceSystem, UID: "11-22"}}
	ca := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: rootCA, Namespace: metav1.NamespaceSystem}, Data: map[string]string{"ca.crt": testCA}}
	return newFakes(t, append(objects(t, file("objects.yaml")), ns, ca)...)
}

// factsOf are the facts of a recording, with changes in YAML merged in.
func factsOf(t *testing.T, name, changes string) Facts {
	t.Helper()
	_, file := readTxtar(t, filepath.Join("testdata", "read", name+".txtar"))
	var f Facts
	for _, text := range []string{file("facts.yaml"), changes} {
		if err := yaml.Unmarshal([]byte(text), &f); err != nil {
			t.Fatal(err)
		}
	}
	return f
}
