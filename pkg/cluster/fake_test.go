package cluster

import (
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/apimachinery/pkg/watch"
	discoveryfake "k8s.io/client-go/discovery/fake"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

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

// writes lists what was written to the fakes, as "patch daemonsets kube-proxy".
func (f fakes) writes() []string {
	var out []string
	for _, a := range f.kube.Actions() {
		switch a.GetVerb() {
		case "get", "list", "watch":
			continue
		}
		if a.GetResource().Group == "authorization.k8s.io" {
			continue // a question
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

func only(writes []string, resource string) []string {
	var out []string
	for _, w := range writes {
		if strings.Contains(w, " "+resource) {
			out = append(out, w)
		}
	}
	return out
}
