package playbook

import (
	"errors"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
	"github.com/fleetd/fleetd/pkg/yaml"
)

// Inventory is what the compiler asks of an inventory; *inventory.Inventory
// answers it.
type Inventory interface {
	// Match resolves host patterns, Limit narrows hosts by a --limit argument.
	Match(patterns ...string) ([]string, error)
	Limit(hosts []string, limit string) ([]string, error)
	// Vars are all variables of a host, nil for one that is not there. The
	// values are shared and not changed.
	Vars(host string) (*value.Map, error)
}

// CompileOptions are what the command line says of a run.
type CompileOptions struct {
	// Limit are --limit patterns, joined.
	Limit []string
	// ExtraVars are the variables given with -e. They win over all others.
	ExtraVars *value.Map
	// Tags and SkipTags are --tags and --skip-tags.
	Tags, SkipTags []string
	// StartAtTask is --start-at-task.
	StartAtTask string
}

// Compile resolves the playbook for an inventory. The error holds every *Error
// that was found, as a *multierror.Error; nothing was touched to find them.
func (p *Playbook) Compile(inv Inventory, modules map[string]rollout.Params, opts CompileOptions) (rollout.Desired, []text.Warning, error) {
	c := &compiler{load: p.load, inv: inv, modules: modules, opts: opts, cache: p.cache, known: map[string]hostVars{}, others: map[otherHost]*scope{}, results: map[string]bool{}, included: map[string]*value.Map{}, files: map[string]*value.Map{}}
	c.warnings = slices.Clone(p.warnings)
	var out rollout.Desired
	if p.check(&c.report, modules); len(c.errs) > 0 {
		return out, c.warnings, c.err()
	}
	if err := c.prepare(); err != nil {
		c.broken(err)
		return out, c.warnings, c.err()
	}
	defer func() { p.files = p.load.digests() }()
	for _, pl := range p.plays {
		if compiled, ok := c.play(pl); ok {
			out.Plays = append(out.Plays, compiled)
		}
	}
	return out, c.warnings, c.err()
}

type compiler struct {
	report
	load *loader // reads the files that tasks name
	// included are the variables that include_vars has given hosts, files those that
	// it has read.
	included map[string]*value.Map
	files    map[string]*value.Map
	inv      Inventory
	modules  map[string]rollout.Params
	opts     CompileOptions
	cache    *jinja.Cache
	limit    string
	groups   any
	allHosts []string
	known    map[string]hostVars  // the inventory's variables by host
	others   map[otherHost]*scope // for hostvars
	// now are the variables that tasks before the one being compiled register or set.
	now map[string]bool
	// begun is set once the task was met at which a run is to start.
	begun bool
	// results are the variables that the tasks so far register or set.
	results map[string]bool
}

func (c *compiler) prepare() error {
	var err error
	if c.allHosts, err = c.inv.Match("all"); err != nil {
		return err
	}
	// One value for all hosts: with 10,000 of them it is large.
	groups, _ := c.hostVars(rollout.Localhost).vars.Get("groups")
	if c.groups = jinja.Normalize(groups); groups == nil {
		c.groups = &value.Map{}
	}
	if c.limit = strings.Join(c.opts.Limit, ","); c.limit == "" {
		return nil
	}
	left, err := c.inv.Limit(append(slices.Clone(c.allHosts), rollout.Localhost), c.limit)
	if err != nil {
		return err
	}
	if len(left) == 0 {
		return errors.New("the limit " + c.limit + " matches no host of the inventory")
	}
	return nil
}

// scope are the variables of a host in a play.
func (c *compiler) scope(host string, ph *playHosts, layers ...*value.Map) *scope {
	all := []*value.Map{c.opts.ExtraVars, c.included[host]}
	all = append(all, layers...)
	if host != "" {
		h := c.hostVars(host)
		if h.err != nil {
			c.add(&Error{located: *asError(h.err), Hosts: []string{host}})
		}
		all = append(all, h.vars)
	}
	return &scope{c: c, host: host, play: ph, layers: all, done: map[string]any{}}
}

// hostVars are the inventory's variables of a host, or why it has none: one of
// its files is encrypted, and no password fits.
type hostVars struct {
	vars *value.Map
	err  error
}

// hostVars are asked for once.
func (c *compiler) hostVars(host string) hostVars {
	v, ok := c.known[host]
	if !ok {
		v.vars, v.err = c.inv.Vars(host)
		c.known[host] = v
	}
	return v
}

// otherHost is a host as it is seen when so many results are unknown.
type otherHost struct {
	name    string
	unknown int
}

// otherHost are the variables that hostvars shows: those without any play.
func (c *compiler) otherHost(host string) *scope {
	key := otherHost{host, len(c.now)}
	s, ok := c.others[key]
	if !ok {
		if h := c.hostVars(host); h.vars != nil || h.err != nil {
			s = &scope{c: c, host: host, err: h.err, layers: []*value.Map{c.opts.ExtraVars, h.vars}, done: map[string]any{}, unknown: c.now}
		}
		c.others[key] = s
	}
	return s
}

