package module

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/fleetd/fleetd/pkg/node"
	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// slurp is ansible.builtin.slurp.
type slurp struct{ observing }

func (slurp) About() rollout.About {
	return rollout.About{Open: rollout.ReadOnly, Params: rollout.Params{
		"src":  {Type: rollout.String, Help: "the file"},
		"path": {Type: rollout.String, Help: "another name of src"},
	}}
}

func (slurp) Diff(_ string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	src := or(text(args, "src"), text(args, "path"))
	if src == "" {
		return rollout.Change{}, nil, missing("slurp", "src")
	}
	return rollout.Change{Action: rollout.ReadOnly, Summary: "read: " + oneLine(src), Data: encode(src)}, before, nil
}

func (m slurp) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	var src string
	if err := json.Unmarshal(s.Change.Data, &src); err != nil {
		return rollout.Fail(fmt.Errorf("cannot read what is to be read: %w", err))
	}
	p := expanded(src)
	script := node.LookScript([]string{p}, fmt.Sprintf("[ ! -f %s ] || [ \"$(stat -L -c %%s -- %s)\" -gt %d ] || printf 'note text %%s\\n' \"$(hex <%s)\"\n", p, p, mostOutput, p)) + "sees\n"
	res, err := run(ctx, m.hosts, s, sshexec.Command{Script: script, Timeout: lookTimeout, MaxOutput: 3 * mostOutput})
	if err != nil {
		return rollout.Fail(err)
	}
	seen, err := node.ParseLook(res)
	if err != nil || len(seen.Places) != 1 {
		return rollout.Fail(fmt.Errorf("cannot read %s on %s: %w", oneLine(src), s.Host, err))
	}
	at := seen.Places[0]
	hexed, read := seen.Notes["text"]
	msg := ""
	switch {
	case at.Leads() == nil:
		msg = "file not found: " + at.Path
	case at.Leads().IsDir():
		msg = "source is a directory and must be a file: " + at.Path
	case at.Leads().IsRegular() && at.SHA256 == "":
		msg = "file is not readable: " + at.Path
	case !read:
		msg = fmt.Sprintf("%s has more than %d KiB, or is no regular file", at.Path, mostOutput>>10)
	}
	if msg != "" {
		o := rollout.Outcome{Kind: rollout.Failed, Message: fmt.Sprintf("cannot read %s on %s: %s", oneLine(src), s.Host, oneLine(msg))}
		o.Result = encode(map[string]any{"changed": false, "failed": true, "msg": msg})
		return o
	}
	o := rollout.AlreadyDone("%s has %d bytes", oneLine(src), at.Leads().Size)
	o.Result = encode(map[string]any{"changed": false, "failed": false, "content": base64.StdEncoding.EncodeToString([]byte(unhexed(hexed))), "encoding": "base64", "source": at.Path})
	return o
}
