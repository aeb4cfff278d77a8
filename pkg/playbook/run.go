package playbook

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/value"
	"github.com/fleetd/fleetd/pkg/yaml"
)

// taskRun is a task while it is compiled for the hosts of a play.
type taskRun struct {
	*task
	spec rollout.Params
	out  rollout.Task
	// once are the hosts that a task with run_once runs on; nil for all.
	once map[string]bool
	// fixed are the arguments of a task without templates, the same for every
	// host.
	fixed rollout.Args
}

func (c *compiler) newTaskRun(t *task, p rollout.Play, vars *scope, hosts []string) *taskRun {
	run := &taskRun{task: t, spec: c.modules[t.module.name], out: rollout.Task{
		Name: t.module.name, Module: t.module.name, Position: rollout.Position(t.src.position(t.node)),
		Become: t.become != nil && c.flag(t.become, vars, false), BecomeOn: map[string]bool{}, Args: map[string]rollout.Args{},
	}}
	c.connection(t, vars, hosts)
	if c.flag(t.runOnce, vars, false) {
		run.once = map[string]bool{}
		for _, b := range p.Batches {
			run.once[b[0]] = true
		}
		if p.Strategy == rollout.Free && len(run.once) < len(hosts) {
			c.add(t.runOnce.errorAt("run_once does nothing under strategy: free, as in Ansible").hint("use strategy: linear, or a play of its own on localhost"))
		}
	}
	static := true
	for _, p := range t.params {
		static = static && !hasTemplate(p.value)
	}
	if static {
		run.fixed, _ = run.resolve(c, nil)
	}
	return run
}

// becomes notes where a host says by ansible_become otherwise than the keyword: a
// variable wins over it, as in Ansible.
func (t *taskRun) becomes(c *compiler, s *scope) {
	const name = "ansible_become"
	v, ok, err := s.Lookup(name)
	if err == nil && !ok {
		return
	}
	var b bool
	if err == nil {
		if b, err = boolean(v); err != nil {
			err = fmt.Errorf("%s %w", name, err)
		}
	}
	if err != nil {
		e := &Error{located: *asError(err), Hosts: []string{s.host}}
		for _, l := range s.layers {
			if at := l.At(name); at.File != "" {
				e.Place = at
				break
			}
		}
		c.add(e)
		return
	}
	if b != t.out.Become {
		t.out.BecomeOn[s.host] = b
	}
}

// connection checks the keyword: fleetd's modules reach a node over SSH, and
// the cluster from localhost, whatever a playbook says.
func (c *compiler) connection(t *task, vars *scope, hosts []string) {
	if t.connection == nil {
		return
	}
	v, ok := c.value(t.connection, vars)
	if !ok {
		return
	}
	local := len(hosts) == 1 && hosts[0] == rollout.Localhost
	switch v {
	case "local", "ansible.builtin.local":
		if !local {
			c.add(t.connection.errorAt("connection: local is for plays on localhost only").hint("fleetd reaches nodes over SSH: remove it, or write hosts: localhost"))
		}
	case "ssh", "ansible.builtin.ssh", "smart", nil:
		if local {
			c.add(t.connection.errorAt("fleetd runs the tasks of localhost on this machine, not over SSH").hint("write connection: local, or remove it"))
		}
	default:
		c.add(t.connection.errorAt("the connection %q is not supported by fleetd", jinja.Text(v)).hint("it is ssh, or local for plays on localhost"))
	}
}

// args are the arguments for a host; ok is false if the task is skipped there,
// or if something is wrong, which is then told.
func (t *taskRun) args(c *compiler, s *scope) (rollout.Args, bool) {
	for _, w := range t.when {
		ok, err := c.condition(w, s)
		if err != nil {
			c.add(err)
			return nil, false
		}
		if !ok {
			return nil, false
		}
	}
	if t.fixed != nil {
		return t.fixed, true
	}
	return t.resolve(c, s)
}

func (t *taskRun) resolve(c *compiler, s *scope) (rollout.Args, bool) {
	args := make(rollout.Args, len(t.params))
	good := true
	for _, p := range t.params {
		spec := t.spec[p.name]
		v, before, ok := t.argument(c, p, s)
		if !ok {
			good = false
			continue
		}
		if _, omitted := v.(jinja.Omit); !omitted {
			out, err := coerce(v, before, spec)
			if err != nil {
				e := t.badValue(p, spec, err)
				if s != nil {
					e.Hosts = []string{s.host}
				}
				c.add(e)
				good = false
				continue
			}
			if out != nil {
				args[p.name] = value.Plain(out)
				continue
			}
		}
		if spec.Required {
			e := t.src.errorAt(p.val, "%s needs the parameter %q, and this is nothing", t.module.name, p.name).hint("%s", spec.Help)
			if s != nil {
				e.Hosts = []string{s.host}
			}
			c.add(e)
			good = false
		}
	}
	return args, good
}

// argument resolves the templates of a parameter.
func (t *taskRun) argument(c *compiler, p param, s *scope) (v, before any, ok bool) {
	if !hasTemplate(p.value) {
		return p.value, p.value, true
	}
	n := yaml.Resolve(p.val)
	var err error
	if src, isText := p.value.(string); isText {
		var tmpl *jinja.Template
		if tmpl, err = c.cache.Template(src); err == nil {
			v, before, err = c.cache.Native(tmpl, s)
		}
	} else {
		v, err = c.cache.Data(p.value, s)
	}
	if err == nil {
		return v, before, true
	}
	var ve *jinja.ValueError
	if errors.As(err, &ve) {
		if inner := scalarWith(n, ve.Source); inner != nil {
			n = inner
		}
	}
	c.add(c.templateError(t.src, n, err, s))
	return nil, nil, false
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
