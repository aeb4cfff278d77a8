package playbook

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/words"
)

var openModules = map[string]rollout.Params{
	"ansible.builtin.command": {
		"cmd": {Type: rollout.String, FreeForm: true}, "argv": {Type: rollout.Strings}, "chdir": {Type: rollout.String}, "stdin": {Type: rollout.String},
	},
	"ansible.builtin.debug":    {"msg": {Type: rollout.Any}, "var": {Type: rollout.Expression}},
	"ansible.builtin.assert":   {"that": {Type: rollout.Conditions}},
	"ansible.builtin.set_fact": {rollout.AnyName: {Type: rollout.Any}},
}

// FuzzFreeForm reads anything as the line of a module. Whatever it is, reading and
// compiling end, and a command without parameters and templates of its own is what
// the line says, word for word.
func FuzzFreeForm(f *testing.F) {
	for _, s := range []string{
		"", " ", "echo a  b", "echo chdir=/ a=b", "cat <<E chdir=x\n a\nE", "a \\\n b", "'", `"a=b' c"`, "{{ x", "{{ a }} b={{ '}}' }}", "a=\\", `\x41=\u00e9`, "=", "chdir=", "cmd=x", "msg='a b' var=c", "_raw_params=x", "é=ü", "\t\n=\r", "{% raw %}",
	} {
		f.Add(s)
	}
	inv := &fakeInventory{hosts: hostNames(1)}
	f.Fuzz(func(t *testing.T, line string) {
		raw, err := json.Marshal(line)
		if err != nil {
			t.Fatal(err)
		}
		line = string([]rune(line)) // as JSON has it
		for _, module := range []string{"command", "debug", "set_fact"} {
			pb, err := loadFiles(map[string]string{"site.yml": fmt.Sprintf("- hosts: all\n  tasks:\n    - %s: %s\n", module, raw)}, Options{Modules: openModules})
			if err != nil {
				continue
			}
			d, _, err := pb.Compile(inv, openModules, CompileOptions{})
			if err != nil || module != "command" || strings.ContainsAny(line, "={\\") {
				continue
			}
			got, _ := d.Plays[0].Tasks[0].Args[inv.hosts[0]]["cmd"].(string)
			if strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(words.Join(words.Split(line))), " ") {
				t.Errorf("%q became %q", line, got)
			}
		}
	})
}

// hostileSteps use a result in every way that a playbook can.
func hostileSteps() map[string]rollout.Open {
	step := func(args map[string]any, when ...string) rollout.Open {
		d := map[string]any{
			"when": when, "args": args, "register": "r",
			"changed_when": []string{"r.stdout != 'a'"}, "failed_when": []string{"'b' in r.stdout", "r.rc | default(1) == 0"},
			"vars": map[string]any{"secret": "told"},
			"templates": map[string]any{
				"once": "{{ r.stdout }}", "twice": "<{{ once }}>", "list": []any{"{{ r.stdout }}", "{{ twice }}"},
			},
		}
		raw, err := json.Marshal(d)
		if err != nil {
			panic(err) // texts, lists and maps
		}
		return rollout.Open{Unknown: []string{"x"}, Data: raw}
	}
	return map[string]rollout.Open{
		"ansible.builtin.command": step(map[string]any{
			"cmd": "echo {{ r.stdout }} {{ twice | quote }}", "argv": []any{"{{ once }}", "{{ list }}"}, "chdir": "{{ r.stdout }}", "stdin": "{{ list | join }}",
		}, "r.stdout is defined", "once != 'x'"),
		"ansible.builtin.debug":    step(map[string]any{"msg": map[string]any{"{{ once }}": "{{ list }}"}, "var": "r.stdout ~ once"}, "r"),
		"ansible.builtin.assert":   step(map[string]any{"that": []any{"r.stdout", "once == r.stdout", "r.stdout in list"}}),
		"ansible.builtin.set_fact": step(map[string]any{"a": "{{ r.stdout }}", "b": "{{ r }}", "c": []any{"{{ twice }}", "{{ r.stdout_lines | default([]) }}"}, "d": "{{ r.stdout | default('') | upper | lower }}"}),
	}
}

// resolved is all that the steps turn out to be with this result, as text.
func resolved(t *testing.T, result json.RawMessage) string {
	t.Helper()
	o := NewOpenSteps(openModules)
	var out strings.Builder
	for module, step := range hostileSteps() {
		results := rollout.Results{"r": result}
		args, skip, err := o.Resolve(module, step, results)
		raw, jsonErr := json.Marshal(args)
		if err == nil && jsonErr != nil {
			t.Errorf("%s: %v", module, jsonErr)
		}
		fmt.Fprintln(&out, string(raw), skip, err)
		judged := o.Judge(step, results, rollout.Outcome{Kind: rollout.Changed, Result: result}, 1)
		fmt.Fprintln(&out, judged.Kind, judged.Message, string(judged.Result))
	}
	return out.String()
}

var hostile = []string{
	"{{ 7*191 }}", "{{ secret }}", "{% if 7*191 == 1337 %}{{ 7*191 }}{% endif %}", "[{{ 7*191 }}]", `["{{ 7*191 }}"]`, `{"a": "{{ secret }}"}`, `{"{{ 7*191 }}": 1}`,
	"'{{ 7*191 }}'", "}}{{ 7*191 }}{{", "7*191", "secret", "' + secret + '", "{{ r.stdout }}", "{{ once }}", "{{ lookup('pipe', 'echo told') }}", "!unsafe x", "{#", "\x00{{ secret }}", "[7*191]", "{{'{{'}} secret }}",
	"{{ secret }}\n{{ 7*191 }}", `\{{ secret }}`, "{% raw %}{{ secret }}{% endraw %}", "{{ r.stdout | default(secret) }}",
}

// A node's words are data: no text of a result is ever evaluated.
func TestResultsAreNeverEvaluated(t *testing.T) {
	for _, text := range hostile {
		raw, err := json.Marshal(map[string]any{"stdout": text, "stdout_lines": []string{text}, text: text, "rc": 0})
		if err != nil {
			t.Fatal(err)
		}
		got := resolved(t, raw)
		for _, leak := range []string{"1337", "told"} {
			if !strings.Contains(text, leak) && strings.Contains(got, leak) {
				t.Errorf("%q was evaluated:\n%s", text, got)
			}
		}
	}
}

// FuzzHostileResults registers anything, as a text and as raw JSON. No step of it
// makes fleetd fall over, and none says what only evaluating it could tell.
func FuzzHostileResults(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	for _, s := range []string{`{"stdout": 5}`, `{"stdout": null, "rc": "0"}`, `[]`, `null`, `{"stdout": {"stdout": []}}`, `{"stdout": 1e999}`, `{"a": 1, "a": 2}`, `{`, `{"rc": 99999999999999999999}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(strings.ToLower(text), "told") {
			return
		}
		raw, err := json.Marshal(map[string]any{"stdout": text, "stdout_lines": []string{text}, "rc": 0})
		if err != nil {
			t.Fatal(err)
		}
		for _, result := range []json.RawMessage{raw, json.RawMessage(text)} {
			if got := resolved(t, result); strings.Contains(got, "told") {
				t.Errorf("%s was evaluated:\n%s", result, got)
			}
		}
	})
}
