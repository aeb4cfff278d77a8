package playbook

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/value"
	"github.com/fleetd/fleetd/pkg/yaml"
)

func newCache() *jinja.Cache {
	return &jinja.Cache{Foreign: func(v any) any {
		switch v.(type) {
		case interface{ Reveal() (string, error) }, interface{ Reveal() string }:
			// A secret may be defined, but nothing may look at it.
			return jinja.Opaque{Err: errSecret}
		}
		return v
	}}
}

var errSecret = errors.New("this value is a vault secret, and fleetd's modules take none")

// scope are the variables of one host, or of a play before there is a host.
type scope struct {
	c *compiler
	// host is "" for the variables of a play.
	host string
	play *playHosts
	// layers are the variables, those that win first.
	layers []*value.Map
	// err is why the host's own variables are not among them.
	err error
	// done are the variables whose templates are resolved.
	done map[string]any
	// unknown are the variables that hold results of the run.
	unknown map[string]bool
	// active are the variables that are being resolved, to find those that
	// refer to themselves.
	active []string
}

// playHosts is what the variables about a play show.
type playHosts struct {
	name  string
	all   []any
	batch map[string][]any
}

// magic are variables that nobody can set.
var magic = []string{"hostvars", "omit", "groups", "inventory_hostname", "inventory_hostname_short", "group_names"}

// Raw is a variable as it is written.
func (s *scope) Raw(name string) (any, bool) {
	if slices.Contains(magic, name) {
		return nil, false
	}
	for _, l := range s.layers {
		if v, ok := l.Get(name); ok {
			return v, true
		}
	}
	return nil, false
}

// Lookup is a variable with its templates resolved.
func (s *scope) Lookup(name string) (any, bool, error) {
	if s.unknown[name] {
		return jinja.Opaque{Err: &unknownError{name}, Maybe: true}, true, nil
	}
	if v, ok := s.done[name]; ok {
		return v, true, nil
	}
	if v, ok := s.magic(name); ok {
		return v, true, nil
	}
	raw, ok := s.Raw(name)
	if !ok && s.err != nil {
		return nil, false, s.err
	}
	if !ok {
		if name == "ansible_host" && s.host != "" {
			return s.host, true, nil
		}
		return nil, false, nil
	}
	if i := slices.Index(s.active, name); i >= 0 {
		return nil, false, fmt.Errorf("variable %q refers to itself: %s", name, strings.Join(append(slices.Clone(s.active[i:]), name), " → "))
	}
	s.active = append(s.active, name)
	v, err := s.c.cache.Data(raw, s)
	s.active = s.active[:len(s.active)-1]
	if err != nil {
		return nil, false, &varError{name, err}
	}
	if o, ok := v.(jinja.Opaque); ok && errors.Is(o.Err, errSecret) {
		v = jinja.Opaque{Err: fmt.Errorf("the value of %q is a vault secret, and fleetd's modules take none", name)}
	}
	s.done[name] = v
	return v, true, nil
}

func (s *scope) magic(name string) (any, bool) {
	switch name {
	case "omit":
		return jinja.Omit{}, true
	case "ansible_check_mode", "ansible_diff_mode":
		return false, true // a plan says what apply will do
	case "groups":
		return s.c.groups, true
	case "hostvars":
		return allVars{s.c}, true
	}
	if s.host == "" {
		return nil, false
	}
	switch name {
	case "inventory_hostname", "inventory_hostname_short", "group_names":
		v, ok := s.layers[len(s.layers)-1].Get(name)
		return jinja.Normalize(v), ok
	}
	if s.play == nil {
		return nil, false
	}
	switch name {
	case "ansible_play_name":
		return s.play.name, true
	case "ansible_play_hosts_all", "ansible_play_hosts", "play_hosts":
		return s.play.all, true
	case "ansible_play_batch":
		return s.play.batch[s.host], true
	}
	return nil, false
}

// names are all variables, to guess which one was meant.
func (s *scope) names() []string {
	all := map[string]bool{}
	for _, l := range s.layers {
		for k := range l.All() {
			if name, ok := k.(string); ok {
				all[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// varError is an error in a template in the value of a variable.
type varError struct {
	name string
	err  error
}

func (e *varError) Unwrap() error { return e.err }

func (e *varError) Error() string {
	var ve *jinja.ValueError
	if errors.As(e.err, &ve) {
		source := ve.Source
		if r := []rune(source); len(r) > 60 {
			source = string(r[:60]) + "…"
		}
		return fmt.Sprintf("variable %q holds %q: %v", e.name, source, e.err)
	}
	return fmt.Sprintf("variable %q: %v", e.name, e.err)
}

// allVars is the variable hostvars.
type allVars struct{ c *compiler }

// Item are the variables of another host.
func (h allVars) Item(host string) (any, bool, error) {
	s := h.c.otherHost(host)
	if s == nil {
		return nil, false, nil
	}
	return hostView{s}, true, nil
}

// Keys are the names of all hosts.
func (h allVars) Keys() []string { return h.c.allHosts }

type hostView struct{ s *scope }

func (v hostView) Item(name string) (any, bool, error) { return v.s.Lookup(name) }
func (v hostView) Keys() []string                      { return v.s.names() }

// undefinedHint says what to do about an undefined variable.
func (s *scope) undefinedHint(name string) string {
	if name == "" {
		return ""
	}
	root, _, nested := strings.Cut(strings.ReplaceAll(name, "[", "."), ".")
	if nested {
		return "give it in the inventory or with -e, or write | default(…)"
	}
	if s.host == "" {
		return "this is resolved before there is a host: as in Ansible, only play vars, vars_files and extra vars (-e) are known here"
	}
	if near := jinja.Nearest(root, s.names()); near != "" {
		return "did you mean " + near + "?"
	}
	if root == extendedLoop {
		return "write extended: true into loop_control"
	}
	if strings.HasPrefix(root, "ansible_") {
		return "fleetd gathers no facts by itself: put a task setup before it, or set a variable in the inventory"
	}
	return "give it in the inventory or with -e, or write | default(…)"
}

// templateError places an error that a template in a node made, and says what
// to do.
func (c *compiler) templateError(src *source, n *yaml.Node, err error, s *scope) *Error {
	e := src.template(n, err)
	if inner := jinja.Position(err); inner != nil && inner.Undefined != "" && e.Hint == "" {
		e.Hint = s.undefinedHint(inner.Undefined)
	}
	if s.host != "" {
		e.Hosts = []string{s.host}
	}
	return e
}
