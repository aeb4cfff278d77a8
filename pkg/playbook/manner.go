package playbook

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/yaml"
)

// manner reads how a task is to be done. As Ansible's batches these keywords are
// resolved before there is a host.
func (c *compiler) manner(t *task, vars *scope) rollout.Manner {
	flag := func(name string) bool { return c.flag(t.keywords[name], vars) }
	flag("diff") // the plan is the diff
	if flag("check_mode") {
		c.add(t.keywords["check_mode"].errorAt("check_mode: true is a task that is never done").hint("fleetd plan is the check; leave the task out, or give it a condition"))
	}
	return rollout.Manner{
		IgnoreErrors: flag("ignore_errors"), IgnoreUnreachable: flag("ignore_unreachable"), AnyErrorsFatal: flag("any_errors_fatal"),
		NoLog: flag("no_log"), Once: flag("run_once"),
		Throttle: c.number(t.keywords["throttle"], vars), Timeout: time.Duration(c.number(t.keywords["timeout"], vars)) * time.Second,
	}
}

// once leaves a task with run_once out of the batches whose first host it is not
// for: as in Ansible that one decides for all.
func (t *taskRun) once(batches [][]string) {
	if !t.out.Once {
		return
	}
	for _, b := range batches {
		_, bound := t.out.Args[b[0]]
		if _, open := t.out.Open[b[0]]; bound || open {
			continue
		}
		for _, h := range b {
			delete(t.out.Args, h)
			delete(t.out.Open, h)
		}
	}
}

// environment are the layers of a task's environment as a parameter of its module.
func environment(layers []param) param {
	out := layers[len(layers)-1]
	out.name = rollout.EnvironmentParam
	var all []any
	for _, l := range layers {
		if list, ok := l.value.([]any); ok {
			all = append(all, list...)
		} else {
			all = append(all, l.value)
		}
	}
	out.value = all
	return out
}

// number is a keyword that is a number from 0 on; without it, it is 0.
func (c *compiler) number(f *field, s *scope) int {
	if f == nil {
		return 0
	}
	v, ok := c.value(f, s)
	if !ok || v == nil {
		return 0
	}
	n, err := whole(v)
	if err == nil && (n < 0 || n > maxRepeat) {
		err = fmt.Errorf("is %d, and belongs between 0 and %d", n, maxRepeat)
	}
	if err != nil {
		c.add(f.errorAt("this %v", err))
		return 0
	}
	return int(n)
}

// delegate notes on which other host the task acts for a host. It reports whether
// that is known.
func (t *taskRun) delegate(c *compiler, s *scope) bool {
	if t.here {
		t.out.On[s.host] = rollout.Localhost
	}
	f := t.keywords["delegate_to"]
	if f == nil || isNull(f.node) {
		return true
	}
	wrong := func(e *Error) bool {
		e.Hosts = []string{s.host}
		c.add(e)
		return false
	}
	var v any = f.node.Value
	if jinja.MaybeTemplate(f.node.Value) {
		var err error
		v, err = c.cache.Data(f.node.Value, t.loop.within(s))
		if o, ok := v.(jinja.Opaque); ok && err == nil {
			err = o.Err
		}
		if unknown(err) {
			return wrong(f.errorAt("delegate_to depends on what only the run tells").hint("a plan has to say which machines it touches"))
		}
		if err != nil {
			return wrong(c.templateError(f.src, f.node, err, s))
		}
		if _, omitted := v.(jinja.Omit); omitted || v == "" {
			return true
		}
	}
	name, _ := v.(string)
	if slices.Contains([]string{"127.0.0.1", "::1"}, name) && !slices.Contains(c.allHosts, name) {
		name = rollout.Localhost
	}
	if name != rollout.Localhost && !slices.Contains(c.allHosts, name) {
		return wrong(f.errorAt("delegate_to: the inventory has no host %q", jinja.Text(v)).hint("%s", didYouMean(name, c.allHosts, "add it to the inventory: fleetd talks to no machine that the inventory does not have")))
	}
	if name != s.host {
		t.out.On[s.host] = name
	}
	return true
}

