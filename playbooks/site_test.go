package playbooks_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/bpf"
	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/pkg/calico"
	"github.com/fleetd/fleetd/pkg/cluster"
	"github.com/fleetd/fleetd/pkg/kernel"
	"github.com/fleetd/fleetd/pkg/playbook"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/playbooks"
)

// realModules are the parameters of the modules that fleetd is built with.
func realModules() map[string]rollout.Params {
	out := map[string]rollout.Params{}
	for _, set := range []map[string]rollout.Module{kernel.Modules(nil), cluster.Modules(cluster.Deps{}), calico.Modules(calico.Deps{}), bpf.Modules(bpf.Deps{})} {
		for name, m := range set {
			out[name] = m.About().Params
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
	for name, file := range shipped {
		t.Run(name, func(t *testing.T) {
			d, warnings := compileCase(t, name, file)
			golden(t, "testdata/"+name+".golden", show(d, warnings))
		})
	}
}

// shipped are the cases of testdata, and the playbook of each.
var shipped = map[string]string{
	"site_plain": "site.yml", "site_all_variables": "site.yml", "site_automatic": "site.yml", "disable_safe": "disable_ebpf.yml", "disable_article": "disable_ebpf.yml",
}

func compileCase(t *testing.T, name, file string) (rollout.Desired, []text.Warning) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name + ".inventory.yaml")
	if err != nil {
		t.Fatal(err)
	}
	d, warnings, err := load(t, file).Compile(loadInventory(t, string(text)), realModules(), playbook.CompileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return d, warnings
}

// TestAnsibleRunsThem compares with what Ansible itself ran when it was given
// the shipped playbooks and stand-ins for the modules (testdata/ansible.py).
func TestAnsibleRunsThem(t *testing.T) {
	for name, file := range shipped {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile("testdata/" + name + ".ansible")
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.Lines(string(text)) {
				var l struct {
					Task, Host string
					Batch      []string
					Args       map[string]any
					Become     bool
				}
				if err := json.Unmarshal([]byte(line), &l); err != nil {
					t.Fatal(err)
				}
				if l.Batch == nil {
					want = append(want, ran(l.Task, l.Host, l.Args, l.Become))
				}
			}
			d, _ := compileCase(t, name, file)
			var got []string
			for _, p := range d.Plays {
				for _, b := range p.Batches {
					for _, h := range b {
						for _, task := range p.Tasks {
							if args, ok := task.Args[h]; ok {
								got = append(got, ran(task.Name, h, args, task.Become))
							}
						}
					}
				}
			}
			// Within a batch the two strategies take hosts in other orders.
			slices.Sort(want)
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" || len(want) < 4 {
				t.Errorf("%d lines (-Ansible +fleetd)\n%s", len(want), diff)
			}
		})
	}
}

// ran is a task on a host in words. Ansible hands numbers on as texts, and
// fleetd writes durations out.
func ran(task, host string, args map[string]any, become bool) string {
	words := []string{}
	for k, v := range args {
		words = append(words, k+"="+strings.TrimSuffix(fmt.Sprint(v), "m0s"))
	}
	slices.Sort(words)
	return fmt.Sprintf("%s on %s become %t: %s", task, host, become, strings.ReplaceAll(strings.Join(words, " "), "=10m", "=10"))
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
func show(d rollout.Desired, warnings []text.Warning) string {
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

// TestMisspeltValues: a value that would silently mean another one ends before
// anything is touched.
func TestMisspeltValues(t *testing.T) {
	for vars, want := range map[string]string{
		"calico_dataplane_order: saef":               "calico_dataplane_order is safe, article or automatic",
		"calico_external_service_mode: dsr":          `cannot be "dsr": did you mean DSR?`,
		"kernel_version: 6.10":                       "6.10 is 6.1",
		"calico_api_host: x, calico_api_port: https": `is "https" where a whole number belongs`,
	} {
		_, _, err := load(t, "site.yml").Compile(loadInventory(t, fleet(2, vars)), realModules(), playbook.CompileOptions{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", vars, err, want)
		} else {
			t.Log(err)
		}
	}
}
