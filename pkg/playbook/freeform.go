package playbook

import (
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/value"
	"github.com/fleetd/fleetd/pkg/words"
	"github.com/fleetd/fleetd/pkg/yaml"
)

// freeForm reads what stands behind a module's name on its line: for a command
// the command itself, between name=value words for its other parameters; for any
// other module name=value words alone. It reports whether the line was read.
func (l *loader) freeForm(t *task) bool {
	f := &field{t.src, t.module.val}
	line, isText := yaml.Scalar(f.node).(string)
	s := spec(l.opts.Modules[t.module.name])
	if !isText || s == nil {
		return false
	}
	l.parseTemplates(t.src, f.node)
	pairs, err := words.KeyValues(line)
	if err != nil {
		l.add(f.errorAt("the parameters of %s cannot be read: %v", t.module.name, err))
		return true
	}
	free := ""
	for name, p := range s {
		if p.FreeForm {
			free = name
		}
	}
	add := func(name string, v any) {
		at := entry{name, t.module.key, t.module.val}
		t.params = append(t.params, param{t.src, at, v})
	}
	if free == "" {
		for k, v := range pairs.All() {
			if name, _ := k.(string); name == "_raw_params" {
				l.add(f.errorAt("%s takes parameters, and %q is none", t.module.name, v).hint("write them as name=value, or each on a line of its own"))
			} else {
				add(name, v)
			}
		}
		return true
	}
	command, own := l.command(line, s, pairs)
	for _, k := range own {
		v, _ := pairs.Get(k)
		add(k, v)
	}
	if strings.TrimSpace(command) != "" {
		add(free, command)
	}
	return true
}

// command is the line without the words that are parameters of the module, and
// the names of those.
func (l *loader) command(line string, s spec, pairs *value.Map) (string, []string) {
	var own []string
	for k := range pairs.All() {
		if name, _ := k.(string); s.has(name) && !s[name].FreeForm {
			own = append(own, name)
		}
	}
	var kept []string
	for _, w := range words.Split(line) {
		name, _, isPair := strings.Cut(w, "=")
		if !isPair || !slices.Contains(own, name) {
			kept = append(kept, w)
		}
	}
	return words.Join(kept), own
}

// variable is the name of a variable that a task sets.
func (l *loader) variable(f *field) string {
	name, isText := yaml.Scalar(f.node).(string)
	if !isText || !isName(name) {
		l.add(f.errorAt("register takes the name of a variable, not %s", kindName(f.node)).hint("names are letters, digits and _, and begin with no digit"))
		return ""
	}
	return name
}

// judgement are the conditions of changed_when and failed_when.
func (l *loader) judgement(f *field) []*field {
	conditions := l.when(f)
	for _, c := range conditions {
		if s, ok := yaml.Scalar(c.node).(string); ok && jinja.MaybeTemplate(s) {
			l.add(c.errorAt("this is an expression already, and what a node prints is never one").hint("leave {{ }} out"))
		}
	}
	return conditions
}
