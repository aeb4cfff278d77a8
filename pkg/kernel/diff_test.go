package kernel

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
)

var update = flag.Bool("update", false, "write the plans into testdata; read the diff before you commit it")

// TestDiff plans tasks one after the other on the facts of a real distribution
// and compares what a person would read. A case is a file:
//
//	node        the fixture of pkg/node that the facts come from
//	facts.json  what is different on this node (a JSON merge patch; optional)
//	tasks.json  [{"module": …, "args": {…}}, …]
//	plan        the plan, or why there is none
func TestDiff(t *testing.T) {
	files, err := filepath.Glob("testdata/diff/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			parts := map[string]string{}
			for _, f := range archive.Files {
				parts[f.Name] = string(f.Data)
			}
			var tasks []struct {
				Module string
				Args   rollout.Args
			}
			if err := json.Unmarshal([]byte(parts["tasks.json"]), &tasks); err != nil {
				t.Fatal(err)
			}
			state := rollout.State{node.Section.Name(): rollout.Encoded(factsOf(t, strings.TrimSpace(parts["node"]), parts["facts.json"]))}
			modules := Modules(nil)
			var plan strings.Builder
			for _, task := range tasks {
				m, ok := modules[task.Module]
				if !ok {
					t.Fatalf("there is no module %s", task.Module)
				}
				before := sectionJSON(t, state)
				change, after, err := m.Diff("node2", state, task.Args)
				if sectionJSON(t, state) != before {
					t.Errorf("%s changed the state that it was given", task.Module)
				}
				fmt.Fprintf(&plan, "%s\n", task.Module)
				if err != nil {
					writeProblem(&plan, err)
					break
				}
				writeChange(t, &plan, change)
				if again, _, _ := m.Diff("node2", state, task.Args); !cmp.Equal(again, change) {
					t.Errorf("%s: a second look gives another change", task.Module)
				}
				state = after
			}
			if *update {
				for i := range archive.Files {
					if archive.Files[i].Name == "plan" {
						archive.Files[i].Data = []byte(plan.String())
					}
				}
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(parts["plan"], plan.String()); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func writeProblem(b *strings.Builder, err error) {
	var p *rollout.Problem
	if !errors.As(err, &p) {
		fmt.Fprintf(b, "  error: %v\n", err)
		return
	}
	fmt.Fprintf(b, "  problem: %s\n", p.Message)
	for _, h := range strings.Split(p.Hint, "\n") {
		fmt.Fprintf(b, "     hint: %s\n", h)
	}
}

func writeChange(t *testing.T, b *strings.Builder, c rollout.Change) {
	t.Helper()
	fmt.Fprintf(b, "  %s: %s\n", c.Action, c.Summary)
	if c.Note != "" {
		fmt.Fprintf(b, "    note: %s\n", c.Note)
	}
	for _, f := range c.Fields {
		fmt.Fprintf(b, "    %s: %q → %q\n", f.Name, f.Before, f.After)
	}
	for _, r := range c.Reasons {
		fmt.Fprintf(b, "    because %s\n", r)
	}
	for _, r := range c.Risks {
		fmt.Fprintf(b, "    risk: %s\n", r)
	}
	if c.Back != "" {
		fmt.Fprintf(b, "    back: %s\n", c.Back)
	}
	if c.Disruptive {
		fmt.Fprintf(b, "    disruptive\n")
	}
	if len(c.Data) > 0 {
		fmt.Fprintf(b, "    data %s\n", c.Data)
	}
}

// factsOf reads the wanted facts of a fixture of pkg/node and merges a patch in.
func factsOf(t testing.TB, fixture, patch string) json.RawMessage {
	t.Helper()
	archive, err := txtar.ParseFile(filepath.Join("../node/testdata", fixture+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range archive.Files {
		if f.Name != "facts.json" {
			continue
		}
		var facts any
		if err := json.Unmarshal(f.Data, &facts); err != nil {
			t.Fatal(err)
		}
		if patch != "" {
			var p any
			if err := json.Unmarshal([]byte(patch), &p); err != nil {
				t.Fatal(err)
			}
			facts = merge(facts, p)
		}
		raw, err := json.Marshal(facts)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	t.Fatalf("fixture %s has no facts.json", fixture)
	return nil
}

// merge is RFC 7396: objects are merged, null removes, all else replaces.
func merge(to, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	m, ok := to.(map[string]any)
	if !ok {
		m = map[string]any{}
	}
	for k, v := range p {
		if v == nil {
			delete(m, k)
		} else {
			m[k] = merge(m[k], v)
		}
	}
	return m
}

// sectionJSON is what a state says of the node.
func sectionJSON(t *testing.T, st rollout.State) string {
	t.Helper()
	f, err := node.Section.Get(st)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
