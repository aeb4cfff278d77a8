package engine_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/pkg/engine"
	"github.com/fleetd/fleetd/pkg/module"
	"github.com/fleetd/fleetd/pkg/playbook"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// talkative are hosts on which every command prints a kilobyte.
type talkative struct{ echoing }

func (*talkative) Run(context.Context, string, sshexec.Command) (sshexec.Result, error) {
	return sshexec.Result{Stdout: []byte(strings.Repeat("all is well\n", 85))}, nil
}

// BenchmarkOwnTasks is a team's own playbook, compiled, planned and carried out with
// the journal on the disk: 50 commands on each host, each registers what it printed
// and has a condition on the one before, 64 forks.
func BenchmarkOwnTasks(b *testing.B) {
	const tasks = 50
	play := "- hosts: all\n  gather_facts: false\n  tasks:\n"
	for n := range tasks {
		play += fmt.Sprintf("    - command: task %d of {{ inventory_hostname }}\n      register: r%d\n", n, n)
		if n > 0 {
			play += fmt.Sprintf("      when: r%d.stdout_lines | length > 3\n", n-1)
		}
	}
	for _, hosts := range []int{100, 1_000} {
		b.Run(fmt.Sprintf("hosts=%d", hosts), func(b *testing.B) {
			fsys := fstest.MapFS{"hosts": {Data: []byte(fmt.Sprintf("node[1:%d]\n", hosts))}, "site.yml": {Data: []byte(play)}}
			h := &talkative{}
			modules, params, differs := module.Modules(h), map[string]rollout.Params{}, map[string]rollout.Differ{}
			for name, m := range modules {
				params[name], differs[name] = m.About().Params, m
			}
			var size, memory float64
			for b.Loop() {
				inv, err := inventory.Load(fsys, []string{"hosts"}, inventory.Options{})
				if err != nil {
					b.Fatal(err)
				}
				pb, err := playbook.Load(fsys, "site.yml", playbook.Options{Modules: params})
				if err != nil {
					b.Fatal(err)
				}
				d, _, err := pb.Compile(inv, params, playbook.CompileOptions{})
				if err != nil {
					b.Fatal(err)
				}
				observed, err := engine.Observe(b.Context(), d, modules, []rollout.Observer{h})
				if err != nil {
					b.Fatal(err)
				}
				plan, err := rollout.Compute(d, observed, differs, rollout.Basis{})
				if err != nil {
					b.Fatal(err)
				}
				var taken float64
				size, taken = onDisk(b, &engine.Engine{Modules: modules, Resolver: playbook.NewOpenSteps(params)}, plan)
				memory = max(memory, taken)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*hosts*tasks), "µs/step")
			b.ReportMetric(size/1e6, "MB-journal")
			b.ReportMetric(memory/1e6, "MB-memory")
		})
	}
}
