package playbook_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/pkg/playbook"
	"github.com/fleetd/fleetd/pkg/rollout"
)

func archiveFS(a *txtar.Archive) fs.FS {
	out := fstest.MapFS{}
	for _, f := range a.Files {
		out[f.Name] = &fstest.MapFile{Data: f.Data}
	}
	return out
}

func archiveFile(a *txtar.Archive, name string) string {
	for _, f := range a.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

// arguments reads the line "args: …" of an archive as the command line would be.
func arguments(t *testing.T, a *txtar.Archive) (opts playbook.CompileOptions, extra []string) {
	t.Helper()
	for line := range strings.Lines(string(a.Comment)) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "args: ")
		if !ok {
			continue
		}
		words := strings.Fields(rest)
		for i := 0; i+1 < len(words); i += 2 {
			switch v := words[i+1]; words[i] {
			case "--limit":
				opts.Limit = append(opts.Limit, v)
			case "--tags":
				opts.Tags = strings.Split(v, ",")
			case "--skip-tags":
				opts.SkipTags = strings.Split(v, ",")
			case "-e":
				extra = append(extra, v)
			default:
				t.Fatalf("unknown argument %s", words[i])
			}
		}
	}
	return opts, extra
}

var recordModule = map[string]rollout.Params{"fleetd.test.record": {
	"all": {Type: rollout.String}, "group": {Type: rollout.String}, "host": {Type: rollout.String}, "play": {Type: rollout.String},
	"files": {Type: rollout.String}, "files2": {Type: rollout.String}, "imported": {Type: rollout.String}, "block": {Type: rollout.String},
	"task": {Type: rollout.String}, "extra": {Type: rollout.String},
	"a": {Type: rollout.String}, "b": {Type: rollout.String}, "c": {Type: rollout.String}, "d": {Type: rollout.String}, "e": {Type: rollout.String},
	"list": {Type: rollout.Strings},
}}

// TestAsAnsible compares what playbooks compile to with what ansible-playbook
// ran: plays, batches, tasks, hosts, arguments and become.
func TestAsAnsible(t *testing.T) {
	files, err := filepath.Glob("testdata/differential/*.txtar")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d archives, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			opts, extra := arguments(t, a)
			fsys := archiveFS(a)
			inv, err := inventory.Load(fsys, []string{"inventory.yaml"}, inventory.Options{ExtraVars: extra})
			if err != nil {
				t.Fatal(err)
			}
			opts.ExtraVars = inv.ExtraVars()
			pb, err := playbook.Load(fsys, "site.yml", playbook.Options{Modules: recordModule})
			if err != nil {
				t.Fatal(err)
			}
			d, _, err := pb.Compile(inv, recordModule, opts)
			if err != nil {
				t.Fatal(err)
			}
			want := ansibleRun(t, archiveFile(a, "ansible"))
			if len(want) == 0 {
				t.Fatal("the archive has no answer of Ansible: run testdata/differential.py")
			}
			if diff := cmp.Diff(want, compiledRun(t, d)); diff != "" {
				t.Errorf("(-Ansible +fleetd)\n%s", diff)
			}
		})
	}
}

// ansibleRun reads what ran as one line for each batch and each task on a host.
// Tasks of a batch are sorted: the order of hosts within a task says nothing.
func ansibleRun(t *testing.T, text string) []string {
	t.Helper()
	var out []string
	for line := range strings.Lines(text) {
		var l struct {
			Play, Task, Host string
			Batch            []string
			Args             map[string]any
			Become           bool
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if l.Batch != nil {
			out = append(out, batchLine(l.Play, l.Batch))
			continue
		}
		out = append(out, taskLine(t, l.Task, l.Host, l.Args, l.Become))
	}
	return withTasks(out)
}

// withTasks drops batches in which nothing runs: Ansible announces a play whose
// tasks are all left out by tags, fleetd drops it.
func withTasks(lines []string) []string {
	var out []string
	for i, l := range lines {
		isBatch := strings.HasPrefix(l, "play ")
		if isBatch && (i+1 == len(lines) || strings.HasPrefix(lines[i+1], "play ")) {
			continue
		}
		out = append(out, l)
	}
	return out
}

func batchLine(play string, hosts []string) string {
	return fmt.Sprintf("play %q batch %s", play, strings.Join(hosts, " "))
}

func taskLine(t *testing.T, task, host string, args map[string]any, become bool) string {
	t.Helper()
	if args == nil {
		args = map[string]any{}
	}
	js, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("task %q on %s become %t: %s", task, host, become, js)
}

// compiledRun is what a linear run without failures does.
func compiledRun(t *testing.T, d rollout.Desired) []string {
	t.Helper()
	var out []string
	for _, p := range d.Plays {
		for _, b := range p.Batches {
			out = append(out, batchLine(p.Name, b))
			for _, task := range p.Tasks {
				for _, h := range b {
					if args, ok := task.Args[h]; ok {
						// The record module names a task by the host that it runs on.
						name := strings.ReplaceAll(task.Name, "On "+p.Batches[0][0], "On "+h)
						out = append(out, taskLine(t, name, h, args, task.Becomes(h)))
						if task.Once {
							break
						}
					}
				}
			}
		}
	}
	return withTasks(out)
}

// TestBatchesHoldEachHostOnce checks that no host is lost or met twice.
func TestBatchesHoldEachHostOnce(t *testing.T) {
	a, err := txtar.ParseFile("testdata/differential/serial.txtar")
	if err != nil {
		t.Fatal(err)
	}
	inv, err := inventory.Load(archiveFS(a), []string{"inventory.yaml"}, inventory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	pb, err := playbook.Load(archiveFS(a), "site.yml", playbook.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d, _, err := pb.Compile(inv, recordModule, playbook.CompileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got := slices.Concat(d.Plays[0].Batches...)
	sort.Strings(got)
	if want := inv.Hosts(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
