package playbooks_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/bpf"
	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/kernel"
	"github.com/fleetd/fleetd/pkg/playbook"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/playbooks"
)

// realModules are the parameters of the modules that fleetd is built with.
func realModules() map[string]rollout.Params {
	out := map[string]rollout.Params{}
	for _, set := range []map[string]rollout.Module{kernel.Modules(nil), cluster.Modules(cluster.Deps{}), bpf.Modules(bpf.Deps{})} {
		for name, m := range set {
			out[name] = m.Params()
		}
	}
	return out
}

func loadInventory(t testing.TB, text string) *inventory.Inventory {
	t.Helper()
	inv, err := inventory.Load(fstest.MapFS{"inventory.yaml": {Data: []byte(text)}}, []string{"inventory.yaml"}, inventory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

func load(t testing.TB, name string) *playbook.Playbook {
	t.Helper()
	pb, err := playbook.Load(playbooks.FS, name, playbook.Options{Dir: "playbooks", Modules: realModules()})
	if err != nil {
		t.Fatal(err)
	}
	return pb
}

// fleet is an inventory of workers and three control plane nodes.
func fleet(workers int, vars string) string {
	return fmt.Sprintf(`all:
  vars: {%s}
  children:
    kube_control_plane: {hosts: {"cp[1:3]": }}
    kube_node: {hosts: {"w[1:%d]": }}
`, vars, workers)
}

// TestShippedPlaybooks compares the plays, tasks, batches and arguments of the
// shipped playbooks with files that a person has read.
func TestShippedPlaybooks(t *testing.T) {
	for _, c := range []struct{ name, file, vars string }{
		{"site_plain", "site.yml", ""},
		{"site_all_variables", "site.yml", `kernel_package: kernel-lt, kernel_version: "5.4.228", kernel_repo: mirror, kernel_minimum: "5.3", calico_api_host: api.example.org,
    calico_api_port: 8443, calico_external_service_mode: DSR, calico_dataplane_order: article, bpf_objects: [tcp_connect]`},
		{"disable_safe", "disable_ebpf.yml", ""},
		{"disable_article", "disable_ebpf.yml", "calico_dataplane_order: article, bpf_objects: [tcp_connect], remove_bpf_objects: yes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, warnings, err := load(t, c.file).Compile(loadInventory(t, fleet(12, c.vars)), realModules(), playbook.CompileOptions{})
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "testdata/"+c.name+".golden", show(d, warnings))
		})
	}
}

// golden compares with a file, or writes it if UPDATE_GOLDEN is set.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got)\n%s", file, d)
	}
}

// show writes what was compiled so that a person can read it: hosts with the
// same arguments on one line.
func show(d rollout.Desired, warnings []playbook.Warning) string {
	var b strings.Builder
	for _, w := range warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	for _, p := range d.Plays {
		fmt.Fprintf(&b, "play %q at %s: %s", p.Name, p.Position, p.Strategy)
		if p.MaxFailPercentage != nil {
			fmt.Fprintf(&b, ", max_fail_percentage %g", *p.MaxFailPercentage)
		}
		if p.AnyErrorsFatal {
			b.WriteString(", any_errors_fatal")
		}
		b.WriteString("\n")
		var order []string
		for _, batch := range p.Batches {
			fmt.Fprintf(&b, "  batch %s\n", strings.Join(batch, " "))
			order = append(order, batch...)
		}
		for _, t := range p.Tasks {
			fmt.Fprintf(&b, "  task %q at %s: %s", t.Name, t.Position, t.Module)
			if t.Become {
				b.WriteString(", become")
			}
			b.WriteString("\n")
			var lines []string
			hosts := map[string][]string{}
			for _, h := range order {
				args, ok := t.Args[h]
				line := "skipped"
				if ok {
					js, err := json.Marshal(args)
					if err != nil {
						line = err.Error()
					} else {
						line = string(js)
					}
				}
				if hosts[line] == nil {
					lines = append(lines, line)
				}
				hosts[line] = append(hosts[line], h)
			}
			for _, l := range lines {
				fmt.Fprintf(&b, "    %s: %s\n", strings.Join(hosts[l], " "), l)
			}
		}
	}
	return b.String()
}

// BenchmarkCompileSite compiles the shipped site.yml for 10,000 hosts.
func BenchmarkCompileSite(b *testing.B) {
	inv := loadInventory(b, fleet(9997, `calico_api_host: api.example.org, bpf_objects: [tcp_connect], kernel_version: "{{ pinned }}", pinned: "6.1.4"`))
	pb, modules := load(b, "site.yml"), realModules()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := pb.Compile(inv, modules, playbook.CompileOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
