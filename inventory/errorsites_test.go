package inventory_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"github.com/fleetd/fleetd/inventory"
	"github.com/fleetd/fleetd/pkg/text"
)

// TestEveryErrorHelps makes every mistake that a file's text can hold: each
// error tells file, line, column, the text with a caret under the place, and
// what would be right.
func TestEveryErrorHelps(t *testing.T) {
	for file, texts := range map[string][]string{
		"hosts.ini": {
			"[g:vars]\nx=1\n", "[a:children]\nb\n", "[a b]\nx\n", "[a]\nb\n[b:children]\na\n[a:children]\nb\n", "[a]\n[a:children]\na\n",
			"[a:children]\nb c\n[b]\n", "[a]\n[a:vars]\nnothing\n", "[a]\n[a:vars]\nansible_group_priority=x\n", "[a]\n[a:vars]\nx={[1]: 2}\n",
			"h x='open\n", "h x=\\\n", "h[1:\n", "h[1:2:3:4]\n", "h[1:]\n", "h[1:2:x]\n", "h[01:100]\n", "h[c:a]\n", "h[x:1]\n", "h[1:99999999]\n", "h:\n", "---\nh\n", "h word\n", "h x=1 y\n",
			"\ufeffh\n", "h x=\xff\n", "h\x00\n", "n[1:2\n",
		},
		"hosts.yml": {
			"- a\n", "plugin: aws_ec2\n", "all:\n  hosts: [a]\n", "all:\n  hosts: 1\n", "all:\n  hosts:\n    1: {}\n", "all:\n  hosts:\n    a: x\n", "all:\n  hosts:\n    a: [x]\n", "1: {hosts: {a: }}\n",
			"all:\n  hosts:\n    a[1:: {}\n", "all:\n  hosts:\n    a[3:1:: \n", "a: {children: {b: {children: {a: }}}}\n", "a: {children: {a: }}\n", "a: {vars: {ansible_group_priority: x}}\n",
			"all: &x {children: {a: *x}}\n", "all:\n  vars:\n    a: *b\n", "all:\n  vars: {a: &x 1, b: &x 2}\n", "all:\n  vars: {a: &x [*x]}\n", "all:\n  vars: {a: !foo 1}\n", "all:\n  vars: {a: !foo!bar 1}\n", "all:\n  vars: {a: !<x 1}\n",
			"all:\n  vars: {a: !!int x}\n", "all:\n  vars: {a: 2020-99-99}\n", "all:\n  vars:\n    a: {{ x }}\n", "all:\n  vars:\n    <<: 1\n", "all:\n  vars:\n    <<: [1]\n", "all:\n  vars: {? !vault x : 1}\n", "all:\n  vars: {a: !!omap [1]}\n",
			"all:\n\tvars:\n", "all:\n  vars:\n    a: b: c\n", "all:\n  vars:\n    a: @x\n", "all:\n  vars:\n    a: %x\n", "all:\n  vars:\n    a: \"x\n", "all:\n  vars:\n    a: 'x\n", "all:\n  vars:\n    a: \"\\q\"\n", "all:\n  vars:\n    a: \"\\xzz\"\n", "all:\n  vars:\n    a: \"\\U00ffffff\"\n",
			"all:\n  vars:\n    a: |0\n      x\n", "all:\n  vars:\n    a: | x\n", "all:\n  vars:\n    a: [1, 2\n", "all:\n  vars:\n    a: [1 2]\n    b: ]\n", "all:\n  vars:\n    a: {x: 1\n", "all:\n  vars:\n    a: - x\n", "all:\n  vars:\n    - a\n    b: c\n",
			"all:\n---\nall:\n", "%YAML 2.0\n---\nall:\n", "%FOO\nall:\n", "all:\n  vars:\n    a\n    b: 1\n", "all:\n  vars:\n    a: *\n", "all:\n  vars:\n    a: &\n", "all:\n  vars:\n    a: !x%zz 1\n", "all:\n  vars:\n    a: !x!\n", "all:\n  vars:\n    a: !x,y\n",
			"all:\n  vars: {a: \"\x07\"}\n", "all:\n  vars:\n    a: x\xff\n", "all:\n  vars:\n    a: \x00\n", "all:\n  vars:\n    a: " + strings.Repeat("[", 300) + "\n", "all:\n  vars:\n    a: \"x\n---\n", "all:\n  vars:\n    a: |\n      x\n\t y\n", "all:\n  vars:\n    ? a\n    b\n", "a: &a [x]\nb: [*a , ]]\n",
		},
		"saved.json": {
			`{"g": ["h"`, `{"g": ["h" "i"]}`, `{"g": {"hosts": "h", "children": ["x"]}}`, `{"g": {"hosts": [1]}}`, `{"g": {"children": 1, "hosts": ["h"]}}`, `{"g": {"children": [1]}}`, `{"g": {"vars": 1, "hosts": ["h"]}}`, `{"g": ["h"], "_meta": 1}`,
			`{"g": ["h"], "_meta": {"hostvars": 1}}`, `{"g": ["h"], "_meta": {"hostvars": {"h": 1}}}`, `{"g": {"children": ["g"]}}`, `{"g": ["h"]} x`, `{"g": ["\q"]}`, `{"g" ["h"]}`, "{\"g\": [\"\x01\"]}", `{"g": [""]}`, `{"": ["h"]}`,
		},
		"run.sh":             {``, `nonsense`, `["h"]`, `{"g": ["h"], "_meta": []}`},
		"group_vars/all.yml": {"- a\n", "text\n", "a: [\n", "a: !vault [x]\n"},
		"dup.yml":            {"all:\n  vars:\n    a: 1\n    a: 2\n"},
	} {
		for _, data := range texts {
			fsys := fstest.MapFS{"hosts": {Data: []byte("h\n")}, file: {Data: []byte(data)}}
			name, o := file, inventory.Options{}
			switch file {
			case "group_vars/all.yml":
				name = "hosts"
			case "run.sh":
				o.Executable = func(string) bool { return true }
				o.RunScript = func(context.Context, string, ...string) ([]byte, string, error) { return []byte(data), "", nil }
			case "dup.yml":
				o.Settings.DuplicateKeys = "error"
			}
			_, err := inventory.Load(fsys, []string{name}, o)
			var e *text.Error
			if !errors.As(err, &e) {
				t.Errorf("%s %q: %v", file, data, err)
				continue
			}
			var missing []string
			for what, ok := range map[string]bool{
				"file": strings.HasPrefix(e.File, file), "line": e.Line > 0, "column": e.Column > 0,
				"text": e.Text != "" || data == "" || e.Line > strings.Count(data, "\n"), "caret": e.Caret >= 0 && e.Caret <= utf8.RuneCountInString(e.Text) || e.Text == "", "hint": e.Hint != "",
			} {
				if !ok {
					missing = append(missing, what)
				}
			}
			if missing != nil {
				t.Errorf("%s %q: no %s in\n%v", file, data, strings.Join(missing, ", "), err)
			}
		}
	}
}

// TestExtraVarsErrors: whatever -e is given, the error says what would be right.
func TestExtraVarsErrors(t *testing.T) {
	for arg, want := range map[string]string{
		`["a=1"]`:  "are not a dictionary but a list",
		`{"a": `:   "extra vars:1:",
		"@missing": "missing: cannot read the file",
		"./vars":   "Put an @ before",
		"a='x":     "a quote or a template brace is not closed",
	} {
		_, err := inventory.Load(fstest.MapFS{}, []string{"h,"}, inventory.Options{ExtraVars: []string{arg}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", arg, err, want)
		}
	}
}
