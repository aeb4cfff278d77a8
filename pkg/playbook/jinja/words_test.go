package jinja_test

import (
	"slices"
	"testing"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
)

// TestWordsOfHosts: what is looked up of other hosts is told from the text alone; any
// other look at hostvars is told as one that cannot be.
func TestWordsOfHosts(t *testing.T) {
	for expression, want := range map[string][]string{
		"hostvars[h].a":                                 {"a"},
		"hostvars.web1.a.b":                             {"a"},
		"hostvars[groups['x'][0]]['a'].stdout":          {"a"},
		`hostvars['b'].get("a", {}).rc`:                 {"a"},
		"l | map('extract', hostvars, 'a')":             {"a"},
		"l | map('extract', hostvars, ['a', 'b'])":      {"a"},
		"hostvars[h].a == hostvars[hostvars[h].b].c":    {"a", "b", "c"},
		"x.hostvars":                                    nil,
		"inventory_hostname in groups.all":              nil,
		"hostvars":                                      {"?"},
		"h in hostvars":                                 {"?"},
		"hostvars[h]":                                   {"?"},
		"hostvars[h] | length":                          {"?"},
		"hostvars[h].items()":                           {"?"},
		"hostvars[h][name]":                             {"?"},
		"hostvars[h]['a' ~ n]":                          {"?"},
		"hostvars[h].get(name)":                         {"?"},
		"l | map('extract', hostvars)":                  {"?"},
		"l | map('extract', hostvars, name)":            {"?"},
		"hostvars.keys()":                               {"?"},
		"hostvars | dict2items":                         {"?"},
		"hostvars[h":                                    {"?"},
		"hostvars[h](1).a":                              {"?"},
		"hostvars[h].a and (hostvars | length > n.rc)":  {"?"},
		"(hostvars)[h].a":                               {"?"},
		"hostvars[h] .a":                                {"a"},
		"hostvars[{'a': '}'}['a']].b + ')' + ']'":       {"b"},
		"dict(hostvars[h]).a":                           {"?"},
		"hostvars[h]['a'] is defined and hostvars is x": {"?"},
	} {
		w, _ := jinja.WordsOf(expression) // a broken one is told where it is parsed
		got := w.OfHosts
		if w.Whole {
			got = []string{"?"}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: it looks up %q, want %q", expression, got, want)
		}
	}
}
