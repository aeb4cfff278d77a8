package playbook

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
)

// fileModules have parameters that name files of the bastion.
func fileModules() map[string]rollout.Params {
	out := maps.Clone(testModules)
	out["ansible.builtin.copy"] = rollout.Params{"src": {Type: rollout.File, Folder: "files", Remote: "remote_src", Tree: true}, "dest": {Type: rollout.String}, "remote_src": {Type: rollout.Bool}}
	out["ansible.builtin.template"] = rollout.Params{"src": {Type: rollout.Template, Folder: "templates", Required: true}, "dest": {Type: rollout.String}}
	out["ansible.builtin.script"] = rollout.Params{"cmd": {Type: rollout.File, FreeForm: true, Line: true, Folder: "files"}}
	out["ansible.builtin.command"] = rollout.Params{"cmd": {Type: rollout.String, FreeForm: true}}
	return out
}

// compiled is what tasks are on the host h, with these files beside the playbook.
func compiled(t *testing.T, tasks string, files map[string]string, hostVars map[string]any) (*Playbook, []rollout.Task, error) {
	t.Helper()
	all := map[string]string{"site.yml": "- hosts: all\n  tasks:\n" + tasks}
	maps.Copy(all, files)
	pb, err := loadFiles(all, Options{Modules: fileModules()})
	if err != nil {
		t.Fatal(err)
	}
	d, _, err := pb.Compile(&fakeInventory{hosts: []string{"h"}, vars: map[string]map[string]any{"h": hostVars}}, fileModules(), CompileOptions{})
	if err != nil {
		return pb, nil, err
	}
	return pb, d.Plays[0].Tasks, nil
}