func (c *compiler) play(p *play) (rollout.Play, bool) {
	layers := p.variables()
	vars := c.scope("", nil, layers...)
	hosts, ok := c.hosts(p, vars)
	if !ok {
		return rollout.Play{}, false
	}
	out := rollout.Play{Position: rollout.Position(p.src.position(p.node)), Name: c.playName(p, vars), Strategy: c.strategy(p, vars)}
	if len(hosts) == 0 {
		c.warn(text.Place(out.Position), "no hosts matched, the play %q is skipped", out.Name)
		return out, false
	}
	out.Batches = batches(hosts, c.serial(p, vars))
	out.MaxFailPercentage = c.maxFail(p, vars)
	out.AnyErrorsFatal = c.flag(p.inherited.keywords["any_errors_fatal"], vars)
	out.MaxUnavailable = c.maxUnavailable(p, out, vars, hosts)

	ph := &playHosts{name: out.Name, all: toAny(hosts), batch: map[string][]any{}}
	for _, b := range out.Batches {
		names := toAny(b)
		for _, h := range b {
			ph.batch[h] = names
		}
	}
	var run []*taskRun
	for _, t := range p.tasks {
		// Handlers have no part in the choice by tags, as in Ansible.
		if t.called != nil || c.started(t) && c.tagged(t) {
			run = append(run, c.newTaskRun(t, out, vars, hosts))
		}
	}
	if len(run) == 0 {
		return out, false
	}
	for i, t := range run {
		t.idle = t.called != nil && !slices.ContainsFunc(run[:i], func(o *taskRun) bool {
			return slices.ContainsFunc(o.notify, func(w string) bool { return slices.Contains(t.called, w) })
		})
	}
	rest := run
	for _, batch := range out.Batches {
		left := rest
		for i, h := range batch {
			end := c.steps(h, left, i == 0, ph, layers)
			if end == nil || end.ends == rollout.EndsHost {
				continue
			}
			left = left[:slices.Index(left, end)+1]
			if end.ends == rollout.EndsPlay {
				rest = nil
			}
		}
	}
	out.Blocks = blocksOf(run)
	for _, t := range run {
		t.once(out.Batches)
		out.Tasks = append(out.Tasks, t.out)
	}
	return out, true
}

// steps compiles tasks for a host, up to the one that is sure to end something there,
// which is returned. The first host of a batch ends it for all, as in Ansible.
func (c *compiler) steps(h string, tasks []*taskRun, first bool, ph *playHosts, layers []*value.Map) (end *taskRun) {
	hostScope := c.scope(h, ph, layers...)
	for _, t := range tasks {
		c.now = t.results
		if len(t.results) > len(hostScope.unknown) {
			// What was resolved before may have another value now.
			hostScope = c.scope(h, ph, layers...)
			hostScope.unknown = t.results
		}
		s := hostScope
		if len(t.vars) > 0 {
			s = c.scopeOver(hostScope, t.vars)
		}
		if !t.named && t.name != nil {
			t.named, t.out.Name = true, c.name(t.name, s)
		}
		if !t.compile(c, s) || !t.delegate(c, s) {
			continue
		}
		t.becomes(c, s)
		t.becomesWho(c, s)
		if t.include(c, h) {
			unknown := hostScope.unknown
			hostScope = c.scope(h, ph, layers...)
			hostScope.unknown = unknown
		}
		if t.endsKnown(h) && (first || t.ends == rollout.EndsHost) {
			return t
		}
	}
	return nil
}

// scopeOver are the variables of a host with those of a task on top, but for those
// given with -e and included ones.
func (c *compiler) scopeOver(s *scope, taskVars []*value.Map) *scope {
	layers := slices.Concat(s.layers[:2], taskVars, s.layers[2:])
	return &scope{c: c, host: s.host, play: s.play, layers: layers, done: map[string]any{}, unknown: s.unknown}
}

func toAny(names []string) []any {
	out := make([]any, len(names))
	for i, n := range names {
		out[i] = n
	}
	return out
}

func (c *compiler) hosts(p *play, vars *scope) ([]string, bool) {
	nodes := []*yaml.Node{p.hosts.node}
	if p.hosts.node.Kind == yaml.SequenceNode {
		nodes = p.hosts.node.Content
	}
	var patterns []string
	for _, n := range nodes {
		f := &field{p.hosts.src, yaml.Resolve(n)}
		v, ok := c.value(f, vars)
		if !ok {
			return nil, false
		}
		items, isList := v.([]any)
		if !isList {
			items = []any{v}
		}
		for _, x := range items {
			s, ok := x.(string)
			if !ok || s == "" {
				c.add(f.errorAt("hosts needs a pattern such as all or a group, not %s", typeName(x)))
				return nil, false
			}
			patterns = append(patterns, s)
		}
	}
	hosts, err := c.inv.Match(patterns...)
	if err == nil && c.limit != "" {
		hosts, err = c.inv.Limit(hosts, c.limit)
	}
	if err != nil {
		c.add(p.hosts.errorAt("%v", err))
		return nil, false
	}
	return c.order(p, vars, hosts), true
}

