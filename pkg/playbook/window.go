package playbook

import (
	"fmt"
	"slices"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/text"
	"github.com/fleetd/fleetd/pkg/value"
	"github.com/fleetd/fleetd/pkg/yaml"
)

// windowVariable sets how many hosts may be out of service at once. It is a
// variable and no keyword, so that Ansible still reads the playbook.
const windowVariable = "max_unavailable"

// maxUnavailable resolves the variable where serial is resolved, and in the same
// scope: before there is a host. 0 is no limit but that of the batch.
func (c *compiler) maxUnavailable(p *play, out rollout.Play, vars *scope, hosts []string) int {
	v, ok, err := vars.Lookup(windowVariable)
	if !ok && err == nil {
		c.warnOfInventory(out, hosts)
		return 0
	}
	f := c.whereSet(p, windowVariable)
	if secret, ok := v.(jinja.Opaque); ok {
		err = secret.Err
	}
	if err != nil {
		e := c.templateError(f.src, f.node, err, vars)
		e.Message = windowVariable + ": " + e.Message
		c.add(e)
		return 0
	}
	if v == nil {
		return 0
	}
	s, err := parseSize(v)
	if err == nil && s.n <= 0 {
		err = fmt.Errorf("%s takes no host", jinja.Text(v))
	}
	if err != nil {
		c.add(f.errorAt("%s: %v", windowVariable, err).hint("it is a number of hosts from 1 on, or a share of the play's hosts such as \"10%%\""))
		return 0
	}
	// In batches of one host linear and free are the same, so that a value for
	// several plays (-e, vars of import_playbook) may meet serial: 1 and localhost.
	if out.Strategy == rollout.Linear && slices.ContainsFunc(out.Batches, func(b []string) bool { return len(b) > 1 }) {
		c.add(f.errorAt("%s needs strategy: free in the play %q", windowVariable, out.Name).
			hint("under linear all hosts of a batch wait for each other, those outside of the window, too: write strategy: free, or use serial alone"))
		return 0
	}
	return int(min(s.of(len(hosts)), int64(len(hosts))))
}

// warnOfInventory speaks of a limit that somebody may rely on and that is none:
// as with Ansible's serial, no host's variables are known yet.
func (c *compiler) warnOfInventory(out rollout.Play, hosts []string) {
	limited := func(h string) bool {
		v, _ := c.hostVars(h).vars.Get(windowVariable)
		return v != nil
	}
	if out.Strategy == rollout.Free && slices.ContainsFunc(hosts, limited) {
		c.warn(text.Place(out.Position), "%s of the inventory limits nothing in the play %q: set it in the vars or vars_files of the play, or with -e", windowVariable, out.Name)
	}
}

// whereSet is the value of a variable as it stands in the play's variables, else
// the play.
func (c *compiler) whereSet(p *play, name string) *field {
	if _, given := c.opts.ExtraVars.Get(name); given {
		return &p.field
	}
	for _, l := range slices.Concat(p.fileVars, p.vars) {
		if _, set := l.values.Get(name); !set {
			continue
		}
		// Of a key that is there twice the last counts.
		for i := len(l.node.Content) - 2; i >= 0; i -= 2 {
			if yaml.Resolve(l.node.Content[i]).Value == name {
				return &field{l.src, yaml.Resolve(l.node.Content[i+1])}
			}
		}
		return &l.field // a merge key brought it in
	}
	return &p.field
}

// variables are the layers of a play's variables, those that win first.
func (p *play) variables() []*value.Map {
	var out []*value.Map
	for _, l := range slices.Concat(p.fileVars, p.vars) {
		out = append(out, l.values)
	}
	return out
}
