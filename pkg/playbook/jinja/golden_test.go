package jinja

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
	"github.com/fleetd/fleetd/pkg/yaml"
)

// lazyVars resolves templates in the values of variables, as Ansible does.
type lazyVars struct {
	cache *Cache
	vars  *value.Map
}

func (l lazyVars) Raw(name string) (any, bool) { return l.vars.Get(name) }

func (l lazyVars) Lookup(name string) (any, bool, error) {
	v, ok := l.vars.Get(name)
	if !ok {
		return nil, false, nil
	}
	v, err := l.cache.Data(v, l)
	return v, true, err
}

type goldenCase struct {
	Kind, Text string
	Value      json.RawMessage
	Error      string
}

// shown is Ansible's value as Python prints it, which tells the order of keys and
// a whole number from one with a point.
func (c goldenCase) shown(t *testing.T) string {
	t.Helper()
	v, err := fromJSON(string(c.Value))
	if err != nil {
		t.Fatalf("%s: %v", c.Value, err)
	}
	return value.Repr(v)
}

func readGolden(t *testing.T, file string) (lazyVars, []goldenCase) {
	t.Helper()
	read := func(name string, into any) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		v, err := fromJSON(string(b))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if p, ok := into.(*any); ok {
			*p = v
			return
		}
		if err := json.Unmarshal(b, into); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	var vars any
	read("testdata/vars.json", &vars)
	all := vars.(*value.Map)
	all.Update(yamlVars(t), false)
	all.Set("tup", value.Tuple{"one is {{ one }}", value.Tuple{"{{ one }}"}})
	var cases []goldenCase
	read("testdata/"+file, &cases)
	return lazyVars{&Cache{}, all}, cases
}

// yamlVars are the variables that JSON has no form for.
func yamlVars(t *testing.T) *value.Map {
	t.Helper()
	b, err := os.ReadFile("testdata/vars.yaml")
	if err != nil {
		t.Fatal(err)
	}
	d, err := yaml.Parse(&text.Source{Name: "vars.yaml", Data: string(b)}, yaml.Limits{Depth: jsonDepth, Expansion: 1000})
	if err != nil {
		t.Fatal(err)
	}
	v, err := d.Reader(yaml.Options{}).Value(d.Root)
	if err != nil {
		t.Fatal(err)
	}
	return v.(*value.Map)
}

// differences are the cases in which this package answers otherwise than
// Ansible on purpose, with the reason.
var differences = map[string]string{
	"{{ (1, 2) == [1, 2] }}":                   "there are no tuples: both are lists",
	"{{ path | splitext }}":                    "there are no tuples: a list comes out, which can be indexed the same way",
	"{{ '.bashrc' | splitext }}":               "there are no tuples: a list comes out, which can be indexed the same way",
	"{{ '' and nested.a.b not in not ['a'] }}": notOperand,
	"{{ true | round if (text[1:3]) else '10' if kver else lst[0] <= not ('') }}":   notOperand,
	"{{ [dicts[0].name == nums > nested.zz >= zero, lst[0] * true % not [1, 2]] }}": notOperand,
	"{{ f | string or lst[0] / f }}":                                                textPassedOn,
	"{{ (none) or [1, 2] | string }}":                                               textPassedOn,
	"{{ [nothing, missing] == pi and text | length }}":                              refusedEarly,
	"{{ ('a') | default('d', true) % missing or [] or text not in 'b' }}":           refusedEarly,
	"{{ '' % nested.zz == num_text if lst[0] else t }}":                             refusedEarly,
	"inventory_hostname in groups['x'] | default([])":                               refusedEarly,
}

const (
	notOperand   = "Jinja takes not for the name of a variable here; it is refused"
	textPassedOn = "Ansible keeps the text of | string a text also behind or; here it may read like a list or a boolean"
	refusedEarly = "what is undefined is refused even where Python does not come to look at it"
)

