package module

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/words"
)

// script is ansible.builtin.script: a program of the bastion that runs on the node,
// in a folder that is gone afterwards.
type script struct{ command }

func (script) About() rollout.About {
	return rollout.About{Open: rollout.Exec, Params: rollout.Params{
		"cmd":        {Type: rollout.File, FreeForm: true, Line: true, Required: true, Folder: "files", Help: "the script, in files/ beside the playbook or by its path, and its arguments"},
		"chdir":      {Type: rollout.String, Help: "the folder to run it in"},
		"creates":    {Type: rollout.String, Help: "a path: nothing is run where it is there"},
		"removes":    {Type: rollout.String, Help: "a path: nothing is run where it is not there"},
		"executable": {Type: rollout.String, Help: "the program that reads it, instead of what its first line says"},
	}}
}

func (m script) Diff(host string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	file, _ := args["cmd"].(rollout.LocalFile)
	dir := text(args, "chdir")
	if dir != "" && !strings.HasPrefix(dir, "/") {
		return rollout.Change{}, nil, &rollout.Problem{Message: fmt.Sprintf("cannot run %s on %s: chdir %s must be an absolute path", file.Name, host, dir)}
	}
	c := call{
		Line: strings.TrimSpace(file.Name + " " + file.Args), File: file.Path, Creates: text(args, "creates"), Removes: text(args, "removes"),
		Bare: true, KeepEnds: true,
	}
	c.Guard = guard("c", c.Creates) + guard("r", c.Removes)
	name := words.Quote(path.Base(file.Path))
	run := strings.TrimSpace(text(args, "executable") + ` "$d"/` + name + " " + file.Args)
	if dir != "" {
		run = "CDPATH= cd -- " + expanded(dir) + " && " + run
	}
	// A folder of the user's own, because a shared one may forbid programs.
	c.Script = `d=$(mktemp -d -- "${HOME:-/tmp}/.fleetd-script.XXXXXX") || exit
trap 'rm -rf -- "$d"' EXIT
trap 'exit 1' HUP INT TERM
cat >"$d"/` + name + ` && chmod 700 "$d"/` + name + ` || exit
( ` + run + "\n) </dev/null\n"
	raw, err := json.Marshal(c)
	if err != nil {
		return rollout.Change{}, nil, fmt.Errorf("cannot encode the script: %w", err)
	}
	out := rollout.Change{Action: rollout.Exec, Summary: "run: " + oneLine(c.Line), Data: raw, Content: file.Content}
	out.Reasons = append(out.Reasons, "it is "+shownDigest(rollout.DigestOf(file.Content)))
	if c.Creates != "" {
		out.Reasons = append(out.Reasons, "only where there is no "+c.Creates)
	}
	if c.Removes != "" {
		out.Reasons = append(out.Reasons, "only where there is "+c.Removes)
	}
	after, err := unsure(before)
	return out, after, err
}
