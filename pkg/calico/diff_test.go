package calico

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// TestDiff plans the tasks of each testdata/diff/*.txtar, one on the state that
// the other leaves, and compares what a person would read. The state is a
// recording ("base") with changes ("facts.yaml").
func TestDiff(t *testing.T) {
	files, err := filepath.Glob("testdata/diff/*.txtar")
	if err != nil || len(files) < 10 {
		t.Fatal(err, files)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, text := readTxtar(t, file)
			st := state(t, with(Section, factsOf(t, strings.TrimSpace(text("base")), text("facts.yaml"))), with(reach, nil))
			var tasks []map[string]rollout.Args
			if err := yaml.Unmarshal([]byte(text("tasks.yaml")), &tasks); err != nil {
				t.Fatal(err)
			}
			golden(t, file, a, "plan.txt", plan(t, rollout.Localhost, st, tasks))
		})
	}
}

// plan renders what Diff says of each task.
func plan(t *testing.T, host string, st rollout.State, tasks []map[string]rollout.Args) string {
	t.Helper()
	mods := Modules(Deps{})
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
