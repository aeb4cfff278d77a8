package module

import (
	"encoding/json"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// includeVars is ansible.builtin.include_vars. The compiler has read the file, and
// plans the tasks behind it with its variables: what is left is to say so.
type includeVars struct{ touchless }

func (includeVars) About() rollout.About {
	return rollout.About{Open: rollout.ReadOnly, Params: rollout.Params{
		"file": {Type: rollout.File, FreeForm: true, Required: true, Folder: "vars", Help: "the file, in vars/ beside the playbook or by its path"},
		"name": {Type: rollout.String, Help: "a variable that takes them all"},
	}}
}

func (includeVars) Diff(_ string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	file := text(args, "file")
	o := rollout.Outcome{Kind: rollout.Unchanged}
	o.Result = encode(map[string]any{
		"changed": false, "failed": false, "ansible_facts": json.RawMessage(or(text(args, "facts"), "{}")), "ansible_included_var_files": []string{file},
	})
	c, err := said("variables of "+oneLine(file), o)
	return c, before, err
}
