package playbook

import (
	"maps"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/value"
)

// check finds what is wrong with modules and parameters without any host.
func (p *Playbook) check(r *report, modules map[string]rollout.Params) {
	for _, pl := range p.plays {
		for _, t := range pl.tasks {
			if t.module != nil {
				t.check(r, modules)
			}
		}
	}
}

func (t *task) check(r *report, modules map[string]rollout.Params) {
	t.module.name = canonical(t.module.name, modules)
	params, ok := modules[t.module.name]
	spec := spec(params)
	if !ok {
		r.add(t.unknownModule(modules))
		return
	}
	names := slices.Sorted(maps.Keys(spec))
	for _, p := range t.params {
		s := spec.of(p.name)
		if _, named := spec[p.name]; !named && spec.has(p.name) && !isName(p.name) {
			r.add(t.src.errorAt(p.key, "%q is no name for a variable", p.name).hint("names are letters, digits and _, begin with no digit, and are written out"))
			continue
		}
		if !spec.has(p.name) {
			hint := didYouMean(p.name, names, "it takes: "+strings.Join(names, ", "))
			if len(names) == 0 {
				hint = "it takes no parameters"
			}
			r.add(t.src.errorAt(p.key, "%s has no parameter %q", t.module.name, p.name).hint("%s", hint))
			continue
		}
		switch {
		case s.Type == rollout.Expression || s.Type == rollout.Conditions:
			for _, e := range expressions(p.value) {
				if _, err := jinja.ParseExpr(e); err != nil {
					r.add(t.src.template(p.val, err))
				}
			}
		case !hasTemplate(p.value):
			if _, err := coerce(p.value, nil, s); err != nil {
				r.add(t.badValue(p, s, err))
			}
		}
	}
	t.checkKeywords(r)
	if t.rescued() && !strings.HasPrefix(t.module.name, builtinPrefix) {
		r.add(t.src.errorAt(t.module.key, "%s cannot stand in a rescue: what it would change depends on what failed, and no plan could say it", t.module.name).
			hint("fleetd undo takes changes back; tasks of ansible.builtin may stand here"))
	}
	for _, name := range names {
		if spec[name].Required && !slices.ContainsFunc(t.params, func(p param) bool { return p.name == name }) {
			r.add(t.missing(name, spec[name]))
		}
	}
}

func (t *task) missing(name string, s rollout.Param) *Error {
	return t.src.errorAt(t.module.key, "%s needs the parameter %q", t.module.name, name).hint("%s", s.Help)
}

func (t *task) badValue(p param, s rollout.Param, err error) *Error {
	return p.src.errorAt(p.val, "%s: parameter %q %v", t.module.name, p.name, err).hint("%s", s.Help)
}

func (t *task) unknownModule(modules map[string]rollout.Params) *Error {
	name := t.module.name
	names := slices.Sorted(maps.Keys(modules))
	short := strings.TrimPrefix(strings.TrimPrefix(name, builtinPrefix), "ansible.legacy.")
	if why, ok := actions[short]; ok {
		return t.src.errorAt(t.module.key, "Ansible knows %q, fleetd does not support it yet", name).hint("%s", why)
	}
	if slices.Contains(builtin, short) && (short == name || strings.HasPrefix(name, "ansible.")) {
		return t.src.errorAt(t.module.key, "Ansible knows the module %q, fleetd does not support it yet", name).hint("run that part with Ansible before or after; fleetd's modules are: %s", strings.Join(names, ", "))
	}
	e := t.src.errorAt(t.module.key, "unknown module %q", name)
	candidates := names
	if !strings.Contains(name, ".") {
		candidates = append(candidates, taskKeywords.supported()...)
		for _, n := range names {
			candidates = append(candidates, Short(n)) // as most playbooks write it
		}
	}
	if near := jinja.Nearest(name, candidates); near != "" {
		return e.hint("did you mean %s?", near)
	}
	// The last part alone may be right: kernel.default for fleetd.kernel.default.
	for _, n := range names {
		if strings.HasSuffix(n, "."+short) {
			return e.hint("did you mean %s?", n)
		}
	}
	return e.hint("fleetd's modules are: %s", strings.Join(names, ", "))
}

// hasTemplate reports whether any string in a value is a template.
func hasTemplate(v any) bool {
	switch v := v.(type) {
	case string:
		return jinja.MaybeTemplate(v)
	case []any:
		return slices.ContainsFunc(v, hasTemplate)
	case *value.Map:
		for _, x := range v.All() {
			if hasTemplate(x) {
				return true
			}
		}
	}
	return false
}
