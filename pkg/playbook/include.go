package playbook

import (
	"encoding/json"

	"github.com/fleetd/fleetd/pkg/playbook/jinja"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/value"
)

// includeVars is the module whose variables are known when a plan is made: the
// tasks behind it are planned with them.
const includeVars = builtinPrefix + "include_vars"

// include takes the variables of a file over for a host, from this task on and in
// the plays that follow, as Ansible does. It reports whether the host has more
// variables now.
func (t *taskRun) include(c *compiler, host string) bool {
	if t.module.name != includeVars {
		return false
	}
	wrong := func(e *Error) bool {
		e.Hosts = []string{host}
		c.add(e)
		return false
	}
	if _, open := t.out.Open[host]; open {
		return wrong(t.errorAt("include_vars has a loop, or depends on what only the run tells").hint("write one task for each file, with conditions that are known before the run"))
	}
	if len(t.blocks) > 0 {
		return wrong(t.errorAt("include_vars cannot stand in a block with rescue or always: whether it is done depends on what fails").hint("put it before the block"))
	}
	args := t.out.Args[host]
	file, ok := args["file"].(rollout.LocalFile)
	if !ok {
		return false // told already
	}
	vars, known := c.files[file.Path]
	if !known {
		src, root, e := c.load.read(c.load.clean(file.Path))
		if e != nil {
			return wrong(e)
		}
		if root != nil {
			v, err := src.reader.Value(root)
			if err != nil {
				c.broken(err)
				return false
			}
			var isMap bool
			if vars, isMap = v.(*value.Map); !isMap {
				return wrong(src.errorAt(root, "variables are names with values, this is %s", typeName(v)))
			}
		}
		c.files[file.Path] = vars
	}
	if name, _ := args["name"].(string); name != "" {
		within := &value.Map{}
		within.Set(name, vars)
		if vars == nil {
			within.Set(name, &value.Map{})
		}
		vars = within
	}
	// What the task registers are the variables as they stand in the file; one with a
	// secret registers none.
	facts := json.RawMessage("{}")
	if raw, err := jinja.JSON(jinja.Normalize(vars)); err == nil && vars != nil {
		facts = raw
	}
	t.out.Args[host] = rollout.Args{"file": file.Path, "facts": string(facts)}
	merged := &value.Map{}
	for _, m := range []*value.Map{c.included[host], vars} {
		for k, v := range m.All() {
			merged.Set(k, v)
		}
	}
	c.included[host] = merged
	return true
}