// checkKeywords refuses for a step of fleetd's own what would have it taken for
// something else than it is, or done elsewhere: the steps after it go by it.
func (t *task) checkKeywords(r *report) {
	if strings.HasPrefix(t.module.name, builtinPrefix) {
		return
	}
	var said []*field
	for _, name := range []string{"ignore_errors", "ignore_unreachable", "no_log", "timeout", "delegate_to", "become_user", "become_method", "become_exe", "become_flags"} {
		f := t.keywords[name]
		if f == nil || yaml.Scalar(f.node) == false || name == "become_user" && f.node.Value == "root" || name == "become_method" && f.node.Value == "sudo" {
			continue
		}
		said = append(said, f)
	}
	for _, e := range t.environment {
		said = append(said, &field{e.src, e.val})
	}
	for _, f := range slices.Concat(said, []*field{t.retries, t.delay}, t.changedWhen, t.failedWhen, t.until) {
		if f != nil {
			r.add(f.errorAt("%s says itself what it does where, whether it changed anything and whether it failed", t.module.name).
				hint("this keyword is for tasks of ansible.builtin; a step that waits has a timeout of its own"))
		}
	}
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

// becomesWho notes whom a step is to become, and how. As with ansible_become, a variable
// of the host wins over the keyword.
func (t *taskRun) becomesWho(c *compiler, s *scope) {
	var as rollout.BecomeAs
	for _, k := range []struct {
		name string
		set  *string
	}{{"become_user", &as.User}, {"become_method", &as.Method}, {"become_exe", &as.Exe}, {"become_flags", &as.Flags}} {
		f := t.keywords[k.name]
		if f == nil || isNull(f.node) {
			continue
		}
		if _, own, err := s.Lookup("ansible_" + k.name); own || err != nil {
			continue // told where the host's targets are made
		}
		v, ok := c.value(f, s)
		text, isText := v.(string)
		var e *Error
		switch {
		case !ok:
		case !isText:
			e = f.errorAt("%s takes a text, not %s", k.name, typeName(v))
		case k.name == "become_method":
			if text = strings.TrimPrefix(text, builtinPrefix); text != "" && text != "sudo" && text != "su" {
				e = f.errorAt("become_method %q is not supported by fleetd", text).hint("it is sudo or su")
			}
		}
		if e != nil {
			e.Hosts = []string{s.host}
			c.add(e)
		}
		*k.set = text
	}
	if as != (rollout.BecomeAs{}) {
		t.out.BecomeAs[s.host] = as
	}
}

// connection reads the keyword: tasks of ansible.builtin may run on this machine for
// a node; fleetd's own reach a node over SSH, and the cluster from localhost.
func (c *compiler) connection(t *taskRun, vars *scope, hosts []string) {
	said := t.keywords["connection"]
	if said == nil {
		return
	}
	v, ok := c.value(said, vars)
	if !ok {
		return
	}
	local := len(hosts) == 1 && hosts[0] == rollout.Localhost
	switch v {
	case "local", "ansible.builtin.local":
		t.here = !local
		if !local && !strings.HasPrefix(t.module.name, builtinPrefix) {
			c.add(said.errorAt("%s is for nodes, and reaches them over SSH", t.module.name).hint("remove connection: local, or write it to the tasks of ansible.builtin that it is for"))
		}
	case "ssh", "ansible.builtin.ssh", "smart", nil:
		if local {
			c.add(said.errorAt("fleetd runs the tasks of localhost on this machine, not over SSH").hint("write connection: local, or remove it"))
		}
	default:
		c.add(said.errorAt("the connection %q is not supported by fleetd", jinja.Text(v)).hint("it is ssh, or local for plays on localhost"))
	}
}