func (c *compiler) order(p *play, vars *scope, hosts []string) []string {
	if p.order == nil {
		return hosts
	}
	v, ok := c.value(p.order, vars)
	if !ok {
		return hosts
	}
	hosts = slices.Clone(hosts)
	switch v {
	case "inventory":
	case "sorted":
		slices.Sort(hosts)
	case "reverse_sorted":
		slices.Sort(hosts)
		slices.Reverse(hosts)
	case "reverse_inventory":
		slices.Reverse(hosts)
	case "shuffle":
		c.add(p.order.errorAt("Ansible knows the order \"shuffle\", fleetd does not support it").hint("a plan must come out the same each time it is computed"))
	default:
		c.add(p.order.errorAt("unknown order %q", jinja.Text(v)).hint("it is one of inventory, reverse_inventory, sorted, reverse_sorted"))
	}
	return hosts
}

// name renders a task's name; one that cannot be rendered stays as it is
// written, as in Ansible.
func (c *compiler) name(f *field, s *scope) string {
	if jinja.MaybeTemplate(f.node.Value) {
		if t, err := c.cache.Template(f.node.Value); err == nil {
			if text, err := t.Render(s); err == nil {
				return text
			}
		}
	}
	return f.node.Value
}

func (c *compiler) playName(p *play, vars *scope) string {
	if p.name != nil {
		return c.name(p.name, vars)
	}
	if p.hosts.node.Kind == yaml.SequenceNode {
		var all []string
		for _, n := range p.hosts.node.Content {
			all = append(all, yaml.Resolve(n).Value)
		}
		return strings.Join(all, ",")
	}
	return p.hosts.node.Value
}

// strategy is "" if the keyword is wrong, which is then told.
func (c *compiler) strategy(p *play, vars *scope) rollout.Strategy {
	if p.strategy == nil {
		return rollout.Linear
	}
	v, ok := c.value(p.strategy, vars)
	if !ok {
		return ""
	}
	name, _ := v.(string)
	switch s := rollout.Strategy(strings.TrimPrefix(name, "ansible.builtin.")); s {
	case rollout.Linear, rollout.Free:
		return s
	case "host_pinned", "debug":
		c.add(p.strategy.errorAt("Ansible knows the strategy %q, fleetd does not support it yet", name).hint("use linear or free"))
	default:
		c.add(p.strategy.errorAt("unknown strategy %q", jinja.Text(v)).hint("%s", didYouMean(name, []string{"linear", "free"}, "it is linear or free")))
	}
	return ""
}

func (c *compiler) serial(p *play, vars *scope) []size {
	if p.serial == nil {
		return nil
	}
	nodes := []*yaml.Node{p.serial.node}
	if p.serial.node.Kind == yaml.SequenceNode {
		nodes = p.serial.node.Content
	}
	var out []size
	for _, n := range nodes {
		f := &field{p.serial.src, yaml.Resolve(n)}
		if f.node.Kind == yaml.MappingNode || isNull(f.node) && p.serial.node.Kind == yaml.SequenceNode {
			c.add(f.errorAt("serial takes numbers of hosts and percentages, not %s", kindName(f.node)))
			continue
		}
		v, ok := c.value(f, vars)
		if !ok || v == nil {
			continue
		}
		items, isList := v.([]any)
		if !isList {
			items = []any{v}
		}
		for _, x := range items {
			s, err := parseSize(x)
			if err != nil {
				c.add(f.errorAt("serial: %v", err))
				continue
			}
			out = append(out, s)
		}
	}
	return out
}

func (c *compiler) maxFail(p *play, vars *scope) *float64 {
	if p.maxFail == nil || isNull(p.maxFail.node) {
		return nil
	}
	v, ok := c.value(p.maxFail, vars)
	if !ok {
		return nil
	}
	if s, ok := v.(string); ok {
		v = strings.TrimSpace(strings.ReplaceAll(s, "%", ""))
	}
	f, err := percentage(v)
	if err != nil {
		c.add(p.maxFail.errorAt("max_fail_percentage %v", err).hint("it is a number from 0 to 100"))
		return nil
	}
	return &f
}

// flag is a keyword that is true or false; without it, it is false.
func (c *compiler) flag(f *field, s *scope) bool {
	if f == nil {
		return false
	}
	v, ok := c.value(f, s)
	if !ok || v == nil {
		return false
	}
	b, err := boolean(v)
	if err != nil {
		c.add(f.errorAt("this %v", err))
		return false
	}
	return b
}

// value resolves a scalar. ok is false if that failed, which is then told.
func (c *compiler) value(f *field, s *scope) (any, bool) {
	v := yaml.Scalar(f.node)
	src, isText := v.(string)
	if !isText || !jinja.MaybeTemplate(src) {
		return v, true
	}
	out, err := c.cache.Data(src, s)
	if err != nil {
		c.add(c.templateError(f.src, f.node, err, s))
		return nil, false
	}
	return out, true
}
