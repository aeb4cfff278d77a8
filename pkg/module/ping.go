package module

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/sshexec"
)

// ping is ansible.builtin.ping: the node can be logged in to, and runs a shell.
type ping struct{ observing }

func (ping) About() rollout.About {
	return rollout.About{Open: rollout.ReadOnly, Params: rollout.Params{"data": {Type: rollout.String, Help: "what it answers (pong)"}}}
}

func (ping) Diff(_ string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	return rollout.Change{Action: rollout.ReadOnly, Summary: "ping", Data: encode(or(text(args, "data"), "pong"))}, before, nil
}

func (m ping) Do(ctx context.Context, s rollout.Step) rollout.Outcome {
	var data string
	if err := json.Unmarshal(s.Change.Data, &data); err != nil {
		return rollout.Fail(fmt.Errorf("cannot read what is to be answered: %w", err))
	}
	res, err := run(ctx, m.hosts, s, sshexec.Command{Script: "echo pong"})
	if err == nil && string(res.Stdout) != "pong\n" {
		err = fmt.Errorf("%s does not answer to a ping: exit status %d: %s", s.Host, res.ExitStatus, lastLine(res.Stderr))
	}
	if err != nil {
		return rollout.Fail(err)
	}
	o := rollout.AlreadyDone("pong")
	o.Result = encode(map[string]any{"changed": false, "failed": false, "ping": data})
	return o
}
