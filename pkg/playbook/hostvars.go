package playbook

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/rollout"
)

// Where a result of the run decides, a step may look at other hosts: hostvars[host].x
// is x as the inventory has it, which the plan holds for all hosts once, or what a
// task has set on that host by then.

// hostVariables are what the plan holds of one host for hostvars.
type hostVariables struct {
	Vars      map[string]json.RawMessage `json:"vars,omitempty"`
	Templates map[string]json.RawMessage `json:"templates,omitempty"`
}

// keepShared adds groups and hostvars, where the step names them.
func (k *keeper) keepShared(t *taskRun, out *rollout.Open) {
	if k.err == nil && len(k.ofHosts) > 0 {
		slices.Sort(k.ofHosts)
		t.keepHosts(k, slices.Compact(k.ofHosts), out)
	}
	if k.err == nil && k.groups {
		raw, err := jinja.JSON(k.s.c.groups)
		k.err = err
		k.share("groups", rollout.DigestOf(raw), raw, out)
	}
}

func (k *keeper) share(name, digest string, raw []byte, out *rollout.Open) {
	if k.step.Shared == nil {
		k.step.Shared = map[string]string{}
	}
	k.step.Shared[name] = digest
	out.Hold(digest, raw)
}

// keptHosts is what was kept of all hosts for one list of names.
type keptHosts struct {
	digest  string
	content []byte
	others  []string
	groups  bool
	err     error
}

// keepHosts keeps these variables of all hosts. They are the same for each host that
// does the task.
func (t *taskRun) keepHosts(k *keeper, names []string, out *rollout.Open) {
	key := strings.Join(names, " ")
	kept, ok := t.kept[key]
	if !ok {
		kept = k.s.c.hostVariables(names)
		if t.kept == nil {
			t.kept = map[string]keptHosts{}
		}
		t.kept[key] = kept
	}
	if k.err = kept.err; k.err != nil {
		return
	}
	k.groups = k.groups || kept.groups
	out.Others = kept.others
	k.share(rollout.HostVars, kept.digest, kept.content, out)
}

func (c *compiler) hostVariables(names []string) (out keptHosts) {
	all, others := map[string]hostVariables{}, map[string]bool{}
	for _, host := range slices.Compact(slices.Sorted(slices.Values(append([]string{rollout.Localhost}, c.allHosts...)))) {
		s := c.otherHost(host)
		if s == nil {
			continue
		}
		inner := keeper{step: &openStep{}, s: s, seen: map[string]bool{}}
		inner.words(jinja.Words{Names: names})
		if inner.err == nil && len(inner.ofHosts) > 0 {
			inner.err = errors.New("one of its variables refers to hostvars in turn, where a result of the run decides")
		}
		if inner.err != nil {
			return keptHosts{err: fmt.Errorf("hostvars of %s: %w", host, inner.err)}
		}
		for _, name := range inner.results {
			others[name] = true
		}
		out.groups = out.groups || inner.groups
		all[host] = hostVariables{Vars: inner.step.Vars, Templates: inner.step.Templates}
	}
	out.others = slices.Sorted(maps.Keys(others))
	out.content, out.err = json.Marshal(all)
	out.digest = rollout.DigestOf(out.content)
	return out
}

// sharedValues are what the plan holds for several steps, read once.
type sharedValues struct {
	mu   sync.Mutex
	read map[string]any
}

// value is what reads makes of the content with a digest.
func (v *sharedValues) value(digest string, read func() (any, error)) (any, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if have, ok := v.read[digest]; ok {
		return have, nil
	}
	out, err := read()
	if err != nil {
		return nil, err
	}
	if v.read == nil {
		v.read = map[string]any{}
	}
	v.read[digest] = out
	return out, nil
}

// lookupShared is groups or hostvars in the run.
func (s *runScope) lookupShared(name string) (any, bool, error) {
	digest, ok := s.step.Shared[name]
	if !ok {
		return nil, false, nil
	}
	read := func() (any, error) {
		raw, have := s.contents[digest]
		if !have {
			return nil, fmt.Errorf("the plan does not hold %s", name)
		}
		if name == "groups" {
			return jinja.FromJSON(raw)
		}
		var all map[string]hostVariables
		err := json.Unmarshal(raw, &all)
		return all, err
	}
	v, err := s.shared.value(digest, read)
	if err != nil || name == "groups" {
		return v, err == nil, err
	}
	hosts := hostsInRun{s: s, kept: v.(map[string]hostVariables)}
	if raw, any := s.results[rollout.HostVars]; any {
		if err := json.Unmarshal(raw, &hosts.results); err != nil {
			return nil, false, fmt.Errorf("cannot read the results of other hosts: %w", err)
		}
	}
	return hosts, true, nil
}

// hostsInRun is the variable hostvars in the run.
type hostsInRun struct {
	s       *runScope
	kept    map[string]hostVariables
	results map[string]rollout.Results
}

// Item are the variables of a host that the plan holds, and what tasks have set.
func (h hostsInRun) Item(host string) (any, bool, error) {
	kept, ok := h.kept[host]
	if !ok {
		return nil, false, nil
	}
	step := openStep{Vars: kept.Vars, Templates: kept.Templates, Shared: h.s.step.Shared}
	return hostInRun{&runScope{cache: h.s.cache, step: &step, results: h.results[host], shared: h.s.shared, contents: h.s.contents}}, true, nil
}

func (h hostsInRun) Keys() []string { return slices.Sorted(maps.Keys(h.kept)) }

type hostInRun struct{ s *runScope }

func (v hostInRun) Item(name string) (any, bool, error) { return v.s.Lookup(name) }

func (v hostInRun) Keys() []string {
	all := slices.Concat(slices.Collect(maps.Keys(v.s.step.Vars)), slices.Collect(maps.Keys(v.s.step.Templates)), slices.Collect(maps.Keys(v.s.results)))
	slices.Sort(all)
	return slices.Compact(all)
}