// A file is the one that Ansible finds, and is one of those that were read.
func TestFilesOfTasks(t *testing.T) {
	pb, tasks, err := compiled(t, `
  - copy: {src: one, dest: /x}
  - copy: {src: files/one, dest: /x}
  - copy: {src: two, dest: /x}
  - import_tasks: sub/t.yml
  - copy: {src: /etc/x, dest: /y, remote_src: true}
  - template: {src: t.j2, dest: "{{ where }}"}
`, map[string]string{
		"files/one": "1", "one": "not this", "two": "2", "sub/t.yml": "- copy: {src: three}\n- copy: {src: two}\n", "sub/files/three": "3", "files/three": "not this",
		"templates/t.j2": "to {{ template_destpath }} from {{ template_path }}: {{ x }}\n", "files/other": "not read",
	}, map[string]any{"where": "/z", "x": "value"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, task := range tasks {
		switch src := task.Args["h"]["src"].(type) {
		case rollout.LocalFile:
			got = append(got, src.Path+": "+string(src.Content))
		case string:
			got = append(got, src)
		}
	}
	want := []string{"files/one: 1", "files/one: 1", "two: 2", "sub/files/three: 3", "two: 2", "/etc/x", "templates/t.j2: to /z from t.j2: value\n"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	files := pb.Files()
	for _, name := range []string{"files/one", "two", "sub/files/three", "templates/t.j2", "site.yml", "sub/t.yml"} {
		if files[name] == "" {
			t.Errorf("%s was read and has no digest: %v", name, files)
		}
	}
	if files["files/other"] != "" || files["one"] != "" {
		t.Errorf("digests of files that were not read: %v", files)
	}
}

// Of a folder is taken what is below it, and each file is one of those that were read;
// whether it is copied may hang on a result.
func TestFolders(t *testing.T) {
	pb, tasks, err := compiled(t, `
  - copy: {src: tree/, dest: /x}
  - command: uptime
    register: r
  - copy: {src: tree, dest: /x}
    when: r.rc == 0
`, map[string]string{"files/tree/b/c/2": "two", "files/tree/a": "one", "files/other": "not read"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, ti := range []int{0, 2} {
		src, _ := tasks[ti].Args["h"]["src"].(rollout.LocalFile)
		var got []string
		for _, f := range src.Tree {
			got = append(got, f.Name+": "+string(f.Content))
		}
		if d := cmp.Diff([]string{"a: one", "b/c/2: two"}, got); d != "" || !src.Dir {
			t.Errorf("task %d (-want +got)\n%s", ti+1, d)
		}
	}
	if o := tasks[2].Open["h"]; !o.Conditional() {
		t.Errorf("its condition is no condition: %+v", o)
	}
	if files := pb.Files(); files["files/tree/a"] == "" || files["files/tree/b/c/2"] == "" || files["files/other"] != "" {
		t.Errorf("read were %v", files)
	}
	many := map[string]string{}
	for n := range mostInFolder + 1 {
		many[fmt.Sprint("files/tree/", n)] = ""
	}
	if _, _, err := compiled(t, "  - copy: {src: tree}\n", many, nil); err == nil || !strings.Contains(err.Error(), "more than 1000 files") {
		t.Errorf("too many files: %v", err)
	}
	large := map[string]string{}
	for n := range 5 {
		large[fmt.Sprint("files/tree/", n)] = strings.Repeat("x", 4<<20)
	}
	if _, _, err := compiled(t, "  - copy: {src: tree}\n", large, nil); err == nil || !strings.Contains(err.Error(), "more than 16 MiB") {
		t.Errorf("too much: %v", err)
	}
}

// What cannot be taken is told, with its reason.
func TestFilesThatAreRefused(t *testing.T) {
	secret := value.NewSecret(text.Place{File: "vault"}, func() (any, error) { return "hunter2", nil })
	for _, c := range []struct{ task, file, why string }{
		{"copy: {src: none}", "", `there is no file "none"`},
		{"template: {src: dir}", "templates/dir/x", "is a folder, and a file is wanted"},
		{"copy: {src: dir}\n    loop: [1]", "files/dir/x", "is a folder, which a loop cannot copy"},
		{"copy: {src: \"{{ item }}\"}\n    loop: [dir]", "files/dir/x", "is a folder, which a loop cannot copy"},
		{"command: uptime\n    register: r\n  - copy: {src: dir, dest: \"{{ r.stdout }}\"}", "files/dir/x", "only whether it is can"},
		{"copy: {src: dir}", "files/dir/sealed", "encrypted with ansible-vault"},
		{"copy: {src: big}", "files/big", "4 MiB are the most"},
		{"copy: {src: ../../up}", "", "there is no file"},
		{"copy: {src: sealed}", "files/sealed", "encrypted with ansible-vault"},
		{"template: {src: secret.j2}", "templates/secret.j2", "is a vault secret"},
		{"template: {src: binary.j2}", "templates/binary.j2", "is no UTF-8"},
		{"template: {src: undefined.j2}", "templates/undefined.j2", "undefined.j2:2:4: "},
		{"copy: {src: \"{{ secret }}\"}", "", "is a vault secret"},
		{"script: ''", "", "needs the parameter"},
	} {
		content := map[string]string{"files/big": strings.Repeat("x", 4<<20+1), "files/sealed": "$ANSIBLE_VAULT;1.1;AES256\n00", "files/dir/sealed": "$ANSIBLE_VAULT;1.1;AES256\n00", "templates/secret.j2": "a {{ secret }}", "templates/binary.j2": "\xff", "templates/undefined.j2": "x\n{{ nowhere }}"}[c.file]
		files := map[string]string{}
		if c.file != "" {
			files[c.file] = content
		}
		_, tasks, err := compiled(t, "  - "+c.task+"\n", files, map[string]any{"secret": secret})
		if c.why == "needs the parameter" {
			continue // the module itself says so
		}
		if err == nil || !strings.Contains(err.Error(), c.why) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v %v, want %q", c.task, tasks, err, c.why)
		}
	}
}

// An open step has its files in the plan, and needs nothing else in the run.
func TestFilesOfOpenSteps(t *testing.T) {
	_, tasks, err := compiled(t, `
  - command: uptime
    register: r
  - copy: {src: "{{ item }}", dest: "/x/{{ item }}"}
    loop: [one, two]
  - template: {src: t.j2, dest: /t}
  - copy: {src: one, dest: "/{{ r.stdout }}"}
  - script: "run.sh {{ r.stdout }} 'a b'"
`, map[string]string{"files/one": "1", "files/two": "2", "templates/t.j2": "{{ r.stdout }} of {{ x }}", "files/run.sh": "#!/bin/sh"}, map[string]any{"x": "{{ y }}", "y": "z"})
	if err != nil {
		t.Fatal(err)
	}
	steps := NewOpenSteps(fileModules())
	results := rollout.Results{"r": json.RawMessage(`{"stdout":"load {{ 1 + 1 }}"}`)}
	source := func(task rollout.Task, results rollout.Results) rollout.LocalFile {
		t.Helper()
		open := task.Open["h"]
		args, skip, err := steps.Resolve(task.Module, open, results)
		if err != nil || skip != "" {
			t.Fatal(task.Module, err, skip)
		}
		for _, name := range []string{"src", "cmd"} {
			if f, ok := args[name].(rollout.LocalFile); ok {
				return f
			}
		}
		t.Fatalf("%s: %v", task.Module, args)
		return rollout.LocalFile{}
	}
	items, err := steps.Items(tasks[1].Open["h"], results)
	if err != nil || len(items) != 2 {
		t.Fatal(items, err)
	}
	if got := string(source(tasks[1], items[1]).Content); got != "2" {
		t.Errorf("the second item is %q", got)
	}
	if got := string(source(tasks[2], results).Content); got != "load {{ 1 + 1 }} of z" {
		t.Errorf("the template is %q", got)
	}
	if got := source(tasks[3], results); string(got.Content) != "1" {
		t.Errorf("the file is %+v", got)
	}
	if got := source(tasks[4], results); got.Args != "load {{ 1 + 1 }} 'a b'" || string(got.Content) != "#!/bin/sh" {
		t.Errorf("the script is %+v", got)
	}
	open := tasks[3].Open["h"]
	open.Contents = nil
	if _, _, err := steps.Resolve(tasks[3].Module, open, results); err == nil || !strings.Contains(err.Error(), "the plan does not hold the file") {
		t.Errorf("without its content: %v", err)
	}
	_, _, err = compiled(t, "  - command: uptime\n    register: r\n  - copy: {src: \"{{ r.stdout }}\"}\n", nil, nil)
	if err == nil || !strings.Contains(err.Error(), "which file is taken must be known when the plan is made") {
		t.Errorf("a file that a result names: %v", err)
	}
	var e *Error
	if !errors.As(err, &e) || e.Line != 5 {
		t.Errorf("%v has no place", err)
	}
}
