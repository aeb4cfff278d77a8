package calico

import (
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/cluster/clustertest"
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
			a, text := clustertest.ReadTxtar(t, file)
			st := clustertest.State(t, clustertest.With(Section, factsOf(t, strings.TrimSpace(text("base")), text("facts.yaml"))), clustertest.With(reach, nil))
			var tasks []map[string]rollout.Args
			if err := yaml.Unmarshal([]byte(text("tasks.yaml")), &tasks); err != nil {
				t.Fatal(err)
			}
			seen := func() string {
				f, err := Section.Get(st)
				if err != nil {
					t.Fatal(err)
				}
				return string(cluster.Pack(f))
			}
			before := seen()
			clustertest.Golden(t, file, a, "plan.txt", clustertest.Plan(t, Modules(Deps{}), rollout.Localhost, st, tasks))
			if seen() != before {
				t.Error("a Diff changed the state that it was given")
			}
		})
	}
}

// TestFlipKeepsFacts: the pods lose a variable by the flip, and the facts that this was
// planned on, which others read as well, keep it.
func TestFlipKeepsFacts(t *testing.T) {
	f := factsOf(t, "iptables", "{calico_node: {env: {FELIX_BPFENABLED: 'false'}}, endpoint: {exists: true, host: 192.0.2.10, port: '6443'}}")
	st := clustertest.State(t, clustertest.With(Section, f), clustertest.With(reach, nil))
	c, after, err := Modules(Deps{})["fleetd.calico.dataplane"].Diff(rollout.Localhost, st, rollout.Args{"linux_dataplane": "BPF"})
	if err != nil || !c.Action.Writes() {
		t.Fatal(c.Summary, err)
	}
	then, err := Section.Get(after)
	if _, kept := f.CalicoNode.Env[envBPFEnabled]; !kept || err != nil || then.CalicoNode.Env[envBPFEnabled] != "" {
		t.Errorf("before %v, after %v, %v", f.CalicoNode.Env, then.CalicoNode.Env, err)
	}
}
