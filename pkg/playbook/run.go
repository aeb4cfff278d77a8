package playbook

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/yaml"
)

// taskRun is a task while it is compiled for the hosts of a play.
type taskRun struct {
	*task
	spec spec
	// results are the variables that tasks before this one register or set.
	results map[string]bool
	out     rollout.Task
	// named is set once its name was rendered: as in Ansible for the first host.
	named bool
	// here is set where it runs on this machine instead of its hosts.
	here bool
	// idle is set for a handler that no task calls, as --tags has left it.
	idle bool
	// fixed are the arguments of a task without templates, the same for every
	// host.
	fixed rollout.Args
	// kept is what was kept for hostvars, by the names that are looked up.
	kept map[string]keptHosts
}

func (c *compiler) newTaskRun(t *task, p rollout.Play, vars *scope, hosts []string) *taskRun {
	if _, takes := c.modules[t.module.name][rollout.EnvironmentParam]; takes && len(t.environment) > 0 {
		copied := *t
		copied.params = append(slices.Clone(t.params), environment(t.environment))
		t = &copied
	}
	run := &taskRun{task: t, spec: spec(c.modules[t.module.name]), results: maps.Clone(c.results), out: rollout.Task{
		Name: t.module.name, Module: t.module.name, Position: rollout.Position(t.src.position(t.node)),
		Register: t.register, Manner: c.manner(t, vars), Notify: t.notify, Handler: t.handler, Open: map[string]rollout.Open{},
		Become: c.flag(t.keywords["become"], vars), BecomeOn: map[string]bool{}, Args: map[string]rollout.Args{}, BecomeAs: map[string]rollout.BecomeAs{}, On: map[string]string{},
	}}
	c.connection(run, vars, hosts)
	if t.rescued() {
		c.results[rollout.FailedTask], c.results[rollout.FailedResult] = true, true
		run.results = maps.Clone(c.results)
	}
	run.sets(c)
	if t.module.name == builtinPrefix+"meta" {
		run.out.Ends, run.out.Once = t.ends, t.ends == rollout.EndsBatch || t.ends == rollout.EndsPlay
		if p.Strategy == rollout.Free && t.ends != rollout.EndsHost {
			c.add(t.errorAt("under strategy: free hosts are at different tasks, and fleetd does this for all of a batch at once").hint("use strategy: linear, or end_host"))
		}
	}
	if run.out.Once && p.Strategy == rollout.Free && len(p.Batches) < len(hosts) && t.ends == "" {
		c.add(t.keywords["run_once"].errorAt("run_once does nothing under strategy: free, as in Ansible").hint("use strategy: linear, or a play of its own on localhost"))
	}
	static := true
	for _, p := range t.params {
		kind := run.spec.of(p.name).Type
		static = static && !hasTemplate(p.value) && kind != rollout.Expression && kind != rollout.Conditions && !ofBastion(run.spec.of(p.name))
	}
	if static {
		run.fixed, _, _ = run.resolve(c, nil)
	}
	return run
}

// sets notes the variables that the task sets in the run. Those given with -e win
// over them.
func (t *taskRun) sets(c *compiler) {
	names := append([]string{t.register}, Gathered(t.module.name)...)
	if _, anyName := t.spec[rollout.AnyName]; anyName {
		for _, p := range t.params {
			names = append(names, p.name)
		}
	}
	for _, name := range names {
		if _, given := c.opts.ExtraVars.Get(name); !given && name != "" {
			c.results[name] = true
		}
	}
}

// compile adds what the task does on a host. It reports whether it does anything
// there; what is wrong is told.
func (t *taskRun) compile(c *compiler, s *scope) bool {
	var unknowns []string
	var when []*field
	host := s
	s = t.loop.within(host)
	if t.called != nil {
		if t.idle {
			return false
		}
		unknowns = append(unknowns, calledBy(t.called))
	}
	for _, w := range t.when {
		ok, err := c.condition(w, s)
		switch {
		case err != nil && unknown(err):
			unknowns, when = append(unknowns, "when: "+conditionText(w)), append(when, w)
		case err != nil:
			c.add(err)
			return false
		case !ok:
			return false
		}
	}
	args, open, ok := t.fixed, []string(nil), t.fixed != nil
	if !ok {
		args, open, ok = t.resolve(c, s)
	}
	if !ok {
		return false
	}
	unknowns = append(unknowns, open...)
	// What a step of fleetd's own does, or one that copies a folder, was reviewed, and
	// only whether it is done may be unknown. (A condition is asked for each item of a
	// loop.)
	conditional := len(unknowns) > 0 && len(open) == 0 && t.loop == nil && (!strings.HasPrefix(t.module.name, builtinPrefix) || hasFolder(args))
	late := !conditional && len(unknowns) > 0 || t.loop != nil
	if !late {
		t.out.Args[s.host] = args
	}
	if late || conditional || len(t.changedWhen)+len(t.failedWhen)+len(t.until) > 0 {
		o, err := t.open(host, when, unknowns, late)
		if err != nil {
			err.Hosts = []string{s.host}
			c.add(err)
			return false
		}
		t.out.Open[s.host] = o
	}
	return true
}

