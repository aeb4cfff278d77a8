package module_test

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// recap are the counts of Ansible's recap.
type recap struct {
	OK, Changed, Failures, Skipped, Ignored, Rescued, Unreachable int
}

// TestAsAnsible compares what came of playbooks with what came of them when
// Ansible ran them (testdata/answers.py): the recap of each host, and what was
// registered and set. A line "NAME: why" of an archive's file "differs" names the
// variable, or "recap", that has to be otherwise.
func TestAsAnsible(t *testing.T) {
	files, err := filepath.Glob("testdata/ansible/*.txtar")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d archives, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want, differs := ansible(t, a), differences(a)
			r, dir := carryOut(t, a)
			for host, w := range want {
				got := fleetd(t, r, host, dir)
				for name := range differs {
					if cmp.Equal(w[name], got[name]) {
						t.Errorf("%s is no difference any more on %s", name, host)
					}
					delete(w, name)
					delete(got, name)
				}
				if d := cmp.Diff(w, got); d != "" {
					t.Errorf("%s (-Ansible +fleetd)\n%s", host, d)
				}
			}
		})
	}
}

func archived(a *txtar.Archive, name string) string {
	i := slices.IndexFunc(a.Files, func(f txtar.File) bool { return f.Name == name })
	if i < 0 {
		return ""
	}
	return string(a.Files[i].Data)
}

func differences(a *txtar.Archive) map[string]bool {
	out := map[string]bool{}
	for line := range strings.Lines(archived(a, "differs")) {
		name, _, _ := strings.Cut(line, ":")
		out[name] = true
	}
	return out
}

func ansible(t *testing.T, a *txtar.Archive) map[string]map[string]any {
	t.Helper()
	out := map[string]map[string]any{}
	for line := range strings.Lines(archived(a, "ansible")) {
		var l struct {
			Host, Var string
			Recap     *recap
			Value     any
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if l.Recap != nil {
			out[l.Host] = map[string]any{"recap": *l.Recap}
		} else {
			out[l.Host][l.Var] = l.Value
		}
	}
	if len(out) == 0 {
		t.Fatal("the archive has no answer of Ansible: run testdata/answers.py")
	}
	return out
}

func fleetd(t *testing.T, r *rollout.Run, host, dir string) map[string]any {
	t.Helper()
	var c recap
	plays := r.Plan.Plays
	lost, isLost := r.Lost(host)
	for pi, p := range plays {
		for ti := range p.Tasks {
			if !slices.Contains(slices.Concat(p.Batches...), host) || isLost && (pi > lost.Play || pi == lost.Play && ti > lost.Task) {
				continue
			}
			s := r.Step(rollout.StepID{Play: pi, Task: ti, Host: host})
			switch {
			case s != nil && s.Outcome.Message == rollout.NotNotified:
				// Ansible does not count such handlers.
			case s == nil || s.Outcome.Kind == rollout.Skipped:
				c.Skipped++
			case s.Outcome.Ignored:
				c.OK++
				c.Ignored++
				if strings.Contains(string(s.Outcome.Result), `"changed":true`) {
					c.Changed++ // fleetd's own recap counts a step once
				}
			case s.Outcome.Kind == rollout.Failed:
				c.Failures++
			case s.Outcome.Kind == rollout.Changed:
				c.OK++
				c.Changed++
			default:
				c.OK++
			}
		}
	}
	out := map[string]any{"recap": c}
	end := rollout.StepID{Play: len(plays) - 1, Task: len(plays[len(plays)-1].Tasks), Host: host}
	if isLost {
		end = rollout.StepID{Play: lost.Play, Task: lost.Task + 1, Host: host}
	}
	for name, raw := range r.Results(end) {
		if name == rollout.Notified {
			continue // no variable
		}
		var v any
		if err := json.Unmarshal([]byte(strings.ReplaceAll(string(raw), dir, "WORK")), &v); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out[name] = v
	}
	return out
}
