package compliance_test

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/compliance"
	"github.com/fleetd/fleetd/pkg/kernel"
	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
)

const benchPolicies = `
policies:
  - {name: minimum, rule: kernel-minimum, with: {version: "5.10"}}
  - {name: current, rule: kernel-current}
  - {name: pending, rule: reboot-pending}
  - {name: up, rule: uptime, with: {max: 90d}}
  - {name: origin, rule: kernel-origin, with: {vendors: ["The ELRepo Project"]}}
  - {name: supported, rule: kernel-supported, with: {end_of_life: {"6.1": 2027-12-31, "6.*": 2026-01-01}}}
  - {name: foreign, rule: kernel-modules-absent, with: {modules: ["nvidia*", zfs]}}
  - {name: boot, rule: expression, with: {expr: "node.boot.default.endsWith(node.running) && node.mounts.all(m, m.free > 0)"}}
`

// BenchmarkEvaluate holds 10,000 hosts, with the facts of a real Rocky Linux 8, against
// eight policies, and against the kernel tasks of a playbook beside.
func BenchmarkEvaluate(b *testing.B) {
	const hosts = 10_000
	names, args := make([]string, hosts), map[string]rollout.Args{}
	observed := map[string]rollout.Observation{}
	facts := rocky(b)
	for i := range names {
		names[i] = fmt.Sprintf("node%05d", i)
		facts.Hostname = names[i]
		facts.Upkeep.Uptime = int64(i % 120 * 86400)
		raw, err := json.Marshal(facts)
		if err != nil {
			b.Fatal(err)
		}
		observed[names[i]] = rollout.Observation{State: rollout.State{node.Section.Name(): rollout.Encoded(raw)}}
		args[names[i]] = rollout.Args{"version": "6.9.7"}
	}
	modules := map[string]rollout.Differ{}
	for name, m := range kernel.Modules(nil) {
		modules[name] = m
	}
	p, err := compliance.Load(&text.Source{Name: "p.yaml", Data: benchPolicies}, compliance.Options{
		Rules: kernel.Rules(), Modules: modules,
		Facts: []compliance.Fact{{Section: node.Section, Keys: []string{""}}, {Section: cluster.Kubernetes, Keys: []string{""}}},
		Hosts: func(string) ([]string, error) { return names, nil },
	})
	if err != nil {
		b.Fatal(err)
	}
	play := rollout.Play{Batches: [][]string{names}}
	for _, m := range []string{"fleetd.kernel.package", "fleetd.kernel.trial_boot", "fleetd.kernel.default"} {
		play.Tasks = append(play.Tasks, rollout.Task{Module: m, Args: args})
	}
	for name, d := range map[string]rollout.Desired{"policies": {}, "policies and playbook": {Plays: []rollout.Play{play}}} {
		b.Run(name, func(b *testing.B) {
			var r compliance.Report
			for b.Loop() {
				r = compliance.Evaluate(p, compliance.Fleet{Desired: d, Modules: modules, Observed: observed}, time.Now())
			}
			if n := len(r.Hosts); n != hosts || r.Status != compliance.Drift || r.Count(compliance.Unknown) != 0 {
				b.Fatalf("%d hosts, %s, %d unknown", n, r.Status, r.Count(compliance.Unknown))
			}
			var mem runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&mem)
			b.ReportMetric(float64(mem.HeapAlloc)/(1<<20), "MB-held")
			runtime.KeepAlive(r)
		})
	}
}

// rocky are the facts of the fixture, and what the key upkeep adds.
func rocky(b *testing.B) node.Facts {
	archive, err := txtar.ParseFile("../node/testdata/rocky-8.txtar")
	if err != nil {
		b.Fatal(err)
	}
	var f node.Facts
	for _, file := range archive.Files {
		if file.Name == "facts.json" {
			if err := json.Unmarshal(file.Data, &f); err != nil {
				b.Fatal(err)
			}
		}
	}
	f.Upkeep = &node.Upkeep{BootTime: 1_700_000_000, Packages: []node.DatedPackage{{Name: "kernel-ml-core", EVR: "6.9.7-1.el8.elrepo", Arch: "x86_64", Vendor: "The ELRepo Project", Built: 1_690_000_000}}}
	for i := range 120 { // as many as a node has loaded
		f.Upkeep.Modules = append(f.Upkeep.Modules, fmt.Sprintf("module_%03d", i))
	}
	if f.Running == "" {
		fmt.Fprintln(os.Stderr, "the fixture has no facts")
		b.FailNow()
	}
	return f
}
