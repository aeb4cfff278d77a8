package playbook

import (
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/yaml"
)

func (l *loader) tasks(f *field, in inherit) []*task {
	n := f.node
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		e := f.errorAt("tasks are a list, this is %s", kindName(n))
		if n.Kind == yaml.MappingNode {
			e.Hint = "put \"- \" before the first key of each task"
		}
		l.add(e)
		return nil
	}
	if len(l.open) > maxDepth {
		l.add(f.errorAt("more than %d files import each other", maxDepth))
		return nil
	}
	var out []*task
	for _, c := range n.Content {
		c = yaml.Resolve(c)
		if c.Kind != yaml.MappingNode {
			l.add(f.src.errorAt(c, "a task is a mapping, this is %s", kindName(c)))
			continue
		}
		entries := l.mapping(f.src, c)
		switch {
		case containsKey(entries, "block"), containsKey(entries, "rescue"), containsKey(entries, "always"):
			out = append(out, l.block(f.src, entries, in)...)
		case containsKey(entries, "import_tasks"), containsKey(entries, "ansible.builtin.import_tasks"):
			out = append(out, l.importTasks(f.src, entries, in)...)
		default:
			if t := l.task(f.src, c, entries, in); t.flush || t.module != nil {
				out = append(out, t)
			}
		}
	}
	return out
}

func (l *loader) importTasks(src *source, entries []entry, in inherit) []*task {
	var own inherit
	var from *field
	for _, e := range entries {
		f := &field{src, e.val}
		switch {
		case own.take(l, src, e):
		case e.name == "import_tasks" || e.name == "ansible.builtin.import_tasks":
			from = f
			if e.val.Kind == yaml.MappingNode {
				for _, p := range l.mapping(src, e.val) {
					if p.name == "file" {
						from = &field{src, p.val}
					} else {
						l.add(src.errorAt(p.key, "import_tasks has no parameter %q", p.name).hint("it takes file"))
					}
				}
			}
		case e.name == "name":
			l.text(f)
		case e.name == "args":
			l.add(src.errorAt(e.key, "import_tasks takes no args").hint("give variables with vars"))
		default:
			l.keyword(src, e, taskKeywords)
		}
	}
	name, ok := l.file(from, "import_tasks")
	if !ok {
		return nil
	}
	imported, root, ok := l.enter(l.beside(src, name), from)
	if !ok {
		return nil
	}
	defer l.leave()
	if root == nil {
		l.warn(src.position(from.node), "%s has no tasks", imported.Name)
		return nil
	}
	if looksLikePlays(root) {
		l.add(from.errorAt("%s is a playbook, not a list of tasks", imported.Name).hint("take a playbook in with import_playbook, beside the plays"))
		return nil
	}
	return l.tasks(&field{imported, root}, in.with(own))
}

func looksLikePlays(root *yaml.Node) bool {
	if root.Kind != yaml.SequenceNode || len(root.Content) == 0 {
		return false
	}
	first := yaml.Resolve(root.Content[0])
	for i := 0; i+1 < len(first.Content); i += 2 {
		if first.Kind == yaml.MappingNode && first.Content[i].Value == "hosts" {
			return true
		}
	}
	return false
}

func (l *loader) task(src *source, n *yaml.Node, entries []entry, in inherit) *task {
	t := &task{field: field{src, n}}
	var own inherit
	var others []entry
	done := false
	for _, e := range entries {
		f := &field{src, e.val}
		switch {
		case own.take(l, src, e):
		case e.name == "name":
			t.name = l.text(f)
		case e.name == "args":
			if !isNull(e.val) {
				t.args = f
			}
		case e.name == "register":
			t.register = l.variable(f)
		case e.name == "changed_when":
			t.changedWhen = l.judgement(f)
		case e.name == "failed_when":
			t.failedWhen = l.judgement(f)
		case e.name == "notify":
			t.notify = l.handlerNames(f)
		case e.name == "listen":
			t.listen = l.handlerNames(f)
		case e.name == "meta", e.name == "ansible.builtin.meta", e.name == "ansible.legacy.meta":
			if done = !l.meta(t, f, entries); !done {
				others = append(others, e)
			}
		case loops[e.name] != nil:
			l.loop(t, f, e.name)
		case e.name == "loop_control":
			l.loopControl(t, f)
		case e.name == "until":
			t.until = l.judgement(f)
		case e.name == "retries":
			t.retries = l.scalar(f)
		case e.name == "delay":
			t.delay = l.scalar(f)
		case taskKeywords.known(e.name):
			l.keyword(src, e, taskKeywords)
		default:
			others = append(others, e)
		}
	}
	if t.loop != nil && t.loop.field == nil {
		l.add(t.errorAt("loop_control without a loop"))
		t.loop = nil
	}
	t.inherit = in.with(own)
	if done {
		return t
	}
	l.chooseModule(t, entries, others)
	if t.module != nil {
		l.params(t)
	}
	return t
}

// params reads the parameters of the module, and those in args, which give way
// to them.
func (l *loader) params(t *task) {
	for _, f := range []*field{{t.src, t.module.val}, t.args} {
		if f == nil || isNull(f.node) {
			continue
		}
		if f.node.Kind != yaml.MappingNode && l.opts.Modules != nil && !l.isModule(t.module.name) {
			continue // the module is told of already
		}
		if f.node == t.module.val && f.node.Kind == yaml.ScalarNode && l.freeForm(t) {
			continue
		}
		if f.node.Kind != yaml.MappingNode {
			e := f.errorAt("the parameters of %s are a mapping, this is %s", t.module.name, kindName(f.node))
			l.add(e.hint("write each parameter on a line of its own, as \"name: value\""))
			continue
		}
		l.parseTemplates(t.src, f.node)
		for _, e := range l.mapping(t.src, f.node) {
			if !slices.ContainsFunc(t.params, func(p param) bool { return p.name == e.name }) {
				t.params = append(t.params, param{t.src, e, l.data(t.src, e.val)})
			}
		}
	}
}

// chooseModule finds the key that names the module. All others are misspelt
// keywords.
func (l *loader) chooseModule(t *task, entries, others []entry) {
	if len(others) == 0 {
		for _, e := range entries {
			if _, supported := taskKeywords.refuse(e.name); !supported {
				return // told already, and that may be why there is no module
			}
		}
		l.add(t.errorAt("this task names no module").hint("a task is a name and a module, such as \"fleetd.kernel.default:\""))
		return
	}
	module := -1
	for i, e := range others {
		// Modules have dots in their names, keywords have none.
		if strings.Contains(e.name, ".") || module < 0 && (l.isModule(e.name) || len(others) == 1) {
			module = i
			break
		}
	}
	for i, e := range others {
		switch {
		case i == module:
			e.name = canonical(e.name, l.opts.Modules)
			t.module = &e
		case module >= 0 && (l.isModule(e.name) || strings.Contains(e.name, ".")):
			l.add(t.src.errorAt(e.key, "a task names one module, this one names %s and %s", others[module].name, e.name).hint("make two tasks of it"))
		default:
			l.keyword(t.src, e, taskKeywords)
		}
	}
}

func (l *loader) isModule(name string) bool {
	_, ok := l.opts.Modules[canonical(name, l.opts.Modules)]
	return ok
}

const builtinPrefix = "ansible.builtin."

// canonical is the full name of a module of Ansible's own, which a playbook may
// shorten.
func canonical(name string, modules map[string]rollout.Params) string {
	full := builtinPrefix + strings.TrimPrefix(name, "ansible.legacy.")
	if _, ok := modules[full]; ok {
		return full
	}
	return name
}