// TestAsAnsible holds every template and condition of testdata/cases.txt
// against what Ansible itself made of it (testdata/golden.py).
func TestAsAnsible(t *testing.T) {
	scope, cases := readGolden(t, "golden.json")
	if len(cases) < 300 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, c := range cases {
		t.Run(c.Text, func(t *testing.T) {
			if why, ok := differences[c.Text]; ok {
				t.Log("differs on purpose:", why)
				return
			}
			var got any
			var err error
			if c.Kind == "C" {
				var e *Expr
				if e, err = ParseExpr(c.Text); err == nil {
					if got, err = e.Eval(scope); err == nil {
						got = Truth(got)
					}
				}
			} else {
				got, err = scope.cache.Data(c.Text, scope)
			}
			if c.Error != "" {
				if err == nil {
					t.Fatalf("got %#v, Ansible says %s", got, c.Error)
				}
				if c.Error == "undefined" && (Position(err) == nil || Position(err).Undefined == "") {
					t.Fatalf("Ansible says undefined, got error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatalf("got error %v, Ansible gives %s", err, c.Value)
			}
			if d := cmp.Diff(c.shown(t), value.Repr(got)); d != "" {
				t.Fatalf("(-Ansible +fleetd)\n%s", d)
			}
		})
	}
}

// TestRandomExpressions holds random expressions against what Ansible itself
// answered (testdata/expressions.py): a value for a value, an error for an error.
func TestRandomExpressions(t *testing.T) {
	scope, cases := readGolden(t, "expressions.json")
	if len(cases) < 3000 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, c := range cases {
		if _, ok := differences[c.Text]; ok {
			continue
		}
		got, err := scope.cache.Data(c.Text, scope)
		switch {
		case c.Error != "" && err == nil:
			t.Errorf("%s: got %#v, Ansible says %s", c.Text, got, c.Error)
		case c.Error == "" && err != nil:
			t.Errorf("%s: got error %v, Ansible gives %s", c.Text, err, c.Value)
		case c.Error == "":
			if d := cmp.Diff(c.shown(t), value.Repr(got)); d != "" {
				t.Errorf("%s (-Ansible +fleetd)\n%s", c.Text, d)
			}
		}
	}
}

func TestErrorsName(t *testing.T) {
	for _, c := range []struct{ text, message, hint, at string }{
		{"{{ a | uper }}", `unknown filter "uper"`, "did you mean upper?", "uper }}"},
		{"{{ a | password_hash }}", `filter "password_hash" is known to Ansible, but not supported by fleetd`, "fleetd's modules take no secrets", "password_hash"},
		{"{{ lookup('env', 'HOME') }}", `function "lookup" is known to Ansible, but not supported by fleetd`, "lookups read", "lookup("},
		{"{{ a is defned }}", `unknown test "defned"`, "did you mean defined?", "defned"},
		{"{{ a is finished }}", `test "finished" is known to Ansible, but not supported by fleetd`, "async", "finished"},
		{"{{ a.append(1) }}", `method "append" is known to Python, but not supported by fleetd`, "filter", "append"},
		{"{{ a.splt(1) }}", `unknown method "splt"`, "did you mean split?", "splt"},
		{"{{ a | join(sep=',') }}", `filter join has no parameter "sep"`, "[d]", "sep"},
		{"{{ a | map('uper') }}", `unknown filter "uper"`, "did you mean upper?", "'uper'"},
		{"{{ a | select('chnged') }}", `unknown test "chnged"`, "did you mean changed?", "'chnged'"},
		{"{% include 'x' %}", "do not read other files", "", "include"},
		{"{% macro x() %}", "not supported by fleetd yet", "", "macro"},
		{"{{ a = 1 }}", "unexpected", "==", "= 1"},
		{"{{ a && b }}", `unexpected character '&'`, "not, and, or", "&&"},
		{"x {{ a", "has no end", "}}", "{{ a"},
	} {
		_, err := Parse(c.text)
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s: got %v", c.text, err)
			continue
		}
		if !strings.Contains(e.Message, c.message) || !strings.Contains(e.Hint, c.hint) || !strings.HasPrefix(c.text[e.Offset:], c.at) {
			t.Errorf("%s: got %q, hint %q, at %q", c.text, e.Message, e.Hint, c.text[e.Offset:])
		}
	}
}

func TestUndefinedSaysWhat(t *testing.T) {
	scope := Vars{"a": Normalize(map[string]any{"b": map[string]any{}}), "l": []any{}}
	for text, name := range map[string]string{
		"{{ x }}": "x", "{{ a.b.c }}": "a.b.c", "{{ a['b']['c'] }}": "a['b']['c']", "{{ a.c.d }}": "a.c", "{{ l[3] }}": "l[3]",
	} {
		tmpl, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tmpl.Eval(scope)
		if e := Position(err); e == nil || e.Undefined != name {
			t.Errorf("%s: got %v", text, err)
		}
	}
}

// TestBounds: no template takes for ever or all memory, and the error names the
// loop.
func TestBounds(t *testing.T) {
	for text, want := range map[string]string{
		"{% for a in range(2000) %}{% for b in range(2000) %}{% endfor %}{% endfor %}":                          "the loops of this template make more than 1000000 rounds",
		"{% for a in range(20000) %}{{ 'x' * 100000 }}{% endfor %}":                                             "this makes a text of more than",
		"{% for a in range(100000) if false %}{% endfor %}{% for a in range(3) %}{{ a }}{% endfor %}":           "",
		"{% for a in range(100) %}{% for b in range(100) %}{{ 'x' if a == b else '' }}{% endfor %}{% endfor %}": "",
	} {
		tmpl, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tmpl.Eval(Vars{})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestOpaqueIsNeverUsed(t *testing.T) {
	secret := errors.New("the value of pw is a secret")
	scope := Vars{"pw": Opaque{Err: secret}, "m": Normalize(map[string]any{"pw": Opaque{Err: secret}})}
	for _, text := range []string{
		"{{ pw }}", "x{{ pw }}", "{{ pw ~ 'x' }}", "{{ pw | upper }}", "{{ [pw] }}", "{{ {'a': pw} }}", "{{ pw == 'x' }}", "{{ pw | default('x') }}",
		"{{ pw | default('x', true) }}", "{% if pw %}a{% endif %}", "{{ m.pw }}", "{{ m.pw | b64encode }}", "{{ [m] | map(attribute='pw') | join }}",
		"{{ pw | ternary(1, 2) }}", "{{ pw is match('a') }}", "{{ pw | mandatory }}", "{{ 'a' in pw }}", "{{ m | to_json }}", "{{ m.values() | join }}",
		"{{ m | dict2items | to_json }}", "{{ m }}", "{{ [m] }}", "{{ m | string }}",
	} {
		tmpl, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		v, err := tmpl.Eval(scope)
		if err == nil {
			t.Errorf("%s: got %#v", text, v)
		}
	}
	tmpl, _ := Parse("{{ pw is defined }}")
	if v, err := tmpl.Eval(scope); err != nil || v != true {
		t.Errorf("is defined: %v %v", v, err)
	}
}

func FuzzParse(f *testing.F) {
	b, err := os.ReadFile("testdata/cases.txt")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if len(line) > 3 {
			f.Add(strings.TrimSpace(line[2:]))
		}
	}
	vars := Vars{"lst": []any{"a"}, "one": int64(1), "nested": Normalize(map[string]any{"a": "b"}), "text": "x"}
	f.Fuzz(func(t *testing.T, src string) {
		check := func(err error) {
			if e := Position(err); e != nil && (e.Offset < 0 || e.Offset > len(src)) {
				t.Fatalf("%q: offset %d out of range in %v", src, e.Offset, err)
			}
		}
		tmpl, err := Parse(src)
		check(err)
		if err == nil {
			_, err = tmpl.Eval(vars)
			check(err)
		}
		e, err := ParseExpr(src)
		check(err)
		if err == nil {
			_, err = e.Eval(vars)
			check(err)
		}
	})
}
