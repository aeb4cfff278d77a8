package docs

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/bpf"
	"github.com/fleetd/fleetd/pkg/calico"
	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/compliance"
	"github.com/fleetd/fleetd/pkg/kernel"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
)

// asked are the rules and facts as the program wires them.
func asked() compliance.Options {
	o := compliance.Options{
		Rules: slices.Concat(kernel.Rules(), calico.Rules()), Modules: map[string]rollout.Differ{},
		Facts: []compliance.Fact{{Section: node.Section}, {Section: cluster.Kubernetes}, {Section: calico.FelixSection}, {Section: calico.Section, Cluster: true}},
		Hosts: func(string) ([]string, error) { return []string{"n1"}, nil },
	}
	all := map[string]rollout.Module{}
	for _, set := range []map[string]rollout.Module{kernel.Modules(nil), calico.Modules(calico.Deps{}), bpf.Modules(bpf.Deps{})} {
		maps.Copy(all, set)
	}
	for name, m := range all {
		o.Modules[name] = m
	}
	return o
}

// TestCompliance: the schema that is published is the code's, the page has the rules and
// facts that there are, and its example loads. UPDATE_GOLDEN writes both.
func TestCompliance(t *testing.T) {
	raw, err := json.MarshalIndent(compliance.JSONSchema(asked()), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("compliance.md")
	if err != nil {
		t.Fatal(err)
	}
	var rules bytes.Buffer
	if err := compliance.Help(&rules, asked()); err != nil {
		t.Fatal(err)
	}
	const mark = "<!-- fleetd compliance rules -->\n"
	before, _, found := strings.Cut(string(page), mark)
	if !found {
		t.Fatal("compliance.md has no place for the rules")
	}
	got := map[string]string{
		"compliance.schema.json": string(raw) + "\n",
		"compliance.md":          before + mark + "\n```text\n" + rules.String() + "```\n",
	}
	for name, text := range got {
		if os.Getenv("UPDATE_GOLDEN") != "" {
			if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), text); d != "" {
			t.Errorf("%s is not what the code says; UPDATE_GOLDEN=1 go test ./docs writes it (-page +code)\n%s", name, d)
		}
	}
	_, example, _ := strings.Cut(before, "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	if _, err := compliance.Load(&text.Source{Name: "the example of compliance.md", Data: example}, asked()); err != nil || example == "" {
		t.Error(err)
	}
}
