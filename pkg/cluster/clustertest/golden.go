package clustertest

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	clienttesting "k8s.io/client-go/testing"

	"github.com/fleetd/fleetd/pkg/rollout"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Writes lists what was written to client-go's fakes, as "patch daemonsets kube-proxy".
func Writes(actions []clienttesting.Action) []string {
	var out []string
	for _, a := range actions {
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

// Only are the writes of one kind.
func Only(writes []string, resource string) []string {
	return slices.DeleteFunc(slices.Clone(writes), func(w string) bool { return !strings.Contains(w, " "+resource) })
}

// ReadTxtar reads an archive; the function is the text of one of its files.
func ReadTxtar(t *testing.T, file string) (*txtar.Archive, func(string) string) {
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

// Golden compares with a file of the archive, or writes it.
func Golden(t *testing.T, file string, a *txtar.Archive, name, got string) {
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

// Plan renders what Diff says of each task.
func Plan(t *testing.T, mods map[string]rollout.Module, host string, st rollout.State, tasks []map[string]rollout.Args) string {
	t.Helper()
	var b strings.Builder
	for _, task := range tasks {
		for name, args := range task {
			m := mods[name]
			if m == nil {
				t.Fatalf("no module %q", name)
			}
			for arg := range args {
				if _, ok := m.About().Params[arg]; !ok {
					t.Fatalf("%s declares no parameter %q", name, arg)
				}
			}
			fmt.Fprintf(&b, "%s\n", name)
			c, after, err := m.Diff(host, st, args)
			if p := (*rollout.Problem)(nil); errors.As(err, &p) {
				fmt.Fprintf(&b, "  PROBLEM %s\n  -> %s\n", p.Message, p.Hint)
				return b.String()
			}
			if err != nil {
				fmt.Fprintf(&b, "  ERROR %s\n", err)
				return b.String()
			}
			fmt.Fprintf(&b, "  %s: %s\n", c.Action, c.Summary)
			if c.Disruptive {
				fmt.Fprintln(&b, "  disruptive")
			}
			for _, f := range c.Fields {
				fmt.Fprintf(&b, "  %s: %q -> %q\n", f.Name, f.Before, f.After)
			}
			for _, r := range c.Reasons {
				fmt.Fprintf(&b, "  why: %s\n", r)
			}
			for _, r := range c.Risks {
				fmt.Fprintf(&b, "  risk: %s\n", r)
			}
			if c.Back != "" {
				fmt.Fprintf(&b, "  back: %s\n", c.Back)
			}
			if c.Action.Writes() && (len(c.Data) == 0 || c.Back == "") {
				t.Errorf("%s: a change without data cannot be done, and one that does not say what the way back is cannot be reviewed", name)
			}
			st = after
		}
	}
	return b.String()
}
