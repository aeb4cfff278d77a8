package module_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/fleetd/fleetd/pkg/playbook"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// recap are the counts of Ansible's recap.
type recap struct {
	OK, Changed, Failures, Skipped, Ignored, Rescued, Unreachable int
}

// TestAsAnsible compares what came of playbooks with what came of them when
// Ansible ran them (testdata/answers.py): the recap of each host, and what was
// registered and set. A line "NAME: why" of an archive's file "differs" names the
// variable, or "recap", that has to be otherwise, NAME@HOST on one host.
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
			if w := trees(archived(a, "ansible")); len(w) > 0 && !differs["tree"] {
				if d := cmp.Diff(w, tree(t, dir)); d != "" {
					t.Errorf("what is left (-Ansible +fleetd)\n%s", d)
				}
			}
			for host, w := range want {
				got := fleetd(t, r, host, dir)
				for name := range differs {
					name, at, some := strings.Cut(name, "@")
					if name == "tree" || some && at != host {
						continue
					}
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
			Tree      string
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if l.Tree != "" {
			continue
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
			if !slices.Contains(slices.Concat(p.Batches...), host) {
				continue
			}
			if p.Tasks[ti].Uncounted {
				continue
			}
			id := rollout.StepID{Play: pi, Task: ti, Host: host}
			s := r.Step(id)
			if s == nil && p.Tasks[ti].Once && len(p.Tasks[ti].Steps) == 0 && host == p.Batches[0][0] {
				c.Skipped++ // the first host decides for all
				continue
			}
			if s == nil && (r.Passes(id) || isLost && (pi > lost.Play || pi == lost.Play && ti > lost.Task)) {
				continue
			}
			switch {
			case r.Rescued(id):
				c.Rescued++
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
		if len(plays[lost.Play].Blocks) > 0 {
			end.Task = len(plays[lost.Play].Tasks) // always comes after the failure
		}
	}
	for name, raw := range r.Results(end, nil) {
		if name == rollout.Notified || slices.Contains(gatheredNames, name) {
			continue // no variable; and what Ansible keeps elsewhere
		}
		var v any
		if err := json.Unmarshal([]byte(strings.ReplaceAll(string(raw), dir, "WORK")), &v); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out[name] = comparable(v)
	}
	return out
}

var gatheredNames = slices.Concat(playbook.Gathered("ansible.builtin.setup"), playbook.Gathered("ansible.builtin.package_facts"), playbook.Gathered("ansible.builtin.service_facts"))

// comparable is a result without what no two runs have in common.
func comparable(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range []string{"atime", "mtime", "ctime", "inode", "dev", "version", "block_size", "blocks", "attributes", "attr_flags", "elapsed", "delta"} {
			delete(v, k)
		}
		if v["state"] == "link" {
			delete(v, "size")
		}
		for k, x := range v {
			v[k] = comparable(x)
		}
	case []any:
		for i, x := range v {
			v[i] = comparable(x)
		}
	case string:
		return pausedFor.ReplaceAllString(backupStamp.ReplaceAllString(v, ".STAMP"), "Paused for N")
	}
	return v
}

var backupStamp = regexp.MustCompile(`\.[0-9]+\.[0-9]{4}-[0-9]{2}-[0-9]{2}@[0-9:]{8}~`)

var pausedFor = regexp.MustCompile(`^Paused for [0-9.]+`)

// left is one thing in the folder that a playbook worked in.
type left struct {
	Tree, Mode, Owner, Link, Content string
	Dir                              bool
	Names                            int
}

func trees(ansible string) []left {
	var out []left
	for line := range strings.Lines(ansible) {
		var l left
		if json.Unmarshal([]byte(line), &l) == nil && l.Tree != "" && !strings.HasPrefix(l.Tree, "home") && l.Tree != "ansible" && l.Tree != "differs" {
			out = append(out, l)
		}
	}
	return out
}

// tree is what is in a folder, as answers.py writes it.
func tree(t *testing.T, dir string) []left {
	t.Helper()
	var out []left
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, p)
		if err != nil || rel == "." || rel == "ansible" || rel == "differs" || strings.HasPrefix(rel, "home") {
			return err
		}
		info, err := os.Lstat(p)
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		l := left{Tree: backupStamp.ReplaceAllString(rel, ".STAMP"), Mode: fmt.Sprintf("%04o", st.Mode&0o7777), Owner: fmt.Sprintf("%d:%d", st.Uid, st.Gid)}
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(p)
			l.Link, l.Mode = strings.ReplaceAll(target, dir, "WORK"), ""
		case info.IsDir():
			l.Dir = true
		default:
			raw, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			l.Names, l.Content = int(st.Nlink), fmt.Sprintf("%x", sha256.Sum256(bytes.ReplaceAll(raw, []byte(dir), []byte("WORK"))))[:16]
		}
		out = append(out, l)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(out, func(a, b left) int { return strings.Compare(a.Tree, b.Tree) })
	return out
}