func hasFolder(args rollout.Args) bool {
	for _, v := range args {
		if file, ok := v.(rollout.LocalFile); ok && file.Dir {
			return true
		}
	}
	return false
}

// resolve tells the arguments, and those that a result of the run decides; ok is
// false if something is wrong, which is then told.
func (t *taskRun) resolve(c *compiler, s *scope) (args rollout.Args, open []string, ok bool) {
	args, ok = make(rollout.Args, len(t.params)), true
	for _, p := range t.params {
		spec := t.spec.of(p.name)
		v, err := t.value(c, p, spec, s)
		var e *Error
		var bad *typeError
		switch {
		case err == nil && given(v, spec):
			args[p.name] = v
		case err == nil && spec.Required:
			e = p.src.errorAt(p.val, "%s needs the parameter %q, and this is nothing", t.module.name, p.name).hint("%s", spec.Help)
		case err == nil:
		case t.loop.own(err): // the plan shows the items
		case unknown(err):
			open = append(open, p.name)
		case errors.As(err, &bad):
			e = t.badValue(p, spec, bad.error)
		default:
			c.add(t.argumentError(c, p, err, s))
			ok = false
		}
		if e != nil {
			if s != nil {
				e.Hosts = []string{s.host}
			}
			c.add(e)
			ok = false
		}
	}
	return args, open, ok
}

// value is the value of a parameter, as the module gets it.
func (t *taskRun) value(c *compiler, p param, spec rollout.Param, s *scope) (any, error) {
	if ofBastion(spec) {
		return t.source(c, p, spec, s)
	}
	return argument(c.cache, p.value, spec, s)
}

// argumentError places what is wrong in a template of a parameter.
func (t *taskRun) argumentError(c *compiler, p param, err error, s *scope) *Error {
	n := yaml.Resolve(p.val)
	if spec := t.spec.of(p.name); ofBastion(spec) {
		e := t.fileWrong(p, spec, err)
		if s != nil {
			e.Hosts = []string{s.host}
		}
		return e
	}
	var ve *jinja.ValueError
	if errors.As(err, &ve) {
		if inner := scalarWith(n, ve.Source); inner != nil {
			n = inner
		}
	}
	return c.templateError(p.src, n, err, s)
}

// scalarWith is the scalar below a node that holds a text.
func scalarWith(n *yaml.Node, text string) *yaml.Node {
	n = yaml.Resolve(n)
	if n.Kind == yaml.ScalarNode && n.Value == text {
		return n
	}
	for _, c := range n.Content {
		if found := scalarWith(c, text); found != nil {
			return found
		}
	}
	return nil
}

// condition evaluates one item of when.
func (c *compiler) condition(f *field, s *scope) (bool, *Error) {
	v := yaml.Scalar(f.node)
	src, isText := v.(string)
	switch {
	case v == nil || isText && src == "":
		return true, nil
	case !isText:
		return jinja.Truth(v), nil
	}
	if jinja.MaybeTemplate(src) {
		// Ansible resolves templates in a condition first, and evaluates what
		// comes out.
		out, err := c.cache.Data(src, s)
		if unknown(err) {
			return false, f.errorAt("a condition that depends on a result of the run is no template: what a node prints is never an expression").hint("leave {{ }} out")
		}
		if err != nil {
			return false, c.templateError(f.src, f.node, err, s)
		}
		if src, isText = out.(string); !isText || src == "" {
			return jinja.Truth(out), nil
		}
	}
	expr, err := c.cache.Expr(src)
	if err != nil {
		return false, c.templateError(f.src, f.node, err, s)
	}
	out, err := expr.Eval(s)
	if err != nil {
		return false, c.templateError(f.src, f.node, err, s)
	}
	if text, ok := out.(string); ok && text != "" {
		if b, err := boolean(text); err == nil && !b {
			c.warn(f.src.position(f.node), "this condition is the text %q, which is true, as any text is; write | bool", text)
		}
	}
	return jinja.Truth(out), nil
}

// percentage reads a share from 0 to 100.
func percentage(v any) (float64, error) {
	var f float64
	switch x := v.(type) {
	case int64:
		f = float64(x)
	case float64:
		f = x
	case string:
		var err error
		if f, err = strconv.ParseFloat(x, 64); err != nil {
			return 0, fmt.Errorf("is %q where a percentage belongs", x)
		}
	default:
		return 0, fmt.Errorf("is %s where a percentage belongs", typeName(v))
	}
	if !(f >= 0 && f <= 100) {
		return 0, fmt.Errorf("is %g", f)
	}
	return f, nil
}
